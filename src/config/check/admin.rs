//! The `[admin]` block.

use super::*;
use crate::config::model::{AdminConfig, Token};
use crate::tls::ClientCertificate;

impl<'t> Checker<'t, '_> {
    /// Checks the block. Who may direct the process from elsewhere must show who they are.
    pub(super) fn admin(&mut self, document: &Table<'t>) {
        const EXAMPLE: &str = "write [admin] and listen = [\"unix:/run/ringgate/admin.sock\"]";
        let Some(block) = document.table("admin", EXAMPLE) else { return };
        let listen = self.listen(&block);
        let token = self.token(&block, "token_file");
        let debug_token = self.token(&block, "debug_token_file");
        let tls = self.server_tls(&block, false).tls;
        let watch = block.boolean("watch", false);
        block.finish();
        let asks = tls.as_ref().is_some_and(|tls| tls.client_certificate() == ClientCertificate::Required);
        let is_open = |address: &Address| match address {
            Address::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => false,
        };
        if !asks
            && token.is_none()
            && let Some((address, _)) = listen.iter().find(|(address, _)| is_open(address))
        {
            block.mistake(
                format!("anybody who reaches {address} could direct this process"),
                "add token_file = \"FILE\", or certificates with client_ca and client_certificate = \"required\"; or listen \
                 on 127.0.0.1 or a Unix socket",
            );
        }
        let listen = listen.into_iter().map(|(address, _)| address).collect();
        self.config.admin = AdminConfig { listen, tls, token, debug_token, watch };
    }

    fn token(&self, block: &Table<'t>, key: &'static str) -> Option<Token> {
        let value = block.get(key)?;
        let (path, bytes) = self.file(&value)?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let token = text.trim();
        if token.len() < limits::TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let what = format!(
                "{} holds no token: {} or more printable characters without spaces",
                path.display(),
                limits::TOKEN_BYTES_MIN
            );
            value.mistake(what, "make one: openssl rand -hex 32");
            return None;
        }
        Some(Token(token.to_owned()))
    }
}
