//! Who comes in, and what those hear who do not.

use std::net::SocketAddr;

use crate::both_engines;
use crate::common::mariadb::PASSWORD;
use crate::common::{Authority, Engine, Replication, Ringgate, address};
use crate::door::{Door, mariadb};

const ASK: &str = "SELECT CURRENT_USER(), DATABASE()";

/// Makes accounts of all kinds.
fn accounts(all: &Replication) {
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET SESSION sql_log_bin=0; INSTALL SONAME 'auth_ed25519'");
    }
    all.primary.sql(&format!(
        "CREATE USER bare@'%'; GRANT SELECT ON shop.* TO bare@'%';
         CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{PASSWORD}'); GRANT SELECT ON shop.* TO ed@'%';
         CREATE USER locked@'%' IDENTIFIED BY '{PASSWORD}' ACCOUNT LOCK;
         CREATE USER safe@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE SSL; GRANT SELECT ON shop.* TO safe@'%';
         CREATE USER either@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}') OR ed25519
             USING PASSWORD('other'); GRANT SELECT ON shop.* TO either@'%';
         CREATE USER far@'10.9.9.9' IDENTIFIED BY '{PASSWORD}';
         CREATE USER 'näme'@'%' IDENTIFIED BY 'pässwörd'; GRANT SELECT ON shop.* TO 'näme'@'%'"
    ));
    all.wait();
}

/// Who asks with which password and options, and whether he is let in.
const LOGINS: &[(&str, &str, &[&str], bool)] = &[
    ("app", PASSWORD, &["shop"], true),
    ("app", PASSWORD, &[], true),
    ("app", "wrong", &["shop"], false),
    ("app", "", &["shop"], false),
    ("nobody", PASSWORD, &["shop"], false),
    ("nobody", "", &["shop"], false),
    ("bare", "", &["shop"], true),
    ("bare", "something", &["shop"], false),
    ("ed", PASSWORD, &["shop"], true),
    ("ed", "wrong", &["shop"], false),
    ("either", PASSWORD, &["shop"], true),
    ("either", "wrong", &["shop"], false),
    ("locked", PASSWORD, &["shop"], false),
    ("far", PASSWORD, &["shop"], false),
    ("näme", "pässwörd", &["shop"], true),
    ("safe", PASSWORD, &["shop"], false),
    ("app", PASSWORD, &["missing"], false),
    ("bare", "", &["mysql"], false),
];

/// The same client at the door and at the primary.
#[track_caller]
fn compare(at: SocketAddr, direct: SocketAddr, (user, password, options, may): (&str, &str, &[&str], bool)) {
    let plain = [&["--skip-ssl"], options].concat();
    let there = mariadb(direct, user, password, &plain, ASK);
    assert_eq!(there.is_ok(), may, "{user} {options:?} at the server: {there:?}");
    let here = mariadb(at, user, password, &plain, ASK);
    assert_eq!(here, there, "{user} {password} {options:?}");
}

both_engines! {
    fn accounts_are_those_of_the_primary(engine) {
        let authority = Authority::new();
        let (issued, own) = (authority.issue("door", &["db.example.org"]), authority.issue("own", &["db"]));
        let (chain, key) = (own.chain.display(), own.key.display());
        let all = Door::servers_with(&[&format!("--ssl-cert={chain}"), &format!("--ssl-key={key}")]);
        accounts(&all);
        let tls = format!(
            "certificates = [\"{}\"]\nserver_tls = {{ ca = \"{}\", server_name = \"db\" }}",
            issued.both.display(),
            authority.ca().display()
        );
        let mut door = Door::to(engine, all, &tls);
        for login in LOGINS {
            compare(door.at, door.all.primary.address, *login);
        }
        let ca = format!("--ssl-ca={}", authority.ca().display());
        let options = ["--ssl", &ca, "shop"];
        for user in ["safe", "app", "ed"] {
            let told = mariadb(door.at, user, PASSWORD, &options, "SELECT CURRENT_USER(), @@server_id > 1");
            assert_eq!(told, Ok(format!("{user}@%\t1")), "over TLS");
        }
        let told = mariadb(door.at, "safe", "wrong", &options, ASK).unwrap_err();
        assert!(told.contains("ERROR 1045 (28000): Access denied for user 'safe'@"), "{told}");
        listed_users(engine, &mut door);
    }
}

/// Users of the configuration: who is not listed is nobody.
fn listed_users(engine: Engine, door: &mut Door) {
    let at = address();
    let secret = door.all.primary.folder().join("app.secret");
    std::fs::write(&secret, PASSWORD).unwrap();
    let lines = format!("users = [ {{ user = \"app\", password_file = \"{}\" }} ]", secret.display());
    let gate = Ringgate::start(engine, &Door::block(at, &door.all, &lines));
    let told = mariadb(at, "app", PASSWORD, &["shop"], ASK);
    assert_eq!(told, Ok("app@%\tshop".into()), "{}", gate.running.text());
    for (user, password) in [("app", "wrong"), ("app", ""), ("bare", ""), ("ed", PASSWORD)] {
        let told = mariadb(at, user, password, &["shop"], ASK).unwrap_err();
        assert!(told.contains(&format!("ERROR 1045 (28000): Access denied for user '{user}'@")), "{told}");
    }
}
