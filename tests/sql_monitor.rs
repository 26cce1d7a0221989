//! The SQL monitor against real servers: who is primary, how far replicas are, who may log in; what is said when it changes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::{Authority, Engine, MariaDb, Replication, Ringgate, address, curl_text, eventually, now};
use serde_json::Value;

const GRANTS: &str = "CREATE USER ringgate@'%' IDENTIFIED BY 'monitor';
    GRANT SLAVE MONITOR ON *.* TO ringgate@'%'; GRANT SELECT ON mysql.global_priv TO ringgate@'%'";

struct Site {
    gate: Ringgate,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A ringgate before these servers, which are called `one`, `two` and so on.
    #[track_caller]
    fn start(servers: &[&MariaDb], more: &str, password: &str) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, password).unwrap();
        let admin = address();
        let gate = Ringgate::start(Engine::IoUring, &config(servers, admin, &secret, more));
        Self { gate, admin, _folder: folder }
    }

    fn text(&self, path: &str) -> String {
        curl_text(&[&format!("http://{}{path}", self.admin)])
    }

    fn servers(&self) -> Vec<Value> {
        let all: Value = serde_json::from_str(&self.text("/v1/servers")).unwrap();
        all["pools"][0]["servers"].as_array().unwrap().clone()
    }

    /// The roles, in the order of the file; `!` behind those that are not reached.
    fn roles(&self) -> String {
        let word = |server: &Value| {
            let lost = if server["reached"] == true { "" } else { "!" };
            format!("{}{lost}", server["role"].as_str().unwrap())
        };
        self.servers().iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn wait_roles(&self, expected: &str) {
        let mut last = String::new();
        let start = now();
        while start.elapsed() < common::PATIENCE {
            last = self.roles();
            if last == expected {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the roles are {last}, not {expected}; it said:\n{}", self.log());
    }

    #[track_caller]
    fn metric(&self, series: &str) -> f64 {
        let text = self.text("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {series}")).parse().unwrap()
    }

    fn log(&self) -> String {
        self.gate.running.stderr()
    }

    #[track_caller]
    fn wait_log(&self, text: &str) {
        let found = || self.log().contains(text).then_some(());
        let start = now();
        while found().is_none() {
            assert!(start.elapsed() < common::PATIENCE, "it never said {text:?}, but:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn config(servers: &[&MariaDb], admin: SocketAddr, secret: &Path, more: &str) -> String {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let list: Vec<String> = servers
        .iter()
        .zip(NAMES)
        .map(|(server, name)| format!("{{ address = \"{}\", name = \"{name}\" }}", server.address))
        .collect();
    format!(
        "[sql.db]\nlisten = [\"{}\"]\nservers = [ {} ]\naccount = {{ user = \"ringgate\", password_file = \"{}\" }}\n\
         {more}\n[admin]\nlisten = [\"{admin}\"]\n",
        address(),
        list.join(", "),
        secret.display()
    )
}

fn three() -> (Replication, Site) {
    let all = Replication::start(2);
    all.primary.sql(GRANTS);
    all.wait();
    let site = Site::start(&[&all.primary, &all.replicas[0], &all.replicas[1]], "", "monitor");
    (all, site)
}

#[test]
fn roles_and_lag_are_found() {
    let (all, site) = three();
    site.wait_roles("primary replica replica");
    site.wait_log("sql db: one (");
    let lag = |at: usize| site.servers()[at]["lag_ms"].as_f64();
    eventually("the replicas are near", || {
        (1..3).all(|at| lag(at).is_some_and(|lag| lag < 400.0)).then_some(())
    });
    assert_eq!(lag(0), Some(0.0));
    assert_eq!(site.metric("ringgate_sql_role{block=\"db\",server=\"one\",role=\"primary\"}"), 1.0);
    assert_eq!(site.metric("ringgate_sql_role{block=\"db\",server=\"two\",role=\"primary\"}"), 0.0);
    assert_eq!(site.metric("ringgate_sql_reached{block=\"db\",server=\"three\"}"), 1.0);
    assert_eq!(site.metric("ringgate_sql_two_primaries{block=\"db\"}"), 0.0);
    assert_eq!(site.metric("ringgate_sql_primary_changes_total{block=\"db\"}"), 0.0);
    let told = Ringgate::once(None, &["ctl", "--admin", &site.admin.to_string(), "servers"]).text();
    assert!(
        told.contains("ROLE AND LAG") && told.contains("primary") && told.contains("MariaDB 10."),
        "{told}"
    );
    // A replica that does not apply falls behind by what the primary writes, though it says nothing itself.
    all.replicas[0].sql("STOP SLAVE SQL_THREAD");
    site.wait_log("two (");
    site.wait_log("does not replicate: IO thread Yes, SQL thread No");
    all.primary.sql("CREATE TABLE shop.t (a INT)");
    eventually("the lag grows", || lag(1).filter(|lag| *lag > 1500.0));
    assert!(lag(2).unwrap() < 400.0, "the other one follows");
    assert!(site.metric("ringgate_sql_lag_seconds{block=\"db\",server=\"two\"}") > 1.5);
    all.replicas[0].sql("START SLAVE SQL_THREAD");
    site.wait_log("replicates again");
    eventually("it catches up", || lag(1).filter(|lag| *lag < 400.0));
}

#[test]
fn a_lost_primary_is_noticed_and_a_new_one_followed() {
    let (mut all, site) = three();
    site.wait_roles("primary replica replica");
    let start = now();
    all.primary.stop();
    site.wait_roles("unknown! replica replica");
    assert!(start.elapsed().as_millis() < 1500, "{:?}", start.elapsed());
    site.wait_log("the primary one (");
    site.wait_log("is lost: connection refused; writes wait until there is one");
    // It comes back: nothing else has happened.
    all.primary.start_again();
    site.wait_roles("primary replica replica");
    site.wait_log("is reached again: primary");
    assert_eq!(site.metric("ringgate_sql_primary_changes_total{block=\"db\"}"), 0.0);
    // It goes, and another one is promoted.
    all.primary.stop();
    site.wait_roles("unknown! replica replica");
    let start = now();
    all.replicas[0].sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    site.wait_roles("unknown! primary replica");
    assert!(start.elapsed().as_millis() < 1500, "{:?}", start.elapsed());
    assert_eq!(site.metric("ringgate_sql_primary_changes_total{block=\"db\"}"), 1.0);
    // The old one returns and believes that it still is one.
    all.primary.start_again();
    site.wait_log("take writes at the same time; two (");
    site.wait_roles("unknown primary replica");
    assert_eq!(site.metric("ringgate_sql_two_primaries{block=\"db\"}"), 1.0);
}

#[test]
fn a_switchover_is_followed_within_a_second() {
    let (all, site) = three();
    site.wait_roles("primary replica replica");
    let new = &all.replicas[1];
    all.primary.sql("SET GLOBAL read_only=1");
    all.wait();
    new.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    let start = now();
    eventually("it is followed", || (site.servers()[2]["role"] == "primary").then_some(()));
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
    site.wait_log("is the primary now; it was one (");
    site.wait_roles("unknown replica primary");
    let at = new.address;
    for server in [&all.primary, &all.replicas[0]] {
        server.sql(&format!(
            "STOP SLAVE; SET GLOBAL gtid_slave_pos=@@gtid_current_pos; CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, \
             MASTER_USER='repl', MASTER_PASSWORD='{}', MASTER_USE_GTID=slave_pos; START SLAVE",
            at.ip(),
            at.port(),
            common::mariadb::PASSWORD
        ));
    }
    site.wait_roles("replica replica primary");
    new.sql("CREATE TABLE shop.later (a INT)");
    eventually("both follow", || {
        site.servers()[..2]
            .iter()
            .all(|one| one["lag_ms"].as_f64().is_some_and(|lag| lag < 400.0))
            .then_some(())
    });
    let log = site.log();
    assert_eq!(log.matches("is the primary now").count(), 1, "{log}");
}

#[test]
fn of_two_that_take_writes_the_known_one_stays() {
    let (mut all, site) = three();
    site.wait_roles("primary replica replica");
    all.replicas[0].sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    site.wait_roles("primary unknown replica");
    site.wait_log("ALARM: one (");
    site.wait_log("stays the primary; set read_only=1 on the other");
    assert_eq!(site.metric("ringgate_sql_two_primaries{block=\"db\"}"), 1.0);
    // The known one is lost: who took writes beside it is not followed by itself.
    all.primary.stop();
    site.wait_roles("unknown! unknown replica");
    site.wait_log("took writes beside the primary that is lost, and is not followed");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    site.wait_roles("unknown! unknown replica");
    all.primary.start_again();
    site.wait_roles("primary unknown replica");
    all.replicas[0].sql("SET GLOBAL read_only=1");
    site.wait_log("only one (");
    assert_eq!(site.metric("ringgate_sql_two_primaries{block=\"db\"}"), 0.0);
    assert_eq!(site.metric("ringgate_sql_primary_changes_total{block=\"db\"}"), 0.0);
}

#[test]
fn accounts_are_read_and_kept_fresh() {
    let server = MariaDb::start();
    server.sql(GRANTS);
    let site = Site::start(&[&server], "", "monitor");
    site.wait_roles("primary");
    let accounts = || site.metric("ringgate_sql_accounts{block=\"db\"}");
    let count: f64 = server.sql("SELECT COUNT(*) FROM mysql.global_priv").parse().unwrap();
    eventually("they are read", || (accounts() == count).then_some(()));
    server.sql("CREATE ROLE no_account; CREATE USER app@'%' IDENTIFIED BY 'x', app@localhost");
    let start = now();
    while accounts() != count + 2.0 {
        assert!(start.elapsed().as_secs() < 12, "{}", accounts());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Without the privilege they stay as they are, and it is said once.
    server.sql("REVOKE SELECT ON mysql.global_priv FROM ringgate@'%'");
    let said = "GRANT SELECT ON mysql.global_priv TO 'ringgate'@'%'";
    let start = now();
    while !site.log().contains(said) {
        assert!(start.elapsed().as_secs() < 12, "{}", site.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(accounts(), count + 2.0);
    // The view of old does as well.
    server.sql("GRANT SELECT ON mysql.user TO ringgate@'%'; CREATE USER later@'%'");
    let start = now();
    while accounts() != count + 3.0 {
        assert!(start.elapsed().as_secs() < 12, "{}:\n{}", accounts(), site.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    site.wait_log("are read again");
}

#[test]
fn a_primary_that_hangs_is_lost() {
    let (all, site) = three();
    site.wait_roles("primary replica replica");
    let start = now();
    all.primary.running().signal("STOP");
    site.wait_roles("unknown! replica replica");
    assert!(start.elapsed().as_millis() < 3500, "{:?}", start.elapsed());
    site.wait_log("is lost: no answer within 2 s");
    all.primary.running().signal("CONT");
    site.wait_roles("primary replica replica");
    let log = site.log();
    assert!(!log.contains("ALARM") && !log.contains("is the primary now"), "{log}");
}

#[test]
fn what_the_account_lacks_is_said() {
    let server = MariaDb::start();
    let site = Site::start(&[&server], "", "monitor");
    site.wait_log("is not reached: it refuses the login: Access denied for user 'ringgate'");
    site.wait_log("check user and password_file of the block's account");
    server.sql("CREATE USER ringgate@'%' IDENTIFIED BY 'monitor'");
    site.wait_log("the account may not see how it replicates: GRANT SLAVE MONITOR ON *.* TO 'ringgate'@'%'");
    site.wait_roles("unknown!");
    server.sql("GRANT SLAVE MONITOR ON *.* TO ringgate@'%'");
    site.wait_roles("primary");
    site.wait_log("is reached again: primary");
    let log = site.log();
    assert_eq!(log.matches("it refuses the login").count(), 1, "once: {log}");
}

#[test]
fn logs_in_by_ed25519_over_tls() {
    let authority = Authority::new();
    let issued = authority.issue("server", &["db.test"]);
    let (cert, key) =
        (format!("--ssl-cert={}", issued.both.display()), format!("--ssl-key={}", issued.both.display()));
    let server = MariaDb::with(1, &["--plugin-load-add=auth_ed25519", &cert, &key]);
    server.sql(
        "CREATE USER ringgate@'%' IDENTIFIED VIA ed25519 USING PASSWORD('monitor') REQUIRE SSL;
         GRANT SLAVE MONITOR ON *.* TO ringgate@'%'; GRANT SELECT ON mysql.global_priv TO ringgate@'%';
         CREATE USER app@'%' IDENTIFIED BY 'x'",
    );
    let plain = Site::start(&[&server], "", "monitor");
    plain.wait_log("is not reached: it refuses the login");
    let tls = format!("server_tls = {{ ca = \"{}\", server_name = \"db.test\" }}", authority.ca().display());
    let site = Site::start(&[&server], &tls, "monitor");
    site.wait_roles("primary");
    eventually("accounts are read", || {
        (site.metric("ringgate_sql_accounts{block=\"db\"}") >= 2.0).then_some(())
    });
    let wrong = tls.replace("db.test", "other.test");
    let site = Site::start(&[&server], &wrong, "monitor");
    site.wait_log("is not reached: TLS failed: invalid peer certificate");
}

#[test]
fn what_is_known_outlives_a_reload() {
    let (all, site) = three();
    site.wait_roles("primary replica replica");
    all.replicas[0].sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=0");
    site.wait_roles("primary unknown replica");
    let file = site.gate.folder().join("ringgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // A list of users, one server less: who is primary is not found out anew.
    let users = "users = [ { user = \"app\", password_file = \"secret\" } ]\naccount = ";
    let third = text.split(", { address").nth(2).and_then(|rest| rest.split(" ]").next()).unwrap();
    std::fs::write(site.gate.folder().join("secret"), "x").unwrap();
    let less = text.replace(&format!(", {{ address{third}"), "").replace("account = ", users);
    std::fs::write(&file, less).unwrap();
    site.gate.running.signal("HUP");
    eventually("the list counts", || {
        (site.metric("ringgate_sql_accounts{block=\"db\"}") == 1.0).then_some(())
    });
    site.wait_roles("primary unknown");
    // Back again: the accounts are those of the server.
    std::fs::write(&file, &text).unwrap();
    site.gate.running.signal("HUP");
    site.wait_roles("primary unknown replica");
    eventually("they are read", || (site.metric("ringgate_sql_accounts{block=\"db\"}") > 2.0).then_some(()));
    let log = site.log();
    assert_eq!(log.matches(") is the primary").count(), 1, "{log}");
    assert_eq!(log.matches("ALARM").count(), 1, "{log}");
}
