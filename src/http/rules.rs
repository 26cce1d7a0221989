//! Field rules (stub).

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
}

impl FieldRules {
    /// Rules from names to remove, fields to set and fields to add.
    pub fn new(
        remove: Vec<String>,
        set: Vec<(String, String)>,
        add: Vec<(String, String)>,
    ) -> Result<Self, BadRule> {
        Ok(Self { remove, set, add })
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
}

/// Whether a field of this name may be removed or added.
pub fn check_name(name: &str) -> Result<(), BadRule> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Err(BadRule::NameInvalid);
    }
    match name.to_ascii_lowercase().as_str() {
        "host" => Err(BadRule::HostOnlySet),
        "connection" | "content-length" | "transfer-encoding" | "te" | "upgrade" => {
            Err(BadRule::NameReserved)
        }
        _ => Ok(()),
    }
}

/// Whether a value can be written.
pub fn check_value(value: &str) -> Result<(), BadRule> {
    let fine = !value.chars().any(char::is_control) && value.trim() == value;
    if fine { Ok(()) } else { Err(BadRule::ValueInvalid) }
}

/// Whether this field may be set. Host may be, to a valid authority.
pub fn check_set(name: &str, value: &str) -> Result<(), BadRule> {
    match check_name(name) {
        Err(BadRule::HostOnlySet) => check_value(value),
        checked => checked.and_then(|()| check_value(value)),
    }
}
