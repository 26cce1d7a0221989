//! Executions in bulk, and texts that are too long to be read.

use crate::common::Engine;
use crate::door::Door;

#[test]
fn what_only_some_clients_say_is_understood() {
    let all = Door::servers();
    all.primary.sql(
        "CREATE TABLE shop.many (a INT PRIMARY KEY, b VARCHAR(40));
         CREATE TABLE shop.docs (doc JSON); INSERT INTO shop.docs VALUES ('{}')",
    );
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    let direct = door.all.primary.address;
    let told = door.python("forms.py", &[&direct.ip().to_string(), &direct.port().to_string()]);
    assert_eq!(told, "done", "{}", door.gate.running.text());
    door.same_everywhere("shop.many");
}
