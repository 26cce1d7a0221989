//! What is true of every text.

use super::*;
use crate::mysql::digest;
use crate::mysql::lexer::Token;

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn tokens(text: &[u8], dialect: Dialect) -> Vec<Token> {
    Lexer::new(text, dialect).collect()
}

fn dialects() -> Vec<Dialect> {
    let mut dialects = Vec::new();
    for dialect in [Dialect::mariadb(101_119), Dialect::mysql(90_704)] {
        for charset in [
            Charset::Utf8,
            Charset::Latin1,
            Charset::Other,
            Charset::Gbk,
            Charset::Big5,
            Charset::Sjis,
            Charset::Gb18030,
        ] {
            dialects.push(Dialect { charset, ..dialect });
            dialects.push(Dialect { charset, ansi_quotes: true, no_backslash_escapes: true, ..dialect });
        }
    }
    dialects
}

/// Everything that holds for a text whatever it is.
fn check(text: &[u8], dialect: Dialect) {
    let mut at = 0;
    for token in tokens(text, dialect) {
        assert!(token.start == at && token.end >= at, "{:?}", text.escape_ascii().to_string());
        assert!(token.end > token.start || token.kind == Kind::Bad);
        at = token.end;
    }
    assert_eq!(at, text.len());
    let verdict = classify(text, dialect);
    let mut shape = Vec::new();
    digest::write(text, dialect, &mut shape, 200);
    assert!(shape.len() <= 200);
    for name in &verdict.names {
        assert!(name.span.end <= text.len());
    }
}

#[test]
fn any_bytes_are_judged_without_gap_or_panic() {
    let mut random = Random(88_172_645_463_325_252);
    let pieces: Vec<&[u8]> = vec![
        b"select",
        b" ",
        b"'",
        b"\"",
        b"`",
        b"\\",
        b"/*",
        b"*/",
        b"/*!",
        b"/*!50000",
        b"/*M!",
        b"--",
        b"-- ",
        b"#",
        b"\n",
        b"@",
        b"@@",
        b".",
        b"1",
        b"e",
        b"0x",
        b"x'",
        b"(",
        b")",
        b",",
        b";",
        b":=",
        b"=",
        b"\xbf",
        b"\x5c",
        b"\x00",
        b"\xc3\xbc",
        b"\x81\x30\x81\x30",
        b"set",
        b"with",
        b"into",
        b"for",
        b"update",
        b"get_lock",
        b"as",
        b"f",
        b"kill",
        b"create",
        b"temporary",
        b"table",
        b"prepare",
        b"from",
        b"global",
        b"\\N",
        b"$$",
        b"*",
        b"/",
        b"explain",
        b"analyze",
        b"format",
        b"begin",
        b"statement",
        b"show",
        b"xa",
        b"release_lock",
        b"?",
        b"-",
        b"drop",
        b"values",
    ];
    let dialects = dialects();
    for round in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..random.below(14) {
            if random.below(8) == 0 {
                text.push(random.below(256) as u8);
            } else {
                text.extend_from_slice(pieces[random.below(pieces.len())]);
            }
            if random.below(2) == 0 {
                text.push(b' ');
            }
        }
        check(&text, dialects[round % dialects.len()]);
    }
}

#[test]
fn every_prefix_of_every_statement_is_judged() {
    for row in rows() {
        for dialect in &row.dialects {
            for end in 0..row.text.len() {
                check(&row.text[..end], *dialect);
            }
        }
    }
}

/// Writes by their first word: nothing shorter is a read (but for `EXPLAIN name`).
#[test]
fn no_prefix_of_a_write_is_less() {
    for row in rows().iter().filter(|row| row.target == "primary") {
        let text = row.text.trim_ascii_start().to_ascii_lowercase();
        let writes = [
            &b"insert"[..],
            b"update",
            b"delete",
            b"replace",
            b"create",
            b"drop",
            b"alter",
            b"lock",
            b"flush",
            b"call",
            b"load",
            b"handler",
            b"truncate",
            b"grant",
            b"revoke",
            b"xa",
            b"kill",
            b"backup",
            b"begin",
        ];
        if !writes.iter().any(|word| text.starts_with(word)) {
            continue;
        }
        for dialect in &row.dialects {
            for end in 0..row.text.len() {
                let verdict = classify(&row.text[..end], *dialect);
                let prefix = row.text[..end].escape_ascii();
                assert_eq!(verdict.target, Target::Primary, "line {}: {prefix}", row.line);
            }
        }
    }
}

/// The text again, with something else between its tokens. `None` where that could change how it is read.
fn spaced(text: &[u8], dialect: Dialect, random: &mut Random) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let tokens = tokens(text, dialect);
    if tokens.iter().any(|token| matches!(token.kind, Kind::Bad)) {
        return None;
    }
    let mut executable = false;
    for pair in tokens.windows(2) {
        let [token, next] = pair else { continue };
        out.extend_from_slice(token.of(text));
        executable ^= token.kind == Kind::Marker;
        let solid = !token.kind.is_trivia() && !next.kind.is_trivia();
        // Names behind dots, `@@a.b` and two operators are one thing only while they touch.
        let glued = token.kind == Kind::Operator
            || matches!(token.kind, Kind::Dot | Kind::SystemVariable | Kind::Word | Kind::Name)
                && matches!(next.kind, Kind::Dot | Kind::Name | Kind::Operator | Kind::Text | Kind::Equals)
            || matches!((token.kind, next.kind), (Kind::Text, Kind::Text) | (Kind::Number, Kind::Dot))
            || matches!((token.kind, next.kind), (Kind::Quoted, Kind::Dot) | (Kind::Dot, _));
        if (solid && !glued) || token.kind == Kind::Blank {
            let blanks: &[&[u8]] =
                &[b" ", b"\n", b"\t ", b"/* x */", b" /**/ ", b"# x\n", b"-- x\n", b"/* ' */"];
            let usable = if executable { 3 } else { blanks.len() };
            out.extend_from_slice(blanks[random.below(usable)]);
        }
    }
    if let Some(last) = tokens.last() {
        out.extend_from_slice(last.of(text));
    }
    Some(out)
}

#[test]
fn blanks_and_comments_and_case_make_no_difference() {
    let mut random = Random(1_234_567);
    for row in rows() {
        for dialect in row.dialects.iter().copied() {
            let expected = classify(&row.text, dialect);
            for _ in 0..5 {
                let Some(other) = spaced(&row.text, dialect, &mut random) else { continue };
                let found = classify(&other, dialect);
                let text = other.escape_ascii().to_string();
                assert_eq!(found.judged(), expected.judged(), "line {}: {text}", row.line);
                assert_eq!(found.digest, expected.digest, "line {}: {text}", row.line);
            }
            let mut upper = row.text.clone();
            for token in tokens(&row.text, dialect).iter().filter(|token| token.kind == Kind::Word) {
                for byte in &mut upper[token.start..token.end] {
                    byte.make_ascii_uppercase();
                }
            }
            let found = classify(&upper, dialect);
            assert_eq!(found.judged(), expected.judged(), "line {}: {}", row.line, upper.escape_ascii());
        }
    }
}

/// Ten times the text takes about ten times as long, whatever is repeated.
#[test]
fn time_grows_as_the_text_does() {
    let dialect = Dialect { charset: Charset::Gbk, ..Dialect::mariadb(101_119) };
    for piece in [
        "(",
        ")",
        "'a',",
        "/*",
        "/* */",
        "/*!",
        "-- \n",
        "#",
        "@@global.a,",
        "get_lock('a',",
        "\\",
        "*",
        "a.",
        "`a`.",
        "1.",
        "?,(",
        "(1),",
        "(1,",
        "-",
        "release_lock('a'",
        "last_insert_id(",
        "select ",
        "with a as (",
        "/*!99999 /*",
        "\u{fc}",
        ";",
        "prepare s from 'x' ",
    ] {
        let time = |count: usize| {
            let text = ["select ", &piece.repeat(count)].concat();
            let runs = (0..3).map(|_| {
                let start = crate::clock::thread_time();
                std::hint::black_box(classify(text.as_bytes(), dialect));
                crate::clock::thread_time() - start
            });
            runs.min().unwrap()
        };
        let (short, long) = (time(2_000), time(40_000));
        // A square would be 400 times as long.
        assert!(long < short * 120 + std::time::Duration::from_millis(20), "{piece:?}: {short:?} {long:?}");
    }
}
