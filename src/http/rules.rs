//! Field rules (stub).

/// Changes to the fields of a request or response, applied in the order remove, set, add.
#[derive(Clone, Debug, Default)]
pub struct FieldRules {
    /// Names (lower case) of fields that are dropped.
    pub remove: Vec<String>,
    /// Fields that replace all of that name.
    pub set: Vec<(String, String)>,
    /// Fields that are added to what is there.
    pub add: Vec<(String, String)>,
}
