//! A configuration in words: what `check` shows and what `run` prints at the start.
//!
//! What goes in: a `Config`. What comes out: text. It owns nothing. Always true: a table's columns line up.

use std::fmt::Write;

use crate::config::model::{
    Action, Answer, Block, Config, Http, Listener, Pool, Reads, Redirect, RedirectTo, Route, Server, Sql,
};
use crate::http::rules::FieldRules;
use crate::proxyproto::Version;
use crate::route::{HostMatch, PathMatch};
use crate::tls::certs::Description;

/// Listeners, routes, pools and certificates.
pub fn whole(config: &Config) -> String {
    let mut text = String::new();
    for http in &config.http {
        let tls = if http.tls.is_some() { ", TLS" } else { "" };
        _ = writeln!(
            text,
            "\nhttp {}{tls}\n  listens on {}",
            http.name,
            addresses(config, "http", &http.name)
        );
        text += &table(http.routes.iter().map(|(host, path, route)| {
            vec![format!("  {}", rule(host, path)), format!("-> {}", leads_to(config, route))]
        }));
    }
    for tcp in &config.tcp {
        let tls = if tcp.tls.is_some() { ", TLS" } else { "" };
        _ = writeln!(text, "\ntcp {}{tls}\n  listens on {}", tcp.name, addresses(config, "tcp", &tcp.name));
        _ = writeln!(text, "  every connection  -> pool {}", config.pools[tcp.pool.index()].name);
    }
    for sql in &config.sql {
        let tls = if sql.tls.is_some() { ", TLS" } else { "" };
        _ = writeln!(text, "\nsql {}{tls}\n  listens on {}", sql.name, addresses(config, "sql", &sql.name));
        _ = writeln!(text, "  {}", sql_leads(config, sql));
    }
    for pool in &config.pools {
        _ = writeln!(text, "\npool {}, {}{}", pool.name, pool.balance.word(), pool_options(pool));
        text += &table(pool.servers.iter().map(|id| server(&config.servers[id.index()])));
    }
    let certificates = certificates(config);
    if !certificates.is_empty() {
        text += "\ncertificates\n";
        text += &table(certificates.into_iter().map(certificate));
    }
    text
}

/// What listens where: a line per address.
pub fn listeners(config: &Config) -> String {
    table(config.listeners.iter().map(|listener| {
        let (kind, name, leads) = match config.block(listener.serves) {
            Block::Http(http) => ("http", &http.name, http_leads(config, http)),
            Block::Tcp(tcp) => {
                let tls = if tcp.tls.is_some() { "TLS, " } else { "" };
                ("tcp", &tcp.name, format!("-> {tls}pool {}", config.pools[tcp.pool.index()].name))
            }
            Block::Sql(sql) => ("sql", &sql.name, sql_leads(config, sql)),
        };
        vec![format!("  {kind}"), name.clone(), address(listener), leads]
    }))
}

fn sql_leads(config: &Config, sql: &Sql) -> String {
    let reads = match sql.reads {
        Reads::Replicas => "writes -> the primary, reads -> replicas",
        Reads::Primary => "everything -> the primary",
    };
    format!("{reads} of pool {}", config.pools[sql.pool.index()].name)
}

fn http_leads(config: &Config, http: &Http) -> String {
    let tls = if http.tls.is_some() { "TLS, " } else { "" };
    let mut routes = http.routes.iter();
    match (routes.next(), routes.next()) {
        (Some((HostMatch::Any, PathMatch::Any, route)), None) => {
            format!("-> {tls}{}", leads_to(config, route))
        }
        _ => {
            let count = http.routes.len();
            format!("-> {tls}{count} {}", if count == 1 { "route" } else { "routes" })
        }
    }
}

/// The addresses of a block.
fn addresses(config: &Config, kind: &str, name: &str) -> String {
    let serves = |listener: &&Listener| match config.block(listener.serves) {
        Block::Http(http) => kind == "http" && http.name == name,
        Block::Tcp(tcp) => kind == "tcp" && tcp.name == name,
        Block::Sql(sql) => kind == "sql" && sql.name == name,
    };
    config.listeners.iter().filter(serves).map(address).collect::<Vec<_>>().join(", ")
}

/// An address, with a word where it takes IPv4 and IPv6.
pub fn address(listener: &Listener) -> String {
    match &listener.address {
        crate::net::Address::Tcp(address) if !listener.v6only && address.is_ipv6() => {
            format!("*:{}", address.port())
        }
        address => address.to_string(),
    }
}

/// The host and path of a route.
pub fn rule(host: &HostMatch, path: &PathMatch) -> String {
    match (host, path) {
        (HostMatch::Any, PathMatch::Any) => "every request".into(),
        (HostMatch::Any, path) => path.to_string(),
        (host, PathMatch::Any) => host.to_string(),
        (host, path) => format!("{host} {path}"),
    }
}

/// What a route leads to.
pub fn leads_to(config: &Config, route: &Route) -> String {
    match &route.action {
        Action::Pool(pool) => format!("pool {}", config.pools[pool.index()].name),
        Action::Redirect(redirect) => redirect_to(redirect),
        Action::Answer(answer) => fixed_answer(answer),
    }
}

fn redirect_to(redirect: &Redirect) -> String {
    let to = match &redirect.to {
        RedirectTo::Https(443) => "https".to_owned(),
        RedirectTo::Https(port) => format!("https, port {port}"),
        RedirectTo::Prefix(url) => format!("{url} + path and query"),
        RedirectTo::Exact(url) => url.clone(),
    };
    format!("redirect to {to} ({})", redirect.status)
}

fn fixed_answer(answer: &Answer) -> String {
    format!("answer {}, {} bytes of {}", answer.status, answer.body.len(), answer.content_type)
}

fn pool_options(pool: &Pool) -> String {
    let proxy = match pool.send_proxy {
        Some(Version::V1) => ", PROXY protocol v1",
        Some(Version::V2) => ", PROXY protocol v2",
        None => "",
    };
    format!("{}{proxy}", if pool.tls.is_some() { ", TLS" } else { "" })
}

/// A server as cells of a table.
pub fn server(server: &Server) -> Vec<String> {
    let mut address = server.address.to_string();
    let named = if server.name == address { String::new() } else { format!("  {}", server.name) };
    if !server.is_found() {
        address = "not resolved".into();
    }
    let mut notes = vec![format!("weight {}", server.weight)];
    if server.connections_max > 0 {
        notes.push(format!("at most {} at once", server.connections_max));
    }
    if server.backup {
        notes.push("backup".into());
    }
    vec![format!("  {address}{named}"), notes.join(", ")]
}

/// Each certificate once, in the order of the file.
fn certificates(config: &Config) -> Vec<&Description> {
    let mut list: Vec<&Description> = Vec::new();
    for (_, certificate) in config.certificates() {
        if !list.contains(&certificate) {
            list.push(certificate);
        }
    }
    list
}

fn certificate(certificate: &Description) -> Vec<String> {
    let names = certificate.names.join(", ");
    vec![format!("  {}", certificate.file.display()), names, days(certificate.days_left)]
}

/// How long a certificate is valid.
pub fn days(left: i64) -> String {
    match left {
        1 => "1 day left".into(),
        _ => format!("{left} days left"),
    }
}

/// The rules of a route in words, a line each.
pub fn rules(rules: &FieldRules) -> Vec<String> {
    let pair = |verb: &str, (name, value): &(String, String)| format!("{verb} {name}: {value}");
    let removed = rules.remove().iter().map(|name| format!("remove {name}"));
    let set = rules.set().iter().map(|rule| pair("set", rule));
    removed.chain(set).chain(rules.add().iter().map(|rule| pair("add", rule))).collect()
}

/// Rows with their columns lined up.
pub fn table(rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column| rows.iter().map(|row| cell(row, column)).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            _ = write!(line, "{cell:width$}  ");
        }
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
