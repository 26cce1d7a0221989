//! `[tcp.NAME]` blocks.

use super::*;
use crate::config::model::Tcp;

impl<'t> Checker<'t, '_> {
    /// Checks a block and adds it with its listeners.
    pub(super) fn tcp_block(&mut self, name: &'t str, block: &Table<'t>) {
        let addresses = self.listen(block);
        let listening = self.server_tls(block, false);
        let pool = match block.get("pool") {
            Some(value) => self.pool_id(&value),
            None => {
                block.mistake("connections lead nowhere", "add pool = \"NAME\"");
                None
            }
        };
        let trusted = self.networks(block, "trusted_proxies");
        let accept_proxy = self.accept_proxy(block, &trusted);
        let (handshake, idle) = tcp_times(block);
        block.finish();
        let pool = pool.unwrap_or(PoolId(0));
        let tcp = Tcp {
            name: name.to_owned(),
            tls: listening.tls,
            certificates: listening.certificates,
            pool,
            accept_proxy,
            handshake,
            idle,
        };
        self.serve(addresses, Serves::Tcp(TcpId(self.config.tcp.len() as u32)));
        self.config.tcp.push(tcp);
    }
}

/// For the handshake, and without a byte.
fn tcp_times(block: &Table<'_>) -> (Duration, Duration) {
    let default = (limits::HANDSHAKE_TIME_DEFAULT, limits::TUNNEL_TIME_DEFAULT);
    let Some(table) = block.table("timeouts", "write it like { idle = \"1h\" }") else { return default };
    let times = (table.duration("handshake", default.0), table.duration("idle", default.1));
    table.finish();
    times
}
