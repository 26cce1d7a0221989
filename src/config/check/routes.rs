//! Routes: hosts, paths, and what they lead to.

use super::fields::{Rules, Side};
use super::http::media_type;
use super::*;
use std::sync::Arc;

use crate::config::model::{Action, Answer, Redirect, RedirectTo, Route};
use crate::http::rules::check_value;
use crate::route::{HostMatch, HostMistake, PathMatch, Routes};

/// What a route or block leads to, in words of its keys.
const ACTIONS: &str = "write one of pool = \"web\", redirect = \"https\", answer = { text = \"ok\" }";

impl<'t> Checker<'t, '_> {
    /// The routes of a block: `routes`, then its own `pool`, `redirect` or `answer` for what no route takes.
    pub(super) fn routes(
        &mut self,
        block: &Table<'t>,
        has_tls: bool,
        rules: &(Rules, Rules),
    ) -> Routes<Route> {
        let mut list = Vec::new();
        let mut places = Vec::new();
        let value = block.get("routes");
        for item in value.as_ref().map_or_else(Vec::new, |value| value.list(false)) {
            let Some(table) = item.table("write it like { host = \"www.example.org\", pool = \"web\" }")
            else {
                continue;
            };
            let host = host_of(&table);
            let path = path_of(&table);
            let action = self.action(&table, has_tls);
            if action.is_none() && !leads_somewhere(&table) {
                table.mistake("the route leads nowhere", ACTIONS);
            }
            let own = (self.rules(&table, Side::Request), self.rules(&table, Side::Response));
            table.finish();
            if let (Some(host), Some(path)) = (host, path) {
                list.push((host, path, route(action, rules, &own)));
                places.push(item.at.clone());
            }
        }
        let last = ["pool", "redirect", "answer"].into_iter().filter_map(|key| block.entry(key)).next();
        if let Some(last) = last {
            let action = self.action(block, has_tls);
            list.push((HostMatch::Any, PathMatch::Any, route(action, rules, &Default::default())));
            places.push(last.at.clone());
        } else if value.is_none() {
            block.mistake(
                "no request would be answered",
                "add pool = \"web\", redirect = \"https\" or routes = [...]",
            );
        } else if value.as_ref().is_some_and(|value| value.is_list() && value.list(false).is_empty()) {
            let advice = "write a route: routes = [ { pool = \"web\" } ]";
            value.iter().for_each(|value| value.mistake("no request would be answered", advice));
        }
        Routes::new(list).unwrap_or_else(|duplicates| {
            for pair in duplicates {
                let line = self.notes.line(&places[pair.first]);
                let what = "no request reaches this route";
                let advice = format!("the one on line {line} has the same host and path: remove one of them");
                self.notes.mistake(&places[pair.second], what, advice);
            }
            Routes::default()
        })
    }

    /// What a route or block leads to.
    fn action(&mut self, table: &Table<'t>, has_tls: bool) -> Option<Action> {
        let (pool, redirect, answer) = (table.entry("pool"), table.entry("redirect"), table.entry("answer"));
        let mut given = [pool, redirect, answer].into_iter().flatten();
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let what = format!("there is {} already", first.name);
            self.notes.mistake(&second.at, what, "a route leads to one thing: remove one of them");
        }
        match (pool, redirect, answer) {
            (Some(pool), ..) => self.pool_id(&pool.value).map(Action::Pool),
            (_, Some(redirect), _) => self.redirect(&redirect.value, has_tls).map(Action::Redirect),
            (.., Some(answer)) => self.answer(answer).map(Action::Answer),
            _ => None,
        }
    }

    /// `"https"`, `"https:8443"`, `{ to = ... }` or `{ exact = ... }`.
    fn redirect(&self, value: &Value<'t>, has_tls: bool) -> Option<Redirect> {
        const EXAMPLE: &str = "write \"https\", \"https:8443\" or { to = \"https://www.example.org\" }";
        if !value.is_text() {
            return self.redirect_table(&value.table(EXAMPLE)?);
        }
        let text = value.text()?;
        let port = match text.strip_prefix("https").map(|rest| rest.strip_prefix(':').ok_or(rest)) {
            Some(Err("")) => Some(443),
            Some(Ok(port)) => port.parse::<u16>().ok().filter(|port| *port > 0),
            _ => None,
        };
        let Some(port) = port else {
            let is_url = text.starts_with("http://") || text.starts_with("https://");
            let advice = if is_url { format!("write {{ to = \"{text}\" }}") } else { EXAMPLE.into() };
            value.mistake(format!("cannot redirect to \"{text}\""), advice);
            return None;
        };
        if has_tls {
            value.mistake(
                "this block speaks https already: the redirect would lead back to it",
                "put the redirect into a block without certificates, or name another host: { to = \"https://...\" }",
            );
        }
        Some(Redirect { status: 308, to: RedirectTo::Https(port) })
    }

    fn redirect_table(&self, table: &Table<'t>) -> Option<Redirect> {
        let statuses = [301, 302, 303, 307, 308];
        let status = table.get("status").and_then(|value| {
            let status = value.integer(0..=999)? as u16;
            if !statuses.contains(&status) {
                value.mistake(format!("{status} is not a redirect"), "write 301, 302, 303, 307 or 308");
            }
            Some(status)
        });
        let (to, exact) = (table.get("to"), table.get("exact"));
        let target = match (&to, &exact) {
            (Some(to), None) => to.text().and_then(|text| {
                to.note(values::redirect_url(text, false))?;
                if text.contains(['?', '#']) {
                    let what = "the target of the request is put behind this URL";
                    to.mistake(what, "leave the query out, or write exact = \"...\"");
                }
                Some(RedirectTo::Prefix(text.trim_end_matches('/').to_owned()))
            }),
            (None, Some(exact)) => exact.text().and_then(|text| {
                exact.note(values::redirect_url(text, true))?;
                Some(RedirectTo::Exact(text.to_owned()))
            }),
            (Some(_), Some(exact)) => {
                exact.mistake(
                    "there is \"to\" already",
                    "\"to\" keeps the request's target, \"exact\" does not: remove one",
                );
                None
            }
            (None, None) => {
                table.mistake("the redirect leads nowhere", "add to = \"https://www.example.org\"");
                None
            }
        };
        table.finish();
        Some(Redirect { status: status.unwrap_or(302), to: target? })
    }

    /// `{ status = 200, text = "ok" }` or `{ status = 503, file = "sorry.html" }`.
    fn answer(&self, entry: &Entry<'t>) -> Option<Answer> {
        let table = entry.table("write it like { status = 200, text = \"ok\" }")?;
        let status = table.get("status").and_then(|value| value.integer(200..=599)).unwrap_or(200) as u16;
        let (text, file) = (table.get("text"), table.get("file"));
        let content_type = table.get("content_type").and_then(|value| {
            let text = value.text()?;
            if text.is_empty() || check_value(text).is_err() {
                value.mistake(
                    format!("\"{text}\" is not a media type"),
                    "write it like \"text/html; charset=utf-8\"",
                );
            }
            Some(text.to_owned())
        });
        if let (Some(_), Some(file)) = (&text, &file) {
            file.mistake("there is text already", "an answer has one body: remove one of them");
        }
        let (guess, body) = match (text, file) {
            (Some(text), _) => ("text/plain; charset=utf-8", text.text()?.as_bytes().to_vec()),
            (None, Some(file)) => self.file(&file).map(|(path, bytes)| (media_type(&path), bytes))?,
            (None, None) => ("text/plain; charset=utf-8", Vec::new()),
        };
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            table.mistake(format!("an answer with status {status} has no body"), "remove the text or file");
        }
        table.finish();
        Some(Answer { status, content_type: content_type.unwrap_or_else(|| guess.into()), body: body.into() })
    }
}

/// A route of its action and rules. Without an action a mistake was noted, and a stand-in does.
fn route(action: Option<Action>, block: &(Rules, Rules), own: &(Rules, Rules)) -> Route {
    Route {
        action: action.unwrap_or(Action::Pool(PoolId(0))),
        request: block.0.with(&own.0),
        response: Arc::new(block.1.with(&own.1)),
    }
}

fn leads_somewhere(table: &Table<'_>) -> bool {
    ["pool", "redirect", "answer"].into_iter().any(|key| table.entry(key).is_some())
}

fn host_of(table: &Table<'_>) -> Option<HostMatch> {
    let Some(value) = table.get("host") else { return Some(HostMatch::Any) };
    let text = value.text()?;
    let (what, advice) = match HostMatch::parse(text) {
        Ok(host) => return Some(host),
        Err(HostMistake::Empty) => ("the host is empty", "leave it out for every host"),
        Err(HostMistake::Port) => {
            ("a host has no port here", "leave the port out: the block's addresses have it")
        }
        Err(HostMistake::Url) => {
            ("a host is a name, not a URL", "write it like \"www.example.org\"; the path goes to path")
        }
        Err(HostMistake::Star) => ("a star can stand only at the start", "write it like \"*.example.org\""),
        Err(HostMistake::NotAscii) => {
            ("a host holds ASCII only", "write its encoded form, which begins with xn--")
        }
        Err(HostMistake::Character) => {
            ("this cannot be a host", "write it like \"www.example.org\" or \"*.example.org\"")
        }
        Err(HostMistake::Length) => {
            ("a part of the host is empty or longer than 63 bytes", "write it like \"www.example.org\"")
        }
    };
    value.mistake(format!("{what}: \"{text}\""), advice);
    None
}

fn path_of(table: &Table<'_>) -> Option<PathMatch> {
    let (path, exact) = (table.get("path"), table.get("exact"));
    let value = match (&path, &exact) {
        (None, None) => return Some(PathMatch::Any),
        (Some(_), Some(exact)) => {
            exact.mistake(
                "there is path already",
                "path takes all that begins with it, exact takes it alone: remove one",
            );
            return None;
        }
        (Some(value), None) | (None, Some(value)) => value,
    };
    let text = value.text()?;
    if !text.starts_with('/') {
        value.mistake(format!("the path \"{text}\" does not begin with /"), format!("write \"/{text}\""));
        return None;
    }
    if text.contains(['?', '#']) {
        value.mistake(
            "a path has no query",
            "leave out what begins with ? or #: routes look at the path alone",
        );
        return None;
    }
    if let Some(prefix) = text.strip_suffix('*') {
        let advice = format!("path is a prefix already: write path = \"{prefix}\"");
        value.mistake("a path has no star", advice);
        return None;
    }
    Some(if path.is_some() { PathMatch::Prefix(text.into()) } else { PathMatch::Exact(text.into()) })
}
