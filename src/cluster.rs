//! What is known of the servers of an `[sql.NAME]` block: who is primary, how far each replica is, who may log in.
//!
//! What goes in: what the monitor on the control thread found out by asking, and the positions of writes that were
//! acknowledged to clients. What comes out: answers for workers, by atomics. It owns these; they outlive the configuration
//! that they were made for when the next one has the same block and server. Always true: a position that a replica is said
//! to have, it has; nobody is primary unless the monitor has seen it writable.

mod accounts;
mod lobby;
mod position;
mod seats;
mod tagged;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::model::{Config, Sql};
use crate::ids::ServerId;
use crate::limits::{SQL_PASSWORDS_MAX, SQL_WRITES_MAX};
use crate::mysql::auth::Password;
use crate::mysql::auth::rsa::ServerKey;
use crate::mysql::facts::{Vendor, Version};

pub use accounts::{Account, Accounts, Stored};
pub use lobby::Lobby;
pub use position::{Gtid, Positions};
pub use seats::{FIRST_ID, Seat, Seats, Thread};

/// What a server does for its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Nobody asked it yet, it does not answer, or it fits nowhere.
    Unknown = 0,
    /// It takes writes.
    Primary = 1,
    /// It follows the primary.
    Replica = 2,
}

impl Role {
    /// The word for people and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// A server of a block.
#[derive(Debug)]
pub struct Member {
    role: AtomicU8,
    /// The monitor reached it at its last try.
    reached: AtomicBool,
    /// It replicates, as far as a replica does.
    replicates: AtomicBool,
    /// Microseconds behind the primary; `u64::MAX` when it is not known.
    lag_us: AtomicU64,
    /// Vendor in the upper half, number in the lower; 0 when it is not known.
    version: AtomicU64,
    /// It runs statements of its own for each new connection (`init_connect`).
    has_init: AtomicBool,
    /// What it writes gets a GTID.
    has_gtids: AtomicBool,
    /// What it has executed.
    pub has: Positions,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            role: AtomicU8::new(0),
            reached: AtomicBool::new(false),
            replicates: AtomicBool::new(false),
            lag_us: AtomicU64::new(u64::MAX),
            version: AtomicU64::new(0),
            has_init: AtomicBool::new(false),
            has_gtids: AtomicBool::new(true),
            has: Positions::default(),
        }
    }
}

impl Member {
    /// What it does.
    pub fn role(&self) -> Role {
        match self.role.load(SeqCst) {
            1 => Role::Primary,
            2 => Role::Replica,
            _ => Role::Unknown,
        }
    }

    /// The monitor reached it at its last try.
    pub fn is_reached(&self) -> bool {
        self.reached.load(Relaxed)
    }

    /// It is a replica, replicates, and is no further behind than this; what is not known is too far.
    pub fn may_read(&self, lag_max: Duration) -> bool {
        let fresh = self.lag().is_some_and(|lag| lag <= lag_max);
        self.role() == Role::Replica && self.is_reached() && self.replicates.load(Relaxed) && fresh
    }

    /// How far it is behind the primary, if that is known.
    pub fn lag(&self) -> Option<Duration> {
        let lag = self.lag_us.load(Relaxed);
        (lag != u64::MAX).then(|| Duration::from_micros(lag))
    }

    /// Its version, once somebody has seen it.
    pub fn version(&self) -> Option<Version> {
        let word = self.version.load(Relaxed);
        let vendor = if word >> 32 == 1 { Vendor::MariaDb } else { Vendor::MySql };
        (word != 0).then_some(Version { vendor, number: word as u32 })
    }

    /// It runs statements of its own for each new connection.
    pub fn has_init(&self) -> bool {
        self.has_init.load(Relaxed)
    }

    /// Whether it does.
    pub fn found_init(&self, has_init: bool) {
        self.has_init.store(has_init, Relaxed);
    }

    /// What it writes gets a GTID, by which others can be asked for it.
    pub fn has_gtids(&self) -> bool {
        self.has_gtids.load(Relaxed)
    }

    /// Whether it does.
    pub fn found_gtids(&self, has_gtids: bool) {
        self.has_gtids.store(has_gtids, Relaxed);
    }

    /// The monitor asked it: what it is, whether it replicates, how far it is behind.
    pub fn found(&self, role: Role, version: Version, replicates: bool, lag: Option<Duration>) {
        let vendor = u64::from(version.vendor == Vendor::MariaDb);
        self.version.store(vendor << 32 | u64::from(version.number), Relaxed);
        let lag = lag.map_or(u64::MAX, |lag| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX - 1));
        self.lag_us.store(lag, Relaxed);
        self.replicates.store(replicates, Relaxed);
        self.reached.store(true, Relaxed);
        self.role.store(role as u8, SeqCst);
    }

    /// The monitor did not reach it. A replica stays one; nobody is primary who is not there.
    pub fn lost(&self) {
        let _ = self.role.compare_exchange(Role::Primary as u8, Role::Unknown as u8, SeqCst, SeqCst);
        self.reached.store(false, Relaxed);
        self.lag_us.store(u64::MAX, Relaxed);
    }
}

/// The servers of a block, together. Shared by all workers and the monitor.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of the block's pool.
    members: Vec<(ServerId, Arc<Member>)>,
    /// What outlives a configuration.
    shared: Arc<Shared>,
}

/// A number per place; a later one takes the place of an earlier one.
#[derive(Debug)]
struct Writes(Box<[AtomicU64]>);

impl Default for Writes {
    fn default() -> Self {
        Self((0..SQL_WRITES_MAX).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Writes {
    fn place(&self, digest: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(digest).unwrap_or(0) % self.0.len())
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Counts the changes of the primary.
    epoch: AtomicU64,
    /// Connections that were given an id.
    connections: AtomicU32,
    /// Where they are connected to.
    seats: Arc<Seats>,
    /// What was acknowledged to clients.
    acknowledged: Positions,
    accounts: Mutex<Arc<Accounts>>,
    /// Passwords that clients showed, by what is stored of them.
    known: Mutex<HashMap<Vec<u8>, Password>>,
    /// Shapes of statements that turned out to write, by a part of their number.
    writes: Writes,
    /// With which clients without TLS seal a password.
    key: OnceLock<Option<ServerKey>>,
    /// The key is being made, or was.
    makes_key: AtomicBool,
    /// Somebody misses an account.
    wished: AtomicBool,
    /// For the primary, and for replicas.
    lobbies: [Lobby; 2],
}

impl Cluster {
    /// Those of a configuration; what the one before has too goes on.
    pub fn all(before: Option<(&Config, &[Arc<Self>])>, config: &Config) -> Vec<Arc<Self>> {
        let key = |config: &Config, server: ServerId| {
            let server = &config.servers[server.index()];
            (server.name.clone(), server.address.clone())
        };
        let build = |sql: &Sql| {
            let old = before.and_then(|(config, clusters)| {
                let at = config.sql.iter().position(|one| one.name == sql.name)?;
                Some((config, clusters.get(at)?))
            });
            let kept: HashMap<_, _> = old.map_or_else(HashMap::new, |(config, cluster)| {
                let members = cluster.members.iter();
                members.map(|(server, member)| (key(config, *server), member.clone())).collect()
            });
            let members = config.pools[sql.pool.index()].servers.iter();
            let members =
                members.map(|server| (*server, kept.get(&key(config, *server)).cloned().unwrap_or_default()));
            Arc::new(Self {
                members: members.collect(),
                shared: old.map_or_else(Arc::default, |(_, cluster)| cluster.shared.clone()),
            })
        };
        config.sql.iter().map(build).collect()
    }

    /// The servers, in the order of the block.
    pub fn members(&self) -> impl Iterator<Item = (ServerId, &Member)> {
        self.members.iter().map(|(server, member)| (*server, &**member))
    }

    /// A server of the block.
    pub fn member(&self, server: ServerId) -> Option<&Member> {
        self.members.iter().find(|(id, _)| *id == server).map(|(_, member)| &**member)
    }

    /// Who takes writes. Two that could: the one that was known before, see the monitor.
    pub fn primary(&self) -> Option<ServerId> {
        let mut primaries = self.members().filter(|(_, member)| member.role() == Role::Primary);
        primaries.next().map(|(server, _)| server)
    }

    /// Counts the changes of the primary.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(SeqCst)
    }

    /// There is another primary now.
    pub fn next_epoch(&self) {
        self.shared.epoch.fetch_add(1, SeqCst);
    }

    /// An id for a client's connection, unlike those of servers, and of others of this process until they wrap.
    pub fn connection_id(&self) -> u32 {
        self.shared.connections.fetch_add(1, Relaxed).wrapping_add(1) | FIRST_ID
    }

    /// The sessions by their ids.
    pub fn seats(&self) -> &Arc<Seats> {
        &self.shared.seats
    }

    /// A server's connection, by the server's own id of it.
    pub fn thread(&self, server: ServerId, id: u32) -> Option<Thread> {
        let (_, member) = self.members.iter().find(|(own, _)| *own == server)?;
        Some(Thread { member: member.clone(), id })
    }

    /// Which server of this block has that connection.
    pub fn server_of(&self, thread: &Thread) -> Option<ServerId> {
        let found = self.members.iter().find(|(_, member)| Arc::ptr_eq(member, &thread.member));
        found.map(|(server, _)| *server)
    }

    /// Sessions that wait for a place at the primary, or (1) at a replica.
    pub fn lobby(&self, at: usize) -> &Lobby {
        &self.shared.lobbies[at.min(1)]
    }

    /// What was acknowledged to any client.
    pub fn acknowledged(&self) -> &Positions {
        &self.shared.acknowledged
    }

    /// Who may log in, as it was read last.
    pub fn accounts(&self) -> Arc<Accounts> {
        self.shared.accounts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody who is not among the accounts wants to log in: they may be read again before it is time. Whoever waits for
    /// them asks [`Self::accounts`] again, for [`SQL_ACCOUNTS_WISH_TIME`](crate::limits::SQL_ACCOUNTS_WISH_TIME) and a moment
    /// at most: when nothing changed they stay the same.
    pub fn wish_accounts(&self) {
        self.shared.wished.store(true, Relaxed);
    }

    /// Whether somebody wished so since this was asked last.
    pub fn take_wish(&self) -> bool {
        self.shared.wished.swap(false, Relaxed)
    }

    /// Who may log in was read again.
    pub fn use_accounts(&self, accounts: Arc<Accounts>) {
        *self.shared.accounts.lock().unwrap_or_else(PoisonError::into_inner) = accounts;
    }

    /// A statement of this shape was held back by a replica: it writes, whatever its text seems to say.
    pub fn writes(&self, digest: u64) {
        if let Some(place) = self.shared.writes.place(digest) {
            place.store(digest, Relaxed);
        }
    }

    /// Whether a statement of this shape was held back before.
    pub fn is_write(&self, digest: u64) -> bool {
        self.shared.writes.place(digest).is_some_and(|place| place.load(Relaxed) == digest)
    }

    /// The password of which this is stored, if a client has shown it since the start.
    pub fn known(&self, stored: &Stored) -> Option<Password> {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(stored.name()?).cloned()
    }

    /// A client showed the password of which this is stored.
    pub fn learn(&self, stored: &Stored, password: &Password) {
        let Some(name) = stored.name() else { return };
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SQL_PASSWORDS_MAX {
            known.clear();
        }
        known.insert(name.to_vec(), password.clone());
    }

    /// Makes the key, on a thread of its own because it takes a while; not again when there is one.
    pub fn make_key(&self) {
        if self.shared.key.get().is_some() {
            return;
        }
        self.shared.makes_key.store(true, Relaxed);
        let shared = self.shared.clone();
        let make = move || drop(shared.key.set(ServerKey::generate().ok()));
        if std::thread::Builder::new().name("sql key".into()).spawn(make).is_err() {
            // Clients without TLS are told.
            let _ = self.shared.key.set(None);
        }
    }

    /// Whether [`Self::make_key`] was called and has not come to an end, with a key or without.
    pub fn is_key_awaited(&self) -> bool {
        self.shared.makes_key.load(Relaxed) && self.shared.key.get().is_none()
    }

    /// With which clients without TLS seal their passwords.
    pub fn key(&self) -> Option<&ServerKey> {
        self.shared.key.get()?.as_ref()
    }
}
