//! The text as a tree of values that know their place.
//!
//! What goes in: TOML text. What comes out: tables and values with typed access; a wrong type is noted as a mistake and
//! read as absent, so that one look finds every mistake. It owns the notes. Always true: a key that no code asked for
//! is reported by [`Table::finish`], with the keys that were asked for as suggestions.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::brackets;
use super::error::{Mistake, Source, did_you_mean};
use super::values::{self, Fault};

/// Mistakes that are kept, and warnings; who has more will see the rest after correcting these.
const NOTES_MAX: usize = 1000;

/// What was found so far.
pub(super) struct Notes<'t> {
    source: Source<'t>,
    mistakes: RefCell<Vec<Mistake>>,
    warnings: RefCell<Vec<Mistake>>,
}

impl<'t> Notes<'t> {
    pub(super) fn new(source: Source<'t>) -> Self {
        Self { source, mistakes: RefCell::default(), warnings: RefCell::default() }
    }

    pub(super) fn mistake(&self, at: &At, what: impl Into<String>, advice: impl Into<String>) {
        self.note(at, what.into(), advice.into(), false);
    }

    pub(super) fn warning(&self, at: &At, what: impl Into<String>, advice: impl Into<String>) {
        self.note(at, what.into(), advice.into(), true);
    }

    fn note(&self, at: &At, what: String, advice: String, is_warning: bool) {
        let mut list = if is_warning { self.warnings.borrow_mut() } else { self.mistakes.borrow_mut() };
        if list.len() < NOTES_MAX {
            let mut mistake = self.source.mistake(at.bytes.clone(), &at.key, what, advice);
            mistake.is_warning = is_warning;
            list.push(mistake);
        }
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, at: &At) -> usize {
        self.source.line(at.bytes.start)
    }

    /// What stands at a place, as it was written.
    pub(super) fn text(&self, at: &At) -> &'t str {
        self.source.text.get(at.bytes.clone()).unwrap_or_default()
    }

    /// Whether there is a mistake so far.
    pub(super) fn has_mistakes(&self) -> bool {
        !self.mistakes.borrow().is_empty()
    }

    /// Mistakes and warnings, each in the order of the file.
    pub(super) fn into_lists(self) -> (Vec<Mistake>, Vec<Mistake>) {
        let sorted = |list: RefCell<Vec<Mistake>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|mistake| (mistake.line, mistake.column));
            list.dedup();
            list
        };
        (sorted(self.mistakes), sorted(self.warnings))
    }
}

/// A place in the text, and the key there.
#[derive(Clone, Debug)]
pub(super) struct At {
    bytes: Range<usize>,
    pub(super) key: String,
}

/// Parses the text. When its syntax is wrong, that is noted, and there is nothing to check.
pub(super) fn parse<'t>(notes: &Notes<'t>) -> Option<Spanned<DeTable<'t>>> {
    let text = notes.source.text;
    let (tree, errors) = DeTable::parse_recoverable(text);
    let is_open = errors.iter().any(|error| is_unclosed(error.message()));
    let unclosed = if is_open { brackets::outermost_open(text) } else { None };
    // What follows an open bracket was read as if it stood inside: those errors say nothing.
    for error in &errors {
        let bytes = error.span().unwrap_or(text.len()..text.len());
        if unclosed.is_none_or(|open| bytes.start < open) {
            let near = text.get(bytes.clone()).unwrap_or_default();
            let (what, advice) = values::syntax(error.message(), near);
            notes.mistake(&At { bytes, key: String::new() }, what, advice);
        }
    }
    if let Some(open) = unclosed {
        let (kind, end) = if text[open..].starts_with('{') { ("table", "}") } else { ("list", "]") };
        let at = At { bytes: open..open + 1, key: String::new() };
        notes.mistake(
            &at,
            format!("the {kind} that begins here does not end"),
            format!("write {end} behind it"),
        );
    }
    errors.is_empty().then_some(tree)
}

fn is_unclosed(message: &str) -> bool {
    message.starts_with("unclosed array") || message.starts_with("unclosed inline table")
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Value<'t> {
    notes: &'t Notes<'t>,
    data: &'t DeValue<'t>,
    pub(super) at: At,
}

impl<'t> Value<'t> {
    pub(super) fn mistake(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.notes.mistake(&self.at, what, advice);
    }

    /// Notes the fault of a value.
    pub(super) fn note<T>(&self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.mistake(fault.what, fault.advice)).ok()
    }

    fn wrong_type(&self, wanted: &str, advice: impl Into<String>) {
        let name = self.at.key.rsplit('.').next().unwrap_or_default();
        self.mistake(format!("{name} must be {wanted}, not {}", type_name(self.data)), advice);
    }

    pub(super) fn is_text(&self) -> bool {
        self.data.is_str()
    }

    pub(super) fn is_list(&self) -> bool {
        self.data.is_array()
    }

    pub(super) fn is_table(&self) -> bool {
        self.data.is_table()
    }

    /// The text, if it is one; nothing is noted.
    pub(super) fn peek_text(&self) -> Option<&'t str> {
        self.data.as_str()
    }

    pub(super) fn is_boolean(&self) -> bool {
        self.data.is_bool()
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&'t str> {
        if self.data.as_str().is_none() {
            let advice = match self.data {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => "put it in quotes",
                _ => "",
            };
            self.wrong_type("text", advice);
        }
        self.data.as_str()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        if let DeValue::Boolean(value) = self.data {
            return Some(*value);
        }
        let quoted = matches!(self.data.as_str(), Some("true" | "false"));
        self.wrong_type("true or false", if quoted { "write it without quotes" } else { "" });
        None
    }

    /// A whole number within a range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.data else {
            let quoted = self.data.as_str().is_some_and(|text| text.parse::<u64>().is_ok());
            self.wrong_type("a whole number", if quoted { "write it without quotes" } else { "" });
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
        if let Some(value) = parsed.filter(|value| range.contains(value)) {
            return Some(value);
        }
        let bounds = between(&range, |number| number.to_string());
        self.mistake(format!("{number} is out of range"), format!("write a number {bounds}"));
        None
    }

    /// One of these words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let name = self.at.key.rsplit('.').next().unwrap_or_default();
            self.mistake(format!("{name} cannot be \"{text}\""), did_you_mean(text, &known, "one of"));
        }
        found.map(|(_, value)| *value)
    }

    /// A time such as `"10s"`.
    pub(super) fn duration(&self) -> Option<Duration> {
        let Some(text) = self.peek_text() else {
            let advice = match self.data {
                DeValue::Integer(number) => {
                    format!("write it with its unit: \"{number}s\" or \"{number}ms\"")
                }
                _ => "write it like \"10s\"".to_owned(),
            };
            self.wrong_type("a time", advice);
            return None;
        };
        self.note(values::duration(text))
    }

    /// A number of bytes such as `"16KiB"`; a bare number counts bytes.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        if self.data.is_integer() {
            return self.integer(range);
        }
        let bytes = self.note(values::size(self.text()?))?;
        if !range.contains(&bytes) {
            let bounds = between(&range, values::show_size);
            self.mistake(format!("{} is out of range", self.text()?), format!("write a size {bounds}"));
            return None;
        }
        Some(bytes)
    }

    /// The items of a list; a single value that is not a list counts as a list of one where `or_one` is set.
    pub(super) fn list(&self, or_one: bool) -> Vec<Value<'t>> {
        let Some(items) = self.data.as_array() else {
            if or_one && !self.data.is_table() {
                return vec![self.clone()];
            }
            self.wrong_type("a list", "put it in brackets: [ ... ]");
            return Vec::new();
        };
        let item = |(position, item): (usize, &'t Spanned<DeValue<'t>>)| {
            let key = format!("{}[{position}]", self.at.key);
            Value { notes: self.notes, data: item.get_ref(), at: At { bytes: item.span(), key } }
        };
        items.iter().enumerate().map(item).collect()
    }

    /// A table; `example` is the advice when it is something else.
    pub(super) fn table(&self, example: &str) -> Option<Table<'t>> {
        let Some(table) = self.data.as_table() else {
            self.wrong_type("a table", example);
            return None;
        };
        Some(Table::new(self.notes, table, self.at.clone()))
    }
}

/// A table and its place.
pub(super) struct Table<'t> {
    pub(super) notes: &'t Notes<'t>,
    /// Where mistakes about the table as a whole are shown.
    pub(super) at: At,
    /// In the order of the file.
    entries: Vec<Entry<'t>>,
    asked: RefCell<Vec<&'static str>>,
}

/// A key with its value.
pub(super) struct Entry<'t> {
    /// The key's text.
    pub(super) name: &'t str,
    /// The key's place.
    pub(super) at: At,
    /// The value.
    pub(super) value: Value<'t>,
}

impl<'t> Entry<'t> {
    /// The value as a table. Mistakes about it as a whole are shown at its key.
    pub(super) fn table(&self, example: &str) -> Option<Table<'t>> {
        Some(Table { at: self.at.clone(), ..self.value.table(example)? })
    }
}

impl<'t> Table<'t> {
    /// The whole document.
    pub(super) fn document(notes: &'t Notes<'t>, tree: &'t Spanned<DeTable<'t>>) -> Self {
        Self::new(notes, tree.get_ref(), At { bytes: 0..0, key: String::new() })
    }

    fn new(notes: &'t Notes<'t>, table: &'t DeTable<'t>, at: At) -> Self {
        let entry = |(key, value): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
            let name: &'t str = AsRef::<str>::as_ref(key.get_ref());
            let path = if at.key.is_empty() { name.to_owned() } else { format!("{}.{name}", at.key) };
            let value =
                Value { notes, data: value.get_ref(), at: At { bytes: value.span(), key: path.clone() } };
            let at = At { bytes: key.span(), key: path };
            Entry { name, at, value }
        };
        let mut entries: Vec<Entry<'t>> = table.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.at.bytes.start);
        Self { notes, at, entries, asked: RefCell::default() }
    }

    pub(super) fn mistake(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.notes.mistake(&self.at, what, advice);
    }

    /// Every entry, for tables whose keys are names.
    pub(super) fn entries(&self) -> &[Entry<'t>] {
        &self.entries
    }

    /// The value of a key; the key is known from now on.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'t>> {
        self.entry(key).map(|entry| entry.value.clone())
    }

    /// The entry of a key; the key is known from now on.
    pub(super) fn entry(&self, key: &'static str) -> Option<&Entry<'t>> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|entry| entry.name == key)
    }

    /// The time of a key, or the default.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.get(key).and_then(|value| value.duration()).unwrap_or(default)
    }

    /// The boolean of a key, or the default.
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|value| value.boolean()).unwrap_or(default)
    }

    /// A table inside this one. Mistakes about it as a whole are shown at its key.
    pub(super) fn table(&self, key: &'static str, example: &str) -> Option<Table<'t>> {
        self.entry(key)?.table(example)
    }

    /// Reports keys that nobody asked for.
    pub(super) fn finish(&self) {
        let mut asked = self.asked.borrow_mut();
        asked.sort_unstable();
        asked.dedup();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&entry.name)) {
            let what = if self.at.key.is_empty() { "section" } else { "key" };
            let advice = did_you_mean(entry.name, &asked, "known here");
            self.notes.mistake(&entry.at, format!("unknown {what} \"{}\"", entry.name), advice);
        }
    }
}

/// A range in words.
fn between(range: &RangeInclusive<u64>, show: impl Fn(u64) -> String) -> String {
    match (*range.start(), *range.end()) {
        (least, u64::MAX) => format!("from {} up", show(least)),
        (least, most) => format!("from {} to {}", show(least), show(most)),
    }
}

fn type_name(data: &DeValue<'_>) -> &'static str {
    match data {
        DeValue::String(_) => "text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
