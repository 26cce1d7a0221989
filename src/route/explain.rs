//! Why a rule was chosen: the answer of `ringgate explain`.
//!
//! What goes in: routes, a host and a path. What comes out: the choice of [`Routes::find`] and what each rule said, the
//! closest first. Always true: exactly one verdict is `Chosen` when `found` is set, and it names the same rule.

use std::cmp::Reverse;

use super::names::covers;
use super::{Found, HostMatch, Kind, PathMatch, Routes, Rule, host, path};

/// What every rule said to one request.
#[derive(Debug)]
pub struct Explanation<'a, T> {
    /// The host as rules see it.
    pub host: String,
    /// The path as rules see it.
    pub path: String,
    /// The rule that serves.
    pub found: Option<Found<'a, T>>,
    /// All rules in the order in which they are asked.
    pub reasons: Vec<Reason<'a>>,
}

/// What one rule said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// Its position in the list that the routes were made of.
    pub index: usize,
    /// Its host.
    pub host: &'a HostMatch,
    /// Its path.
    pub path: &'a PathMatch,
    /// What it said.
    pub verdict: Verdict,
}

/// What a rule says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It serves the request.
    Chosen,
    /// It is for another host.
    OtherHost,
    /// It is for another path.
    OtherPath,
    /// It matches, but a closer one was chosen.
    LessClose,
}

impl<T> Routes<T> {
    /// Does what [`Routes::find`] does and says why.
    pub fn explain(&self, host: &str, path: &str) -> Explanation<'_, T> {
        let found = self.find(host, path);
        let mut buffer = [0; host::BYTES_MAX];
        let name = host::canonical(host, &mut buffer).unwrap_or_default();
        let path = path::canonical(path);
        let mut order: Vec<usize> = (0..self.rules.len()).collect();
        order.sort_by_key(|&index| closeness(&self.rules[index]));
        let reasons = order.into_iter().map(|index| {
            let rule = &self.rules[index];
            let verdict = if !takes_host(&rule.host, name) {
                Verdict::OtherHost
            } else if !takes_path(&rule.path, &path) {
                Verdict::OtherPath
            } else if found.is_some_and(|found| found.index == index) {
                Verdict::Chosen
            } else {
                Verdict::LessClose
            };
            Reason { index, host: &rule.host, path: &rule.path, verdict }
        });
        Explanation {
            reasons: reasons.collect(),
            host: String::from_utf8_lossy(name).into_owned(),
            path: String::from_utf8_lossy(&path).into_owned(),
            found,
        }
    }
}

/// Sorts the closest rule first; a wildcard or prefix is closer the longer it is.
fn closeness<T>(rule: &Rule<T>) -> (u8, Reverse<usize>, u8, Reverse<usize>) {
    let (host_rank, host_bytes) = match &rule.host {
        HostMatch::Exact(_) => (0, 0),
        HostMatch::Wildcard(suffix) => (1, suffix.len()),
        HostMatch::Any => (2, 0),
    };
    let (path_rank, path_bytes) = match rule.path.canonical() {
        (Kind::Exact, _) => (0, 0),
        (Kind::Prefix, prefix) => (1, prefix.len()),
        (Kind::Any, _) => (2, 0),
    };
    (host_rank, Reverse(host_bytes), path_rank, Reverse(path_bytes))
}

fn takes_host(rule: &HostMatch, host: &[u8]) -> bool {
    match rule {
        HostMatch::Any => true,
        HostMatch::Exact(name) => name.as_bytes() == host,
        HostMatch::Wildcard(suffix) => {
            let label = host.strip_suffix(suffix.as_bytes()).and_then(|rest| rest.strip_suffix(b"."));
            label.is_some_and(|label| !label.is_empty())
        }
    }
}

fn takes_path(rule: &PathMatch, path: &[u8]) -> bool {
    match rule.canonical() {
        (Kind::Any, _) => true,
        (Kind::Exact, exact) => *exact == *path,
        (Kind::Prefix, prefix) => covers(&prefix, path),
    }
}
