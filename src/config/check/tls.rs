//! TLS: `certificates` and `tls` of blocks that listen, `tls` of pools.

use super::*;
use crate::config::model::Server;
use crate::http::rules::{BadRule, check_name};
use crate::tls::certs::{CertError, Description};
use crate::tls::{ClientCertificate, ClientOptions, ClientTls, ServerOptions, ServerTls, Version};

/// TLS of a block that listens.
#[derive(Default)]
pub(super) struct Listening {
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) certificates: Vec<Description>,
    /// Name of the request field that gets the client certificate's subject.
    pub(super) subject_field: Option<String>,
}

const VERSIONS: [(&str, Version); 2] = [("1.2", Version::Tls12), ("1.3", Version::Tls13)];

impl<'t> Checker<'t, '_> {
    /// TLS with clients, and the name of the field that gets a client certificate's subject (HTTP only).
    pub(super) fn server_tls(&self, block: &Table<'t>, is_http: bool) -> Listening {
        let certificates = block.entry("certificates");
        let table = block.table("tls", "write it like { min = \"1.2\", client_ca = \"ca.pem\" }");
        let Some(certificates) = certificates else {
            if let Some(table) = &table {
                table.mistake("tls without certificates", "add certificates = [\"/etc/ringgate/certs\"]");
            }
            return Listening::default();
        };
        let (options, subject_field, ca) = self.server_options(table.as_ref(), is_http);
        let mut listening = Listening { subject_field, ..Listening::default() };
        let mut named = certificates.value.list(true);
        let paths: Vec<PathBuf> = named.iter().filter_map(|item| self.path(item)).collect();
        if paths.is_empty() {
            if named.is_empty() && certificates.value.is_list() {
                let advice = "write certificates = [\"/etc/ringgate/certs\"]";
                certificates.value.mistake("no certificates", advice);
            }
            return listening;
        }
        named.extend(ca);
        match self.world.server_tls(&paths, &options) {
            Ok(built) => {
                for notice in &built.notices {
                    let at = self.named_at(&notice.file, &named).unwrap_or(&certificates.value.at);
                    self.notes.warning(at, format!("{}: {}", notice.file.display(), notice.what), "");
                }
                listening.tls = Some(Arc::new(built.tls));
                listening.certificates = built.certificates;
            }
            Err(errors) => {
                errors
                    .iter()
                    .for_each(|error| self.certificate_mistake(error, &named, &certificates.value.at));
            }
        }
        listening
    }

    fn server_options(
        &self,
        table: Option<&Table<'t>>,
        is_http: bool,
    ) -> (ServerOptions, Option<String>, Option<Value<'t>>) {
        let mut options = ServerOptions::default();
        if !is_http {
            options.alpn.clear();
        }
        let Some(table) = table else { return (options, None, None) };
        let (min, max) = (table.get("min"), table.get("max"));
        options.min = min.and_then(|value| value.word(&VERSIONS)).unwrap_or(options.min);
        options.max = max.as_ref().and_then(|value| value.word(&VERSIONS)).unwrap_or(options.max);
        if let Some(max) = max
            && options.min > options.max
        {
            max.mistake("max is below min: no client could connect", "raise it, or lower min");
        }
        let ca = table.get("client_ca");
        options.client_ca = ca.as_ref().and_then(|value| self.path(value));
        let words = [("required", ClientCertificate::Required), ("optional", ClientCertificate::Optional)];
        let asked = table.get("client_certificate");
        let word = asked.as_ref().and_then(|value| value.word(&words));
        if ca.is_some() {
            options.client_certificate = word.unwrap_or(ClientCertificate::Required);
        } else if let Some(value) = &asked {
            value.mistake(
                "no certificate of a client could be verified",
                "say who signs them: client_ca = \"ca.pem\"",
            );
        }
        let field = if is_http { table.get("client_subject_field") } else { None };
        let subject = field.and_then(|value| {
            let text = value.text()?;
            if let Err(bad) = check_name(text) {
                let advice = match bad {
                    BadRule::NameInvalid => bad.about(),
                    _ => "name a field of its own: \"X-Client-Subject\"",
                };
                value.mistake(format!("the field \"{text}\" cannot hold a subject"), advice);
                return None;
            }
            if ca.is_none() {
                value.mistake(
                    "clients are not asked for a certificate",
                    "say who signs them: client_ca = \"ca.pem\"",
                );
            }
            Some(text.to_owned())
        });
        table.finish();
        (options, subject, ca)
    }

    /// TLS with servers: `true`, or a table.
    pub(super) fn client_tls(
        &self,
        block: &Table<'t>,
        key: &'static str,
        servers: &[Server],
    ) -> Option<Arc<ClientTls>> {
        let entry = block.entry(key)?;
        let mut options =
            ClientOptions { verify: true, ca: None, server_name: None, certificate: None, key: None };
        let mut named = Vec::new();
        if entry.value.is_boolean() {
            if entry.value.boolean() == Some(false) {
                return None;
            }
        } else {
            let table = entry.table(
                "write true, or a table like { ca = \"ca.pem\", server_name = \"app.example.org\" }",
            )?;
            options.verify = table.boolean("verify", true);
            options.ca = self.path_of(&table, "ca");
            options.certificate = self.path_of(&table, "certificate");
            options.key = self.path_of(&table, "key");
            options.server_name = table.get("server_name").and_then(|value| server_name(&value));
            if let (None, Some(value)) = (table.get("certificate"), table.get("key")) {
                value.mistake("a key without its certificate", "add certificate = \"client.pem\"");
            }
            named.extend(["ca", "certificate", "key"].into_iter().filter_map(|key| table.get(key)));
            if let (false, Some(ca)) = (options.verify, table.get("ca")) {
                ca.mistake("verify = false ignores the CA", "remove one of them");
            }
            table.finish();
        }
        if options.verify
            && options.server_name.is_none()
            && servers.iter().any(|server| server.host.is_empty())
        {
            let what = "it is not clear for which name the certificate of a server at a Unix socket is";
            let advice = format!("say it: {key} = {{ server_name = \"app.example.org\" }}");
            self.notes.mistake(&entry.at, what, advice);
        }
        let built = self.world.client_tls(&options);
        built.map(Arc::new).map_err(|error| self.certificate_mistake(&error, &named, &entry.at)).ok()
    }

    /// Notes what is wrong with a certificate or key at the value that named it, else at `fallback`.
    fn certificate_mistake(&self, error: &CertError, named: &[Value<'t>], fallback: &At) {
        let at = self.named_at(&error.file, named).unwrap_or(fallback);
        let what = match error.file.as_os_str().is_empty() {
            true => error.what.clone(),
            false => format!("{}: {}", error.file.display(), error.what),
        };
        self.notes.mistake(at, what, error.advice.clone());
    }

    /// The place of the value that named a file, or a folder above it.
    fn named_at<'v>(&self, file: &Path, named: &'v [Value<'t>]) -> Option<&'v At> {
        let names = |value: &&Value<'t>| {
            let path = value.peek_text().map(|text| self.folder.join(text));
            path.is_some_and(|path| !file.as_os_str().is_empty() && file.starts_with(path))
        };
        named.iter().find(names).map(|value| &value.at)
    }
}

fn server_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    if text.is_empty() || !text.bytes().all(fine) {
        value.mistake(format!("\"{text}\" is not a host name"), "write it like \"app.example.org\"");
        return None;
    }
    Some(text.to_owned())
}
