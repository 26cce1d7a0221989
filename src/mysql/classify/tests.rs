//! The whole statement table, and what is true of every text.

use super::*;
use crate::mysql::lexer::Charset;

mod any;
mod effects;

/// A row of `statements.txt`.
pub(super) struct Row {
    pub line: usize,
    pub target: String,
    pub rule: String,
    pub dialects: Vec<Dialect>,
    pub text: Vec<u8>,
}

/// The rows of `statements.txt`.
pub(super) fn rows() -> Vec<Row> {
    let lines = include_str!("statements.txt").lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines.map(|(at, line)| row(at + 1, line)).collect()
}

fn row(line: usize, text: &str) -> Row {
    let (head, statement) = text.split_once('|').unwrap_or_else(|| panic!("line {line}: no |"));
    let mut words = head.split_whitespace();
    let (target, rule) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let mut dialects = vec![Dialect::mariadb(101_119), Dialect::mysql(90_704)];
    let mut is_hex = false;
    for word in words {
        match word {
            "mariadb" => dialects.truncate(1),
            "mysql" => _ = dialects.remove(0),
            "hex" => is_hex = true,
            "ansi" => dialects.iter_mut().for_each(|dialect| dialect.ansi_quotes = true),
            "nbe" => dialects.iter_mut().for_each(|dialect| dialect.no_backslash_escapes = true),
            "oracle" => dialects.iter_mut().for_each(|dialect| dialect.oracle = true),
            name => {
                let charset =
                    Charset::by_name(name.as_bytes()).unwrap_or_else(|| panic!("line {line}: {name}"));
                dialects.iter_mut().for_each(|dialect| dialect.charset = charset);
            }
        }
    }
    let statement = statement.strip_prefix(' ').unwrap_or(statement);
    Row { line, target, rule, dialects, text: unescaped(statement, is_hex) }
}

/// `\n` and `\t` outside of quotes, and `\xNN` everywhere, as the bytes that they mean.
fn unescaped(text: &str, is_hex: bool) -> Vec<u8> {
    let mut text = text.as_bytes();
    let (mut out, mut quoted) = (Vec::new(), false);
    while let [first, rest @ ..] = text {
        let (byte, used) = match rest {
            [b'x', a, b, ..] if *first == b'\\' && is_hex => {
                let hex = std::str::from_utf8(&[*a, *b]).map(|hex| u8::from_str_radix(hex, 16).unwrap());
                (hex.unwrap(), 4)
            }
            [b'n', ..] if *first == b'\\' && !quoted => (b'\n', 2),
            [b't', ..] if *first == b'\\' && !quoted => (b'\t', 2),
            _ => (*first, 1),
        };
        quoted ^= matches!(byte, b'\'' | b'"' | b'`') && used == 1;
        out.push(byte);
        text = &text[used..];
    }
    out
}

#[test]
fn each_statement_belongs_where_the_table_says() {
    let mut wrong = Vec::new();
    let rows = rows();
    assert!(rows.len() >= 400, "{}", rows.len());
    for row in &rows {
        for dialect in &row.dialects {
            let verdict = classify(&row.text, *dialect);
            let found = (verdict.target.word(), verdict.rule.word());
            if found != (row.target.as_str(), row.rule.as_str()) {
                let text = row.text.escape_ascii();
                wrong.push(format!(
                    "line {}: {} {}, not {} {} ({:?}): {text}",
                    row.line, found.0, found.1, row.target, row.rule, dialect.vendor
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_rule_of_texts_is_in_the_table() {
    let rows = rows();
    let missing: Vec<_> = Rule::ALL
        .iter()
        .take_while(|rule| **rule != Rule::InTransaction)
        .filter(|rule| !rows.iter().any(|row| row.rule == rule.word()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
