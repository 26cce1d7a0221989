//! What a real MariaDB makes of statements, compared with what the tokenizer and the verdict say.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use common::{Running, eventually, program};
use ringgate::mysql::classify::classify;
use ringgate::mysql::lexer::{Charset, Dialect, Kind, Lexer};
use ringgate::mysql::verdict::{Rule, Target};
use ringgate::mysql::words::{Word, look_up};
use tempfile::TempDir;

/// A server of this test's own, which ends with it.
struct MariaDb {
    _running: Running,
    socket: PathBuf,
    _folder: TempDir,
}

impl MariaDb {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let here = folder.path().to_str().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let data = format!("--datadir={here}/data");
        let installed = Command::new(program("mariadb-install-db", "mariadb-server"))
            .args(["--no-defaults", &data, "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(["--user=root", "--skip-name-resolve"])
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
        let socket = format!("--socket={here}/sock");
        let arguments = [
            "--no-defaults",
            &data,
            &socket,
            "--skip-networking",
            "--user=root",
            "--log-bin=b",
            "--server-id=1",
            "--log-bin-trust-function-creators=1",
            "--binlog-format=ROW",
        ];
        let server = program("mariadbd", "mariadb-server");
        let running = Running::start("mariadbd", &server, &arguments, folder.path());
        let socket = folder.path().join("sock");
        eventually("it listens", || UnixStream::connect(&socket).ok());
        Self { _running: running, socket, _folder: folder }
    }
}

/// How a statement went.
#[derive(Debug, PartialEq)]
enum Answer {
    /// The first column of the last row, if there were rows; and whether a GTID was written.
    Fine(Option<String>, bool),
    Error(u16),
}

/// A client that sends bytes as they are.
struct Client(UnixStream);

impl Client {
    fn new(server: &MariaDb) -> Self {
        let mut client = Self(UnixStream::connect(&server.socket).unwrap());
        client.packet();
        // LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_*, SESSION_TRACK, DEPRECATE_EOF.
        let flags: u32 = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x3_0000 | 0x80_0000 | 0x100_0000;
        let mut hello = flags.to_le_bytes().to_vec();
        hello.extend_from_slice(&(1u32 << 24).to_le_bytes());
        hello.push(45);
        hello.extend_from_slice(&[0; 23]);
        hello.extend_from_slice(b"root\0\0");
        client.send(1, &hello);
        let answer = client.packet();
        assert_eq!(answer[0], 0, "{answer:?}");
        client
    }

    fn send(&mut self, number: u8, payload: &[u8]) {
        let mut packet = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        packet.push(number);
        packet.extend_from_slice(payload);
        self.0.write_all(&packet).unwrap();
    }

    fn packet(&mut self) -> Vec<u8> {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        self.0.read_exact(&mut payload).unwrap();
        payload
    }

    fn ask(&mut self, text: &[u8]) -> Answer {
        self.send(0, &[b"\x03", text].concat());
        let (mut value, mut wrote) = (None, false);
        loop {
            let first = self.packet();
            let is_more = match first[0] {
                0xff => return Answer::Error(u16::from_le_bytes([first[1], first[2]])),
                0 => {
                    wrote |= first.windows(9).any(|bytes| bytes == b"last_gtid");
                    first[3] & 8 != 0
                }
                count => {
                    (0..count).for_each(|_| _ = self.packet());
                    loop {
                        let row = self.packet();
                        match row[0] {
                            0xff => return Answer::Error(u16::from_le_bytes([row[1], row[2]])),
                            0xfe if row.len() < 0xff_ffff => {
                                wrote |= row.windows(9).any(|bytes| bytes == b"last_gtid");
                                break row[3] & 8 != 0;
                            }
                            0xfb => value = None,
                            length => {
                                let bytes = row.get(1..1 + usize::from(length)).unwrap_or_default();
                                value = Some(bytes.escape_ascii().to_string());
                            }
                        }
                    }
                }
            };
            if !is_more {
                return Answer::Fine(value, wrote);
            }
        }
    }

    #[track_caller]
    fn must(&mut self, text: &str) -> Option<String> {
        match self.ask(text.as_bytes()) {
            Answer::Fine(value, _) => value,
            error => panic!("{text}: {error:?}"),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.send(0, b"\x01");
    }
}

fn version(client: &mut Client) -> u32 {
    let text = client.must("select version()").unwrap();
    let numbers: Vec<u32> = text.split(['.', '-']).take(3).map(|part| part.parse().unwrap()).collect();
    numbers[0] * 10_000 + numbers[1] * 100 + numbers[2]
}

/// What both say about a text.
struct Case {
    set: &'static str,
    text: Vec<u8>,
    /// The value, or the error's number.
    answer: Result<&'static str, u16>,
    /// Tokens that a parser sees; `None`: one of them is bad.
    tokens: Option<usize>,
}

fn case(set: &'static str, text: &[u8], answer: Result<&'static str, u16>, tokens: Option<usize>) -> Case {
    Case { set, text: text.to_vec(), answer, tokens }
}

const SYNTAX: Result<&str, u16> = Err(1064);
const NO_COLUMN: Result<&str, u16> = Err(1054);

fn comments(version: u32) -> Vec<Case> {
    let (own, next) = (version, version + 1);
    vec![
        case("", b"select 1--1", Ok("2"), Some(5)),
        case("", b"select 1-- 1", Ok("1"), Some(2)),
        case("", b"select 1 --\x01x\n+1", Ok("2"), Some(4)),
        case("", b"select 1 --\x7fx\n+1", Ok("2"), Some(4)),
        case("", b"select 1--", Ok("1"), Some(2)),
        case("", b"select 1#2\n+3", Ok("4"), Some(4)),
        case("", b"select/**/1", Ok("1"), Some(2)),
        case("", b"select 1 /* /* */ + 2", Ok("3"), Some(4)),
        case("", b"select 1 /*/ + 2 */ + 3", Ok("4"), Some(4)),
        case("", b"select 1 /* + 2", SYNTAX, None),
        case("", b"select 1 /*! + 2", SYNTAX, None),
        case("", b"select 1 /*! + 2 */", Ok("3"), Some(4)),
        case("", b"select 1 /*!+ 2 /* 3 */ + 4 */", Ok("7"), Some(6)),
        case("", b"select 1 /*! -- */\n+ 1 */ + 1", Ok("3"), Some(6)),
        case("", b"select 1 /*! + '*/' */", Ok("1"), Some(4)),
        case("", b"select /*!1234 + 2 */", Ok("1236"), Some(4)),
        case("", b"select 1 /*!50699 + 1 */", Ok("2"), Some(4)),
        case("", b"select 1 /*!50700 + 1 */", Ok("1"), Some(2)),
        case("", b"select 1 /*!80000 + 1 */", Ok("1"), Some(2)),
        case("", b"select 1 /*!99999 + 1 */", Ok("1"), Some(2)),
        case("", b"select 1 /*!100000 + 1 */", Ok("2"), Some(4)),
        case("", b"select 1 /*M!50700 + 1 */", Ok("2"), Some(4)),
        case("", b"select 1 /*M! + 1 */", Ok("2"), Some(4)),
        case("", b"select 1 /*m! + 1 */", Ok("1"), Some(2)),
        case("", b"select 1 /*!99999 /* + 1 */ + 2 */ + 4", Ok("5"), Some(4)),
        case("", b"select 1 /*!99999 /* + 1 */ + 2", SYNTAX, None),
        case("", format!("select 1 /*!{own} + 1 */").as_bytes(), Ok("2"), Some(4)),
        case("", format!("select 1 /*!{next} + 1 */").as_bytes(), Ok("1"), Some(2)),
        case("", b"# a\0b\nselect 1", SYNTAX, None),
    ]
}

fn quotes_and_numbers() -> Vec<Case> {
    vec![
        case("", b"select'a'", Ok("a"), Some(2)),
        case("", br"select 'a\'b'", Ok(r"a\'b"), Some(2)),
        case("", b"select 'a''b'", Ok(r"a\'b"), Some(2)),
        case("", b"select \"a\"\"b\"", Ok("a\\\"b"), Some(2)),
        case("", br"select '\'", SYNTAX, None),
        case("", b"select 'a", SYNTAX, None),
        case("", b"select `a", SYNTAX, None),
        case("", b"select 1 as `a\\`", Ok("1"), Some(4)),
        case("", b"select 1 as `a\0`", SYNTAX, None),
        case("", b"select 'a\0b'", Ok(r"a\x00b"), Some(2)),
        case("", b"select n'a', x'4142'", Ok("a"), Some(4)),
        case("", b"select x'4142'", Ok("AB"), Some(2)),
        case("", b"select b'01000001'", Ok("A"), Some(2)),
        case("", b"select x'4g'", SYNTAX, None),
        case("", b"select _latin1'a'", Ok("a"), Some(3)),
        case("", b"select {d '2020-01-01'}", Ok("2020-01-01"), Some(5)),
        // Numbers and dots.
        case("", b"select 1.from dual", Ok("1"), Some(4)),
        case("", b"select 1e1from dual", Ok("10"), Some(4)),
        case("", b"select .5from dual", Ok("0.5"), Some(4)),
        case("", b"select 0x41from a", NO_COLUMN, Some(3)),
        case("", b"select 1from a", NO_COLUMN, Some(3)),
        case("", b"select 1efrom a", NO_COLUMN, Some(3)),
        case("", b"select 0x41", Ok("A"), Some(2)),
        case("", b"select 0X41", NO_COLUMN, Some(2)),
        case("", b"select 0b01000001", Ok("A"), Some(2)),
        case("", b"select x.1e5 from (select 7 as 1e5) as x", SYNTAX, Some(13)),
        case("", b"select x.1e5 from (select 7 as `1e5`) as x", Ok("7"), Some(13)),
        case("", b"select x.from from (select 7 as `from`) as x", Ok("7"), Some(13)),
        case("", b"select x. from from (select 7 as `from`) as x", SYNTAX, Some(13)),
        case("", b"select \\Nfrom dual", Ok("NULL"), Some(4)),
    ]
}

fn variables_and_modes() -> Vec<Case> {
    vec![
        case("set @`a b` = 5, @x = 6", b"select @`a b`", Ok("5"), Some(2)),
        case("set @x = 6", b"select @'x'", Ok("6"), Some(2)),
        case("set @x = 6", b"select @\"x\"", Ok("6"), Some(2)),
        case("set @x.y = 7", b"select @x.y", Ok("7"), Some(2)),
        case("", b"select @", SYNTAX, Some(2)),
        case("", b"select @a:=5", Ok("5"), Some(4)),
        case("", b"select @@session.autocommit", Ok("1"), Some(4)),
        case("", b"select @@session . autocommit", Ok("1"), Some(4)),
        case("", b"select @@`autocommit`", Ok("1"), Some(2)),
        case("", b"select @@ autocommit", SYNTAX, None),
        // Functions.
        case("", b"select version ()  like '%'", Ok("1"), Some(6)),
        case("", b"select `connection_id`() > 0", Ok("1"), Some(6)),
        case("", b"select connection_id/**/() > 0", Ok("1"), Some(6)),
        // Modes.
        case("set sql_mode='NO_BACKSLASH_ESCAPES'", br"select '\'", Ok(r"\\"), Some(2)),
        case("set sql_mode='NO_BACKSLASH_ESCAPES'", br"select '\''", SYNTAX, None),
        case("set sql_mode='ANSI_QUOTES'", b"select \"a\"", NO_COLUMN, Some(2)),
        case("set sql_mode='ANSI_QUOTES'", b"select 1 as \"a\\\"", Ok("1"), Some(4)),
        case("set sql_mode='ANSI_QUOTES'", b"select \"connection_id\"() > 0", Ok("1"), Some(6)),
        case("set sql_mode='ANSI_QUOTES'", b"select @\"a\" is null", Ok("1"), Some(4)),
        // Ends.
        case("", b"select 1;", Ok("1"), Some(3)),
        case("", b"select 1; ;", Ok("1"), Some(4)),
        case("", b";select 1", SYNTAX, Some(3)),
    ]
}

fn character_sets() -> Vec<Case> {
    let mut cases = Vec::new();
    for (charset, text, is_whole) in [
        ("set names gbk", &b"select '\xbf\x5c'"[..], true),
        ("set names big5", b"select '\xa4\x5c'", true),
        ("set names sjis", b"select '\x95\x5c'", true),
        ("set names cp932", b"select '\x95\x5c'", true),
        ("set names latin1", b"select '\xbf\x5c'", false),
        ("set names utf8mb4", b"select '\xbf\x5c'", false),
        ("set names euckr", b"select '\xbf\x5c'", false),
        ("set names big5", b"select '\x95\x5c'", false),
        ("set names gbk", b"select '\\\xbf\x5c'", false),
        ("set names gbk", b"select '\xbf'", true),
        ("set names gbk", b"select 1 as `\x81\x60`", true),
        ("set names latin1", b"select 1 as `\x81\x60`", false),
        ("set names gbk", b"select 1 as a\x81\x5c", true),
        ("set names gbk", b"select 1 as a\x81 ", false),
        ("set names latin1", b"select 1 as a\xfcb", true),
        ("set names utf8mb4", b"select 1 as a\xc3\xbc", true),
    ] {
        let aliases = text.windows(2).any(|bytes| bytes == b"as");
        let tokens = if aliases { 4 } else { 2 };
        cases.push(case(charset, text, if is_whole { Ok("*") } else { SYNTAX }, is_whole.then_some(tokens)));
    }
    cases
}

fn dialect_of(set: &str, version: u32) -> Dialect {
    let mut dialect = Dialect::mariadb(version);
    if let Some(mode) = set.strip_prefix("set sql_mode=") {
        dialect.set_sql_mode(mode.trim_matches('\'').as_bytes());
    }
    if let Some(name) = set.strip_prefix("set names ") {
        dialect.charset = Charset::by_name(name.as_bytes()).unwrap();
    }
    dialect
}

fn check_lexing(server: &MariaDb) {
    let version = version(&mut Client::new(server));
    let mut wrong = Vec::new();
    let cases = [comments(version), quotes_and_numbers(), variables_and_modes(), character_sets()];
    for case in cases.into_iter().flatten() {
        let mut client = Client::new(server);
        if !case.set.is_empty() {
            client.must(case.set);
        }
        let answer = client.ask(&case.text);
        let right = match (&answer, case.answer) {
            (Answer::Fine(..), Ok("*")) => true,
            (Answer::Fine(None, _), Ok("NULL")) => true,
            (Answer::Fine(Some(value), _), Ok(expected)) => value == expected,
            (Answer::Error(number), Err(expected)) => *number == expected,
            _ => false,
        };
        let tokens: Vec<Kind> = Lexer::new(&case.text, dialect_of(case.set, version))
            .map(|token| token.kind)
            .filter(|kind| !kind.is_trivia())
            .collect();
        let found = (!tokens.contains(&Kind::Bad)).then_some(tokens.len());
        if !right || found != case.tokens {
            let text = case.text.escape_ascii();
            wrong.push(format!(
                "{} {text}: server {answer:?}, not {:?}; tokens {found:?}, not {:?}",
                case.set, case.answer, case.tokens
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every function that the server has of its own is known as one.
fn check_functions(server: &MariaDb) {
    let mut client = Client::new(server);
    client.must("set group_concat_max_len = 1000000");
    let count: usize =
        client.must("select count(*) from information_schema.sql_functions").unwrap().parse().unwrap();
    for at in 0..count {
        let name = client.must(&format!(
            "select function from information_schema.sql_functions order by function limit 1 offset {at}"
        ));
        let name = name.unwrap();
        assert!(look_up(name.as_bytes()).0 != Word::Name, "{name}");
    }
}

const SCHEMA: &[&str] = &[
    "create database db",
    "use db",
    "create table t (a int, b int, id int auto_increment primary key, c int, `into` int, `update` int)",
    "create table u (a int, b int, c int)",
    "insert into t (a, b, c) values (1, 2, 3), (4, 5, 6)",
    "insert into u values (1, 2, 3)",
    "create sequence s",
    "create sequence s2",
    "create function f() returns int begin insert into u values (9, 9, 9); return 1; end",
    "create function g(x int) returns int return x",
    "create procedure p() insert into u values (9, 9, 9)",
    "create view v as select f() as a",
];

/// What is judged to run on a replica writes nothing there, but for functions, which the fence stops.
fn check_fence(server: &MariaDb) {
    let mut setup = Client::new(server);
    SCHEMA.iter().for_each(|text| _ = setup.must(text));
    let (mut ran, mut stopped) = (0, 0);
    let dialect = Dialect::mariadb(version(&mut setup));
    let rows = include_str!("../src/mysql/classify/statements.txt").lines();
    let rows = rows.filter_map(|line| line.split_once(" | ")).filter(|(head, _)| !head.starts_with('#'));
    let views = ["select * from v", "select a, (select f()) from v", "select * from t where a = f()"];
    for (head, text) in rows.chain(views.map(|text| ("replica view", text))) {
        let others = ["mysql", "hex", "nbe", "ansi", "oracle"];
        if others.iter().any(|word| head.split(' ').any(|found| found == *word)) {
            continue;
        }
        let text = text.replace("\\n", "\n").replace("\\t", "\t").replace("sleep(1)", "sleep(0)");
        let verdict = classify(text.as_bytes(), dialect);
        if verdict.target != Target::Replica {
            continue;
        }
        let mut client = Client::new(server);
        client.must("use db");
        client.must("set session session_track_system_variables = 'last_gtid'");
        client.must("set session transaction read only");
        let answer = client.ask(text.as_bytes());
        ran += 1;
        match answer {
            Answer::Fine(_, wrote) => assert!(!wrote, "{text} writes"),
            Answer::Error(1792) => {
                stopped += 1;
                let is_guarded =
                    verdict.rule == Rule::Function || text.contains(" v") || head.contains("view");
                assert!(is_guarded, "{text} would write: {:?}", verdict.rule);
            }
            Answer::Error(_) => {}
        }
        let lock = setup.must("select is_used_lock('a')");
        assert_eq!(lock, None, "{text} takes a lock");
    }
    assert!(ran > 150 && stopped >= 5, "{ran} {stopped}");
    assert_eq!(setup.must("select count(*) from u").unwrap(), "1");
}

/// What writes for sure, run on a session without the fence, is never judged to run on a replica.
fn check_writes(server: &MariaDb) {
    let mut client = Client::new(server);
    client.must("use db");
    client.must("set session session_track_system_variables = 'last_gtid'");
    let dialect = Dialect::mariadb(version(&mut client));
    for text in [
        "insert into u values (1,1,1)",
        "/*! insert into u values (1,1,1) */",
        "/*M!100000 insert into u values (1,1,1) */",
        "analyze update u set a = a + 1",
        "analyze format=json update u set a = a + 1",
        "update u set b = b + 1",
        "with c as (select 1) select nextval(s) from c",
        "select next value for s2",
        "select setval(s, 5000)",
        "set statement max_statement_time = 5 for update u set a = a + 1",
        "execute immediate 'update u set a = a + 1'",
        "begin not atomic update u set a = a + 1; end",
        "call p()",
        "select 1; update u set a = a + 1",
        "analyze table u",
        "flush tables",
        "optimize table u",
        "truncate u",
        "create table x1 (a int)",
        "drop table x1",
        "replace into t (id) values (1)",
        "delete from t where id = 1 returning id",
        "load data local infile 'nothing' into table u",
    ] {
        let verdict = classify(text.as_bytes(), dialect);
        assert_ne!(verdict.target, Target::Replica, "{text}");
        if !text.contains("local infile") {
            let answer = client.ask(text.as_bytes());
            assert!(matches!(answer, Answer::Fine(_, true)), "{text}: {answer:?}");
        }
    }
}

#[test]
fn a_real_server_reads_statements_as_we_do() {
    let server = MariaDb::start();
    check_lexing(&server);
    check_functions(&server);
    check_fence(&server);
    check_writes(&server);
}
