//! The answers of the admin interface as text for people.
//!
//! What goes in: values of `admin_model`. What comes out: text with aligned columns. It owns nothing. Always true: texts
//! of the other side cannot steer the terminal, because [`clean`] is the last step of everything that is printed.

use super::super::admin_model::{
    Certificate, Check, Difference, Digests, Latency, Listener, Reloaded, Server, Servers, Session, Shape,
    Shapes, Split, Status,
};
use crate::tell::summary::{days, table};

/// A text without control characters, line ends excepted.
pub(in crate::cli) fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}

/// Seconds as people say them: `3d 4h`, `5m 2s`, `0.4s`.
pub(in crate::cli) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..10 => format!("{:.1}s", seconds.max(0.0)),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m {}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h {}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3600 % 24),
    }
}

/// A rate with as many digits as matter; `-` when there is nothing to say.
pub(in crate::cli) fn per_second(rate: impl Into<Option<f64>>) -> String {
    match rate.into() {
        None => "-".into(),
        Some(rate) if rate <= 0.0 => "0".into(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 99_999.5 => format!("{rate:.0}"),
        Some(rate) if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        Some(rate) => format!("{:.1}M", rate / 1e6),
    }
}

/// A number; `-` when there is nothing to say.
pub(in crate::cli) fn number(count: Option<u64>) -> String {
    count.map_or("-".into(), |count| count.to_string())
}

/// Milliseconds with as many digits as matter; `-` when there is nothing to say.
pub(in crate::cli) fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms) if ms < 0.995 => format!("{ms:.2}"),
        Some(ms) if ms < 9.95 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn quantiles(latency: &Latency) -> String {
    format!("{} / {}", milliseconds(latency.p50), milliseconds(latency.p99))
}

/// The head of a table and its rows.
fn list(head: &[&str], rows: impl Iterator<Item = Vec<String>>, none: &str) -> String {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return none.into();
    }
    let head = head.iter().map(|word| (*word).to_owned()).collect();
    table(std::iter::once(head).chain(rows))
}

pub(super) fn status(status: &Status) -> String {
    let row = |word: &str, text: String| vec![word.to_owned(), text];
    let Status { version, pid, engine, .. } = status;
    let draining =
        if status.draining { ", draining: it ends when requests in progress are finished" } else { "" };
    let file = status.file.as_deref().unwrap_or("none (demo)");
    let plural = if status.workers == 1 { "worker" } else { "workers" };
    let latency = &status.latency_ms;
    let mut rows = vec![
        row("ringgate", format!("{version}, process {pid}, {engine}, {} {plural}{draining}", status.workers)),
        row("up", span(status.uptime_s)),
        row("file", format!("{file}, edition {}, loaded {}", status.edition, status.loaded_at)),
        row(
            "connections",
            format!(
                "{} open of {}, {} accepted",
                status.connections.open, status.connections.max, status.connections.accepted
            ),
        ),
        row(
            "requests",
            format!(
                "{}, {} per second, {} errors per second",
                status.requests,
                per_second(status.rate),
                per_second(status.errors_rate)
            ),
        ),
        row(
            "latency",
            format!(
                "p50 {} ms, p90 {} ms, p99 {} ms",
                milliseconds(latency.p50),
                milliseconds(latency.p90),
                milliseconds(latency.p99)
            ),
        ),
    ];
    for load in &status.workers_load {
        let busy = format!("{:.0} % busy, {} connections", load.busy * 100.0, load.connections);
        rows.push(row(&format!("worker {}", load.worker), busy));
    }
    table(rows.into_iter())
}

pub(super) fn servers(all: &Servers) -> String {
    let head = [
        "POOL",
        "SERVER",
        "ADDRESS",
        "STATE",
        "WEIGHT",
        "IN FLIGHT",
        "REQ/S",
        "ERRORS/S",
        "P50/P99 MS",
        "LAST CHECK",
    ];
    // An interface that does not say a rate says a sum.
    let has_rates =
        all.pools.iter().flat_map(|pool| &pool.servers).any(|server| server.errors_rate.is_some());
    let mut head = head.to_vec();
    if !has_rates {
        head[7] = "ERRORS";
    }
    let has_roles = all.pools.iter().flat_map(|pool| &pool.servers).any(|server| server.role.is_some());
    if has_roles {
        head.insert(4, "ROLE AND LAG");
    }
    let rows = all.pools.iter().flat_map(|pool| {
        pool.servers.iter().map(|server| {
            let mut row = vec![
                pool.name.clone(),
                server.name.clone(),
                if server.address == server.name { String::new() } else { server.address.clone() },
                state(server),
                weight(server),
                in_flight(server),
                per_second(server.rate),
                server.errors_rate.map_or(server.errors.to_string(), per_second),
                quantiles(&server.latency_ms),
                check(&server.check),
            ];
            if has_roles {
                row.insert(4, server.part().unwrap_or("-".into()));
            }
            row
        })
    });
    let mut text = list(&head, rows, "no pool has servers");
    for pool in all.pools.iter().filter(|pool| pool.waiting > 0) {
        text += &format!("{}: {} requests wait for a place\n", pool.name, pool.waiting);
    }
    text
}

fn state(server: &Server) -> String {
    if server.backup { format!("{} (backup)", server.state) } else { server.state.clone() }
}

fn weight(server: &Server) -> String {
    match server.weight_file {
        Some(file) if file != server.weight => format!("{} (file: {file})", server.weight),
        _ => server.weight.to_string(),
    }
}

fn in_flight(server: &Server) -> String {
    match server.connections_max {
        0 => server.in_flight.to_string(),
        most => format!("{}/{most}", server.in_flight),
    }
}

fn check(check: &Check) -> String {
    let times = if check.failures > 1 { format!(" ({} times)", check.failures) } else { String::new() };
    match (check.result.as_str(), check.text.as_str()) {
        ("" | "none", _) => "-".into(),
        (result, "") => format!("{result}{times}"),
        (result, text) => format!("{result}: {text}{times}"),
    }
}

pub(super) fn sessions(all: &[Session]) -> String {
    let head =
        ["WORKER", "ID", "CLIENT", "LISTENER", "KIND", "PHASE", "AGE", "REQUESTS", "SERVER", "IN", "OUT"];
    let rows = all.iter().map(|session| {
        let server = match (&session.pool, &session.server) {
            (Some(pool), Some(server)) => format!("{pool}/{server}"),
            (Some(pool), None) => pool.clone(),
            _ => "-".into(),
        };
        vec![
            session.worker.to_string(),
            session.id.as_str().map_or_else(|| session.id.to_string(), str::to_owned),
            session.client.clone().unwrap_or_else(|| "-".into()),
            session.listener.clone(),
            session.kind.clone(),
            session.phase.clone(),
            span(session.age_s),
            session.requests.to_string(),
            server,
            session.bytes_in.map_or("-".into(), bytes),
            session.bytes_out.map_or("-".into(), bytes),
        ]
    });
    list(&head, rows, "no sessions")
}

/// Characters of a statement that are shown unless all are wanted.
const STATEMENT_CHARS: usize = 100;

pub(super) fn digests(all: &Digests, full: bool) -> String {
    let text = |block: &Shapes| format!("{}\n{}", split(block, &block.split), shapes(block, full));
    let blocks: Vec<String> = all.blocks.iter().map(text).collect();
    if blocks.is_empty() { "no [sql] block".into() } else { blocks.join("\n") }
}

fn shapes(block: &Shapes, full: bool) -> String {
    let head = ["TIME", "COUNT", "ERRORS", "REPLICA", "MEAN MS", "MAX MS", "BYTES", "DIGEST", "STATEMENT"];
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let rows = block.shapes.iter().map(|shape| {
        vec![
            percent(shape.share),
            shape.statements.to_string(),
            shape.errors.to_string(),
            percent(shape.on_replica as f64 / shape.statements.max(1) as f64),
            milliseconds(shape.mean_ms),
            milliseconds(shape.max_ms),
            bytes(shape.bytes_out),
            shape.digest.clone(),
            statement(shape, full),
        ]
    });
    let mut text = list(&head, rows, "no statements\n");
    if block.gone.statements > 0 {
        let (gone, all) = (block.gone.statements, block.statements);
        text += &format!("{gone} of {all} statements were of shapes that found no place in this table\n");
    }
    text
}

fn statement(shape: &Shape, full: bool) -> String {
    let Some(text) = &shape.text else { return "(no server has understood it)".into() };
    match text.char_indices().nth(STATEMENT_CHARS) {
        Some((end, _)) if !full => format!("{}...", text.get(..end).unwrap_or_default()),
        _ => text.clone(),
    }
}

/// What splitting did, in a few lines.
fn split(block: &Shapes, split: &Split) -> String {
    let mut text = format!(
        "{}: {} at the primary, {} at replicas, {} shapes; {} fenced, {} not let in, {} lost their state\n",
        block.block, split.primary, split.replica, block.known, split.fenced, split.denied, split.state_lost
    );
    let counts = |list: &std::collections::BTreeMap<String, u64>| {
        let some = list.iter().filter(|(_, count)| **count > 0);
        some.map(|(word, count)| format!("{} {count}", word.replace('_', " "))).collect::<Vec<_>>().join(", ")
    };
    for (title, counts) in
        [("waits for positions", counts(&split.waits)), ("pinned by", counts(&split.pinned))]
    {
        if !counts.is_empty() {
            text += &format!("  {title}: {counts}\n");
        }
    }
    text
}

pub(super) fn certificates(all: &[Certificate]) -> String {
    let head = ["BLOCK", "FILE", "NAMES", "ISSUER", "UNTIL", "LEFT"];
    let rows = all.iter().map(|certificate| {
        let left = match certificate.days_left {
            left if left < 0 => "EXPIRED".to_owned(),
            left => days(left),
        };
        vec![
            certificate.block.clone(),
            certificate.file.clone(),
            certificate.names.join(", "),
            certificate.issuer.clone(),
            certificate.not_after.clone(),
            left,
        ]
    });
    list(&head, rows, "no certificates")
}

pub(super) fn listeners(all: &[Listener]) -> String {
    let head = ["ADDRESS", "BLOCK", "KIND", "OPEN", "ACCEPTED", "CONN/S"];
    let rows = all.iter().map(|listener| {
        let kind = if listener.tls { format!("{} (TLS)", listener.kind) } else { listener.kind.clone() };
        vec![
            listener.address.clone(),
            listener.block.clone(),
            kind,
            number(listener.open),
            number(listener.accepted),
            per_second(listener.rate),
        ]
    });
    list(&head, rows, "nothing listens")
}

pub(super) fn differences(all: &[Difference]) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows = all.iter().map(|one| vec![one.what.clone(), text(&one.file), text(&one.process)]);
    list(&["WHAT", "FILE", "PROCESS"], rows, "the process does what its file says")
}

pub(super) fn reloaded(answer: &Reloaded) -> String {
    let mut text = match answer.changes.len() {
        0 => format!("nothing changed (edition {})\n", answer.edition),
        _ => format!("applied: edition {}\n", answer.edition),
    };
    for change in &answer.changes {
        text += &format!("  {change}\n");
    }
    for note in &answer.notes {
        text += &format!("note: {note}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_matter() {
        for (rate, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1234.4, "1234"),
            (250_000.0, "250k"),
            (1_500_000.0, "1.5M"),
        ] {
            assert_eq!(per_second(rate), text);
        }
        for (ms, text) in [
            (None, "-"),
            (Some(0.123), "0.12"),
            (Some(0.999), "1.0"),
            (Some(12.3), "12"),
            (Some(1234.5), "1234"),
        ] {
            assert_eq!(milliseconds(ms), text);
        }
        for (seconds, text) in
            [(0.44, "0.4s"), (59.9, "59s"), (61.0, "1m 1s"), (3700.0, "1h 1m"), (200_000.0, "2d 7h")]
        {
            assert_eq!(span(seconds), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 40, "1.0 TiB")] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn no_text_steers_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc\r"), "a\u{fffd}[31mb\nc\u{fffd}");
    }

    #[test]
    fn servers_stand_in_a_table() {
        let all: Servers = serde_json::from_str(r#"{"pools":[{"name":"web","waiting":3,"servers":[
            {"name":"a","address":"10.0.0.1:80","state":"up","weight":10,"weight_file":1,"in_flight":3,"connections_max":50,
             "rate":12.34,"errors":4,"latency_ms":{"p50":1.24,"p99":null},"check":{"result":"ok","text":"200 in 1 ms","failures":0}},
            {"name":"10.0.0.2:80","address":"10.0.0.2:80","state":"down","weight":1,"weight_file":1,"backup":true,"errors":0,
             "check":{"result":"failed","text":"connection refused","failures":7},"unknown":1}]}]}"#).unwrap();
        let expected = "\
POOL  SERVER       ADDRESS      STATE          WEIGHT        IN FLIGHT  REQ/S  ERRORS  P50/P99 MS  LAST CHECK
web   a            10.0.0.1:80  up             10 (file: 1)  3/50       12     4       1.2 / -     ok: 200 in 1 ms
web   10.0.0.2:80               down (backup)  1             0          -      0       - / -       failed: connection refused (7 times)
web: 3 requests wait for a place
";
        let found = servers(&all);
        assert!(found == expected, "{found}");
        assert_eq!(servers(&Servers::default()), "no pool has servers");
    }

    #[test]
    fn servers_with_roles_show_them() {
        let all: Servers = serde_json::from_str(
            r#"{"pools":[{"name":"sql.db","servers":[
            {"name":"a","state":"up","role":"primary","lag_ms":0.0},{"name":"b","state":"up","role":"replica","lag_ms":12.3},
            {"name":"c","state":"up","role":"replica","lag_ms":12345.6},{"name":"d","state":"up","role":"replica","lag_ms":null},
            {"name":"e","state":"down","role":"unknown","lag_ms":null}]},
            {"name":"web","servers":[{"name":"f","state":"up"}]}]}"#,
        )
        .unwrap();
        let found = servers(&all);
        let column = |line: &str| {
            let (from, to) = (found.find("ROLE AND LAG").unwrap(), found.find("WEIGHT").unwrap());
            line.get(from..to).unwrap().trim().to_owned()
        };
        let column: Vec<String> = found.lines().skip(1).map(column).collect();
        assert_eq!(
            column,
            ["primary", "replica 12ms", "replica 12.3s", "replica ?", "unknown", "-"],
            "{found}"
        );
    }
}
