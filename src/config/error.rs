//! Mistakes in a configuration, and how they are shown.
//!
//! What goes in: places in the text, with what is wrong there and what to do. What comes out: `file:line:column: what`,
//! the line, a caret under the value, and the advice; all mistakes at once, in the order of the file. It owns copies of
//! the lines concerned. Always true: lines and columns count from one, columns in characters; control characters of
//! the file never reach the terminal.

use std::fmt;
use std::ops::Range;

/// Characters of a source line that are shown at most.
const SHOWN_CHARS_MAX: usize = 100;
/// Characters shown before the value when a long line is cut.
const SHOWN_BEFORE: usize = 30;

/// Something wrong (or, as a warning, doubtful) at one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name as it was given.
    pub file: String,
    /// The line, from 1; 0 when the mistake has no place in the text.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, such as `http.public.listen`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// True when the configuration can be used nevertheless.
    pub is_warning: bool,
    /// The line's text, or the part of it that is shown.
    shown: String,
    /// What stands under it before the caret.
    before: String,
    /// Characters of the value on that line, at least 1.
    width: usize,
}

impl Mistake {
    /// A mistake that concerns the file as a whole.
    pub fn of_file(file: &str, what: String, advice: &str) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            what,
            advice: advice.into(),
            is_warning: false,
            shown: String::new(),
            before: String::new(),
            width: 1,
        }
    }

    /// The text that people read, without a line break at the end; in colour where `colour` is set.
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let mark = if self.is_warning { "33;1" } else { "31;1" };
        let word = if self.is_warning { paint(mark, "warning: ") } else { String::new() };
        let what = clean(&self.what);
        let what = if self.is_warning { what } else { paint("1", &what) };
        let file = clean(&self.file);
        if self.line == 0 {
            let advice = clean(&self.advice);
            let advice = if advice.is_empty() { advice } else { format!("\n  = {advice}") };
            return format!("{file}: {word}{what}{advice}");
        }
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let (shown, before) = (&self.shown, &self.before);
        let carets = paint(mark, &"^".repeat(self.width));
        let bar = paint("34", "|");
        let mut text = format!(
            "{file}:{number}:{}: {word}{what}\n {} {bar} {shown}\n {margin} {bar} {before}{carets}",
            self.column,
            paint("34", &number),
        );
        if !self.advice.is_empty() {
            text += &format!("\n {margin} = {}", clean(&self.advice));
        }
        text
    }
}

impl fmt::Display for Mistake {
    /// `{:#}` adds colours for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(f.alternate()))
    }
}

/// Everything that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// One after the other with an empty line between; `{:#}` adds colours for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A file's text, and where its lines begin.
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { file, text, line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// The line of a byte of the text, from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|begin| *begin <= byte)
    }

    /// A mistake at these bytes of the text.
    pub(super) fn mistake(&self, bytes: Range<usize>, key: &str, what: String, advice: String) -> Mistake {
        let start = floor(self.text, bytes.start);
        let line = self.line(start);
        let line_start = self.line_starts[line - 1];
        let source = self.text[line_start..].lines().next().unwrap_or_default();
        let line_end = line_start + source.len();
        let end = floor(self.text, bytes.end).clamp(start, line_end.max(start));
        let column = self.text[line_start..start].chars().count() + 1;
        let (shown, before) = window(source, column - 1);
        Mistake {
            file: self.file.into(),
            line,
            column,
            key: key.into(),
            what,
            advice,
            is_warning: false,
            width: self.text[start..end]
                .chars()
                .count()
                .clamp(1, SHOWN_CHARS_MAX.saturating_sub(before.len()).max(1)),
            shown,
            before,
        }
    }
}

/// The part of a line that is shown, and what stands before the caret (tabs stay, so that it lines up). `at` is where the
/// caret begins, in characters.
fn window(line: &str, at: usize) -> (String, String) {
    let is_long = line.chars().count() > SHOWN_CHARS_MAX;
    let start = if is_long { at.saturating_sub(SHOWN_BEFORE) } else { 0 };
    let mut chars = line.chars().skip(start);
    let mut shown: Vec<char> = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    let before = shown.iter().take(at - start).map(|char| if *char == '\t' { '\t' } else { ' ' }).collect();
    if let (true, Some(first)) = (start > 0, shown.first_mut()) {
        *first = '…';
    }
    if let (true, Some(last)) = (chars.next().is_some(), shown.last_mut()) {
        *last = '…';
    }
    (clean(&shown.into_iter().collect::<String>()), before)
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Replaces control characters (except tabs), which could do things to a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\t' { '\u{fffd}' } else { char }).collect()
}

/// The word of `known` that was probably meant, as advice; else the list of what is known.
pub(super) fn did_you_mean(word: &str, known: &[&str], listed: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => String::new(),
        None => format!("{listed}: {}", known.join(", ")),
    }
}

/// The word that differs least, if it is near enough to have been meant.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    // A number that differs in a digit is another number, not a slip.
    if word.len() > 64 || word.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let word = plain(word);
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(&word, &plain(name)), *name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    let count = word.chars().count();
    let bound = if count <= 3 { 1 } else { 1 + count / 4 };
    if distance <= bound {
        return Some(name);
    }
    let begins =
        |name: &&&str| count >= 4 && (plain(name).starts_with(&word) || word.starts_with(&plain(name)));
    known.iter().find(begins).copied()
}
