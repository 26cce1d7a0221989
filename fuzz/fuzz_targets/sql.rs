//! SQL text: tokens without gaps, a verdict for anything, a shape that comments do not change.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::classify::classify;
use ringgate::mysql::digest;
use ringgate::mysql::lexer::{Charset, Dialect, Kind, Lexer};
use ringgate::route::split::{Reads, SessionState, decide};

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    let dialect = dialect(*choice);
    let mut at = 0;
    let mut with_comments = Vec::new();
    let mut plain = true;
    let mut before = Kind::Blank;
    for token in Lexer::new(text, dialect) {
        assert!(token.start == at && token.end >= at);
        at = token.end;
        plain &= token.kind != Kind::Bad;
        // Between a parenthesis or a comma and anything else there may be a comment.
        if matches!(before, Kind::Open | Kind::Close | Kind::Comma | Kind::Semicolon) {
            with_comments.extend_from_slice(b" /* x */ ");
        }
        with_comments.extend_from_slice(token.of(text));
        before = token.kind;
    }
    assert_eq!(at, text.len());
    let verdict = classify(text, dialect);
    if plain {
        let other = classify(&with_comments, dialect);
        assert_eq!(verdict.judged(), other.judged());
        assert_eq!(verdict.digest, other.digest);
    }
    let mut shape = Vec::new();
    digest::write(text, dialect, &mut shape, 300);
    assert!(shape.len() <= 300);
    let mut state = SessionState::new(dialect);
    for _ in 0..3 {
        let decision = decide(&verdict, &state, Reads::Replicas);
        if let Some(place) = decision.place(state.last_place()) {
            state.after(&verdict, place, choice & 1 == 0, None);
        }
    }
});

fn dialect(choice: u8) -> Dialect {
    let mut dialect = if choice & 1 == 0 { Dialect::mariadb(101_119) } else { Dialect::mysql(90_704) };
    dialect.ansi_quotes = choice & 2 != 0;
    dialect.no_backslash_escapes = choice & 4 != 0;
    dialect.charset = match choice >> 3 & 7 {
        0 | 1 => Charset::Utf8,
        2 => Charset::Latin1,
        3 => Charset::Gbk,
        4 => Charset::Big5,
        5 => Charset::Sjis,
        6 => Charset::Gb18030,
        _ => Charset::Other,
    };
    dialect
}
