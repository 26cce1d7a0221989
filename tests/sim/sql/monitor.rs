//! Who tells the session who is primary and how far replicas are: what the control thread does, without its questions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringgate::clock::Moment;
use ringgate::cluster::{Account, Accounts, Gtid, Role, Stored};
use ringgate::mysql::auth::native;
use ringgate::mysql::facts::{Vendor, Version};
use ringgate::ring::sim::{Actor, ActorIo, Happening};
use ringgate::worker::shared::Shared as Process;

use super::backend::password_of;
use super::truth::{Login, Shared};

/// Looks at all servers again and again.
pub struct Monitor {
    truth: Shared,
    process: Arc<Process>,
    every: Duration,
    /// When users get other passwords.
    rotations: Vec<(Moment, usize)>,
    published: Vec<usize>,
    before: Vec<Role>,
}

impl Monitor {
    pub fn new(
        truth: Shared,
        process: Arc<Process>,
        every: Duration,
        rotations: Vec<(Moment, usize)>,
    ) -> Self {
        Self { truth, process, every, rotations, published: Vec::new(), before: Vec::new() }
    }

    fn accounts(&self) -> Accounts {
        Accounts::new((0..).zip(&self.published).map(|(user, password)| {
            let login = Login { user, password: *password };
            let stored = native::stored_of(&native::secret_of(password_of(login).as_bytes()));
            let host = "%".to_owned();
            let account =
                Account { host, stored: Stored::Native(stored), needs_tls: false, is_locked: false };
            (format!("c{user}").into_bytes(), account)
        }))
    }

    fn look(&mut self, io: &mut ActorIo<'_>) {
        for (_, user) in self.rotations.extract_if(.., |(at, _)| *at <= io.now()) {
            let mut truth = self.truth.borrow_mut();
            truth.passwords[user] += 1;
            truth.tally.rotations += 1;
        }
        let truth = Rc::clone(&self.truth);
        let truth = truth.borrow();
        let edition = self.process.edition();
        let cluster = &edition.clusters[0];
        if !cluster.accounts().are_known() || self.published != truth.passwords {
            self.published.clone_from(&truth.passwords);
            cluster.use_accounts(Arc::new(self.accounts()));
        }
        let mut order: Vec<usize> = (0..truth.places.len()).collect();
        // Whoever is less than before comes first.
        let is_primary = |at: usize| {
            let place = &truth.places[at];
            place.up && place.is_primary && place.writable
        };
        order.sort_by_key(|at| is_primary(*at));
        let members: Vec<_> = cluster.members().map(|(_, member)| member).collect();
        for at in order {
            let (place, member) = (&truth.places[at], members[at]);
            if !place.up {
                member.lost();
                continue;
            }
            let role = if is_primary(at) { Role::Primary } else { Role::Replica };
            member.has.set(Gtid { source: 0, number: truth.position(at, io.now()) });
            let version = Version { vendor: Vendor::MariaDb, number: 101_119 };
            member.found(role, version, true, Some(truth.lag(at, io.now())));
        }
        let roles: Vec<Role> = members.iter().map(|member| member.role()).collect();
        if roles != self.before {
            io.trace(|| format!("the monitor finds {roles:?}"));
            self.before = roles;
        }
    }
}

impl Actor for Monitor {
    fn on(&mut self, io: &mut ActorIo<'_>, what: Happening<'_>) {
        match what {
            Happening::Start => io.finish(),
            Happening::Timer(_) => {}
            _ => return,
        }
        if self.truth.borrow().over {
            return;
        }
        self.look(io);
        io.timer(self.every, 0);
    }
}
