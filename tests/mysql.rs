//! A real MariaDB, spoken to with the parts of `ringgate::mysql` alone: logins, answers of every form, and where they end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::mariadb::PASSWORD;
use common::{MariaDb, PATIENCE};
use ringgate::mysql::auth::{Plugin, ed25519, native};
use ringgate::mysql::command::Kind;
use ringgate::mysql::facts::{Capabilities, Status, Vendor, Version};
use ringgate::mysql::generic::{ErrPacket, OkPacket};
use ringgate::mysql::handshake::{ChangeUser, First, LoginReply, Response, Scramble, scramble_of};
use ringgate::mysql::packet::{self, HEADER_BYTES, Parse};
use ringgate::mysql::prepared::{self, PrepareOk};
use ringgate::mysql::reply::{Judged, Reply, Step, What};
use ringgate::mysql::track::{Change, changes, rewrite_packet};

/// What a client of today can do.
const USUAL: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC.0
        | Capabilities::TRANSACTIONS.0
        | Capabilities::LOCAL_FILES.0
        | Capabilities::MULTI_STATEMENTS.0
        | Capabilities::MULTI_RESULTS.0
        | Capabilities::PS_MULTI_RESULTS.0
        | Capabilities::SESSION_TRACK.0
        | Capabilities::DEPRECATE_EOF.0
        | Capabilities::MARIADB_BULK.0,
);
const OLD: Capabilities =
    USUAL.without(Capabilities(Capabilities::DEPRECATE_EOF.0 | Capabilities::SESSION_TRACK.0));

/// A connection.
struct Talk {
    stream: TcpStream,
    capabilities: Capabilities,
    scramble: Scramble,
    reply: Reply,
    /// Bytes read at a time, so that packets are cut in many places.
    piece: usize,
}

/// A whole answer: packets to be judged without their headers, and how many bytes passed.
#[derive(Debug, Default)]
struct Told {
    judged: Vec<(Judged, Vec<u8>)>,
    passed: usize,
}

impl Told {
    fn kinds(&self) -> Vec<Judged> {
        self.judged.iter().map(|(kind, _)| *kind).collect()
    }

    #[track_caller]
    fn ok(&self, capabilities: Capabilities) -> OkPacket<'_> {
        let (kind, payload) = self.judged.last().unwrap();
        assert!(matches!(kind, Judged::Ok | Judged::End), "{self:?}");
        OkPacket::parse(payload, capabilities).unwrap()
    }

    fn changes(&self, capabilities: Capabilities) -> Vec<Change<'_>> {
        changes(self.ok(capabilities).state).map(Result::unwrap).collect()
    }
}

impl Talk {
    /// Logs in.
    #[track_caller]
    fn new(server: &MariaDb, user: &str, capabilities: Capabilities, piece: usize) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut talk =
            Self { stream, capabilities, scramble: [0; 20], reply: Reply::new(capabilities), piece };
        let (_, hello) = talk.packet();
        let Ok(First::Greeting(greeting)) = First::parse(&hello) else { panic!("{hello:?}") };
        let version = Version::parse(greeting.version).unwrap();
        assert!(version.vendor == Vendor::MariaDb && version.number > 100_500, "{version:?}");
        assert!(greeting.capabilities.has(capabilities), "{:?}", greeting.capabilities);
        assert_eq!(Plugin::of_name(greeting.plugin), Some(Plugin::Native));
        talk.scramble = greeting.scramble;
        let answer = native::answer(&native::secret_of(PASSWORD.as_bytes()), &talk.scramble);
        let response = Response {
            capabilities,
            packet_bytes_max: 1 << 24,
            collation: 45,
            user: user.as_bytes(),
            answer: &answer,
            database: b"",
            plugin: Plugin::Native.name(),
            attributes: b"",
            zstd_level: 0,
        };
        let (mut out, mut sequence) = (Vec::new(), 1);
        packet::put(&mut out, &mut sequence, |out| response.write(out));
        talk.stream.write_all(&out).unwrap();
        talk.reply.begin_login();
        talk.login();
        talk
    }

    /// One packet, read to its last byte and no further.
    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut bytes = vec![0; HEADER_BYTES];
        self.stream.read_exact(&mut bytes).unwrap();
        let length = packet::Header::from_bytes(*bytes.first_chunk().unwrap()).length;
        bytes.resize(HEADER_BYTES + length, 0);
        self.stream.read_exact(&mut bytes[HEADER_BYTES..]).unwrap();
        let Parse::Done(found, _) = packet::parse(&bytes, 100_000) else { panic!("{bytes:?}") };
        (found.sequence, found.payload.to_vec())
    }

    /// Asks to be another user.
    fn change_user(&mut self, user: &str, answer: &[u8], database: &[u8]) {
        let (collation, plugin) = (Some(45), Plugin::Native.name());
        let change =
            ChangeUser { user: user.as_bytes(), answer, database, collation, plugin, attributes: b"" };
        let mut payload = Vec::new();
        change.write(&mut payload, self.capabilities);
        self.send(&payload);
    }

    /// Answers until the client is in.
    #[track_caller]
    fn login(&mut self) {
        loop {
            let told = self.answer_until(|reply| reply.is_between_packets());
            let (_, payload) = told.judged.last().unwrap();
            let answer = match LoginReply::parse(payload).unwrap() {
                LoginReply::Ok(_) => break,
                LoginReply::Switch { plugin, data } => match Plugin::of_name(plugin).unwrap() {
                    Plugin::Native => {
                        let secret = native::secret_of(PASSWORD.as_bytes());
                        native::answer(&secret, &scramble_of(data).unwrap()).to_vec()
                    }
                    Plugin::Ed25519 => {
                        let key = ed25519::Key::of_password(PASSWORD.as_bytes());
                        key.answer(data.first_chunk().unwrap()).to_vec()
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            let (mut out, mut sequence) = (Vec::new(), self.reply.sequence() + 1);
            packet::write(&mut out, &mut sequence, &answer);
            self.stream.write_all(&out).unwrap();
        }
        assert!(self.reply.is_over());
    }

    fn send(&mut self, payload: &[u8]) {
        let mut out = Vec::new();
        packet::write(&mut out, &mut 0, payload);
        self.stream.write_all(&out).unwrap();
        self.reply.begin(Kind::of_byte(payload[0]).unwrap());
    }

    /// Reads until the answer is over and checks that nothing is left behind it.
    #[track_caller]
    fn answer(&mut self) -> Told {
        let told = self.answer_until(Reply::is_over);
        self.stream.set_nonblocking(true).unwrap();
        let more = self.stream.peek(&mut [0]);
        assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the server has said all");
        self.stream.set_nonblocking(false).unwrap();
        told
    }

    /// Reads until this holds behind a judged packet, or the answer is over.
    #[track_caller]
    fn answer_until(&mut self, until: impl Fn(&Reply) -> bool) -> Told {
        let mut told = Told::default();
        let mut piece = vec![0; self.piece];
        loop {
            let length = self.stream.read(&mut piece).unwrap();
            assert!(length > 0, "the server closed the connection: {told:?}");
            let mut at = 0;
            while at < length {
                let Step { used, what } = self.reply.feed(&piece[at..length]).unwrap();
                match what {
                    What::Pass => told.passed += used,
                    What::PassHeld(held) => told.passed += held.len(),
                    What::Hold => {}
                    What::Packet(kind, bytes) => told.judged.push((kind, bytes[HEADER_BYTES..].to_vec())),
                }
                at += used;
            }
            let judged = told.judged.last().is_some();
            if self.reply.is_over() || judged && until(&self.reply) {
                return told;
            }
        }
    }

    #[track_caller]
    fn command(&mut self, payload: &[u8]) -> Told {
        self.send(payload);
        self.answer()
    }

    #[track_caller]
    fn query(&mut self, text: &str) -> Told {
        self.command(&[b"\x03", text.as_bytes()].concat())
    }

    #[track_caller]
    fn done(&mut self, text: &str) -> Told {
        let told = self.query(text);
        assert_eq!(told.kinds(), [Judged::Ok], "{text}: {told:?}");
        told
    }
}

/// For each form of answers and for many cuts.
fn talks(server: &MariaDb, each: impl Fn(&mut Talk)) {
    for capabilities in [USUAL, OLD, USUAL.without(Capabilities::SESSION_TRACK)] {
        for piece in [1, 3, 16_384] {
            each(&mut Talk::new(server, "anna", capabilities, piece));
        }
    }
}

fn server() -> MariaDb {
    let server = MariaDb::start();
    server.user("anna");
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT PRIMARY KEY, b LONGTEXT)");
    server
}

#[test]
fn answers_end_where_the_server_ends() {
    use Judged::{End, Err, Ok};
    let server = server();
    let procedure = "CREATE PROCEDURE shop.p() BEGIN SELECT 1; SELECT 2, 3; END";
    Talk::new(&server, "anna", USUAL, 100).done(procedure);
    let rows = "SELECT * FROM shop.seq_1_to_100";
    let table: &[(&str, &[Judged])] = &[
        ("SELECT 1", &[End]),
        ("SELECT * FROM shop.t WHERE 0", &[End]),
        (rows, &[End]),
        ("SELECT 1; SELECT 2; DO 1; SELECT 3 WHERE 0", &[End, End, Ok, End]),
        ("SELECT 1; SELECT * FROM nowhere.t; SELECT 2", &[End, Err]),
        ("CALL shop.p()", &[End, End, Ok]),
        ("SELEC", &[Err]),
        ("DO 1", &[Ok]),
        // An error when rows have been sent already.
        ("SELECT seq, IF(seq = 90, (SELECT 1 UNION SELECT 2), 0) FROM shop.seq_1_to_100", &[Err]),
        ("SELECT ''", &[End]),
        ("SELECT NULL", &[End]),
        ("SELECT REPEAT('x', 70000)", &[End]),
        ("ANALYZE FORMAT=JSON SELECT 1", &[End]),
        ("INSERT INTO shop.t VALUES (-1, 'x') RETURNING a", &[End]),
        ("DELETE FROM shop.t", &[Ok]),
    ];
    talks(&server, |talk| {
        for (text, expected) in table {
            assert_eq!(talk.query(text).kinds(), *expected, "{text}");
        }
        // The others: COM_INIT_DB, PING, STATISTICS, FIELD_LIST, SET_OPTION, DEBUG, PROCESS_INFO, RESET_CONNECTION.
        assert_eq!(talk.command(b"\x02shop").kinds(), [Ok]);
        assert_eq!(talk.command(b"\x02nowhere").kinds(), [Err]);
        assert_eq!(talk.command(b"\x0e").kinds(), [Ok]);
        let statistics = talk.command(b"\x09");
        assert!(statistics.judged.is_empty() && statistics.passed > 20);
        assert_eq!(talk.command(b"\x04t\0").kinds(), [End]);
        assert_eq!(talk.command(b"\x1b\x01\0").kinds(), [End]);
        assert_eq!(talk.command(b"\x1b\0\0").kinds(), [End]);
        assert_eq!(talk.command(b"\x0d").kinds(), [End]);
        assert_eq!(talk.command(b"\x0a").kinds(), [End]);
        assert_eq!(talk.command(b"\x1f").kinds(), [Ok]);
    });
}

#[test]
fn rows_over_16_mib_pass() {
    let server = server();
    for capabilities in [USUAL, OLD] {
        let mut talk = Talk::new(&server, "anna", capabilities, 300_000);
        for length in [0xff_ffff - 5, 0xff_ffff - 4, 0xff_ffff - 3, 40_000_000] {
            let told = talk.query(&format!("SELECT REPEAT('x', {length}) UNION ALL SELECT 'y'"));
            assert_eq!(told.kinds(), [Judged::End]);
            assert!(told.passed > length);
        }
        // And a command over 16 MiB.
        let told = talk.query(&format!("SELECT LENGTH('{}')", "x".repeat(0x120_0000)));
        assert_eq!(told.kinds(), [Judged::End]);
    }
}

#[test]
fn prepared_statements_cursors_and_long_data() {
    let server = server();
    talks(&server, |talk| {
        let told = talk.command(b"\x16SELECT seq, ? FROM shop.nothing");
        assert_eq!(told.kinds(), [Judged::Err]);
        let told = talk.command(b"\x16SELECT seq, ?, ? FROM shop.seq_1_to_20");
        assert_eq!(told.kinds(), [Judged::PrepareOk]);
        let prepared = PrepareOk::parse(&told.judged[0].1).unwrap();
        assert_eq!((prepared.parameters, prepared.columns), (2, 3));
        // Two strings with types; then again without types; then with a cursor.
        let with = b"\x17\0\0\0\0\0\x01\0\0\0\0\x01\xfd\0\xfd\0\x01a\x02bc";
        let mut payload = with.to_vec();
        prepared::patch_statement(&mut payload, prepared.statement).unwrap();
        let first = prepared::Execute::parse(&payload, 2, talk.capabilities).unwrap();
        let whole = talk.command(&payload);
        assert_eq!(whole.kinds(), [Judged::End]);
        let types = payload[first.types.unwrap()].to_vec();
        let mut again = payload[..12].to_vec();
        again[11] = 0;
        again.extend_from_slice(b"\x01a\x02bc");
        assert_eq!(talk.command(&again).passed, whole.passed);
        let parsed = prepared::Execute::parse(&again, 2, talk.capabilities).unwrap();
        let mut rewritten = Vec::new();
        parsed.write_with_types(&mut rewritten, &again, &types);
        assert_eq!(rewritten, payload);

        let mut cursor = payload.clone();
        cursor[5] = prepared::flags::CURSOR_READ_ONLY;
        let opened = talk.command(&cursor);
        assert_eq!(opened.kinds(), [Judged::End]);
        assert!(opened.passed < whole.passed, "no rows");
        let fetch = |rows: u8| {
            let mut fetch = vec![0x1c, 0, 0, 0, 0, rows, 0, 0, 0];
            prepared::patch_statement(&mut fetch, prepared.statement).unwrap();
            fetch
        };
        assert_eq!(talk.command(&fetch(8)).kinds(), [Judged::End]);
        assert_eq!(talk.command(&fetch(200)).kinds(), [Judged::End]);
        assert_eq!(talk.command(&fetch(1)).kinds(), [Judged::Err]);

        // No answer to COM_STMT_SEND_LONG_DATA and COM_STMT_CLOSE.
        let mut long = b"\x18\0\0\0\0\0\0long data".to_vec();
        prepared::patch_statement(&mut long, prepared.statement).unwrap();
        talk.send(&long);
        assert!(talk.reply.is_over());
        let mut reset = vec![0x1a, 0, 0, 0, 0];
        prepared::patch_statement(&mut reset, prepared.statement).unwrap();
        assert_eq!(talk.command(&reset).kinds(), [Judged::Ok]);
        reset[0] = 0x19;
        talk.send(&reset);
        assert_eq!(talk.command(&payload).kinds(), [Judged::Err]);
        // Statements without parameters or columns; and by "the last one".
        for text in ["DO 1", "SELECT 1", "DO ?"] {
            let told = talk.command(&[b"\x16", text.as_bytes()].concat());
            assert_eq!(told.kinds(), [Judged::PrepareOk], "{text}");
        }
        let last = b"\x17\xff\xff\xff\xff\0\x01\0\0\0\0\x01\xfd\0\x01a";
        assert_eq!(talk.command(last).kinds(), [Judged::Ok]);
    });
}

#[test]
fn bulk_executions_are_answered_like_others() {
    let server = server();
    let mut talk = Talk::new(&server, "anna", USUAL, 7);
    let told = talk.command(b"\x16INSERT INTO shop.t VALUES (?, ?)");
    let prepared = PrepareOk::parse(&told.judged[0].1).unwrap();
    // Types INT and VARCHAR; each value behind an indicator: 0 a value, 1 NULL.
    let mut payload = b"\xfa\0\0\0\0\x80\0\x03\0\x0f\0\0\x01\0\0\0\0\x01x\0\x02\0\0\0\x01".to_vec();
    prepared::patch_statement(&mut payload, prepared.statement).unwrap();
    let bulk = prepared::BulkExecute::parse(&payload, prepared.parameters).unwrap();
    assert_eq!(bulk.types, Some(7..11));
    let told = talk.command(&payload);
    assert_eq!(told.kinds(), [Judged::Ok], "{told:?}");
    assert_eq!(server.sql("SELECT a, b FROM shop.t"), "1\tx\n2\tNULL");
}

#[test]
fn local_files_are_asked_for_and_sent() {
    let server = server();
    talks(&server, |talk| {
        talk.done("DELETE FROM shop.t");
        talk.send(
            b"\x03LOAD DATA LOCAL INFILE 'some file' INTO TABLE shop.t FIELDS TERMINATED BY ','; SELECT 1",
        );
        let asked = talk.answer_until(|reply| reply.is_between_packets());
        assert_eq!(asked.judged, [(Judged::LocalInfile, b"\xfbsome file".to_vec())]);
        let (mut out, mut sequence) = (Vec::new(), talk.reply.sequence() + 1);
        for payload in [&b"1,x\n2,"[..], b"y\n", b""] {
            packet::write(&mut out, &mut sequence, payload);
        }
        let mut upload = ringgate::mysql::reply::Upload::new();
        assert_eq!((upload.feed(&out), upload.is_over()), (out.len(), true));
        talk.stream.write_all(&out).unwrap();
        assert_eq!(talk.answer().kinds(), [Judged::Ok, Judged::End]);
        assert_eq!(server.sql("SELECT count(*) FROM shop.t"), "2");
    });
}

#[test]
fn users_change_and_plugins_are_switched() {
    let server = server();
    server.sql("INSTALL SONAME 'auth_ed25519'");
    server.sql(&format!(
        "CREATE USER eddy@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}'); GRANT ALL ON *.* TO eddy@'%'"
    ));
    let stored = server
        .sql("SELECT JSON_VALUE(priv, '$.authentication_string') FROM mysql.global_priv WHERE user = 'eddy'");
    let key = ed25519::Key::of_password(PASSWORD.as_bytes());
    assert_eq!(ed25519::parse_stored(stored.as_bytes()), Some(key.public()));
    let stored = server.sql("SELECT authentication_string FROM mysql.user WHERE user = 'anna'");
    let secret = native::stored_of(&native::secret_of(PASSWORD.as_bytes()));
    assert!(native::parse_stored(stored.as_bytes()).unwrap().is(secret.reveal()));

    for piece in [1, 1000] {
        // A login that is switched to the account's plugin, then a change of user and back.
        let mut talk = Talk::new(&server, "eddy", USUAL, piece);
        for user in ["anna", "eddy", "anna"] {
            let answer = native::answer(&native::secret_of(PASSWORD.as_bytes()), &talk.scramble);
            talk.change_user(user, &answer, b"shop");
            talk.login();
            talk.done("SET @a = 1");
            let ask = format!("SELECT 1 FROM dual WHERE USER() LIKE '{user}@%' AND DATABASE() = 'shop'");
            let (found, none) = (talk.query(&ask).passed, talk.query(&format!("{ask} AND 0")).passed);
            assert!(found > none, "{user}");
        }
    }
}

#[test]
fn a_refused_login_is_an_error_with_a_state() {
    let server = server();
    let mut talk = Talk::new(&server, "anna", USUAL, 100);
    talk.change_user("nobody", &[1; 20], b"");
    let mut told = talk.answer_until(|reply| reply.is_between_packets());
    if told.kinds() == [Judged::AuthSwitch] {
        // The server hides that there is no such user.
        let (mut out, mut sequence) = (Vec::new(), talk.reply.sequence() + 1);
        packet::write(&mut out, &mut sequence, &[1; 20]);
        talk.stream.write_all(&out).unwrap();
        told = talk.answer_until(Reply::is_over);
    }
    let err = ErrPacket::parse(&told.judged[0].1).unwrap();
    assert_eq!((err.code, err.sqlstate), (1045, Some(*b"28000")));
}

#[test]
fn trackers_are_told_and_taken_away() {
    let server = server();
    let mut talk = Talk::new(&server, "anna", USUAL, 5);
    talk.done(
        "SET session_track_schema = 1, session_track_state_change = 1,
         session_track_transaction_info = 'CHARACTERISTICS',
         session_track_system_variables = 'last_gtid,autocommit,sql_mode'",
    );
    let told = talk.command(b"\x02shop");
    assert!(told.changes(USUAL).contains(&Change::Schema(b"shop")), "{told:?}");
    let told = talk.done("SET autocommit = 0");
    let off = Change::SystemVariable { name: b"autocommit", value: b"OFF" };
    assert!(told.changes(USUAL).contains(&off), "{told:?}");
    assert!(!told.ok(USUAL).status.has(Status::AUTOCOMMIT));
    talk.done("SET autocommit = 1");
    let told = talk.done("START TRANSACTION READ ONLY");
    let changes = told.changes(USUAL);
    assert!(changes.contains(&Change::TransactionState(b"T_______")), "{changes:?}");
    assert!(changes.contains(&Change::TransactionCharacteristics(b"START TRANSACTION READ ONLY;")));
    assert!(told.ok(USUAL).status.has(Status::IN_TRANS));
    talk.done("COMMIT");
    let told = talk.done("CREATE TEMPORARY TABLE temp (a INT)");
    assert!(told.changes(USUAL).contains(&Change::StateChange(b"1")), "{told:?}");

    // The GTID stands in the OK packet, and in the one that ends a result.
    let gtid = |told: &Told| {
        told.changes(USUAL).iter().find_map(|change| match change {
            Change::SystemVariable { name: b"last_gtid", value } => {
                Some(String::from_utf8_lossy(value).into_owned())
            }
            _ => None,
        })
    };
    let told = talk.done("INSERT INTO t VALUES (1, 'x'), (2, 'y')");
    assert_eq!(gtid(&told), Some(server.sql("SELECT @@gtid_binlog_pos")));
    let returning = talk.query("INSERT INTO t VALUES (3, 'x') RETURNING a");
    assert_eq!(returning.kinds(), [Judged::End]);
    assert_eq!(gtid(&returning), Some(server.sql("SELECT @@gtid_binlog_pos")));

    // A client without trackers gets what the server would have sent to it.
    let mut plain = Talk::new(&server, "anna", USUAL.without(Capabilities::SESSION_TRACK), 100);
    plain.command(b"\x02shop");
    for (text, count) in [("INSERT INTO t VALUES ({}, 'x'), ({}1, 'y')", 2), ("DO 1 + {}", 0)] {
        let tracked = talk.done(&text.replace("{}", "40"));
        let direct = plain.done(&text.replace("{}", "50"));
        let (mut packet, mut sequence) = (Vec::new(), 1);
        packet::write(&mut packet, &mut sequence, &tracked.judged[0].1);
        let mut rewritten = Vec::new();
        let keep = |_: &Change| true;
        rewrite_packet(&mut rewritten, &packet, USUAL, plain.capabilities, keep).unwrap();
        assert_eq!(rewritten[HEADER_BYTES..], direct.judged[0].1, "{text}");
        let ok = direct.ok(plain.capabilities);
        assert_eq!(ok.affected_rows, count);
        assert_eq!(ok.info.is_empty(), count == 0, "{ok:?}");
        // And one that has them, but asked for none.
        let mut mute = Talk::new(&server, "anna", USUAL, 100);
        mute.done("SET session_track_system_variables = '', session_track_schema = 0");
        let direct = mute.done(&text.replace("{}", "60").replace("INTO t", "INTO shop.t"));
        rewritten.clear();
        rewrite_packet(&mut rewritten, &packet, USUAL, USUAL, |_| false).unwrap();
        assert_eq!(rewritten[HEADER_BYTES..], direct.judged[0].1, "{text}");
        server.sql("DELETE FROM shop.t WHERE a > 10");
    }
}
