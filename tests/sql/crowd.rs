//! Many clients at a time.

use crate::common::Engine;
use crate::door::Door;

#[test]
fn nobody_in_a_crowd_gets_what_is_anothers() {
    let all = Door::servers();
    all.primary.sql("CREATE TABLE shop.mine (a INT PRIMARY KEY, b VARCHAR(20))");
    for server in all.replicas.iter().chain([&all.primary]) {
        server.sql("SET GLOBAL max_connections=400");
    }
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    assert_eq!(door.python("crowd.py", &["200", "20"]), "done", "{}", door.gate.running.text());
    door.same_everywhere("shop.mine");
}

#[test]
fn who_reads_nothing_is_not_answered_for_ever() {
    let lines = "[limits]\nmemory_max = \"8MiB\"\n[workers]\ncount = 1";
    let door = Door::start(Engine::IoUring, lines);
    assert_eq!(door.python("flood.py", &[]), "done", "{}", door.gate.running.text());
}
