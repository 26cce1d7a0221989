//! The calls of the admin interface, version 1.
//!
//! What goes in: a method, a path, a body. What comes out: a status and JSON (or the metrics' text, or the dashboard). It
//! owns nothing. Always true: an error says what is wrong and what to do, as `{"error": ..., "advice": ...}`; names of
//! pools and servers in paths are percent-encoded.
//!
//! | call | does |
//! |---|---|
//! | `GET /v1/status` | the process as a whole |
//! | `GET /v1/listeners` | what listens |
//! | `GET /v1/servers[?history=1]` | pools and servers |
//! | `PATCH /v1/pools/P/servers/S` | `{"state": "ready"\|"drain"\|"maint"}` and/or `{"weight": N}` |
//! | `POST /v1/pools/P/servers` | `{"address": ..., "name", "weight", "backup"}`: adds a server |
//! | `DELETE /v1/pools/P/servers/S` | removes a server |
//! | `GET /v1/sessions[?limit=N]` | connections, the oldest first |
//! | `GET /v1/digests[?by=time\|count\|max\|errors][&block=B][&limit=N]` | shapes of SQL statements, by block |
//! | `GET /v1/certs` | certificates |
//! | `GET /v1/diff` | where the process and the file disagree |
//! | `POST /v1/reload` | loads the file again |
//! | `POST /v1/shutdown` | `{"in_s": N}`: stops, in-progress requests get so long |
//! | `POST /v1/explain` | `{"url", "method", "from"}`: what would happen to a request |
//! | `GET /metrics` | for Prometheus |
//! | `GET /` | the dashboard |

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Response, Uri};
use serde_json::{Value, json};

use super::live::Refusal;
use super::metrics;
use super::state::{ReloadError, State};
use super::views;
use super::{dashboard, digests};
use crate::balance::Admin;
use crate::config::model::{Config, Server};
use crate::config::{self};
use crate::limits::{SERVER_NAME_BYTES_MAX, SESSIONS_LISTED_MAX, SQL_DIGESTS_SHOWN_MAX};
use crate::net::Address;
use crate::tell::explain;
use crate::tell::url::Url;

/// An answer, not yet written.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    policy: Option<&'static str>,
    body: Bytes,
}

impl Answer {
    fn json(value: &Value) -> Self {
        Self::text(200, "application/json", value.to_string())
    }

    fn text(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, policy: None, body: Bytes::from(body) }
    }

    fn page() -> Self {
        let (page, policy) = dashboard::page();
        let body = Bytes::from_static(page.as_bytes());
        Self { status: 200, content_type: "text/html; charset=utf-8", policy: Some(policy), body }
    }

    /// An error: what, and what to do.
    pub(super) fn error(status: u16, what: &str, advice: &str) -> Self {
        Self::text(status, "application/json", json!({ "error": what, "advice": advice }).to_string())
    }

    fn refusal(refusal: &Refusal) -> Self {
        Self::error(409, &refusal.0, refusal.1)
    }

    /// As it is sent.
    pub(super) fn into_response(self, method: &Method) -> Response<Full<Bytes>> {
        let body = if method == Method::HEAD { Bytes::new() } else { self.body };
        let mut response = Response::builder()
            .status(self.status)
            .header("Content-Type", self.content_type)
            .header("Cache-Control", "no-store")
            .header("X-Content-Type-Options", "nosniff")
            .header("X-Frame-Options", "DENY")
            .header("Referrer-Policy", "no-referrer");
        if let Some(policy) = self.policy {
            response = response.header("Content-Security-Policy", policy);
        }
        if self.status == 401 {
            response = response.header("WWW-Authenticate", "Bearer");
        }
        response.body(Full::new(body)).unwrap_or_default()
    }
}

/// The dashboard itself holds no secret: it asks for the token.
pub(super) fn is_page(path: &str) -> bool {
    path == "/"
}

/// Answers a request that may be answered.
pub(super) async fn answer(method: &Method, uri: &Uri, body: &[u8], state: &Rc<State>) -> Answer {
    let parts: Vec<Cow<'_, str>> = uri.path().split('/').skip(1).map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    let get = matches!(*method, Method::GET | Method::HEAD);
    match parts.as_slice() {
        [""] if get => Answer::page(),
        ["metrics"] if get => Answer::text(200, metrics::CONTENT_TYPE, metrics::text(state)),
        ["v1", "status"] if get => Answer::json(&views::status(state, query(uri, "history").is_some())),
        ["v1", "listeners"] if get => Answer::json(&views::listeners(state)),
        ["v1", "servers"] if get => Answer::json(&views::servers(state, query(uri, "history").is_some())),
        ["v1", "sessions"] if get => sessions(uri, state).await,
        ["v1", "digests"] if get => digests(uri, state).await,
        ["v1", "certs"] if get => Answer::json(&views::certs(&state.file())),
        ["v1", "diff"] if get => Answer::json(&views::differences(&state.differences())),
        ["v1", "reload"] if *method == Method::POST => reload(state).await,
        ["v1", "shutdown"] if *method == Method::POST => shutdown(body, state),
        ["v1", "explain"] if *method == Method::POST => explained(body, state),
        ["v1", "pools", pool, "servers"] if *method == Method::POST => add(pool, body, state).await,
        ["v1", "pools", pool, "servers", server] if *method == Method::PATCH => {
            change(pool, server, body, state).await
        }
        ["v1", "pools", pool, "servers", server] if *method == Method::DELETE => {
            remove(pool, server, state).await
        }
        _ => unknown(method, &parts),
    }
}

fn unknown(method: &Method, parts: &[&str]) -> Answer {
    let known = matches!(
        parts,
        [""] | ["metrics"]
            | [
                "v1",
                "status"
                    | "listeners"
                    | "servers"
                    | "sessions"
                    | "digests"
                    | "certs"
                    | "diff"
                    | "reload"
                    | "shutdown"
                    | "explain"
            ]
            | ["v1", "pools", _, "servers"]
            | ["v1", "pools", _, "servers", _]
    );
    let path = parts.join("/");
    if known {
        return Answer::error(405, &format!("{method} is not for /{path}"), "README.md lists the calls");
    }
    Answer::error(404, &format!("there is no /{path}"), "README.md lists the calls; they begin with /v1/")
}

async fn sessions(uri: &Uri, state: &State) -> Answer {
    let limit = match query(uri, "limit").map(|text| text.parse::<usize>()) {
        None => 100,
        Some(Ok(limit)) if limit <= SESSIONS_LISTED_MAX => limit,
        Some(_) => return Answer::error(400, "limit is not a number up to 10000", "write ?limit=100"),
    };
    Answer::json(&views::sessions(state, limit).await)
}

async fn digests(uri: &Uri, state: &State) -> Answer {
    let Some(by) = digests::By::of_word(query(uri, "by").unwrap_or("time")) else {
        return Answer::error(400, "by is none of the orders", "write ?by=time, count, max or errors");
    };
    let limit = match query(uri, "limit").map(|text| text.parse::<usize>()) {
        None => 100,
        Some(Ok(limit)) if limit <= SQL_DIGESTS_SHOWN_MAX => limit,
        Some(_) => return Answer::error(400, "limit is not a number up to 2000", "write ?limit=100"),
    };
    let block = query(uri, "block").map(decode);
    let sql = &state.shared.edition().config.sql;
    if let Some(name) = block.as_deref().filter(|name| sql.iter().all(|block| block.name != *name)) {
        let known: Vec<&str> = sql.iter().map(|block| block.name.as_str()).collect();
        let advice = format!("[sql] blocks are {}", known.join(", "));
        return Answer::error(404, &format!("there is no [sql] block \"{name}\""), &advice);
    }
    Answer::json(&digests::view(state, block.as_deref(), by, limit).await)
}

async fn reload(state: &Rc<State>) -> Answer {
    match state.reload().await {
        Ok(applied) => Answer::json(&json!({
            "applied": true,
            "edition": applied.edition,
            "changes": applied.changes,
            "notes": applied.notes,
        })),
        Err(ReloadError::Mistakes(mistakes)) => {
            let count = mistakes.len();
            let plural = if count == 1 { "mistake" } else { "mistakes" };
            let body = json!({
                "error": format!("the file has {count} {plural}; nothing has changed"),
                "advice": "correct them and reload again",
                "mistakes": mistakes,
            });
            Answer::text(422, "application/json", body.to_string())
        }
        Err(ReloadError::Refused(why)) => Answer::error(422, &why, "nothing has changed"),
    }
}

fn shutdown(body: &[u8], state: &State) -> Answer {
    let body = match object(body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    match body.get("in_s").map(Value::as_f64) {
        None => {}
        Some(Some(seconds)) if (0.0..=86_400.0).contains(&seconds) => {
            state.shared.set_drain_time(Duration::from_secs_f64(seconds));
        }
        Some(_) => {
            return Answer::error(400, "in_s is not a number of seconds up to 86400", "write {\"in_s\": 30}");
        }
    }
    state.stop();
    Answer::json(&json!({ "stopping": true }))
}

fn explained(body: &[u8], state: &State) -> Answer {
    let body = match object(body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let url = match body.get("url").and_then(Value::as_str).map(Url::parse) {
        Some(Ok(url)) => url,
        Some(Err(why)) => return Answer::error(400, &why, "send {\"url\": \"https://www.example.org/\"}"),
        None => {
            return Answer::error(400, "the url is missing", "send {\"url\": \"https://www.example.org/\"}");
        }
    };
    let method = body.get("method").and_then(Value::as_str).unwrap_or("GET");
    let from = match body.get("from").and_then(Value::as_str).map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(from)) => Some(from),
        Some(Err(_)) => return Answer::error(400, "from is no address", "send {\"from\": \"192.0.2.1\"}"),
    };
    let edition = state.shared.edition();
    let explained = explain::http(&edition.config, Some(&edition.balancer), &url, from, method);
    Answer::json(&json!({ "text": explained.text, "served": explained.is_served }))
}

async fn change(pool: &str, server: &str, body: &[u8], state: &Rc<State>) -> Answer {
    let body = match object(body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let name = (pool.to_owned(), server.to_owned());
    let at_work = state.shared.edition();
    if super::live::find(&at_work.config, &name).is_none() {
        return no_server(&at_work.config, pool, server);
    }
    let admin = match body.get("state").map(|word| word.as_str().and_then(Admin::from_word)) {
        Some(None) => {
            return Answer::error(400, "this is no state", "state is \"ready\", \"drain\" or \"maint\"");
        }
        Some(admin) => admin,
        None => None,
    };
    let weight = match body.get("weight").map(|weight| weight.as_u64().filter(|weight| *weight <= 1000)) {
        Some(None) => {
            return Answer::error(400, "this is no weight", "weight is a whole number from 0 to 1000");
        }
        Some(weight) => weight,
        None => None,
    };
    if let Some(key) = body.keys().find(|key| !matches!(key.as_str(), "state" | "weight")) {
        return Answer::error(400, &format!("\"{key}\" cannot be changed"), "state and weight can");
    }
    if let Some(weight) = weight {
        let weight = u32::try_from(weight).unwrap_or(1000);
        let result = state.change(|live, file, _| {
            live.set_weight(file, &name, weight);
            Ok(())
        });
        if let Err(refusal) = result.await {
            return Answer::refusal(&refusal);
        }
    }
    if let Some(admin) = admin
        && let Err(refusal) = state.set_admin(&name, admin).await
    {
        return Answer::refusal(&refusal);
    }
    Answer::json(&views::server(state, &name))
}

async fn add(pool: &str, body: &[u8], state: &Rc<State>) -> Answer {
    let body = match object(body) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let at_work = state.shared.edition();
    let Some(of) = at_work.config.pools.iter().find(|other| other.name == pool) else {
        return no_pool(&at_work.config, pool);
    };
    let Some(address) = body.get("address").and_then(Value::as_str) else {
        return Answer::error(400, "the server has no address", "send {\"address\": \"10.0.0.11:80\"}");
    };
    let (text, dns) = (address.to_owned(), state.file().dns.clone());
    let parsed = tokio::task::spawn_blocking(move || config::server_address(&text, &dns)).await;
    let parsed = match parsed.unwrap_or_else(|_| Err("the name could not be resolved".into())) {
        Ok(address) => address,
        Err(why) => return Answer::error(400, &why, "write \"10.0.0.11:80\", \"name:80\" or \"unix:/path\""),
    };
    let name = body.get("name").map_or(Some(address), Value::as_str);
    let weight =
        body.get("weight").map_or(Some(1), |weight| weight.as_u64().filter(|weight| *weight <= 1000));
    let backup = body.get("backup").map_or(Some(false), Value::as_bool);
    let (Some(name), Some(weight), Some(backup)) = (name, weight, backup) else {
        return Answer::error(
            400,
            "a value has the wrong type",
            "name is text, weight 0 to 1000, backup true or false",
        );
    };
    if name.is_empty() || name.len() > SERVER_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let advice = "a name has 1 to 255 bytes and no control characters";
        return Answer::error(400, "this is no name for a server", advice);
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let server = Server {
        name: name.to_owned(),
        pool: at_work.config.servers.first().map_or(crate::ids::PoolId(0), |server| server.pool),
        address: parsed,
        host,
        weight: u32::try_from(weight).unwrap_or(1),
        backup,
        connections_max: of
            .servers
            .first()
            .map_or(0, |id| at_work.config.servers[id.index()].connections_max),
        lookup: None,
    };
    let full = (pool.to_owned(), server.name.clone());
    let note = resolved_once(&server);
    match state.change(|live, file, at_work| live.add(file, at_work, pool, server)).await {
        Ok(_) => {
            let mut view = views::server(state, &full);
            if let (Some(note), Value::Object(fields)) = (note, &mut view) {
                fields.insert("note".into(), note.into());
            }
            Answer::json(&view)
        }
        Err(refusal) => Answer::refusal(&refusal),
    }
}

/// What whoever adds a server by a host's name is to know.
fn resolved_once(server: &Server) -> Option<String> {
    let is_name = matches!(server.address, Address::Tcp(_)) && server.host.parse::<IpAddr>().is_err();
    is_name.then(|| {
        format!(
            "{} was resolved once, to {}, and is not looked up again; a server in the file is",
            server.host, server.address
        )
    })
}

async fn remove(pool: &str, server: &str, state: &Rc<State>) -> Answer {
    let name = (pool.to_owned(), server.to_owned());
    let at_work = state.shared.edition();
    if super::live::find(&at_work.config, &name).is_none() {
        return no_server(&at_work.config, pool, server);
    }
    let result = state.change(|live, _, _| {
        live.remove(&name);
        Ok(())
    });
    match result.await {
        Ok(edition) => Answer::json(&json!({ "removed": true, "edition": edition })),
        Err(refusal) => Answer::refusal(&refusal),
    }
}

fn no_pool(config: &Config, pool: &str) -> Answer {
    let known: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    Answer::error(404, &format!("there is no pool \"{pool}\""), &format!("pools are {}", known.join(", ")))
}

fn no_server(config: &Config, pool: &str, server: &str) -> Answer {
    let Some(of) = config.pools.iter().find(|other| other.name == pool) else { return no_pool(config, pool) };
    let known: Vec<&str> =
        of.servers.iter().take(20).map(|id| config.servers[id.index()].name.as_str()).collect();
    let advice = format!("its servers are {}", known.join(", "));
    Answer::error(404, &format!("pool \"{pool}\" has no server \"{server}\""), &advice)
}

/// A body that is a JSON object; an empty one is `{}`.
fn object(body: &[u8]) -> Result<serde_json::Map<String, Value>, Answer> {
    if body.trim_ascii().is_empty() {
        return Ok(serde_json::Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Answer::error(
            400,
            "the body is no JSON object",
            "send something like {\"state\": \"drain\"}",
        )),
        Err(error) => Err(Answer::error(400, &format!("the body is no JSON: {error}"), "send a JSON object")),
    }
}

/// A parameter of the query.
fn query<'u>(uri: &'u Uri, name: &str) -> Option<&'u str> {
    let pairs = uri.query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Percent-decoding of one segment of a path.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded() {
        for (text, expected) in
            [("a", "a"), ("10.0.0.1%3A80", "10.0.0.1:80"), ("%", "%"), ("%4", "%4"), ("a%2fb", "a/b")]
        {
            assert_eq!(decode(text), expected);
        }
    }
}
