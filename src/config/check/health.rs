//! How a pool's servers are watched: `check`, `eject` and `slow_start`.
//!
//! What goes in: the keys of a pool block. What comes out: a `PoolHealth`. It owns nothing. Always true: a check can be
//! sent to every server of its pool, and its answer must come before the next one is due.

use std::ops::RangeInclusive;

use super::*;
use crate::config::model::{Ask, AskHttp, Check, Eject, PoolHealth, Server};
use crate::tls::{ClientOptions, ClientTls};

const EXAMPLE: &str = "write it like { path = \"/health\", every = \"2s\" }, \"/health\" or \"tcp\"";
const EJECT_EXAMPLE: &str =
    "write it like { on = [\"connect\", \"timeout\", \"5xx\"], failures = 5, time = \"10s\" }";
const TYPES: [&str; 4] = ["http", "tcp", "tls", "mysql"];
/// Keys that mean something to an HTTP check alone.
const OF_HTTP: [&str; 4] = ["path", "status", "method", "host"];

/// What makes a server be left alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Connect,
    Timeout,
    Error,
}

impl<'t> Checker<'t, '_> {
    /// The keys of a pool block about the health of its servers.
    pub(super) fn health(
        &self,
        block: &Table<'t>,
        servers: &[Server],
        tls: Option<&Arc<ClientTls>>,
    ) -> PoolHealth {
        PoolHealth {
            check: self.pool_check(block, servers, tls),
            eject: self.eject(block),
            slow_start: block.duration("slow_start", Duration::ZERO),
        }
    }

    /// A table, or its path or type alone.
    fn pool_check(
        &self,
        block: &Table<'t>,
        servers: &[Server],
        tls: Option<&Arc<ClientTls>>,
    ) -> Option<Check> {
        let entry = block.entry("check")?;
        if entry.value.is_text() {
            let ask = self.ask_of_text(&entry.value)?;
            return self.finished(ask, entry, None, tls);
        }
        if entry.value.is_boolean() && entry.value.boolean() == Some(false) {
            return None;
        }
        let table = entry.table(EXAMPLE)?;
        for key in OF_HTTP {
            table.get(key);
        }
        let ask = self.ask(&table);
        // What is wrong with the other keys is told too.
        let check = self.finished(ask.clone().unwrap_or(Ask::Tcp), entry, Some(&table), tls);
        let check = ask.and(check);
        table.finish();
        if let (Some(_), Some(port)) = (&check, table.get("port"))
            && servers.iter().any(|server| matches!(server.address, Address::Unix(_)))
        {
            port.mistake(
                "a Unix socket has no port",
                "remove port, or check these servers in a pool of their own",
            );
        }
        check
    }

    fn ask_of_text(&self, value: &Value<'t>) -> Option<Ask> {
        let text = value.text()?;
        match text {
            "tcp" => Some(Ask::Tcp),
            "tls" => Some(Ask::Tls),
            "mysql" => Some(Ask::Mysql),
            "http" => Some(Ask::Http(AskHttp { path: "/".into(), ..default_http() })),
            _ if text.starts_with('/') => {
                Some(Ask::Http(AskHttp { path: check_path(value)?, ..default_http() }))
            }
            _ => {
                let advice = did_you_mean(text, &TYPES, "write a path such as \"/health\", or one of");
                value.mistake(format!("\"{text}\" is no check"), advice);
                None
            }
        }
    }

    /// What the table asks for. Without `type` it is HTTP.
    fn ask(&self, table: &Table<'t>) -> Option<Ask> {
        let http = Self::ask_http(table);
        let kinds = [("http", None), ("tcp", Some(0)), ("tls", Some(1)), ("mysql", Some(2))];
        let Some(kind) = table.get("type") else { return http.map(Ask::Http) };
        let other = match kind.word(&kinds)? {
            None => return http.map(Ask::Http),
            Some(0) => Ask::Tcp,
            Some(1) => Ask::Tls,
            Some(_) => Ask::Mysql,
        };
        for key in OF_HTTP {
            if let Some(value) = table.get(key) {
                let what = format!("{key} means nothing to a check of type {}", self.notes.text(&kind.at));
                value.mistake(what, "remove it, or write type = \"http\"");
            }
        }
        Some(other)
    }

    fn ask_http(table: &Table<'t>) -> Option<AskHttp> {
        let default = default_http();
        let words = ["GET", "HEAD", "OPTIONS", "POST"].map(|word| (word, word));
        // `Some(None)`: it is there, and wrong.
        let path = table.get("path").map(|value| check_path(&value));
        let method = table.get("method").map(|value| value.word(&words));
        let host = table.get("host").map(|value| check_host(&value));
        let status = table.get("status").map(|value| statuses(&value));
        Some(AskHttp {
            path: path.unwrap_or(Some(default.path))?,
            method: method.map_or(Some(default.method), |word| word.map(str::to_owned))?,
            host: match host {
                Some(host) => Some(host?),
                None => None,
            },
            status: status.unwrap_or(Some(default.status))?,
        })
    }

    /// The times and counts, and the TLS that it needs.
    fn finished(
        &self,
        ask: Ask,
        entry: &Entry<'t>,
        table: Option<&Table<'t>>,
        tls: Option<&Arc<ClientTls>>,
    ) -> Option<Check> {
        let duration = |key, default| table.map_or(default, |table| table.duration(key, default));
        let number = |key, default: u32, most: u64| {
            let value = table.and_then(|table| table.get(key)).and_then(|value| value.integer(1..=most));
            value.map_or(default, |value| value as u32)
        };
        let every = duration("every", limits::CHECK_EVERY_DEFAULT);
        let timeout = duration("timeout", limits::CHECK_TIME_DEFAULT.min(every));
        if let Some(table) = table {
            self.check_times(table, every, timeout);
        }
        let tls = match &ask {
            Ask::Http(_) => tls.cloned(),
            Ask::Tls => Some(tls.cloned().map_or_else(|| self.unverified(entry), Some)?),
            Ask::Tcp | Ask::Mysql => None,
        };
        Some(Check {
            ask,
            every,
            timeout,
            rise: number("rise", limits::CHECK_RISE_DEFAULT, limits::CHECK_COUNT_MAX.into()),
            fall: number("fall", limits::CHECK_FALL_DEFAULT, limits::CHECK_COUNT_MAX.into()),
            port: table
                .and_then(|table| table.get("port"))
                .and_then(|value| value.integer(1..=65535))
                .and_then(|port| u16::try_from(port).ok()),
            tls,
        })
    }

    fn check_times(&self, table: &Table<'t>, every: Duration, timeout: Duration) {
        if every < limits::CHECK_EVERY_MIN
            && let Some(value) = table.get("every")
        {
            let least = limits::CHECK_EVERY_MIN.as_millis();
            value.mistake(
                "servers would do little else than answer checks",
                format!("write {least}ms or more"),
            );
        } else if timeout > every
            && let Some(value) = table.get("timeout")
        {
            value.mistake(
                "the next check would begin before this one ends",
                "write a time no longer than every",
            );
        }
    }

    /// TLS for a pool whose bytes are relayed as they are: that a handshake completes is all that is asked.
    fn unverified(&self, entry: &Entry<'t>) -> Option<Arc<ClientTls>> {
        let built = self.world.client_tls(&ClientOptions { verify: false, ..ClientOptions::default() });
        built.map(Arc::new).map_err(|error| entry.value.mistake(error.what, error.advice)).ok()
    }

    fn eject(&self, block: &Table<'t>) -> Eject {
        let default = Eject::default();
        let Some(entry) = block.entry("eject") else { return default };
        if entry.value.is_boolean() {
            let on = entry.value.boolean() == Some(true);
            return if on { default } else { Eject::NEVER };
        }
        let Some(table) = entry.table(EJECT_EXAMPLE) else { return default };
        let words = [("connect", On::Connect), ("timeout", On::Timeout), ("5xx", On::Error)];
        let on: Vec<On> = match table.get("on") {
            Some(value) => value.list(true).iter().filter_map(|item| item.word(&words)).collect(),
            None => vec![On::Connect],
        };
        let most = u64::from(limits::EJECT_FAILURES_MAX);
        let failures = table.get("failures").and_then(|value| value.integer(1..=most));
        let failures = failures.and_then(|failures| u8::try_from(failures).ok());
        let count = |kind: On, default: u8| if on.contains(&kind) { failures.unwrap_or(default) } else { 0 };
        let closed = count(On::Connect, default.closed);
        let eject = Eject {
            connect: count(On::Connect, default.connect),
            closed: if closed > 0 { closed.max(default.closed) } else { 0 },
            timeout: count(On::Timeout, limits::EJECT_FAILURES_DEFAULT),
            error: count(On::Error, limits::EJECT_FAILURES_DEFAULT),
            time: table.duration("time", default.time),
        };
        table.finish();
        eject
    }
}

fn default_http() -> AskHttp {
    AskHttp { method: "GET".into(), path: "/".into(), host: None, status: vec![200..=399] }
}

fn check_path(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !text.starts_with('/') {
        value.mistake(format!("\"{text}\" is not a path"), "write it like \"/health\"");
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        value.mistake(
            "a path holds no blanks, control or non-ASCII characters",
            "percent-encode them: %20 is a blank",
        );
        return None;
    }
    if text.len() > limits::TARGET_BYTES_DEFAULT {
        value
            .mistake("the path is too long", format!("write at most {} bytes", limits::TARGET_BYTES_DEFAULT));
        return None;
    }
    Some(text.to_owned())
}

fn check_host(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        value.mistake(format!("\"{text}\" is not a host name"), "write it like \"app.example.org\"");
        return None;
    }
    Some(text.to_owned())
}

/// `200`, `"2xx"`, `"200-204"`, or a list of these.
fn statuses(value: &Value<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let items = value.list(true);
    if items.is_empty() && value.is_list() {
        value.mistake("no status would do", "write it like status = [200, \"3xx\"]");
    }
    if items.len() > limits::CHECK_STATUSES_MAX {
        value.mistake("these are too many statuses", "write ranges such as \"2xx\" or \"200-299\"");
        return None;
    }
    let list: Vec<_> = items.iter().filter_map(status).collect();
    (!list.is_empty() && list.len() == items.len()).then_some(list)
}

fn status(item: &Value<'_>) -> Option<RangeInclusive<u16>> {
    let Some(text) = item.peek_text() else {
        let number = u16::try_from(item.integer(100..=599)?).ok()?;
        return Some(number..=number);
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| (100..=599).contains(number));
    let class = text.strip_suffix("xx").and_then(|digit| number(&format!("{digit}00")));
    let range = match (class, text.split_once('-')) {
        (Some(first), _) => Some(first..=first + 99),
        (None, Some((first, last))) => number(first)
            .zip(number(last))
            .map(|(first, last)| first..=last)
            .filter(|range| !range.is_empty()),
        (None, None) => number(text).map(|number| number..=number),
    };
    if range.is_none() {
        item.mistake(format!("\"{text}\" is not a status"), "write it like 200, \"2xx\" or \"200-204\"");
    }
    range
}
