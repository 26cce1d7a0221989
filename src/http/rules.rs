//! Field rules: what a route adds to, sets in and removes from a head; and which fields never leave a connection.
//!
//! The configuration makes a [`FieldRules`] once; the writers apply it to every head. It owns its names and values and
//! their wire form. Always true: names are tokens, values hold no control byte, and no rule touches framing or the
//! connection itself.

use super::message::{Field, Kind, KindSet, is_token, is_value_byte, trim};

/// RFC 9110, 7.6.1: fields that are about one connection. Dropped on both ways, with those that Connection names;
/// Upgrade and Connection are written anew where an upgrade is forwarded. Content-Length is rewritten from the
/// framing.
pub const HOP_BY_HOP: KindSet = KindSet::of(&[
    Kind::Connection,
    Kind::KeepAlive,
    Kind::ProxyConnection,
    Kind::TransferEncoding,
    Kind::ContentLength,
    Kind::Te,
    Kind::Upgrade,
    Kind::Http2Settings,
    Kind::Nominated,
    Kind::Alias,
]);

/// Why a rule is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRule {
    /// The name is empty or holds a byte that no field name has.
    NameInvalid,
    /// The field is about framing or the connection: it is ours alone.
    NameReserved,
    /// Host can be set, not removed or added: a request has exactly one.
    HostOnlySet,
    /// The value holds a control byte, or blanks at its ends.
    ValueInvalid,
}

impl BadRule {
    /// One sentence for people.
    pub const fn about(self) -> &'static str {
        match self {
            Self::NameInvalid => "a field name is made of letters, digits and any of !#$%&'*+-.^_`|~",
            Self::NameReserved => {
                "this field is about the connection or the length of the body: ringgate writes it"
            }
            Self::HostOnlySet => "a request has exactly one Host: it can be set, not added or removed",
            Self::ValueInvalid => "a field value has no control characters and no blanks at its ends",
        }
    }
}

/// Changes to the fields of a request or response, applied in the order remove, set, add.
#[derive(Clone, Debug, Default)]
pub struct FieldRules {
    remove: Vec<String>,
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    /// Kinds that are removed or set.
    known: KindSet,
    /// Names in lower case, of no special kind, that are removed or set.
    others: Vec<String>,
    /// The lines that are set or added, as they are written; without Host.
    lines: Vec<u8>,
    /// The value that Host is set to.
    host: Option<String>,
}

impl FieldRules {
    /// Rules from names to remove, fields to set and fields to add.
    pub fn new(
        remove: Vec<String>,
        set: Vec<(String, String)>,
        add: Vec<(String, String)>,
    ) -> Result<Self, BadRule> {
        let mut rules = Self::default();
        for name in &remove {
            check_name(name)?;
            rules.drops(name);
        }
        for (name, value) in &set {
            check_set(name, value)?;
            rules.drops(name);
        }
        for (name, value) in &add {
            check_name(name)?;
            check_value(value)?;
        }
        for (name, value) in set.iter().chain(&add) {
            if Kind::of(name.as_bytes()) == Kind::Host {
                rules.host = Some(value.clone());
                continue;
            }
            for part in [name.as_str(), ": ", value.as_str(), "\r\n"] {
                rules.lines.extend_from_slice(part.as_bytes());
            }
        }
        (rules.remove, rules.set, rules.add) = (remove, set, add);
        Ok(rules)
    }

    fn drops(&mut self, name: &str) {
        match Kind::of(name.as_bytes()) {
            Kind::Other | Kind::Alias => self.others.push(name.to_ascii_lowercase()),
            kind => self.known = self.known.with(kind),
        }
    }

    /// Names of fields that are dropped.
    pub fn remove(&self) -> &[String] {
        &self.remove
    }

    /// Fields that replace all of that name.
    pub fn set(&self) -> &[(String, String)] {
        &self.set
    }

    /// Fields that are added to what is there.
    pub fn add(&self) -> &[(String, String)] {
        &self.add
    }

    /// True without any rule.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Kinds that are removed or set.
    pub(crate) const fn known(&self) -> KindSet {
        self.known
    }

    /// The value that Host is set to.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The lines that are set or added.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Whether a field of no special kind is removed or set.
    #[inline]
    pub(crate) fn drops_other(&self, field: &Field) -> bool {
        self.drops_name(field.name)
    }

    /// True when rules remove or set a field of this name, which has no kind.
    #[inline]
    pub(crate) fn drops_name(&self, name: &[u8]) -> bool {
        !self.others.is_empty() && self.others.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    }
}

/// Whether a field of this name may be removed or added.
pub fn check_name(name: &str) -> Result<(), BadRule> {
    if !is_token(name.as_bytes()) {
        return Err(BadRule::NameInvalid);
    }
    match Kind::of(name.as_bytes()) {
        Kind::Host => Err(BadRule::HostOnlySet),
        Kind::Expect | Kind::Trailer => Err(BadRule::NameReserved),
        Kind::Alias => Ok(()),
        kind if HOP_BY_HOP.has(kind) => Err(BadRule::NameReserved),
        _ => Ok(()),
    }
}

/// Whether a value can be written.
pub fn check_value(value: &str) -> Result<(), BadRule> {
    if !value.bytes().all(is_value_byte) || trim(value.as_bytes()).len() != value.len() {
        return Err(BadRule::ValueInvalid);
    }
    Ok(())
}

/// Whether this field may be set. Host may be, to a valid authority.
pub fn check_set(name: &str, value: &str) -> Result<(), BadRule> {
    match check_name(name) {
        Err(BadRule::HostOnlySet) if super::h1::head::is_host(value) => Ok(()),
        Err(BadRule::HostOnlySet) => Err(BadRule::ValueInvalid),
        checked => checked.and_then(|()| check_value(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_touch_neither_framing_nor_the_connection() {
        for (name, expected) in [
            ("X-Team", Ok(())),
            ("x_forwarded_for", Ok(())),
            ("X-Forwarded-For", Ok(())),
            ("Server", Ok(())),
            ("Date", Ok(())),
            ("Host", Err(BadRule::HostOnlySet)),
            ("Content-Length", Err(BadRule::NameReserved)),
            ("transfer-encoding", Err(BadRule::NameReserved)),
            ("Connection", Err(BadRule::NameReserved)),
            ("Keep-Alive", Err(BadRule::NameReserved)),
            ("Proxy-Connection", Err(BadRule::NameReserved)),
            ("TE", Err(BadRule::NameReserved)),
            ("Upgrade", Err(BadRule::NameReserved)),
            ("Trailer", Err(BadRule::NameReserved)),
            ("Expect", Err(BadRule::NameReserved)),
            ("", Err(BadRule::NameInvalid)),
            ("a b", Err(BadRule::NameInvalid)),
            ("a:", Err(BadRule::NameInvalid)),
            ("a\r\nb", Err(BadRule::NameInvalid)),
            ("b\u{fc}", Err(BadRule::NameInvalid)),
        ] {
            assert_eq!(check_name(name), expected, "{name:?}");
            assert_eq!(FieldRules::new(vec![name.into()], vec![], vec![]).map(|_| ()), expected, "{name:?}");
            let added = FieldRules::new(vec![], vec![], vec![(name.into(), "x".into())]);
            assert_eq!(added.map(|_| ()), expected, "{name:?}");
        }
    }

    #[test]
    fn a_rule_writes_no_line_but_its_own() {
        for (value, expected) in [
            ("", Ok(())),
            ("a b", Ok(())),
            ("a\tb", Ok(())),
            ("b\u{fc}", Ok(())),
            ("a\r\nb: c", Err(BadRule::ValueInvalid)),
            ("a\nb", Err(BadRule::ValueInvalid)),
            ("a\rb", Err(BadRule::ValueInvalid)),
            ("a\0", Err(BadRule::ValueInvalid)),
            ("a\x7f", Err(BadRule::ValueInvalid)),
            (" a", Err(BadRule::ValueInvalid)),
            ("a\t", Err(BadRule::ValueInvalid)),
        ] {
            let fields = || vec![("X-A".to_owned(), value.to_owned())];
            assert_eq!(FieldRules::new(vec![], fields(), vec![]).map(|_| ()), expected, "{value:?}");
            assert_eq!(FieldRules::new(vec![], vec![], fields()).map(|_| ()), expected, "{value:?}");
        }
    }

    #[test]
    fn host_can_be_set_to_an_authority() {
        assert_eq!(check_set("Host", "app.internal:8080"), Ok(()));
        assert_eq!(check_set("host", "a/b"), Err(BadRule::ValueInvalid));
        let rules = FieldRules::new(vec![], vec![("Host".into(), "app".into())], vec![]).unwrap();
        assert_eq!((rules.host(), rules.lines()), (Some("app"), &b""[..]));
        assert!(!rules.is_empty());
    }
}
