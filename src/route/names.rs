//! Looking up hosts and paths: linear for a few, hashed for many.
//!
//! What goes in: names with the position of their rule. What comes out: the position of the closest rule. It owns the
//! names. Always true: both ways of looking up give the same answer; the work for one request is bounded by the
//! longest configured name, not by what a client sends.

use std::collections::HashMap;

use super::{Kind, host};

/// Up to this many names are compared one after the other; that is quicker than a hash.
const LINEAR_MAX: usize = 8;

/// A map from names to values.
#[derive(Clone, Debug)]
struct Names<V> {
    /// Longest name first, once `finish` was called.
    list: Vec<(Box<[u8]>, V)>,
    /// Positions in `list`, for adding.
    positions: HashMap<Box<[u8]>, usize>,
    /// Bytes of the longest name.
    longest: usize,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { list: Vec::new(), positions: HashMap::new(), longest: 0 }
    }
}

impl<V> Names<V> {
    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn get(&self, name: &[u8]) -> Option<&V> {
        if name.len() > self.longest {
            return None;
        }
        if self.list.len() <= LINEAR_MAX {
            return self.list.iter().find(|(key, _)| **key == *name).map(|(_, value)| value);
        }
        self.positions.get(name).map(|&position| &self.list[position].1)
    }

    /// The value of a name, made by `make` when it is new.
    fn get_or_insert(&mut self, name: &[u8], make: impl FnOnce() -> V) -> &mut V {
        let position = *self.positions.entry(name.into()).or_insert_with(|| {
            self.list.push((name.into(), make()));
            self.list.len() - 1
        });
        self.longest = self.longest.max(name.len());
        &mut self.list[position].1
    }

    /// Puts the longest names first; to be called once, after the last name.
    fn finish(&mut self) {
        self.list.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (position, (name, _)) in self.list.iter().enumerate() {
            if let Some(value) = self.positions.get_mut(name) {
                *value = position;
            }
        }
    }
}

/// Rules that name a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: Names<Paths>,
    /// By what stands behind `*.`.
    wildcards: Names<Paths>,
}

impl Hosts {
    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }

    pub(super) fn exact_mut(&mut self, name: &str) -> &mut Paths {
        self.exact.get_or_insert(name.as_bytes(), Paths::default)
    }

    pub(super) fn wildcard_mut(&mut self, suffix: &str) -> &mut Paths {
        self.wildcards.get_or_insert(suffix.as_bytes(), Paths::default)
    }

    pub(super) fn finish(&mut self) {
        for (_, paths) in self.exact.list.iter_mut().chain(&mut self.wildcards.list) {
            paths.finish();
        }
        self.exact.finish();
        self.wildcards.finish();
    }

    /// The position of the closest rule that names this host and takes this canonical path.
    pub(super) fn find(&self, host: &str, path: &[u8]) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let mut buffer = [0; host::BYTES_MAX];
        let host = host::canonical(host, &mut buffer)?;
        if let Some(index) = self.exact.get(host).and_then(|paths| paths.find(path)) {
            return Some(index);
        }
        if self.wildcards.is_empty() {
            return None;
        }
        let dots = host.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        dots.filter_map(|dot| self.wildcards.get(&host[dot + 1..])).find_map(|paths| paths.find(path))
    }
}

/// The paths of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    exact: Names<usize>,
    prefixes: Names<usize>,
    all: Option<usize>,
}

impl Paths {
    /// Adds a rule. Of two with the same path the first stays.
    pub(super) fn insert(&mut self, kind: Kind, path: Box<[u8]>, index: usize) {
        match kind {
            Kind::Any => _ = self.all.get_or_insert(index),
            Kind::Exact => _ = self.exact.get_or_insert(&path, || index),
            Kind::Prefix => _ = self.prefixes.get_or_insert(&path, || index),
        }
    }

    pub(super) fn finish(&mut self) {
        self.exact.finish();
        self.prefixes.finish();
    }

    /// True when every path has the same answer.
    pub(super) fn is_catch_all(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// The position of the rule for any path.
    pub(super) fn all(&self) -> Option<usize> {
        self.all
    }

    /// The position of the closest rule that takes this canonical path.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        self.exact.get(path).copied().or_else(|| self.prefix(path)).or(self.all)
    }

    fn prefix(&self, path: &[u8]) -> Option<usize> {
        if self.prefixes.list.len() <= LINEAR_MAX {
            let covering = self.prefixes.list.iter().find(|(prefix, _)| covers(prefix, path));
            return covering.map(|(_, index)| *index);
        }
        let longest = path.len().min(self.prefixes.longest);
        let ends = (1..=longest).rev().filter(|&end| ends_segment(path, end));
        ends.filter_map(|end| self.prefixes.get(&path[..end])).copied().next()
    }
}

/// True when a canonical path lies at or below a canonical prefix.
pub(super) fn covers(prefix: &[u8], path: &[u8]) -> bool {
    path.starts_with(prefix) && ends_segment(path, prefix.len())
}

/// True when `path[..end]` is a whole number of segments of the path; `end` lies in 1..=path.len().
fn ends_segment(path: &[u8], end: usize) -> bool {
    end == path.len() || path[end] == b'/' || end.checked_sub(1).is_some_and(|last| path[last] == b'/')
}
