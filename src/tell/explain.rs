//! `ringgate explain http`: what would happen to a request, and why.
//!
//! What goes in: a configuration, a URL, a client's address. What comes out: text, a paragraph per decision in the order in
//! which they are taken. It owns nothing. Always true: the decisions are those of the running program, taken by the same
//! code where they depend on the configuration alone; what depends on load is described.

use std::fmt::Write;
use std::net::IpAddr;

use super::summary;
use super::url::Url;
use crate::balance::{Admin, Balancer, Key, Pick, ServerView};
use crate::clock;
use crate::config::model::{self, Action, Balance, Block, Config, Http, Listener, RedirectTo, Route, Server};
use crate::ids::{PoolId, ServerId};
use crate::net::Address;
use crate::route::{Explanation, HostMatch, PathMatch, Verdict};
use crate::tls::certs::Description;

/// Rules that did not match are listed up to this many.
const OTHERS_SHOWN_MAX: usize = 20;

/// What would happen.
pub struct Explained {
    /// Paragraphs for people.
    pub text: String,
    /// False when the client would get no answer, or only a 404.
    pub is_served: bool,
}

/// What is asked, of what.
#[derive(Clone, Copy)]
struct Asked<'a> {
    config: &'a Config,
    at_work: Option<&'a Balancer>,
    url: &'a Url,
    from: Option<IpAddr>,
    method: &'a str,
}

/// Explains a request; with the balancer `at_work`, with the state of servers as it is now.
pub fn http(
    config: &Config,
    at_work: Option<&Balancer>,
    url: &Url,
    from: Option<IpAddr>,
    method: &str,
) -> Explained {
    let mut text = format!("{method} {url}");
    if let Some(from) = from {
        _ = write!(text, " from {from}");
    }
    text += "\n\n";
    let is_served = match listener(config, url, &mut text) {
        Some(http) => {
            certificate(http, url, &mut text);
            let asked = Asked { config, at_work, url, from, method };
            client(http, from, &mut text) && route(&asked, http, &mut text)
        }
        None => false,
    };
    Explained { text, is_served }
}

/// A paragraph: a word and its lines.
fn say(text: &mut String, word: &str, lines: &[String]) {
    for (position, line) in lines.iter().enumerate() {
        let word = if position == 0 { word } else { "" };
        _ = writeln!(text, "{word:<12} {line}");
    }
}

/// The block that gets the connection.
fn listener<'c>(config: &'c Config, url: &Url, text: &mut String) -> Option<&'c Http> {
    let on_port =
        |listener: &&Listener| matches!(&listener.address, Address::Tcp(to) if to.port() == url.port);
    let mut listeners: Vec<&Listener> = config.listeners.iter().filter(on_port).collect();
    if let Ok(ip) = url.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        listeners.retain(|listener| takes(listener, ip));
        // The kernel prefers the socket that is bound to the address itself.
        listeners.sort_by_key(|listener| !matches!(&listener.address, Address::Tcp(to) if to.ip() == ip));
    }
    let name = |listener: &Listener| match config.block(listener.serves) {
        Block::Http(http) if http.tls.is_some() => format!("http.{} (TLS)", http.name),
        Block::Http(http) => format!("http.{} (plain)", http.name),
        Block::Tcp(tcp) => format!("tcp.{}", tcp.name),
        Block::Sql(sql) => format!("sql.{}", sql.name),
    };
    let Some(first) = listeners.first() else {
        let what = match url.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(_) => format!("{}:{}", url.host, url.port),
            Err(_) => format!("port {}", url.port),
        };
        let mut lines = vec![format!("none: nothing listens on {what}")];
        let others =
            config.listeners.iter().map(|l| format!("there is {}, {}", summary::address(l), name(l)));
        lines.extend(others);
        say(text, "listener", &lines);
        return None;
    };
    let mut lines = vec![format!("{}, {}", summary::address(first), name(first))];
    for other in &listeners[1..] {
        lines.push(format!("clients of {} get {} instead", summary::address(other), name(other)));
    }
    let problem = match config.block(first.serves) {
        Block::Tcp(_) => Some("it relays bytes: no route is looked at".to_owned()),
        Block::Sql(_) => Some("it speaks MySQL's protocol: no route is looked at".to_owned()),
        Block::Http(http) if http.tls.is_some() && !url.is_tls => {
            Some("it speaks TLS: a plain request is refused; ask for https://".to_owned())
        }
        Block::Http(http) if http.tls.is_none() && url.is_tls => {
            Some("it has no certificates: a TLS handshake fails; ask for http://".to_owned())
        }
        Block::Http(_) => None,
    };
    let is_fine = problem.is_none();
    lines.extend(problem);
    say(text, "listener", &lines);
    match config.block(first.serves) {
        Block::Http(http) if is_fine => Some(http),
        _ => None,
    }
}

/// True when a listener takes connections to this address.
fn takes(listener: &Listener, ip: IpAddr) -> bool {
    let Address::Tcp(to) = &listener.address else { return false };
    let is_any =
        to.ip().is_unspecified() && (to.is_ipv6() == ip.is_ipv6() || (to.is_ipv6() && !listener.v6only));
    to.ip() == ip || is_any
}

/// The certificate that the client sees.
fn certificate(http: &Http, url: &Url, text: &mut String) {
    if http.tls.is_none() {
        return;
    }
    let host = url.host.trim_matches(['[', ']']);
    let covering = http.certificates.iter().find(|certificate| covers(certificate, host, false));
    let covering =
        covering.or_else(|| http.certificates.iter().find(|certificate| covers(certificate, host, true)));
    let describe = |certificate: &Description| {
        let names = certificate.names.join(", ");
        format!("{} for {names}, {}", certificate.file.display(), summary::days(certificate.days_left))
    };
    let lines = match (covering, http.certificates.first()) {
        (Some(certificate), _) => vec![describe(certificate)],
        (None, Some(default)) => vec![
            describe(default),
            format!("no certificate is for {host}: this is the first one, and clients will not trust it"),
        ],
        (None, None) => vec!["none".into()],
    };
    say(text, "certificate", &lines);
}

/// Whether a certificate is for a host, by name or by wildcard (one label, RFC 9525 section 6.3).
fn covers(certificate: &Description, host: &str, by_wildcard: bool) -> bool {
    certificate.names.iter().any(|name| match (name.strip_prefix("*."), by_wildcard) {
        (Some(suffix), true) => {
            host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(suffix))
        }
        (None, false) => name.eq_ignore_ascii_case(host),
        _ => false,
    })
}

/// What the client's address changes. False when the connection is refused.
fn client(http: &Http, from: Option<IpAddr>, text: &mut String) -> bool {
    let mut lines = Vec::new();
    match (&http.accept_proxy, from) {
        (Some(networks), Some(from)) if model::contains(networks, from) => {
            lines.push(format!(
                "{from} must send a PROXY protocol header first; its address is then the client's"
            ));
        }
        (Some(_), Some(from)) => {
            let why = "a PROXY protocol header must come first, and its own would not be believed";
            say(text, "client", &[format!("{from} is refused: it is not in trusted_proxies; {why}")]);
            return false;
        }
        (Some(_), None) => {
            lines.push("a PROXY protocol header must come first, from one of trusted_proxies".into())
        }
        (None, _) => {}
    }
    let names = match http.forwarded {
        true => "X-Forwarded-For, -Proto, -Host and Forwarded",
        false => "X-Forwarded-For, -Proto, -Host",
    };
    match from {
        Some(from) if model::contains(&http.trusted_proxies, from) => {
            lines.push(format!("{from} is a trusted proxy: its {names} are kept and appended to"));
        }
        Some(from) => lines.push(format!("{from} is not a trusted proxy: {names} are written anew")),
        None if http.trusted_proxies.is_empty() => lines.push(format!("{names} are written anew")),
        None => lines.push(format!("{names} are written anew, except for trusted proxies (say --from IP)")),
    }
    say(text, "client", &lines);
    true
}

/// The route, and what it leads to. False when there is none.
fn route(asked: &Asked<'_>, http: &Http, text: &mut String) -> bool {
    let Asked { config, url, method, .. } = *asked;
    if method == "CONNECT" {
        say(text, "route", &["none: CONNECT is refused with 405".into()]);
        return false;
    }
    let explanation = http.routes.explain(&url.authority(), &url.target);
    let path = url.target.split('?').next().unwrap_or_default();
    if explanation.path != path {
        say(text, "path", &[format!("routes see {}; the server gets {path} as it came", explanation.path)]);
    }
    let Some(found) = explanation.found else {
        let mut lines = vec!["none: the answer is 404".to_owned()];
        lines.extend(others(config, http, &explanation));
        say(text, "route", &lines);
        return false;
    };
    let Some((host, path, route)) = http.routes.get(found.index) else { return false };
    let mut lines = vec![
        format!("{} -> {}", summary::rule(host, path), summary::leads_to(config, route)),
        format!("because {}", because(host, path)),
    ];
    lines.extend(others(config, http, &explanation));
    say(text, "route", &lines);
    action(asked, route, text);
    for (word, rules) in [("request", &route.request), ("response", &route.response)] {
        say(text, word, &summary::rules(rules));
    }
    true
}

fn because(host: &HostMatch, path: &PathMatch) -> String {
    let host = match host {
        HostMatch::Exact(_) => "the host is its own",
        HostMatch::Wildcard(_) => "the host lies below its wildcard",
        HostMatch::Any => "it takes any host",
    };
    let path = match path {
        PathMatch::Exact(_) => "the path is exactly its own",
        PathMatch::Prefix(_) => "its path is the longest that fits",
        PathMatch::Any => "it takes any path",
    };
    format!("{host} and {path}")
}

/// What the other routes said.
fn others<T>(config: &Config, http: &Http, explanation: &Explanation<'_, T>) -> Vec<String> {
    let mut lines = Vec::new();
    for reason in explanation.reasons.iter().filter(|reason| reason.verdict != Verdict::Chosen) {
        let why = match reason.verdict {
            Verdict::OtherHost => "another host",
            Verdict::OtherPath => "another path",
            _ => "fits too, but is less close",
        };
        let leads = http.routes.get(reason.index).map(|(_, _, route)| summary::leads_to(config, route));
        let rule = summary::rule(reason.host, reason.path);
        lines.push(format!("not {rule} -> {}: {why}", leads.unwrap_or_default()));
    }
    if lines.len() > OTHERS_SHOWN_MAX {
        let more = lines.len() - OTHERS_SHOWN_MAX;
        lines.truncate(OTHERS_SHOWN_MAX);
        lines.push(format!("and {more} more routes"));
    }
    lines
}

/// What the route leads to, in detail.
fn action(asked: &Asked<'_>, route: &Route, text: &mut String) {
    let url = asked.url;
    match &route.action {
        Action::Pool(id) => pool(asked, *id, text),
        Action::Redirect(redirect) => {
            let location = match &redirect.to {
                RedirectTo::Https(443) => format!("https://{}{}", url.host, url.target),
                RedirectTo::Https(port) => format!("https://{}:{port}{}", url.host, url.target),
                RedirectTo::Prefix(to) => format!("{to}{}", url.target),
                RedirectTo::Exact(to) => to.clone(),
            };
            say(text, "answer", &[format!("{} with Location: {location}", redirect.status)]);
        }
        Action::Answer(answer) => {
            let length = answer.body.len();
            say(text, "answer", &[format!("{}, {length} bytes of {}", answer.status, answer.content_type)]);
        }
    }
}

fn pool(asked: &Asked<'_>, id: PoolId, text: &mut String) {
    let Asked { config, from, method, .. } = *asked;
    let views: Vec<ServerView> = asked.at_work.map_or_else(Vec::new, |balancer| balancer.servers().collect());
    let pool = &config.pools[id.index()];
    let servers = || pool.servers.iter().map(|id| (*id, &config.servers[id.index()]));
    let total: u64 =
        servers().filter(|(_, server)| !server.backup).map(|(_, server)| u64::from(server.weight)).sum();
    let how = match (pool.balance, from) {
        (Balance::RoundRobin, _) => "each in its turn, by weight, over all workers".to_owned(),
        (Balance::LeastConnections, _) => {
            "the one with the fewest requests in flight for its weight".to_owned()
        }
        (Balance::RandomTwo, _) => "the less loaded of two picked by chance, by weight".to_owned(),
        (Balance::IpHash, Some(from)) => format!("always the same one for {from}, as long as it works"),
        (Balance::IpHash, None) => {
            "always the same one for a client's address, as long as it works".to_owned()
        }
    };
    say(text, "pool", &[format!("{}, {}: {how}", pool.name, pool.balance.word())]);
    let row = |(id, server): (ServerId, &Server)| {
        let mut cells = summary::server(server);
        cells[0] = cells[0].trim_start().to_owned();
        cells.push(match (server.backup, server.weight) {
            (true, _) => "only when no other server can be used".into(),
            (false, 0) => "gets nothing new".into(),
            (false, weight) if pool.balance == Balance::LeastConnections => {
                format!("share by load, weight {weight} of {total}")
            }
            (false, weight) => {
                let what = if pool.balance == Balance::IpHash { "clients" } else { "requests" };
                format!("{} % of {what}", u64::from(weight) * 100 / total.max(1))
            }
        });
        cells.extend(views.get(id.index()).map(|view| {
            let state = if view.admin == Admin::Ready && view.ejected_until.is_some() {
                "ejected: it failed and is left alone for a while"
            } else {
                view.admin.word()
            };
            format!("now {state}, {} in flight", view.in_flight)
        }));
        cells
    };
    let rows = summary::table(servers().map(row));
    say(text, "servers", &rows.lines().map(str::to_owned).collect::<Vec<_>>());
    if let (Balance::IpHash, Some(from)) = (pool.balance, from) {
        hashed(asked, id, from, text);
    }
    let again = match method {
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => "can be sent again after a failure",
        _ => "is sent again only while no byte of it has gone out",
    };
    let line = match pool.attempts_max {
        1 => "none: attempts = 1".to_owned(),
        most => format!("up to {most} attempts; {method} {again}"),
    };
    say(text, "retries", &[line]);
}

/// The server that a client's address leads to, as long as it works.
fn hashed(asked: &Asked<'_>, pool: PoolId, from: IpAddr, text: &mut String) {
    // Asked of a balancer of its own: a place at the one at work would be taken for a moment.
    let views = asked.at_work.into_iter().flat_map(Balancer::servers);
    let out = views.filter(|view| view.admin != Admin::Ready || view.ejected_until.is_some());
    let tried: Vec<ServerId> = out.map(|view| view.server).collect();
    let key = Key { client: Some(from), tried: &tried, now: clock::now(), chance: 0, turn: false };
    let balancer = Balancer::new(asked.config);
    if let Pick::Server(claim) = balancer.pick(pool, &key) {
        let name = asked.config.servers[claim.server.index()].name.clone();
        _ = balancer.release(claim);
        say(text, "server", &[format!("{name}, while it works")]);
    }
}
