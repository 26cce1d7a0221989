//! How texts fall into tokens: rule by rule.

use super::*;

const MARIADB: Dialect = Dialect::mariadb(101_119);
const MYSQL: Dialect = Dialect::mysql(90_704);

/// Solid tokens as `kind:text`, in short.
fn read(text: &[u8], dialect: Dialect) -> String {
    let name = |token: Token| {
        let text = token.of(text).escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
        match token.kind {
            Kind::Word => format!("w:{text}"),
            Kind::Name => format!("n:{text}"),
            Kind::Quoted => format!("q:{text}"),
            Kind::Text => format!("t:{text}"),
            Kind::Number => format!("#:{text}"),
            Kind::UserVariable => format!("u:{text}"),
            Kind::SystemVariable => format!("s:{text}"),
            Kind::Bad => format!("BAD:{text}"),
            _ => text,
        }
    };
    let mut lexer = Lexer::new(text, dialect);
    let solid: Vec<String> = std::iter::from_fn(|| lexer.next_solid()).map(name).collect();
    solid.join(" ")
}

#[test]
fn tokens_are_what_servers_read() {
    for (text, expected) in [
        // Comments.
        ("1--1", "#:1 - - #:1"),
        ("1-- 1", "#:1"),
        ("1--\t1\n+2", "#:1 + #:2"),
        ("1--", "#:1"),
        ("1--\u{1}x\n2", "#:1 #:2"),
        ("1#2\n3", "#:1 #:3"),
        ("select/**/1", "w:select #:1"),
        ("1 /* /* */ 2", "#:1 #:2"),
        ("1 /*/ 2 */ 3", "#:1 #:3"),
        ("1 /***/ 2", "#:1 #:2"),
        ("1 /* 2", "#:1 BAD:/* 2"),
        ("1 */ 2", "#:1 * / #:2"),
        ("/*!1*/", "#:1"),
        ("/*! 1 /* 2 */ 3 */ 4", "#:1 #:3 #:4"),
        ("/*!1", "#:1 BAD:"),
        ("/*!1 -- */\n2 */ 3", "#:1 #:2 #:3"),
        ("/*!1 '*/' */", "#:1 t:'*/'"),
        ("/*!1234 2 */", "#:1234 #:2"),
        // Quotes.
        ("select'a'", "w:select t:'a'"),
        (r"'a\'b'", r"t:'a\\'b'"),
        ("'a''b'", "t:'a''b'"),
        ("'a' 'b'", "t:'a' t:'b'"),
        (r#""a\"b" "a""b""#, r#"t:"a\\"b" t:"a""b""#),
        ("`a``b` `a\\`", r"q:`a``b` q:`a\\`"),
        ("'", "BAD:'"),
        (r"'\'", r"BAD:'\\'"),
        ("`a", "BAD:`a"),
        // With prefixes.
        ("n'a' N'b' x'41' X'41' b'01' B'1'", "t:n'a' t:N'b' t:x'41' t:X'41' t:b'01' t:B'1'"),
        ("x'4g'", "BAD:x'4g'"),
        ("b'2'", "BAD:b'2'"),
        ("_latin1'a' nx'41'", "w:_latin1 t:'a' w:nx t:'41'"),
        ("{d '2020-01-01'}", "{ w:d t:'2020-01-01' }"),
        // Variables.
        ("@a @'x' @`a b` @\"c\"", "u:@a u:@'x' u:@`a b` u:@\"c\""),
        ("@a.b$c_d @ @", "u:@a.b$c_d u:@ u:@"),
        ("@a:=1", "u:@a := #:1"),
        ("@@a @@global.b @@`c`", "s:@@a s:@@global . n:b s:@@`c`"),
        ("@@ a", "BAD:@@ w:a"),
        ("'u'@'h' u@h", "t:'u' u:@'h' w:u u:@h"),
        // Numbers.
        ("1 1.5 .5 1. 1e5 1e+5 1.5E-3", "#:1 #:1.5 #:.5 #:1. #:1e5 #:1e+5 #:1.5E-3"),
        ("1e5a 1a 1e 0x41 0x4g 0X41 0b01 0b2", "#:1e5 w:a w:1a w:1e #:0x41 w:0x4g w:0X41 #:0b01 w:0b2"),
        ("1.for 0x41for", "#:1. w:for w:0x41for"),
        ("1.5e", "BAD:1.5e"),
        // Dots.
        ("a.b a . b a.1b t.0x41 a.1e5", "w:a . n:b w:a . w:b w:a . n:1b w:t . n:0x41 w:a . n:1e5"),
        ("a .5 `a`.b `a`.`b`", "w:a #:.5 q:`a` . n:b q:`a` . q:`b`"),
        ("a.x'41'", "w:a . n:x t:'41'"),
        // The rest.
        ("a:=b a<=>b ?;,()=", "w:a := w:b w:a < = > w:b ? ; , ( ) ="),
        ("a$b _c $d", "w:a$b w:_c w:$d"),
        ("a\u{0}b", "w:a BAD:\\x00 w:b"),
        ("# a\u{0}b", "BAD:\\x00 w:b"),
        ("'a\u{0}b'", "t:'a\\x00b'"),
        ("\u{fc}b", r"w:\xc3\xbcb"),
    ] {
        assert_eq!(read(text.as_bytes(), MARIADB), expected, "{text}");
    }
}

#[test]
fn executable_comments_run_by_vendor_and_version() {
    for (text, mariadb, mysql) in [
        ("/*!1*/", "#:1", "#:1"),
        ("/*!50699 1*/", "#:1", "#:1"),
        ("/*!50700 1*/", "", "#:1"),
        ("/*!80000 1*/", "", "#:1"),
        ("/*!99999 1*/", "", ""),
        ("/*M!50700 1*/", "#:1", ""),
        ("/*M! 1*/", "#:1", ""),
        ("/*M!1*/", "#:1", ""),
        ("/*!100000 1*/", "#:1", "BAD:/*!100000 1*/"),
        ("/*!101119 1*/", "#:1", "BAD:/*!101119 1*/"),
        ("/*!101120 1*/", "", "BAD:/*!101120 1*/"),
        ("/*!999990 1*/", "", ""),
        ("/*!080000 1*/", "", "BAD:/*!080000 1*/"),
        ("/*!99999 /* 1 */ 2 */ 3", "#:3", "#:3"),
        ("/*!99999 /* 1 */ 2", "BAD:/*!99999 /* 1 */ 2", "BAD:/*!99999 /* 1 */ 2"),
        ("/*!50000 /* x */ ,2 */", ", #:2", ", #:2"),
        ("/*+ a('*/') */", "BAD:/*+ a('*/') */", "BAD:/*+ a('*/') */"),
        ("/*+ a('b') */ 1", "#:1", "#:1"),
    ] {
        assert_eq!(read(text.as_bytes(), MARIADB), mariadb, "MariaDB: {text}");
        assert_eq!(read(text.as_bytes(), MYSQL), mysql, "MySQL: {text}");
    }
    assert_eq!(read(b"\\N", MARIADB), "#:\\\\N");
    assert_eq!(read(b"\\N", MYSQL), "BAD:\\\\ w:N");
    assert_eq!(read(b"$$ ' $$", MYSQL), "BAD:$$ BAD:' $$");
}

#[test]
fn modes_and_character_sets_decide_where_a_text_ends() {
    let with = |charset| Dialect { charset, ..MARIADB };
    let modes = |modes: &str| {
        let mut dialect = MARIADB;
        dialect.set_sql_mode(modes.as_bytes());
        dialect
    };
    for (text, dialect, expected) in [
        (&b"'\\'"[..], modes("NO_BACKSLASH_ESCAPES"), r"t:'\\'"),
        (b"'a''b\\'", modes("strict_all_tables, no_backslash_escapes"), r"t:'a''b\\'"),
        (b"\"a\\\"", modes("ANSI_QUOTES"), r#"q:"a\\""#),
        (b"@\"a\"", modes("ANSI"), "u:@\"a\""),
        (b"'\xbf\x5c'", with(Charset::Gbk), r"t:'\xbf\\'"),
        (b"'\xbf\x5c'", with(Charset::Utf8), r"BAD:'\xbf\\'"),
        (b"'\xbf\x5c'", with(Charset::Latin1), r"BAD:'\xbf\\'"),
        (b"'\xa4\x5c'", with(Charset::Big5), r"t:'\xa4\\'"),
        (b"'\x95\x5c'", with(Charset::Sjis), r"t:'\x95\\'"),
        (b"'\x95\x5c'", with(Charset::Big5), r"BAD:'\x95\\'"),
        (b"'\x81\x30\x81\x30'", with(Charset::Gb18030), r"t:'\x810\x810'"),
        (b"`\x81\x60`", with(Charset::Gbk), r"q:`\x81``"),
        (b"`\x81\x60`", with(Charset::Latin1), r"BAD:`\x81``"),
        (b"'\xbf'", with(Charset::Gbk), r"t:'\xbf'"),
        // The byte behind a backslash is skipped alone, even if it begins a character.
        (b"'\\\xbf\x5c'", with(Charset::Gbk), r"BAD:'\\\xbf\\'"),
        (b"\x81\x5cb", with(Charset::Gbk), r"w:\x81\\b"),
        (b"\x81 ", with(Charset::Gbk), r"BAD:\x81"),
        (b"a\xa0b", with(Charset::Latin1), r"w:a BAD:\xa0 w:b"),
        (b"a\xfcb", with(Charset::Latin1), r"w:a\xfcb"),
        (b"a\xfcb", with(Charset::Other), r"w:a BAD:\xfc w:b"),
        (b"a\xfcb", with(Charset::Utf8), r"w:a BAD:\xfc w:b"),
    ] {
        assert_eq!(read(text, dialect), expected, "{:?} {}", dialect.charset, text.escape_ascii());
    }
}

#[test]
fn character_sets_have_their_names() {
    for (name, charset) in [
        ("utf8mb4", Some(Charset::Utf8)),
        ("GBK", Some(Charset::Gbk)),
        ("cp932", Some(Charset::Sjis)),
        ("latin2", Some(Charset::Other)),
        ("ucs2", None),
        ("utf16", None),
        ("", None),
    ] {
        assert_eq!(Charset::by_name(name.as_bytes()), charset, "{name}");
    }
}
