//! Oracle MySQL 9 behind the door: its accounts, its positions, its replication.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Authority, Engine, MySql, MySqlReplication, PASSWORD, Ringgate, address, eventually};
use crate::door::{python, said};
use crate::failures::all_kept;
use crate::others;
use crate::rust::compare_mysql_async;
use crate::table::{TABLE, check_table, schema};

/// Statements that MariaDB does not have, or understands otherwise.
const MYSQL_TABLE: &str = include_str!("mysql9.txt");

/// A door to a primary and replicas of MySQL.
struct Door {
    gate: Ringgate,
    at: SocketAddr,
    all: MySqlReplication,
}

/// What the service needs, no more.
const SERVICE: &str = "CREATE USER ringgate@'%' IDENTIFIED BY 'secret';
    GRANT REPLICATION CLIENT ON *.* TO ringgate@'%'; GRANT SELECT ON mysql.user TO ringgate@'%'";

impl Door {
    /// Servers alone; `None` where there is no MySQL.
    #[track_caller]
    fn servers(options: &[&str]) -> Option<MySqlReplication> {
        MySql::is_there().then(|| {
            let all = MySqlReplication::with(2, options);
            all.primary.sql(SERVICE);
            all.wait();
            all
        })
    }

    /// A door to these servers, which knows who is who.
    #[track_caller]
    fn to(all: MySqlReplication, lines: &str) -> Self {
        let at = address();
        let gate = Self::gate(at, &all, lines);
        let door = Self { gate, at, all };
        eventually("a replica answers", || (door.ask("SELECT @@server_id").ok()? != "1").then_some(()));
        door
    }

    /// A door alone, which may know nobody yet.
    #[track_caller]
    fn gate(at: SocketAddr, all: &MySqlReplication, lines: &str) -> Ringgate {
        let secret = all.primary.folder().join("ringgate.secret");
        std::fs::write(&secret, PASSWORD).unwrap();
        let mut servers = String::new();
        for server in all.servers() {
            write!(servers, "\"{}\", ", server.address).unwrap();
        }
        let config = format!(
            "[sql.main]\nlisten = [\"{at}\"]\nservers = [ {servers} ]\n\
             account = {{ user = \"ringgate\", password_file = \"{}\" }}\n{lines}\n",
            secret.display()
        );
        Ringgate::start(Engine::IoUring, &config)
    }

    /// Waits until all servers have what the primary has, and compares this table.
    #[track_caller]
    fn same_everywhere(&self, primary: &MySql, table: &str) {
        let position = primary.sql("SELECT @@global.gtid_executed").replace("\\n", "");
        let sum = format!("CHECKSUM TABLE shop.{table}");
        let expected = primary.sql(&sum);
        for server in self.all.servers() {
            let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', 5)");
            assert_eq!(server.sql(&wait), "0", "{}", self.gate.running.text());
            assert_eq!(server.sql(&sum), expected, "{table} of {}", server.id);
        }
    }

    /// Runs statements through the door as `app` in one session.
    fn ask(&self, sql: &str) -> Result<String, String> {
        client(self.at, "app", PASSWORD, &["shop"], sql)
    }

    /// The same for statements that must do.
    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        self.ask(sql).unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.gate.running.text()))
    }
}

/// The `mysql` client over TCP.
fn client(at: SocketAddr, user: &str, password: &str, options: &[&str], sql: &str) -> Result<String, String> {
    let words = [
        format!("--host={}", at.ip()),
        format!("--port={}", at.port()),
        format!("--user={user}"),
        format!("--password={password}"),
    ];
    let mut all: Vec<&str> = words.iter().map(String::as_str).collect();
    all.extend(options);
    MySql::client(&all, sql)
}

#[test]
fn every_kind_of_statement_answers_as_a_primary_of_mysql_does() {
    let Some(all) = Door::servers(&["--general-log=1", "--log-raw=1"]) else { return };
    for name in ["shop", "twin"] {
        all.primary.sql(&schema(name, ""));
    }
    all.primary.sql("CREATE DATABASE other; CREATE TABLE other.u (a INT); INSERT INTO other.u VALUES (11)");
    all.wait();
    let door = Door::to(all, "consistency = \"eventual\"");
    let servers: Vec<_> = door.all.servers().map(|server| (server.address, server.folder())).collect();
    let of_mysql = |line: &&str| !line.starts_with("P+") && !line.starts_with("R+");
    let table: Vec<&str> = TABLE.lines().filter(of_mysql).chain(MYSQL_TABLE.lines()).collect();
    check_table(door.at, &servers, &table.join("\n"));
}

/// Who asks with which password, and whether he is let in.
const LOGINS: &[(&str, &str, &str, bool)] = &[
    ("app", PASSWORD, "shop", true),
    ("app", PASSWORD, "", true),
    ("app", "wrong", "shop", false),
    ("app", "", "shop", false),
    ("nobody", PASSWORD, "shop", false),
    ("nobody", "", "shop", false),
    ("bare", "", "shop", true),
    ("bare", "something", "shop", false),
    ("locked", PASSWORD, "shop", false),
    ("far", PASSWORD, "shop", false),
    ("näme", "pässwörd", "shop", true),
    ("twice", "before", "shop", true),
    ("twice", PASSWORD, "shop", true),
    ("twice", "wrong", "shop", false),
    ("safe", PASSWORD, "shop", false),
    ("expired", PASSWORD, "shop", false),
    ("app", PASSWORD, "missing", false),
    ("bare", "", "mysql", false),
];

const ASK: &str = "SELECT CURRENT_USER(), DATABASE()";

/// Makes accounts of all kinds.
fn accounts(all: &MySqlReplication) {
    all.primary.sql(&format!(
        "CREATE USER bare@'%'; GRANT SELECT ON shop.* TO bare@'%';
         CREATE USER locked@'%' IDENTIFIED BY '{PASSWORD}' ACCOUNT LOCK;
         CREATE USER safe@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT SELECT ON shop.* TO safe@'%';
         CREATE USER far@'10.9.9.9' IDENTIFIED BY '{PASSWORD}';
         CREATE USER 'näme'@'%' IDENTIFIED BY 'pässwörd'; GRANT SELECT ON shop.* TO 'näme'@'%';
         CREATE USER twice@'%' IDENTIFIED BY 'before'; GRANT SELECT ON shop.* TO twice@'%';
         ALTER USER twice@'%' IDENTIFIED BY '{PASSWORD}' RETAIN CURRENT PASSWORD;
         CREATE USER expired@'%' IDENTIFIED BY '{PASSWORD}' PASSWORD EXPIRE; GRANT SELECT ON shop.* TO expired@'%';
         CREATE USER former@'%' IDENTIFIED WITH sha256_password BY '{PASSWORD}'; GRANT SELECT ON shop.* TO former@'%';
         CREATE ROLE reader; CREATE USER late@'%' IDENTIFIED BY '{PASSWORD}'"
    ));
    all.wait();
}

#[test]
fn accounts_are_those_of_a_mysql_primary() {
    let authority = Authority::new();
    let (issued, own) = (authority.issue("door", &["db.example.org"]), authority.issue("own", &["db"]));
    let options = [format!("--ssl-cert={}", own.chain.display()), format!("--ssl-key={}", own.key.display())];
    let Some(all) = Door::servers(&[&options[0], &options[1]]) else { return };
    accounts(&all);
    let door = Door::to(all, &format!("certificates = [\"{}\"]", issued.both.display()));
    let direct = door.all.primary.address;
    let mut wrong = Vec::new();
    for (user, password, database, may) in LOGINS {
        // The second time what was shown the first time is remembered.
        for round in ["full", "fast"] {
            let options = ["--ssl-mode=DISABLED", database];
            let there = client(direct, user, password, &options, ASK);
            assert_eq!(there.is_ok(), *may, "{user} {database} at the server, {round}: {there:?}");
            let here = client(door.at, user, password, &options, ASK);
            if here != there {
                wrong.push(format!(
                    "{user} {password} {database} {round}\n  here  {here:?}\n  there {there:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), door.gate.running.text());
    let told = client(door.at, "former", PASSWORD, &["--ssl-mode=DISABLED"], ASK).unwrap_err();
    assert!(told.contains("logs in by sha256_password, which ringgate does not speak"), "{told}");

    // The server wants TLS for one of them: towards it and from the client.
    let server_tls =
        format!("server_tls = {{ ca = \"{}\", server_name = \"db\" }}", authority.ca().display());
    let tls = format!("certificates = [\"{}\"]\n{server_tls}", issued.both.display());
    let door = Door::to(door.all, &tls);
    let ca = format!("--ssl-ca={}", authority.ca().display());
    for round in ["full", "fast"] {
        for user in ["safe", "late", "bare"] {
            let password = if user == "bare" { "" } else { PASSWORD };
            let told =
                client(door.at, user, password, &["--ssl-mode=VERIFY_CA", &ca], "SELECT CURRENT_USER()");
            assert_eq!(told, Ok(format!("{user}@%")), "over TLS, {round}\n{}", door.gate.running.text());
        }
        let told = client(door.at, "safe", "wrong", &["--ssl-mode=REQUIRED"], ASK).unwrap_err();
        assert!(told.contains("ERROR 1045 (28000): Access denied for user 'safe'@"), "{told}");
    }
}

#[test]
fn drivers_hear_what_they_hear_at_mysql() {
    let Some(all) = Door::servers(&[]) else { return };
    all.primary.sql("CREATE DATABASE other; INSTALL COMPONENT 'file://component_query_attributes'");
    for name in ["shop", "twin"] {
        all.primary.sql(&others::schema(name));
    }
    all.wait();
    let door = Door::to(all, "");
    compare_mysql_async(door.at, door.all.primary.address);
    others::compare_all(door.at, door.all.primary.address);
    door.same_everywhere(&door.all.primary, "things");
}

#[test]
fn what_the_account_lacks_at_a_mysql_is_said() {
    let Some(all) = MySql::is_there().then(|| MySqlReplication::with(0, &[])) else { return };
    all.primary.sql(&format!("CREATE USER ringgate@'%' IDENTIFIED BY '{PASSWORD}'"));
    let gate = Door::gate(address(), &all, "");
    let said = |text: &str| {
        eventually(text, || gate.running.text().contains(text).then_some(()));
    };
    said("the account may not see how it replicates: GRANT REPLICATION CLIENT ON *.* TO 'ringgate'@'%'");
    all.primary.sql("GRANT REPLICATION CLIENT ON *.* TO ringgate@'%'");
    said("is reached again: primary");
    said("GRANT SELECT ON mysql.user TO 'ringgate'@'%'");
}

/// What sessions do with writes, reads and what is neither.
fn behaves(door: &Door) {
    // What was written is read.
    let mut sql = String::new();
    for number in 0..100 {
        if number == 50 {
            // From here on GTIDs have a tag, and are counted anew.
            sql += "SET gtid_next = 'AUTOMATIC:blue';";
        }
        write!(
            sql,
            "INSERT INTO w VALUES ({number}); SELECT @@server_id, COUNT(*) FROM w WHERE a = {number};"
        )
        .unwrap();
    }
    let told = door.sql(&sql);
    assert!(told.lines().all(|line| line.ends_with("\t1")), "{told}");
    for half in [&told.lines().collect::<Vec<_>>()[..50], &told.lines().collect::<Vec<_>>()[50..]] {
        let by_replicas = half.iter().filter(|line| !line.starts_with('1')).count();
        assert!(by_replicas > 5, "{by_replicas} of {} reads went to replicas", half.len());
    }
    // A read that writes runs once, and on the primary.
    assert_eq!(door.sql("SELECT note(7), @@server_id; SELECT b, s FROM log"), "7\t1\n7\t1");
    assert_eq!(door.sql("SELECT note(8), @@server_id; SELECT COUNT(*) FROM log"), "8\t1\n2");
    let told = door.ask("START TRANSACTION READ ONLY; SELECT note(9)").unwrap_err();
    assert!(told.contains("ERROR 1792 (25006)"), "{told}");
    let told = door.sql(
        "START TRANSACTION READ ONLY; SELECT @@server_id > 1; COMMIT; BEGIN; SELECT @@server_id; COMMIT",
    );
    assert_eq!(told, "1\n1");
    // A file of the client.
    let rows: String = (0..50_000).map(|number| format!("{number}\trow {number}\n")).collect();
    let file = door.gate.folder().join("rows.tsv");
    std::fs::write(&file, rows).unwrap();
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE loaded", file.display());
    let told = door.sql(&format!("{load}; SELECT ROW_COUNT(); SELECT COUNT(*), MAX(b) FROM loaded"));
    assert_eq!(told, "50000\n50000\trow 9999");
}

#[test]
fn sessions_go_over_to_a_new_mysql_primary() {
    let Some(all) = Door::servers(&[]) else { return };
    all.primary.sql(
        "USE shop; CREATE TABLE w (a INT PRIMARY KEY); CREATE TABLE loaded (a INT PRIMARY KEY, b VARCHAR(20));
         CREATE TABLE log (a INT AUTO_INCREMENT PRIMARY KEY, b INT, s INT);
         CREATE TABLE kept (id INT AUTO_INCREMENT PRIMARY KEY, a INT, w INT);
         CREATE TRIGGER whose BEFORE INSERT ON kept FOR EACH ROW SET NEW.w = @@server_id;
         DELIMITER //
         CREATE FUNCTION note(x INT) RETURNS INT MODIFIES SQL DATA
         BEGIN INSERT INTO log (b, s) VALUES (x, @@server_id); RETURN x; END//",
    );
    all.wait();
    let door = Door::to(all, "");
    behaves(&door);
    let mut script = python(door.at, "load.py", &["write", "4"]);
    let writers = script.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let (old, new, other) = (&door.all.primary, &door.all.replicas[0], &door.all.replicas[1]);
    old.sql("SET GLOBAL super_read_only = 1");
    door.all.wait();
    new.sql("STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = 0; SET GLOBAL read_only = 0");
    other.sql("STOP REPLICA");
    for server in [old, other] {
        MySqlReplication::follow(server, new);
    }
    let ask = "INSERT INTO kept (a) VALUES (NULL); SELECT w FROM kept WHERE a IS NULL LIMIT 1; DELETE FROM kept WHERE a IS NULL";
    eventually("writes go to the new primary", || (door.ask(ask) == Ok("2".into())).then_some(()));
    let told = said(&writers.wait_with_output().unwrap()).unwrap();
    let text = door.gate.running.text();
    all_kept(&told, &new.sql("SELECT a FROM shop.kept WHERE a IS NOT NULL"), 100);
    let by_new = new.sql("SELECT COUNT(*) FROM shop.kept WHERE w = 2");
    assert!(by_new.parse::<u32>().unwrap() > 50, "{by_new} writes after it: {text}");
    for table in ["w", "loaded", "log", "kept"] {
        door.same_everywhere(new, table);
    }
    eventually("reads go to the others again", || (door.sql("SELECT @@server_id") != "2").then_some(()));
}
