//! Where a list or table was left open.
//!
//! What goes in: a text that the TOML parser did not understand. What comes out: the place of the bracket that has no
//! end; the parser names only the end of the file. It owns nothing. Always true: brackets in texts, comments and names
//! of blocks do not count.

/// Where the outermost list or inline table begins that is still open at the end of the text, in bytes.
pub(super) fn outermost_open(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let is_block_name = *byte == b'[' && open.is_empty() && begins_line(&bytes[..at]);
        at += match byte {
            _ if is_block_name => line(rest),
            b'#' => line(rest),
            b'"' | b'\'' => string(rest, *byte),
            b'[' | b'{' => {
                open.push(at);
                1
            }
            b']' | b'}' => {
                open.pop();
                1
            }
            _ => 1,
        };
    }
    open.first().copied()
}

/// True when only blanks stand between the last line break and here.
fn begins_line(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte != b'\n').all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// Bytes up to the end of the line.
fn line(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// Bytes of a text with its quotes. One without tripled quotes ends with its line at the latest.
fn string(rest: &[u8], quote: u8) -> usize {
    let triple = [quote; 3];
    let is_long = rest.starts_with(&triple);
    let mut at = if is_long { 3 } else { 1 };
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !is_long => return at,
            _ if is_long && rest[at..].starts_with(&triple) => return at + 3,
            _ if !is_long && *byte == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bracket_that_has_no_end() {
        for (text, expected) in [
            ("", None),
            ("a = [1]\nb = {c = [2]}\n", None),
            ("[x]\n  [y]\na = 1", None),
            ("[x\na = 1", None),
            ("[x]\na = [", Some(8)),
            ("a = [ { b = [1], c = 1\n[x]\nd = [2]", Some(4)),
            ("a = '['\nb = \"[\\\"[\"\nc = [", Some(23)),
            ("a = \"[\nb = [", Some(11)),
            ("a = '''[\n['[''[''' # [\nb = {", Some(27)),
            ("a = \"\"\"[\n\\\"\"\"[\n\"\"\"\nb = 1", None),
            ("# [\na = 1", None),
            ("a = ]]\nb = [\n[x]\n]\n", None),
            ("a = \"\\", None),
        ] {
            assert_eq!(outermost_open(text), expected, "{text}");
        }
    }
}
