//! The id of a connection that a client asks for by itself: what it was greeted with, not what a server calls its own.
//!
//! What goes in: a text. What comes out: the text with the id in the place of `CONNECTION_ID()` and `@@pseudo_thread_id`. It owns
//! nothing. Always true: only what stands alone in the list of a plain SELECT is replaced, under the same name and type;
//! wherever a server compares the id with what it knows itself (`WHERE id = CONNECTION_ID()`), its own id stays.

use super::lexer::{Dialect, Kind, Lexer, Token};

/// Bytes of the text that is replaced; what is longer stays.
const NAME_BYTES_MAX: usize = 64;

/// The text with this id; `None` when it stays as it is.
pub fn with_id(text: &[u8], dialect: Dialect, id: u32) -> Option<Vec<u8>> {
    let mut lexer = Lexer::new(text, dialect);
    let tokens: Vec<Token> = std::iter::from_fn(|| lexer.next_solid()).collect();
    let is = |at: usize, word: &str| {
        tokens.get(at).is_some_and(|token| token.of(text).eq_ignore_ascii_case(word.as_bytes()))
    };
    if !is(0, "SELECT") || tokens.iter().any(|token| token.kind == Kind::Bad) {
        return None;
    }
    let (mut out, mut copied, mut depth, mut at) = (Vec::new(), 0, 0_usize, 1);
    let mut begins = true;
    while let Some(token) = tokens.get(at) {
        let found = if begins { item(at, is) } else { 0 };
        begins = false;
        match token.kind {
            _ if found > 0 && name_ends(at + found, &tokens, is) => {
                let end = tokens.get(at + found - 1)?.end;
                let name = text.get(token.start..end)?;
                if name.len() <= NAME_BYTES_MAX && name.is_ascii() {
                    out.extend_from_slice(text.get(copied..token.start)?);
                    out.extend_from_slice(format!("CAST({id} AS UNSIGNED)").as_bytes());
                    if !is(at + found, "AS") {
                        put_name(&mut out, name);
                    }
                    copied = end;
                }
                at += found - 1;
            }
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Comma => begins = depth == 0,
            Kind::Semicolon => break,
            Kind::Word if depth == 0 && ENDS.iter().any(|word| is(at, word)) => break,
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(text.get(copied..)?);
    Some(out)
}

/// Words behind the list of a SELECT.
const ENDS: [&str; 12] = [
    "FROM",
    "WHERE",
    "INTO",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "FOR",
    "LOCK",
];

/// How many tokens from here on ask for the id; 0 when they do not.
fn item(at: usize, is: impl Fn(usize, &str) -> bool) -> usize {
    let scoped = (is(at, "@@session") || is(at, "@@local")) && is(at + 1, ".");
    match () {
        () if is(at, "CONNECTION_ID") && is(at + 1, "(") && is(at + 2, ")") => 3,
        () if is(at, "@@pseudo_thread_id") => 1,
        () if scoped && is(at + 2, "pseudo_thread_id") => 3,
        () => 0,
    }
}

/// Whether what stands before this token is all of the item, so that it can be given a name.
fn name_ends(at: usize, tokens: &[Token], is: impl Fn(usize, &str) -> bool) -> bool {
    match tokens.get(at) {
        None => true,
        Some(token) if matches!(token.kind, Kind::Comma | Kind::Semicolon) => true,
        Some(_) => ["FROM", "LIMIT", "AS"].iter().any(|word| is(at, word)),
    }
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(b" AS `");
    for byte in name {
        out.extend_from_slice(if *byte == b'`' { b"``" } else { std::slice::from_ref(byte) });
    }
    out.push(b'`');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_alone_is_replaced() {
        let of = |text: &str| {
            let found = with_id(text.as_bytes(), Dialect::mariadb(101_119), 2_147_483_653);
            found.map(|text| String::from_utf8(text).unwrap())
        };
        const ID: &str = "CAST(2147483653 AS UNSIGNED)";
        let replaced = [
            ("SELECT CONNECTION_ID()", "SELECT {} AS `CONNECTION_ID()`"),
            (" select connection_id( ) ;", " select {} AS `connection_id( )` ;"),
            ("/* a */ select @@pseudo_thread_id", "/* a */ select {} AS `@@pseudo_thread_id`"),
            (
                "select @@session.pseudo_thread_id limit 1",
                "select {} AS `@@session.pseudo_thread_id` limit 1",
            ),
            (
                "SELECT DATABASE(), CONNECTION_ID(), USER()",
                "SELECT DATABASE(), {} AS `CONNECTION_ID()`, USER()",
            ),
            ("SELECT f(1, 2), CONNECTION_ID() AS id FROM dual", "SELECT f(1, 2), {} AS id FROM dual"),
            (
                "SELECT connection_id/*`*/(), @@pseudo_thread_id",
                "SELECT {} AS `connection_id/*``*/()`, {} AS `@@pseudo_thread_id`",
            ),
        ];
        for (text, expected) in replaced {
            assert_eq!(of(text), Some(expected.replace("{}", ID)), "{text}");
        }
        for text in [
            "SELECT 1",
            "SELECT 'connection_id()'",
            "SELECT CONNECTION_ID() = IS_USED_LOCK('a')",
            "SELECT IS_USED_LOCK('a') = CONNECTION_ID()",
            "SELECT 1 + CONNECTION_ID()",
            "SELECT CONNECTION_ID() + 1",
            "SELECT CONNECTION_ID() INTO @a",
            "SELECT f(CONNECTION_ID()), (1, CONNECTION_ID())",
            "SELECT id FROM information_schema.processlist WHERE id = CONNECTION_ID()",
            "SELECT 1 FROM t ORDER BY a, CONNECTION_ID()",
            "SELECT a.CONNECTION_ID()",
            "INSERT INTO t SELECT CONNECTION_ID()",
            "SET @a = CONNECTION_ID()",
            "SELECT @@global.pseudo_thread_id",
            "SELECT `CONNECTION_ID`()",
            "SELECT CONNECTION_ID(), 'open",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
