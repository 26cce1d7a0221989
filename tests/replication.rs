//! The MariaDB servers of the tests: replicas follow their primary and refuse writes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Replication;
use common::mariadb::PASSWORD;

#[test]
fn a_row_written_on_the_primary_arrives_on_both_replicas() {
    let mut all = Replication::start(2);
    let ids = |all: &Replication| -> Vec<String> {
        all.replicas.iter().map(|replica| replica.sql("SELECT @@server_id, @@read_only")).collect()
    };
    assert_eq!(ids(&all), ["2\t1", "3\t1"]);
    all.primary.sql("CREATE TABLE shop.t (a INT PRIMARY KEY); INSERT INTO shop.t VALUES (1)");
    all.wait();
    for replica in &all.replicas {
        assert_eq!(replica.sql("SELECT a FROM shop.t"), "1");
        let client = common::program("mariadb", "mariadb-client");
        let (host, port) = (replica.address.ip().to_string(), replica.address.port().to_string());
        let password = format!("-p{PASSWORD}");
        let refused = std::process::Command::new(client)
            .args(["--no-defaults", "-h", &host, "-P", &port, "-u", "app", &password, "-e"])
            .arg("INSERT INTO shop.t VALUES (2)")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&refused.stderr).contains("1290"), "{refused:?}");
    }
    // A replica that was away catches up, and so does everybody after the primary was.
    all.replicas[0].stop();
    all.primary.sql("INSERT INTO shop.t VALUES (2)");
    all.replicas[0].start_again();
    all.wait();
    assert_eq!(all.replicas[0].sql("SELECT count(*) FROM shop.t"), "2");
    all.primary.stop();
    all.primary.start_again();
    all.primary.sql("INSERT INTO shop.t VALUES (3)");
    all.wait();
    assert_eq!(all.replicas[1].sql("SELECT count(*) FROM shop.t"), "3");
}
