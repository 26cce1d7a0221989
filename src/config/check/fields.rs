//! Field rules: `request = { set = {...}, add = {...}, remove = [...] }`.
//!
//! What goes in: the rules of a block and of its routes. What comes out: one set of rules per route. It owns nothing.
//! Always true: a route's rule for a name wins over its block's; no rule touches a field that frames a message.

use super::{Checker, Table, Value, values};
use crate::http::rules::FieldRules;

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

/// Rules as they were written. Names are lower case.
#[derive(Clone, Default)]
pub(super) struct Rules {
    remove: Vec<String>,
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
}

impl Rules {
    /// The rules of a block with those of one of its routes on top.
    pub(super) fn with(&self, route: &Self) -> FieldRules {
        let replaced =
            |name: &String| route.remove.contains(name) || route.set.iter().any(|(set, _)| set == name);
        let kept = |list: &[(String, String)]| -> Vec<_> {
            list.iter().filter(|(name, _)| !replaced(name)).cloned().collect()
        };
        let mut rules = FieldRules {
            remove: self.remove.iter().filter(|name| !route.remove.contains(name)).cloned().collect(),
            set: kept(&self.set),
            add: kept(&self.add),
        };
        rules.remove.extend_from_slice(&route.remove);
        rules.set.extend_from_slice(&route.set);
        rules.add.extend_from_slice(&route.add);
        rules
    }
}

impl<'t> Checker<'t, '_> {
    /// The rules of a block or route.
    pub(super) fn rules(&self, owner: &Table<'t>, side: Side) -> Rules {
        let mut rules = Rules::default();
        let example = "write it like { set = { X-Name = \"value\" }, remove = [\"Server\"] }";
        let Some(table) = owner.table(side.key(), example) else { return rules };
        if let Some(set) = table.table("set", "write it like { X-Name = \"value\" }") {
            for entry in set.entries() {
                let Some(name) = self.field_name(entry.name, &entry.value, side, "set") else { continue };
                if rules.set.iter().any(|(other, _)| *other == name) {
                    entry
                        .value
                        .mistake(format!("{} is set twice", entry.name), "case does not matter: remove one");
                }
                if let Some(value) = field_value(&entry.value) {
                    rules.set.push((name, value));
                }
            }
        }
        if let Some(add) = table.table("add", "write it like { X-Name = \"value\" }") {
            for entry in add.entries() {
                let Some(name) = self.field_name(entry.name, &entry.value, side, "add") else { continue };
                let values = entry.value.list(true);
                rules.add.extend(values.iter().filter_map(field_value).map(|value| (name.clone(), value)));
            }
        }
        for item in table.get("remove").map_or_else(Vec::new, |value| value.list(true)) {
            let name = item.text().and_then(|name| self.field_name(name, &item, side, "remove"));
            rules.remove.extend(name);
        }
        table.finish();
        rules
    }

    fn field_name(&self, name: &str, value: &Value<'t>, side: Side, verb: &str) -> Option<String> {
        value.note(values::field_name(name))?;
        let lower = name.to_ascii_lowercase();
        if lower == "host" && (side, verb) != (Side::Request, "set") {
            value.mistake(
                "a request has exactly one Host",
                "only request = { set = { Host = \"...\" } } can change it",
            );
            return None;
        }
        Some(lower)
    }
}

fn field_value(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    value.note(values::field_value(text))?;
    Some(text.to_owned())
}
