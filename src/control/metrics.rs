//! The metrics, as Prometheus reads them (text format 0.0.4).
//!
//! What goes in: the state. What comes out: text. It owns nothing. Always true: it is made on the control thread out of sums
//! that workers never wait for; names and units follow Prometheus' conventions; the number of series follows from the
//! configuration, never from what clients send. README.md lists every name.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::state::State;
use crate::access::Wait;
use crate::balance::ServerView;
use crate::clock;
use crate::close::{Blame, Close};
use crate::cluster::Role;
use crate::config::model::{Block, Config};
use crate::counters::Count;
use crate::ids::{HttpId, ListenerId, PoolId, SqlId, TcpId, WorkerId};
use crate::meters::{BOUNDS, CLASSES, Meter, SplitSums, Spread, Step, Sums, route_names};
use crate::route::split::Pin;
use crate::worker::edition::Edition;

/// Of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters that are shown by other names below.
const ELSEWHERE: [Count; 6] = [
    Count::Turns,
    Count::TlsHandshakes,
    Count::TlsHandshakes12,
    Count::Pages,
    Count::PagesFree,
    Count::PagesLent,
];

/// Names and values, with names that are written in the code.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// Text that grows family by family.
#[derive(Default)]
struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.name = name;
        self.head("", kind, help)
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        let name = if name.is_empty() { self.name } else { name };
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        let name = self.name;
        self.named(&format!("{name}{suffix}"), labels, value);
    }

    fn named(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// One value without labels.
    fn single(&mut self, name: &'static str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help).sample("", &[], value);
    }

    /// A histogram; of its bounds those with one, two and five are shown.
    fn histogram(&mut self, labels: Labels<'_>, spread: &Spread) {
        let mut count = 0;
        for (at, bound) in BOUNDS.iter().enumerate() {
            count += spread.buckets[at];
            if matches!(at % 6, 0 | 2 | 4) {
                let bound = Duration::from_nanos(*bound).as_secs_f64().to_string();
                let with = [labels, &[("le", &bound)]].concat();
                self.sample("_bucket", &with, count);
            }
        }
        let with = [labels, &[("le", "+Inf")]].concat();
        self.sample("_bucket", &with, spread.count());
        self.sample("_sum", labels, Duration::from_nanos(spread.nanos).as_secs_f64());
        self.sample("_count", labels, spread.count());
    }
}

/// All metrics.
pub fn text(state: &State) -> String {
    let edition = state.shared.edition();
    let mut text = Text::default();
    process(&mut text, state, &edition);
    counters(&mut text, state);
    workers(&mut text, state);
    listeners(&mut text, &edition);
    blocks(&mut text, &edition);
    pools(&mut text, &edition);
    servers(&mut text, state, &edition);
    sql(&mut text, state, &edition);
    text.text
}

fn unix_seconds(moment: SystemTime) -> f64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn process(text: &mut Text, state: &State, edition: &Edition) {
    let engine = state.engine.to_string();
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("engine", &engine)];
    text.family("ringgate_build_info", "gauge", "always 1").sample("", &labels, 1);
    let about = "configurations that were taken over since the start, and the first";
    text.single("ringgate_config_editions_total", "counter", about, edition.number);
    let about = "when the configuration file was loaded";
    let loaded = unix_seconds(state.loaded_at());
    text.single("ringgate_config_loaded_timestamp_seconds", "gauge", about, loaded);
    let about = "reloads that were refused";
    text.single("ringgate_config_reloads_refused_total", "counter", about, state.refused.get());
    let draining = u8::from(state.shared.is_draining());
    text.single("ringgate_draining", "gauge", "1 when the process is stopping", draining);
    let limit = edition.config.limits.connections_max;
    text.single("ringgate_connections_max", "gauge", "client connections at most", limit);
    let memory = edition.config.limits.memory_max;
    text.single("ringgate_memory_max_bytes", "gauge", "bytes of all pages at most", memory);
    let checks = state.check_counts();
    text.single("ringgate_checks_total", "counter", "checks of servers that ended", checks.done);
    text.single("ringgate_checks_failed_total", "counter", "checks of servers that failed", checks.failed);
    let about = "times that a check found a server down";
    text.single("ringgate_checks_went_down_total", "counter", about, checks.went_down);
    let about = "times that a check found a server up again";
    text.single("ringgate_checks_came_up_total", "counter", about, checks.came_up);
    let about = "lookups of names that failed";
    text.single("ringgate_names_failed_total", "counter", about, state.names().failures());
    let about = "names whose last lookup failed";
    text.single("ringgate_names_failing", "gauge", about, state.names().stale().len());
    certificates(text, &edition.config);
    let cpu = clock::process_time().as_secs_f64();
    text.single("process_cpu_seconds_total", "counter", "processor time, user and system", cpu);
    let started = unix_seconds(clock::wall()) - clock::now().since(state.since).as_secs_f64();
    text.single("process_start_time_seconds", "gauge", "when the process started", started);
    if let Some(pages) = std::fs::read_to_string("/proc/self/statm").ok().and_then(resident_pages) {
        text.single("process_resident_memory_bytes", "gauge", "resident memory", pages * 4096);
    }
    if let Ok(list) = std::fs::read_dir("/proc/self/fd") {
        // The list itself is one of them.
        let open = list.count().saturating_sub(1);
        text.single("process_open_fds", "gauge", "open descriptors", open);
    }
}

fn resident_pages(statm: String) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

fn certificates(text: &mut Text, config: &Config) {
    let about = "when a certificate ends";
    text.family("ringgate_certificate_expires_timestamp_seconds", "gauge", about);
    for (block, one) in config.certificates() {
        let file = one.file.display().to_string();
        text.sample("", &[("block", block), ("file", &file)], unix_seconds(one.not_after));
    }
}

fn counters(text: &mut Text, state: &State) {
    for count in Count::ALL.iter().filter(|count| !ELSEWHERE.contains(count)) {
        let name = format!("ringgate_{}", count.word());
        text.head(&name, if count.is_gauge() { "gauge" } else { "counter" }, count.about());
        text.named(&name, &[], state.shared.sum(*count));
    }
    let [all, old] = [Count::TlsHandshakes, Count::TlsHandshakes12].map(|count| state.shared.sum(count));
    text.family("ringgate_tls_handshakes_total", "counter", "TLS handshakes completed with clients");
    text.sample("", &[("version", "1.2")], old);
    text.sample("", &[("version", "1.3")], all.saturating_sub(old));
    text.family("ringgate_closes_total", "counter", "ends of exchanges and connections, by reason");
    for close in Close::ALL {
        let blame = match close.blame() {
            Blame::Nobody => "nobody",
            Blame::Client => "client",
            Blame::Server => "server",
            Blame::Ringgate => "ringgate",
        };
        text.sample("", &[("reason", close.word()), ("blame", blame)], state.shared.closed(*close));
    }
}

fn workers(text: &mut Text, state: &State) {
    let workers = u32::try_from(state.shared.workers()).unwrap_or(0);
    let mut each = |name, kind, about, value: &dyn Fn(WorkerId) -> f64| {
        text.family(name, kind, about);
        (0..workers).for_each(|at| text.sample("", &[("worker", &at.to_string())], value(WorkerId(at))));
    };
    let seat = |id: WorkerId| state.shared.seat(id);
    let of = |count: Count| move |id: WorkerId| seat(id).counters.get(count) as f64;
    let about = "processor time of a worker";
    each("ringgate_worker_cpu_seconds_total", "counter", about, &|id| seat(id).busy().as_secs_f64());
    let about = "turns of a worker's loop";
    each("ringgate_worker_turns_total", "counter", about, &of(Count::Turns));
    let about = "client connections of a worker";
    each("ringgate_worker_connections", "gauge", about, &of(Count::Open));
    each("ringgate_worker_pages", "gauge", "pages that a worker made so far", &of(Count::Pages));
    each("ringgate_worker_pages_free", "gauge", "pages that nobody uses", &of(Count::PagesFree));
    each("ringgate_worker_pages_lent", "gauge", "pages that the kernel may write to", &of(Count::PagesLent));
}

fn listeners(text: &mut Text, edition: &Edition) {
    let config = &edition.config;
    let list: Vec<(String, &str, (u64, u64))> = (0u32..)
        .zip(&config.listeners)
        .map(|(at, listener)| {
            let block = match config.block(listener.serves) {
                Block::Http(http) => &http.name,
                Block::Tcp(tcp) => &tcp.name,
                Block::Sql(sql) => &sql.name,
            };
            let sums = edition.meters.listener(ListenerId(at)).sums();
            (listener.address.to_string(), block.as_str(), sums)
        })
        .collect();
    let about = "connections that a listener accepted";
    text.family("ringgate_listener_connections_total", "counter", about);
    list.iter().for_each(|(at, block, sums)| text.sample("", &[("listener", at), ("block", block)], sums.0));
    let about = "connections of a listener that live";
    text.family("ringgate_listener_connections", "gauge", about);
    list.iter().for_each(|(at, block, sums)| text.sample("", &[("listener", at), ("block", block)], sums.1));
}

/// Requests by status class, without classes that never came.
fn classes(text: &mut Text, labels: Labels<'_>, sums: &Sums) {
    let mut with: Vec<(&str, &str)> = labels.to_vec();
    for (class, count) in CLASSES.iter().zip(sums.classes) {
        if count > 0 || *class == "2xx" {
            with.push(("code", class));
            text.sample("", &with, count);
            with.truncate(labels.len());
        }
    }
}

/// Something with a name and a meter.
type Row<'a> = (Vec<(&'a str, &'a str)>, &'a Meter);

/// One value of each.
fn sums(text: &mut Text, rows: &[Row<'_>], value: impl Fn(&Sums) -> u64) {
    rows.iter().for_each(|(labels, meter)| text.sample("", labels, value(&meter.sums())));
}

fn bytes(text: &mut Text, names: [&'static str; 2], rows: &[Row<'_>]) {
    text.family(names[0], "counter", "bytes of requests, or from clients of TCP");
    sums(text, rows, |sums| sums.bytes_in);
    text.family(names[1], "counter", "bytes of answers, or to clients of TCP");
    sums(text, rows, |sums| sums.bytes_out);
}

fn blocks(text: &mut Text, edition: &Edition) {
    let (config, meters) = (&edition.config, &edition.meters);
    let http: Vec<Row<'_>> = (0u32..)
        .zip(&config.http)
        .map(|(at, block)| (vec![("block", block.name.as_str())], meters.http(HttpId(at))))
        .collect();
    let tcp: Vec<Row<'_>> = (0u32..)
        .zip(&config.tcp)
        .map(|(at, block)| (vec![("block", block.name.as_str())], meters.tcp(TcpId(at))))
        .collect();
    let about = "requests that were answered or failed, by status class";
    text.family("ringgate_http_requests_total", "counter", about);
    http.iter().for_each(|(labels, meter)| classes(text, labels, &meter.sums()));
    bytes(text, ["ringgate_http_request_bytes_total", "ringgate_http_response_bytes_total"], &http);
    let about = "from the first byte of a request to the last of its answer";
    text.family("ringgate_http_request_duration_seconds", "histogram", about);
    http.iter().for_each(|(labels, meter)| text.histogram(labels, &meter.spread(Step::Total)));
    text.family("ringgate_tcp_sessions_total", "counter", "connections that ended");
    sums(text, &tcp, Sums::exchanges);
    bytes(text, ["ringgate_tcp_received_bytes_total", "ringgate_tcp_sent_bytes_total"], &tcp);
    text.family("ringgate_tcp_session_duration_seconds", "histogram", "life of a connection");
    tcp.iter().for_each(|(labels, meter)| text.histogram(labels, &meter.spread(Step::Total)));
    text.family("ringgate_route_requests_total", "counter", "requests of a route, by status class");
    for (at, block) in config.http.iter().enumerate() {
        let names = route_names(config, at);
        let id = HttpId(u32::try_from(at).unwrap_or(0));
        for (name, meter) in names.iter().zip(meters.routes(id)) {
            classes(text, &[("block", &block.name), ("route", name)], &meter.sums());
        }
    }
}

fn pools(text: &mut Text, edition: &Edition) {
    let (config, meters) = (&edition.config, &edition.meters);
    let rows: Vec<Row<'_>> = (0u32..)
        .zip(&config.pools)
        .map(|(at, pool)| (vec![("pool", pool.name.as_str())], meters.pool(PoolId(at))))
        .collect();
    let about = "requests (TCP: connections) of a pool, by status class";
    text.family("ringgate_pool_requests_total", "counter", about);
    rows.iter().for_each(|(labels, meter)| classes(text, labels, &meter.sums()));
    text.family("ringgate_pool_waiting", "gauge", "requests that wait for a place at a server");
    (0u32..).zip(&rows).for_each(|(at, (labels, _))| {
        text.sample("", labels, edition.waiting(PoolId(at)));
    });
    let steps = [
        (Step::Queue, "ringgate_pool_queue_duration_seconds", "until a server was picked"),
        (Step::Connect, "ringgate_pool_connect_duration_seconds", "until a new connection to a server stood"),
        (Step::FirstByte, "ringgate_pool_first_byte_duration_seconds", "from there until the answer's head"),
        (
            Step::Total,
            "ringgate_pool_request_duration_seconds",
            "from the first byte in to the last byte out",
        ),
    ];
    for (step, name, about) in steps {
        text.family(name, "histogram", about);
        rows.iter().for_each(|(labels, meter)| text.histogram(labels, &meter.spread(step)));
    }
}

fn servers(text: &mut Text, state: &State, edition: &Edition) {
    let (config, now) = (&edition.config, clock::now());
    let views: Vec<ServerView> = edition.balancer.servers().collect();
    let row = |view: &ServerView| {
        let server = &config.servers[view.server.index()];
        let pool = config.pools[server.pool.index()].name.as_str();
        (vec![("pool", pool), ("server", server.name.as_str())], edition.meters.server(view.server))
    };
    let rows: Vec<Row<'_>> = views.iter().map(row).collect();
    text.family("ringgate_server_requests_total", "counter", "requests of a server, by status class");
    rows.iter().for_each(|(labels, meter)| classes(text, labels, &meter.sums()));
    bytes(text, ["ringgate_server_received_bytes_total", "ringgate_server_sent_bytes_total"], &rows);
    let about = "attempts that failed, and answers with a 5xx status";
    text.family("ringgate_server_errors_total", "counter", about);
    let both = || views.iter().zip(&rows);
    both().for_each(|(view, (labels, meter))| text.sample("", labels, view.failed + meter.sums().failed));
    let about = "from the connection until the answer's head";
    text.family("ringgate_server_first_byte_duration_seconds", "histogram", about);
    rows.iter().for_each(|(labels, meter)| text.histogram(labels, &meter.spread(Step::FirstByte)));
    let mut gauge = |name, about, value: &dyn Fn(&ServerView) -> u64| {
        text.family(name, "gauge", about);
        both().for_each(|(view, (labels, _))| text.sample("", labels, value(view)));
    };
    let found = |view: &ServerView| config.servers[view.server.index()].is_found();
    let is_up = |view: &ServerView| u64::from(found(view) && matches!(view.state(now), "up" | "warming"));
    gauge("ringgate_server_up", "1 when a server may get requests", &is_up);
    gauge("ringgate_server_in_flight", "requests in progress", &|view| u64::from(view.in_flight));
    gauge("ringgate_server_weight", "its share", &|view| u64::from(view.weight));
    let about = "failed checks in a row";
    gauge("ringgate_server_check_failures", about, &|view| {
        state.check_view(edition, view.server).map_or(0, |check| u64::from(check.failures))
    });
    text.family("ringgate_server_state", "gauge", "1 for the state that a server is in");
    for (view, (labels, _)) in both() {
        let now = if found(view) { view.state(now) } else { "down" };
        for word in ["up", "warming", "ejected", "down", "drain", "maint"] {
            let mut with = labels.clone();
            with.push(("state", word));
            text.sample("", &with, u8::from(word == now));
        }
    }
}

/// Servers of `[sql]` blocks and what the monitor knows of them.
fn sql(text: &mut Text, state: &State, edition: &Edition) {
    let blocks = || edition.config.sql.iter().zip(&edition.clusters);
    let members = || {
        blocks().flat_map(|(sql, cluster)| {
            cluster.members().map(|(server, member)| {
                let server = edition.config.servers[server.index()].name.as_str();
                ([("block", sql.name.as_str()), ("server", server)], member)
            })
        })
    };
    text.family("ringgate_sql_statements_total", "counter", "statements by where they ran and why");
    for (at, (sql, _)) in (0u32..).zip(blocks()) {
        for (target, rule, meter) in edition.meters.reasons(SqlId(at)) {
            let count = meter.sums().exchanges();
            if count > 0 {
                let labels = [("block", sql.name.as_str()), ("target", target), ("reason", rule.word())];
                text.sample("", &labels, count);
            }
        }
    }
    let rows: Vec<Row<'_>> = (0u32..)
        .zip(&edition.config.sql)
        .map(|(at, block)| (vec![("block", block.name.as_str())], edition.meters.sql(SqlId(at))))
        .collect();
    bytes(text, ["ringgate_sql_received_bytes_total", "ringgate_sql_sent_bytes_total"], &rows);
    let about = "from a statement's last byte to the last of its answer";
    text.family("ringgate_sql_statement_duration_seconds", "histogram", about);
    rows.iter().for_each(|(labels, meter)| text.histogram(labels, &meter.spread(Step::Total)));
    split(text, edition);
    text.family("ringgate_sql_role", "gauge", "1 for the role that a server of an [sql] block has");
    for ([block, server], member) in members() {
        for role in [Role::Primary, Role::Replica, Role::Unknown] {
            let is_it = u8::from(member.role() == role);
            text.sample("", &[block, server, ("role", role.word())], is_it);
        }
    }
    let about = "how far a server is behind the primary, where that is known";
    text.family("ringgate_sql_lag_seconds", "gauge", about);
    for (labels, member) in members() {
        if let Some(lag) = member.lag() {
            text.sample("", &labels, lag.as_secs_f64());
        }
    }
    text.family("ringgate_sql_reached", "gauge", "1 when the monitor reached a server at its last try");
    members().for_each(|(labels, member)| text.sample("", &labels, u8::from(member.is_reached())));
    let views = || blocks().map(|(sql, _)| ([("block", sql.name.as_str())], state.sql_view(&sql.name)));
    let about = "times that another server became the primary";
    text.family("ringgate_sql_primary_changes_total", "counter", about);
    views().for_each(|(labels, view)| text.sample("", &labels, view.primary_changes));
    let about = "1 when a server takes writes beside the primary";
    text.family("ringgate_sql_two_primaries", "gauge", about);
    views().for_each(|(labels, view)| text.sample("", &labels, u8::from(view.is_double)));
    text.family("ringgate_sql_accounts", "gauge", "accounts that are known");
    views().for_each(|(labels, view)| text.sample("", &labels, view.accounts));
}

/// What splitting did with statements.
fn split(text: &mut Text, edition: &Edition) {
    let list: Vec<(&str, SplitSums)> = (0u32..)
        .zip(&edition.config.sql)
        .map(|(at, block)| (block.name.as_str(), edition.meters.splits(SqlId(at)).sums()))
        .collect();
    let mut single = |name, about, value: fn(&SplitSums) -> u64| {
        text.family(name, "counter", about);
        list.iter().for_each(|(block, sums)| text.sample("", &[("block", block)], value(sums)));
    };
    let about = "statements that a replica refused to write, and that ran on the primary";
    single("ringgate_sql_fenced_total", about, |sums| sums.fenced);
    single("ringgate_sql_denied_total", "clients that were not let in", |sums| sums.denied);
    let about = "sessions that ended because a connection was lost that alone knew something of them";
    single("ringgate_sql_state_lost_total", about, |sums| sums.lost);
    let about = "reads that waited at a replica for what they must see";
    text.family("ringgate_sql_waits_total", "counter", about);
    for (block, sums) in &list {
        for (wait, count) in Wait::ALL.iter().zip(sums.waits) {
            text.sample("", &[("block", block), ("result", wait.word())], count);
        }
    }
    let about = "statements that came while something kept their session on its connections, by what";
    text.family("ringgate_sql_pinned_total", "counter", about);
    for (block, sums) in &list {
        for (pin, count) in Pin::ALL.iter().zip(sums.pins).filter(|(_, count)| *count > 0) {
            text.sample("", &[("block", block), ("cause", pin.word())], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("x", "gauge", "about").sample("", &[("a", "q\"b\\c\nd"), ("b", "")], 1);
        assert_eq!(text.text, "# HELP x about\n# TYPE x gauge\nx{a=\"q\\\"b\\\\c\\nd\",b=\"\"} 1\n");
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let mut spread = Spread { nanos: 1_500_000_000, ..Spread::default() };
        spread.buckets[0] = 1;
        spread.buckets[1] = 2;
        spread.buckets[42] = 3;
        let mut text = Text::default();
        text.family("x_seconds", "histogram", "about").histogram(&[("pool", "a")], &spread);
        let line = |line: &str| text.text.lines().any(|one| one == line);
        for wanted in [
            "x_seconds_bucket{pool=\"a\",le=\"0.00001\"} 1",
            "x_seconds_bucket{pool=\"a\",le=\"0.00002\"} 3",
            "x_seconds_bucket{pool=\"a\",le=\"50\"} 3",
            "x_seconds_bucket{pool=\"a\",le=\"+Inf\"} 6",
            "x_seconds_sum{pool=\"a\"} 1.5",
            "x_seconds_count{pool=\"a\"} 6",
        ] {
            assert!(line(wanted), "{wanted}\n{}", text.text);
        }
    }
}
