//! Routes: which rule of a block serves a request, by its host and path.
//!
//! What goes in: a list of (host, path, value) rules, once; then the host and path of each request, as they came.
//! What comes out: the closest rule that matches, and for people the reason ([`Routes::explain`]). It owns the rules.
//!
//! Always true:
//! - The order of the rules does not matter. The closest host is tried first: the exact name, then the longest wildcard
//!   (`*.x.com` takes `a.x.com` and `a.b.x.com`, not `x.com`), then rules for any host. Within a host the exact path
//!   wins, then the longest prefix, then rules for any path. Where a host has no rule for the path, the next less close
//!   host is asked: a catch-all rule serves what no other rule takes.
//! - Two rules with the same host and path cannot exist: the second would never be reached.
//! - Hosts are compared without port, without a trailing dot, and without regard to case.
//! - A prefix ends at a segment: `/api` takes `/api` and `/api/x`, not `/apix`; `/api/` takes `/api/x`, not `/api`.
//! - Paths are compared in the form that [`path::canonical`] describes, so that `/x/../admin` or `/%61dmin` does not
//!   slip past a rule for `/admin`.
//! - [`Routes::find`] allocates only for a path that is not in that form already.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::ops::Deref;

mod explain;
mod host;
mod names;
pub mod path;
pub mod split;

#[cfg(test)]
mod tests;

pub use explain::{Explanation, Reason, Verdict};
pub use host::{HostMatch, HostMistake};

use names::{Hosts, Paths};

/// Which paths a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// This path alone.
    Exact(String),
    /// This path and what lies below it, by whole segments.
    Prefix(String),
}

impl PathMatch {
    /// The same rule with its path in canonical form; the prefix `/` takes everything.
    fn canonical(&self) -> (Kind, Box<[u8]>) {
        match self {
            Self::Any => (Kind::Any, Box::default()),
            Self::Exact(text) => (Kind::Exact, path::canonical(text).into()),
            Self::Prefix(text) => match path::canonical(text) {
                all if matches!(&*all, b"" | b"/") => (Kind::Any, Box::default()),
                prefix => (Kind::Prefix, prefix.into()),
            },
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any path"),
            Self::Exact(path) => write!(f, "exactly {path}"),
            Self::Prefix(path) if path.ends_with('/') => write!(f, "{path}*"),
            Self::Prefix(path) => write!(f, "{path} and {path}/*"),
        }
    }
}

/// What remains of a [`PathMatch`] once its path is canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    Prefix,
    Exact,
}

/// Which of a block's rules serves a request.
#[derive(Clone, Debug)]
pub struct Routes<T> {
    rules: Vec<Rule<T>>,
    /// Rules for one host or a wildcard, and those for any host.
    hosts: Hosts,
    any: Paths,
}

/// A rule, as it was given.
#[derive(Clone, Debug)]
struct Rule<T> {
    host: HostMatch,
    path: PathMatch,
    value: T,
}

/// Two rules with the same host and path, by their positions in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The rule that serves.
    pub first: usize,
    /// The rule that would never be reached.
    pub second: usize,
}

/// A rule that matches.
#[derive(Debug, PartialEq, Eq)]
pub struct Found<'a, T> {
    /// Its position in the list that the routes were made of.
    pub index: usize,
    /// Its value.
    pub value: &'a T,
}

impl<T> Clone for Found<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Found<'_, T> {}

impl<T> Deref for Found<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { rules: Vec::new(), hosts: Hosts::default(), any: Paths::default() }
    }
}

impl<T> Routes<T> {
    /// Makes routes of rules. Errors: every rule that has the host and path of an earlier one.
    pub fn new(rules: Vec<(HostMatch, PathMatch, T)>) -> Result<Self, Vec<Duplicate>> {
        let mut routes = Self::default();
        let mut seen = HashMap::new();
        let mut duplicates = Vec::new();
        for (index, (host, path, value)) in rules.into_iter().enumerate() {
            let (kind, name) = path.canonical();
            match seen.entry((host.clone(), kind, name.clone())) {
                Slot::Occupied(first) => duplicates.push(Duplicate { first: *first.get(), second: index }),
                Slot::Vacant(free) => {
                    free.insert(index);
                }
            }
            let paths = match &host {
                HostMatch::Any => &mut routes.any,
                HostMatch::Exact(name) => routes.hosts.exact_mut(name),
                HostMatch::Wildcard(suffix) => routes.hosts.wildcard_mut(suffix),
            };
            paths.insert(kind, name, index);
            routes.rules.push(Rule { host, path, value });
        }
        routes.hosts.finish();
        routes.any.finish();
        if duplicates.is_empty() { Ok(routes) } else { Err(duplicates) }
    }

    /// The closest rule for a request. `host` is the Host field or the authority of the target (a port is ignored),
    /// `path` the target as it came (a query is ignored; `*` is taken only by rules for any path).
    pub fn find(&self, host: &str, path: &str) -> Option<Found<'_, T>> {
        if self.hosts.is_empty() && self.any.is_catch_all() {
            return self.any.all().map(|index| self.found(index));
        }
        let path = path::canonical(path);
        let index = self.hosts.find(host, &path).or_else(|| self.any.find(&path))?;
        Some(self.found(index))
    }

    /// The rules with their hosts and paths, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&HostMatch, &PathMatch, &T)> {
        self.rules.iter().map(|rule| (&rule.host, &rule.path, &rule.value))
    }

    /// The value of the rule at a position.
    ///
    /// # Panics
    /// If there is no such rule.
    pub fn value(&self, index: usize) -> &T {
        &self.rules[index].value
    }

    /// The rule at a position, with its host and path.
    pub fn get(&self, index: usize) -> Option<(&HostMatch, &PathMatch, &T)> {
        self.rules.get(index).map(|rule| (&rule.host, &rule.path, &rule.value))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True when there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn found(&self, index: usize) -> Found<'_, T> {
        Found { index, value: &self.rules[index].value }
    }
}
