//! KILL.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::mariadb::PASSWORD;
use crate::common::{Engine, eventually, program};
use crate::door::{Door, said};

#[test]
fn kill_hits_whom_it_means() {
    let all = Door::servers();
    all.primary.sql(
        "CREATE TABLE shop.t (a INT PRIMARY KEY); INSERT INTO shop.t VALUES (1);
         CREATE USER stranger@'%' IDENTIFIED BY 'secret'; GRANT SELECT ON shop.* TO stranger@'%'",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    assert_eq!(door.python("kill.py", &[]), "done", "{}", door.gate.running.text());
}

#[test]
fn an_interrupt_at_the_command_line_ends_the_statement() {
    let door = Door::start(Engine::IoUring, "");
    let client = Command::new(program("mariadb", "mariadb-client"))
        .args(["--no-defaults", "--batch", "--user=app", "shop"])
        .args([format!("--host={}", door.at.ip()), format!("--port={}", door.at.port())])
        .args([format!("--password={PASSWORD}"), "-eSELECT SLEEP(30) FROM seq_1_to_3".into()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let runs = || {
        let ask = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
        door.all.replicas.iter().map(|one| one.sql(ask).parse::<u32>().unwrap()).sum::<u32>()
    };
    eventually("it runs", || (runs() == 1).then_some(()));
    let sent = Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap();
    assert!(sent.success());
    eventually("it does not run any more", || (runs() == 0).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    let told = said(&client.wait_with_output().unwrap());
    assert!(told.as_ref().is_err_and(|told| told.contains("killed") || told.contains("1317")), "{told:?}");
}
