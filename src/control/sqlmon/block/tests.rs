//! What workers get to see, from answers without servers.

use super::super::status;
use super::*;
use crate::config::model::Config;
use crate::mysql::facts::Version;

struct Rig {
    block: Block,
    cluster: Arc<Cluster>,
    servers: Vec<Rc<Watched>>,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let config = Config::parse(
        &format!(
            "[sql.db]\nlisten = [\"127.0.0.1:3306\"]\nservers = [\"10.0.0.1:3306\", \"10.0.0.2:3306\"]\n\
             account = {{ user = \"ringgate\", password_file = \"{}\" }}\n",
            secret.display()
        ),
        "test.toml",
    )
    .unwrap();
    let cluster = Cluster::all(None, &config).remove(0);
    let servers: Vec<Rc<Watched>> = cluster
        .members()
        .map(|(id, _)| {
            let server = &config.servers[id.index()];
            let known = (server.name.clone(), server.address.clone());
            super::super::watched(&known, id, Rc::new(super::super::plan(&config, &config.sql[0], id)))
        })
        .collect();
    let block = Block::new("db", cluster.clone());
    block.servers.replace(servers.clone());
    Rig { block, cluster, servers }
}

impl Rig {
    /// A server answers: whether it takes writes, whom it follows, what it has.
    fn answer(&self, at: usize, ms: u64, is_writable: bool, source: Option<u16>, has: &str) {
        let source = source.map(|host| status::Source {
            host: format!("10.0.0.{}", host + 1),
            port: 3306,
            io: Thread::Yes,
            sql: Thread::Yes,
            ..status::Source::default()
        });
        let applied: Vec<Gtid> = Gtid::parse_list(has.as_bytes(), false).collect();
        let when = Moment(1) + Duration::from_millis(ms);
        let seen = Seen {
            asked: when,
            answered: when,
            version: Version::parse(b"10.11.6-MariaDB").unwrap(),
            server_id: at as u64 + 1,
            is_writable,
            has_init: false,
            has_gtids: true,
            executed: applied.clone(),
            applied,
            sources: source.into_iter().collect(),
        };
        self.block.take(&self.servers[at], Ok(seen));
    }

    fn lose(&self, at: usize) {
        self.block.take(&self.servers[at], Err("connection refused".into()));
    }

    fn member(&self, at: usize) -> &Member {
        self.cluster.members().nth(at).unwrap().1
    }

    fn roles(&self) -> [Role; 2] {
        [0, 1].map(|at| self.member(at).role())
    }
}

#[test]
fn workers_see_roles_positions_and_lag() {
    let rig = rig();
    rig.answer(0, 0, true, None, "0-1-10,7-1-3");
    assert_eq!(rig.roles(), [Role::Unknown; 2], "the other one was not asked yet");
    rig.answer(1, 1, false, Some(0), "0-1-10,7-1-3");
    assert_eq!(rig.roles(), [Role::Primary, Role::Replica]);
    assert_eq!((rig.cluster.epoch(), rig.cluster.primary().is_some()), (0, true));
    assert!(rig.member(1).may_read(Duration::from_millis(1)));
    assert_eq!(rig.member(1).lag(), Some(Duration::from_millis(1)));
    let gtid = |source, number| Gtid { source, number };
    assert!(rig.member(1).has.has(gtid(7, 3)) && !rig.member(1).has.has(gtid(0, 11)));
    // The primary goes on; the replica is set up anew and has less.
    rig.answer(0, 500, true, None, "0-1-20");
    rig.answer(1, 900, false, Some(0), "0-1-9");
    assert!(!rig.member(1).has.has(gtid(0, 10)) && !rig.member(1).has.has(gtid(7, 1)));
    assert_eq!(rig.member(1).lag(), None);
    assert!(!rig.member(1).may_read(Duration::MAX));
}

#[test]
fn a_change_of_primary_is_an_epoch() {
    let rig = rig();
    rig.answer(0, 0, true, None, "0-1-10");
    rig.answer(1, 1, false, Some(0), "0-1-10");
    rig.lose(0);
    assert_eq!(rig.roles(), [Role::Unknown, Role::Replica]);
    assert!(!rig.member(0).is_reached() && rig.cluster.primary().is_none() && rig.cluster.epoch() == 0);
    assert!(rig.member(1).may_read(Duration::from_secs(1)), "who has all that was known serves on");
    rig.answer(0, 500, true, None, "0-1-10");
    assert_eq!((rig.roles()[0], rig.cluster.epoch()), (Role::Primary, 0), "the same one came back");
    rig.answer(0, 1000, false, None, "0-1-10");
    assert!(rig.cluster.primary().is_none());
    rig.answer(1, 1100, true, None, "0-1-10");
    assert_eq!((rig.roles(), rig.cluster.epoch()), ([Role::Unknown, Role::Primary], 1));
    // The old one returns to writing.
    rig.answer(0, 1500, true, None, "0-1-11");
    assert_eq!((rig.roles(), rig.cluster.epoch()), ([Role::Unknown, Role::Primary], 1));
    assert!(rig.block.is_double.get());
    rig.answer(0, 2000, false, Some(1), "0-1-11");
    assert!(!rig.block.is_double.get() && rig.block.changes.get() == 1);
}

#[test]
fn accounts_are_read_when_it_is_time_or_when_somebody_wishes() {
    let rig = rig();
    rig.answer(0, 0, true, None, "");
    rig.answer(1, 0, false, Some(0), "");
    let wants = |at: usize| rig.block.wants_accounts(&rig.servers[at]);
    assert!(!wants(1) && wants(0) && !wants(0));
    rig.cluster.wish_accounts();
    assert!(!wants(0), "they were read just now");
    rig.block.hurry_accounts();
    assert!(wants(0) && !rig.cluster.take_wish());
    let table = |user| Table::of(&["User", "Host", "plugin"], &[&[Some(user), Some("%"), Some("")]]);
    rig.block.use_accounts(&table("a"));
    let first = rig.cluster.accounts();
    rig.block.use_accounts(&table("a"));
    assert!(Arc::ptr_eq(&first, &rig.cluster.accounts()), "nothing changed");
    rig.block.use_accounts(&table("b"));
    assert!(rig.cluster.accounts().find(b"b", None).is_some());
}
