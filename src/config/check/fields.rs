//! Field rules: `request = { set = {...}, add = {...}, remove = [...] }`.
//!
//! What goes in: the rules of a block and of its routes. What comes out: one set of rules per route. It owns nothing.
//! Always true: a route's rule for a name wins over its block's; no rule touches a field that frames a message.

use super::{Checker, Entry, Table};
use crate::http::rules::{BadRule, FieldRules, check_name, check_set, check_value};

/// Whose fields are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

impl Side {
    const fn key(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Rules as they were written, each checked.
#[derive(Clone, Default)]
pub(super) struct Rules {
    remove: Vec<String>,
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
}

impl Rules {
    /// The rules of a block with those of one of its routes on top.
    pub(super) fn with(&self, route: &Self) -> FieldRules {
        let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
        let removed = |name: &str| route.remove.iter().any(|other| is(name, other));
        let replaced = |name: &str| removed(name) || route.set.iter().any(|(other, _)| is(name, other));
        let kept = |list: &[(String, String)]| -> Vec<_> {
            list.iter().filter(|(name, _)| !replaced(name)).cloned().collect()
        };
        let mut remove: Vec<String> = self.remove.iter().filter(|name| !removed(name)).cloned().collect();
        let (mut set, mut add) = (kept(&self.set), kept(&self.add));
        remove.extend_from_slice(&route.remove);
        set.extend_from_slice(&route.set);
        add.extend_from_slice(&route.add);
        // Every rule was checked when it was read, and no sum of rules is wrong.
        FieldRules::new(remove, set, add).unwrap_or_default()
    }
}

impl<'t> Checker<'t, '_> {
    /// The rules of a block or route.
    pub(super) fn rules(&self, owner: &Table<'t>, side: Side) -> Rules {
        const EXAMPLE: &str = "write it like { X-Name = \"value\" }";
        let mut rules = Rules::default();
        let example = "write it like { set = { X-Name = \"value\" }, remove = [\"Server\"] }";
        let Some(table) = owner.table(side.key(), example) else { return rules };
        let set = table.table("set", EXAMPLE);
        let mut names: Vec<&str> = Vec::new();
        for entry in set.iter().flat_map(Table::entries) {
            let is_second = names.iter().any(|other| other.eq_ignore_ascii_case(entry.name));
            names.push(entry.name);
            let Some(value) = entry.value.text() else { continue };
            if is_second {
                let what = format!("{} is set twice", entry.name);
                self.notes.mistake(&entry.at, what, "upper and lower case are the same here: remove one");
            }
            let checked = check_set(entry.name, value);
            self.rule(&mut rules.set, entry, value, checked, (side, "set"));
        }
        let add = table.table("add", EXAMPLE);
        for entry in add.iter().flat_map(Table::entries) {
            for item in entry.value.list(true) {
                let Some(value) = item.text() else { continue };
                let checked = check_name(entry.name).and_then(|()| check_value(value));
                self.rule(&mut rules.add, entry, value, checked, (side, "added"));
            }
        }
        for item in table.get("remove").map_or_else(Vec::new, |value| value.list(true)) {
            let Some(name) = item.text() else { continue };
            match check_name(name) {
                Ok(()) => rules.remove.push(name.to_owned()),
                Err(bad) => item.mistake(format!("the field \"{name}\" cannot be removed"), bad.about()),
            }
        }
        table.finish();
        rules
    }

    /// Adds a rule to its list, or notes what is wrong with its name or value.
    fn rule(
        &self,
        list: &mut Vec<(String, String)>,
        entry: &Entry<'t>,
        value: &str,
        checked: Result<(), BadRule>,
        (side, verb): (Side, &str),
    ) {
        let name = entry.name;
        let is_host = side == Side::Response && name.eq_ignore_ascii_case("host");
        match checked {
            Ok(()) if is_host => self.notes.mistake(&entry.at, "a response has no Host", "remove it"),
            Ok(()) => list.push((name.to_owned(), value.to_owned())),
            Err(bad @ BadRule::ValueInvalid) => {
                entry.value.mistake(format!("{name} cannot have this value"), bad.about());
            }
            Err(bad) => {
                self.notes.mistake(&entry.at, format!("the field \"{name}\" cannot be {verb}"), bad.about());
            }
        }
    }
}
