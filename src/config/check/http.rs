//! `[http.NAME]` blocks, without their routes.

use super::fields::Side;
use super::*;
use crate::config::model::{Answer, Http, HttpLimits, HttpTimes};

impl<'t> Checker<'t, '_> {
    /// Checks a block and adds it with its listeners.
    pub(super) fn http_block(&mut self, name: &'t str, block: &Table<'t>) {
        let addresses = self.listen(block);
        let listening = self.server_tls(block, true);
        let has_tls = block.get("certificates").is_some();
        let trusted_proxies = self.networks(block, "trusted_proxies");
        let rules = (self.rules(block, Side::Request), self.rules(block, Side::Response));
        let log = block.boolean("log", true);
        let http = Http {
            name: name.to_owned(),
            tls: listening.tls,
            certificates: listening.certificates,
            routes: self.routes(block, has_tls, &rules),
            accept_proxy: self.accept_proxy(block, &trusted_proxies),
            trusted_proxies,
            client_subject_field: listening.subject_field,
            forwarded: block.boolean("forwarded", false),
            limits: http_limits(block),
            times: http_times(block),
            log,
            request_id: block.boolean("request_id", log && self.config.log.access.is_some()),
            error_pages: self.error_pages(block),
        };
        self.warn_of_plain_443(block, has_tls, &addresses);
        block.finish();
        self.serve(addresses, Serves::Http(HttpId(self.config.http.len() as u32)));
        self.config.http.push(http);
    }

    fn warn_of_plain_443(&self, block: &Table<'t>, has_tls: bool, addresses: &[(Address, bool)]) {
        let is_443 = |address: &Address| matches!(address, Address::Tcp(address) if address.port() == 443);
        if let Some(listen) = block.get("listen")
            && !has_tls
            && addresses.iter().any(|(address, _)| is_443(address))
        {
            self.notes.warning(
                &listen.at,
                "port 443 without certificates speaks plain HTTP",
                "browsers expect TLS there: add certificates = [\"/etc/ringgate/certs\"]",
            );
        }
    }

    fn error_pages(&self, block: &Table<'t>) -> HashMap<u16, Answer> {
        let mut pages = HashMap::new();
        let Some(table) = block.table("error_pages", "write it like { 502 = \"sorry.html\" }") else {
            return pages;
        };
        for entry in table.entries() {
            let Some(status) = entry.name.parse().ok().filter(|status| (400..=599).contains(status)) else {
                let what = format!("{} is not the status of an error", entry.name);
                self.notes.mistake(&entry.at, what, "statuses of errors are 400 to 599");
                continue;
            };
            if let Some((path, body)) = self.file(&entry.value) {
                let content_type = media_type(&path).to_owned();
                pages.insert(status, Answer { status, content_type, body: body.into() });
            }
        }
        pages
    }
}

fn http_limits(block: &Table<'_>) -> HttpLimits {
    let default = HttpLimits::default();
    let Some(table) = block.table("limits", "write it like { body = \"10MiB\" }") else { return default };
    let head_max = limits::HEAD_BYTES_MAX as u64;
    let size = |key, range| table.get(key).and_then(|value: Value<'_>| value.size(range));
    let head = size("head", 512..=head_max).map_or(default.head_bytes_max, |bytes| bytes as usize);
    let target = size("target", 64..=head_max).map(|bytes| bytes as usize);
    let fields = table.get("fields").and_then(|value| value.integer(4..=limits::FIELDS_MAX as u64));
    let requests = table.get("requests").and_then(|value| value.integer(1..=u64::MAX));
    let limits = HttpLimits {
        head_bytes_max: head,
        fields_max: fields.map_or(default.fields_max, |count| count as usize),
        target_bytes_max: target.unwrap_or(default.target_bytes_max).min(head),
        body_bytes_max: size("body", 0..=u64::MAX).unwrap_or(default.body_bytes_max),
        requests_max: requests.unwrap_or(default.requests_max),
    };
    table.finish();
    limits
}

fn http_times(block: &Table<'_>) -> HttpTimes {
    let default = HttpTimes::default();
    let Some(table) = block.table("timeouts", "write it like { idle = \"60s\" }") else { return default };
    let times = HttpTimes {
        handshake: table.duration("handshake", default.handshake),
        head: table.duration("head", default.head),
        idle: table.duration("idle", default.idle),
        progress: table.duration("progress", default.progress),
        tunnel: table.duration("tunnel", default.tunnel),
    };
    table.finish();
    times
}

/// The media type that a file's name suggests.
pub(super) fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        _ => "application/octet-stream",
    }
}
