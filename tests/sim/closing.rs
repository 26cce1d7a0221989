//! A listener that is closed by a reload while a connection from it waits for a place.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringgate::config::model::Config;
use ringgate::ids::WorkerId;
use ringgate::net::Address;
use ringgate::ring::sim::{Actor, ActorIo, ConnId, Faults, Happening, Sim, World};
use ringgate::worker::Worker;
use ringgate::worker::edition::{Doors, Edition};
use ringgate::worker::shared::{Orders, Shared};

/// Asks after a while, and notes the answer.
struct Asker {
    to: SocketAddr,
    after: Duration,
    heard: Rc<RefCell<Vec<u8>>>,
    conn: Option<ConnId>,
}

impl Actor for Asker {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => {
                self.conn = Some(io.connect(&Address::Tcp(self.to), None));
                io.timer(self.after, 0);
            }
            Happening::Timer(_) => {
                if let Some(conn) = self.conn {
                    io.send(conn, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                }
            }
            Happening::Data(_, bytes) => self.heard.borrow_mut().extend_from_slice(bytes),
            Happening::Eof(conn) => {
                io.close(conn);
                io.finish();
            }
            _ => {}
        }
    }
}

fn config(listen: &str) -> Arc<Config> {
    let text = format!(
        "[http.front]\nlisten = [{listen}]\nroutes = [{{ answer = {{ status = 418 }} }}]\n[limits]\nconnections_max = 1\n"
    );
    Arc::new(Config::parse(&text, "sim.toml").unwrap())
}

fn turn_until(world: &World, worker: &mut Worker<Sim>, at: Duration) {
    let at = world.now() + at;
    world.look_at(at);
    while world.now() < at {
        assert!(worker.turn().unwrap());
        world.take_look();
    }
}

#[test]
fn a_connection_of_a_closed_listener_waits_for_its_place_with_its_edition() {
    let world = World::new(1, Faults::none());
    let (first, second) = ("\"10.0.0.1:80\"", "\"10.0.0.1:81\"");
    let edition = Edition::first(config(&format!("{first}, {second}")), 1, Doors::default());
    let shared = Arc::new(Shared::new(edition, 1));
    let mut worker = Worker::new(WorkerId(0), world.host(100), Arc::clone(&shared), 1);
    worker.listen().unwrap();
    let heard = [(80, 4), (81, 0)].map(|(port, after)| {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let to = SocketAddr::from(([10, 0, 0, 1], port));
        let after = Duration::from_secs(after);
        let asker = Asker { to, after, heard: Rc::clone(&heard), conn: None };
        world.add(Box::new(asker), Duration::from_millis(u64::from(port - 79)));
        heard
    });
    turn_until(&world, &mut worker, Duration::from_millis(500));
    assert_eq!(worker.sessions(), 1, "the other one waits");
    let next = shared.edition().next(config(first), Doors::default());
    shared.publish(next);
    turn_until(&world, &mut worker, Duration::from_secs(3));
    assert_eq!((worker.sessions(), worker.editions(), worker.sockets()), (1, 2, 2), "it still waits");
    turn_until(&world, &mut worker, Duration::from_secs(4));
    for heard in heard {
        assert!(
            heard.borrow().starts_with(b"HTTP/1.1 418"),
            "{:?}",
            String::from_utf8_lossy(&heard.borrow())
        );
    }
    assert_eq!((worker.sessions(), worker.editions()), (0, 1), "nobody needs the old edition any more");
    shared.order(Orders::Drain);
    while worker.turn().unwrap() {}
    assert!(worker.check_pages());
}
