//! What the control thread knows, and the one way to change what is at work.
//!
//! What goes in: the file's configuration, what was set while running. What comes out: editions for the workers. It owns
//! both. Always true: the configuration at work is the file's with the live settings over it; an edition is published
//! only after everything it needs was opened; a reload that fails changes nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, MutexGuard, watch};

use super::admin::Copies;
use super::checks::{CheckCounts, CheckView, Checks};
use super::live::{self, Live, Name, Refusal};
use super::logs::{Logs, Sink};
use super::names::Names;
use super::sqlmon::{BlockView, Monitor};
use super::stats::Stats;
use super::{Origin, pass, systemd};
use crate::balance::Admin;
use crate::clock::{self, Moment};
use crate::config::model::{Config, Server};
use crate::config::{self, Loaded};
use crate::ids::{PoolId, ServerId, WorkerId};
use crate::limits::TAKE_TIME;
use crate::sandbox;
use crate::tls::ServerTls;
use crate::tls::certs::key_files;
use crate::worker::edition::{Doors, Edition, Inherited};
use crate::worker::shared::{Orders, Shared};
use crate::worker::spawn::{EngineInUse, fit_descriptors};

/// What a change led to.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The edition that is at work now.
    pub edition: u64,
    /// What changed, one line each.
    pub changes: Vec<String>,
    /// What cannot be changed while running, and what is doubtful in the file.
    pub notes: Vec<String>,
}

/// Why a new configuration was not applied. Nothing changed then.
#[derive(Clone, Debug)]
pub enum ReloadError {
    /// Mistakes in the file, each with its line and advice.
    Mistakes(Vec<String>),
    /// Something else: what and why.
    Refused(String),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(list) => f.write_str(&list.join("\n\n")),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// What the watched files were; `None` for one that cannot be seen.
type Stamps = HashMap<PathBuf, Option<Stamp>>;

/// Tells two states of a file apart, also when one was moved over the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    changed: (i64, i64),
}

/// What the control thread knows.
pub struct State {
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// What moves the bytes.
    pub engine: EngineInUse,
    /// When the process began to serve.
    pub since: Moment,
    /// Where the configuration came from.
    pub origin: Origin,
    file: RefCell<Arc<Config>>,
    live: RefCell<Live>,
    loaded_at: RefCell<SystemTime>,
    /// What the watched files were when they were read.
    stamps: RefCell<Stamps>,
    /// Which servers are asked whether they work.
    checks: RefCell<Checks>,
    /// Which servers of `[sql]` blocks are asked what they are.
    monitor: RefCell<Monitor>,
    /// Which names are resolved.
    names: Names,
    /// The admin sockets, for a new version of the program.
    pub admin_doors: Copies,
    /// Rates and latencies.
    pub stats: Stats,
    /// Reloads that were refused.
    pub refused: Cell<u64>,
    /// Who writes the log.
    logs: Logs,
    /// Turns true when another process accepts from the listening sockets.
    pub left: watch::Sender<bool>,
    /// Held while a change is applied.
    turn: Mutex<()>,
    /// A new version of the program is being started: what it was given must stay true.
    upgrading: Cell<bool>,
}

impl State {
    /// For workers that run by the file's configuration with the settings over it.
    pub fn new(
        (file, live): (Arc<Config>, Live),
        origin: Origin,
        shared: Arc<Shared>,
        engine: EngineInUse,
        admin_doors: Copies,
        logs: Logs,
    ) -> Self {
        let stamps = RefCell::new(stamps(&file));
        let names = Names::new(&file);
        let checks = RefCell::new(Checks::new(shared.clone()));
        let monitor = RefCell::new(Monitor::new(shared.clone()));
        Self {
            shared,
            engine,
            since: clock::now(),
            origin,
            file: RefCell::new(file),
            live: RefCell::new(live),
            loaded_at: RefCell::new(clock::wall()),
            stamps,
            checks,
            monitor,
            names,
            admin_doors,
            stats: Stats::default(),
            refused: Cell::new(0),
            logs,
            left: watch::Sender::new(false),
            turn: Mutex::new(()),
            upgrading: Cell::new(false),
        }
    }

    /// The configuration as the file says.
    pub fn file(&self) -> Arc<Config> {
        self.file.borrow().clone()
    }

    /// When the file was read.
    pub fn loaded_at(&self) -> SystemTime {
        *self.loaded_at.borrow()
    }

    /// Loads the file again. If it is wrong nothing changes.
    pub async fn reload(self: &Rc<Self>) -> Result<Applied, ReloadError> {
        systemd::reloading();
        let result = self.load().await;
        if result.is_err() {
            self.refused.set(self.refused.get() + 1);
        }
        let edition = self.shared.edition().number;
        systemd::ready(&match &result {
            Ok(_) => format!("serving edition {edition}"),
            Err(_) => format!("serving as before (edition {edition}): the changed configuration was refused"),
        });
        result
    }

    async fn load(self: &Rc<Self>) -> Result<Applied, ReloadError> {
        let Some(file) = self.origin.file.clone() else {
            return Err(ReloadError::Refused(
                "there is no file to reload: the process was started without one".into(),
            ));
        };
        let before = stamps(&self.file());
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let Loaded { mut config, warnings } = loaded
            .map_err(|_| ReloadError::Refused("reading the file failed".into()))?
            .map_err(|mistakes| {
                let mut list: Vec<String> = mistakes.0.iter().map(|one| one.render(false)).collect();
                let forbidden = std::io::Error::from_raw_os_error(nix::libc::EACCES).to_string();
                let advice = sandbox::advice().filter(|_| list.iter().any(|text| text.contains(&forbidden)));
                list.extend(advice.map(str::to_owned));
                ReloadError::Mistakes(list)
            })?;
        self.origin.adjust(&mut config);
        let mut applied = self.replace(config).await?;
        // A file that changed while it was read is read again.
        for (path, stamp) in self.stamps.borrow_mut().iter_mut() {
            if let Some(before) = before.get(path) {
                *stamp = *before;
            }
        }
        applied.notes.extend(warnings.iter().map(|warning| warning.render(false)));
        Ok(applied)
    }

    /// Has changes refused from now on, once the one that is being applied is done. Errors: it is under way already.
    pub async fn begin_upgrade(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        if self.upgrading.replace(true) {
            return Err("another upgrade is under way".into());
        }
        Ok(())
    }

    /// What was set while running, for a new version.
    pub fn settings(&self) -> Vec<u8> {
        pass::write(&self.live.borrow(), &self.expanded(&self.file()))
    }

    /// Has changes possible again.
    pub fn end_upgrade(&self) {
        self.upgrading.set(false);
    }

    /// Waits for its turn to change what is at work. Errors: nobody may now. Servers that names stand for change without
    /// it: a new version finds them out itself.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, ReloadError> {
        let turn = self.turn.lock().await;
        if self.upgrading.get() {
            let why =
                "a new version of the program is being started: nothing is changed meanwhile, try again";
            return Err(ReloadError::Refused(why.into()));
        }
        Ok(turn)
    }

    /// Uses another configuration instead of the file's.
    pub async fn replace(self: &Rc<Self>, mut config: Config) -> Result<Applied, ReloadError> {
        let _turn = self.turn().await?;
        let old = self.file();
        let mut notes = fixed(&old, &config);
        keep_what_is_fixed(&old, &mut config);
        keep_tickets(&old, &mut config);
        let sink = self.open_log(&old, &config)?;
        let mut live = self.live.borrow().clone();
        let expanded = config::expand(&config, &self.names.answers_for(&config));
        live.after_reload(&self.expanded(&old), &expanded);
        let config = Arc::new(config);
        let mut at_work = live.over(&expanded);
        let mut told = Vec::new();
        at_work = fit_descriptors(at_work, self.shared.workers(), &mut told);
        if old.limits.connections_max != config.limits.connections_max {
            notes.append(&mut told);
        }
        let (edition, late) = self.publish(at_work, &live).await?;
        notes.extend(late);
        self.names.follow(&config, &Rc::downgrade(self));
        if let Some(sink) = sink {
            self.logs.use_sink(sink);
        }
        let changes = changes(&old, &config);
        self.stamps.replace(stamps(&config));
        self.file.replace(config);
        self.live.replace(live);
        self.loaded_at.replace(clock::wall());
        Ok(Applied { edition, changes, notes })
    }

    /// Opens the log if another one is to be used.
    fn open_log(&self, old: &Config, new: &Config) -> Result<Option<Option<Sink>>, ReloadError> {
        if old.log == new.log {
            return Ok(None);
        }
        Sink::open(&new.log).map(Some).map_err(|why| {
            let advice = sandbox::advice().filter(|_| new.log.access.is_some());
            ReloadError::Refused(advice.map_or_else(|| why.clone(), |advice| format!("{why}\n{advice}")))
        })
    }

    /// Changes what was set while running, and has the workers use it.
    pub async fn change(
        &self,
        step: impl FnOnce(&mut Live, &Config, &Config) -> Result<(), Refusal>,
    ) -> Result<u64, Refusal> {
        let refuse = |error: ReloadError| Refusal(error.to_string(), "nothing has changed");
        let _turn = self.turn().await.map_err(refuse)?;
        let file = self.expanded(&self.file());
        let mut live = self.live.borrow().clone();
        step(&mut live, &file, &self.shared.edition().config)?;
        // What fits was told when the file was loaded.
        let at_work = fit_descriptors(live.over(&file), self.shared.workers(), &mut Vec::new());
        let (number, late) = self.publish(at_work, &live).await.map_err(refuse)?;
        if let Some(late) = late {
            eprintln!("ringgate: {late}");
        }
        self.live.replace(live);
        Ok(number)
    }

    /// Has all workers use a configuration, and waits until they do. The answer is the edition, and what is to be said if
    /// some of them do not in time.
    async fn publish(&self, config: Config, live: &Live) -> Result<(u64, Option<String>), ReloadError> {
        if self.shared.is_draining() {
            return Err(ReloadError::Refused("this process is stopping: it takes nothing new over".into()));
        }
        let before = self.shared.edition();
        let config = Arc::new(config);
        // An address that is taken is tried for a while: the admin interface answers meanwhile.
        let (new, old, workers) = (config.clone(), before.config.clone(), self.shared.workers());
        let open = move || Doors::open(&new, Some(&old), workers, &Inherited::new());
        let opened = tokio::task::spawn_blocking(open).await;
        let doors = opened
            .unwrap_or_else(|_| Err(std::io::Error::other("opening what listens newly failed")))
            .map_err(|error| {
                let hidden = error.kind() == std::io::ErrorKind::PermissionDenied;
                let advice = sandbox::advice().filter(|_| hidden).map(|advice| format!("; {advice}"));
                ReloadError::Refused(format!("{error}{}", advice.unwrap_or_default()))
            })?;
        let next = before.next(config, doors);
        live.settle(&next);
        let edition = self.shared.publish(next);
        self.checks.borrow_mut().follow(&edition);
        self.monitor.borrow_mut().follow(&edition);
        let number = edition.number;
        let until = clock::now() + TAKE_TIME;
        while !self.shared.is_taken(number) && clock::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        edition.balancer.bar_removed();
        let pools = edition.config.pools.len();
        (0u32..).take(pools).for_each(|pool| self.shared.wake_vacant(PoolId(pool)));
        Ok((number, late(number, &self.shared.untaken(number))))
    }

    /// Sets whether a server may get anything.
    pub async fn set_admin(&self, name: &Name, admin: Admin) -> Result<(), Refusal> {
        let _turn = self.turn().await.map_err(|error| Refusal(error.to_string(), "nothing has changed"))?;
        let edition = self.shared.edition();
        let mut live = self.live.borrow_mut();
        live.set_state(&edition.config, name, admin);
        live.settle(&edition);
        for id in live::find_ids(&edition.config, &name.0, &name.1) {
            self.shared.wake_vacant(edition.config.servers[id.index()].pool);
        }
        Ok(())
    }

    /// Begins to check servers and to resolve names. To be called once, on the control thread.
    pub fn begin(self: &Rc<Self>) {
        let edition = self.shared.edition();
        self.checks.borrow_mut().follow(&edition);
        self.monitor.borrow_mut().follow(&edition);
        self.names.follow(&self.file(), &Rc::downgrade(self));
    }

    /// The names that are resolved.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// A file's configuration with a server for each address that its names stand for.
    pub fn expanded(&self, file: &Config) -> Config {
        config::expand(file, &self.names.answers())
    }

    /// Has the workers use the servers that names stand for now. The answer is the edition, or `None` when they do already.
    pub async fn apply_names(&self) -> Result<Option<u64>, ReloadError> {
        let _turn = self.turn.lock().await;
        let live = self.live.borrow().clone();
        let config = live.over(&self.expanded(&self.file()));
        let servers = |config: &Config| -> Vec<_> {
            let about = |one: &Server| {
                (one.pool, one.name.clone(), one.host.clone(), one.address.clone(), one.weight, one.backup)
            };
            config.servers.iter().map(about).collect()
        };
        if servers(&config) == servers(&self.shared.edition().config) {
            return Ok(None);
        }
        let (number, late) = self.publish(config, &live).await?;
        if let Some(late) = late {
            eprintln!("ringgate: {late}");
        }
        Ok(Some(number))
    }

    /// What the last check of a server said, or the monitor's last question; `None` when there is neither.
    pub fn check_view(&self, edition: &Edition, server: ServerId) -> Option<CheckView> {
        let checked = self.checks.borrow().view(edition, server);
        checked.or_else(|| self.monitor.borrow().check_view(edition, server))
    }

    /// What the monitor has to say about an `[sql]` block.
    pub fn sql_view(&self, block: &str) -> BlockView {
        self.monitor.borrow().view(block)
    }

    /// What checks counted since the start.
    pub fn check_counts(&self) -> CheckCounts {
        self.checks.borrow().counts()
    }

    /// Begins to stop.
    pub fn stop(&self) {
        systemd::stopping();
        self.shared.order(Orders::Drain);
    }

    /// Where the process and the file disagree.
    pub fn differences(&self) -> Vec<live::Difference> {
        self.live.borrow().differences(&self.expanded(&self.file()))
    }

    /// Loads everything again when a file that the configuration names has changed and `[admin] watch` asks for it.
    pub async fn watch(self: &Rc<Self>) {
        let file = self.file();
        if !file.admin.watch || self.origin.file.is_none() {
            return;
        }
        // A folder on another host can take its time.
        let looked_at = file.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || stamps(&looked_at)).await else { return };
        if !Arc::ptr_eq(&file, &self.file()) {
            return;
        }
        let Some(what) = changed_files(&self.stamps.borrow(), &now) else { return };
        // A file that is just being written is looked at again.
        self.stamps.replace(now);
        match self.reload().await {
            Ok(applied) => eprintln!("{what} changed: loaded (edition {})", applied.edition),
            Err(error) => {
                eprintln!("{what} changed but cannot be used, what was there stays at work:\n{error}")
            }
        }
    }
}

/// What the files are now that the configuration names: certificates, their keys, authorities, pages.
fn stamps(config: &Config) -> Stamps {
    let stamp = |path: &PathBuf| {
        // Through links: switching a link to another file is a change.
        let about = std::fs::metadata(path).ok()?;
        Some(Stamp { file: (about.dev(), about.ino()), changed: (about.ctime(), about.ctime_nsec()) })
    };
    let files = config.certificates().map(|(_, one)| &one.file);
    let found = files.flat_map(|file| key_files(file).into_iter().chain([file.clone()]));
    config.files.read.iter().cloned().chain(found).map(|path| (path.clone(), stamp(&path))).collect()
}

/// Says which files are not what they were; `None` when all are.
fn changed_files(before: &Stamps, now: &Stamps) -> Option<String> {
    let mut changed: Vec<&PathBuf> =
        now.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp)).map(|(path, _)| path).collect();
    changed.sort();
    let first = changed.first()?.display();
    match changed.len() {
        1 => Some(format!("{first} has")),
        count => Some(format!("{first} and {} more have", count - 1)),
    }
}

/// Tickets that clients have stay good for blocks that ask clients for the same as before.
fn keep_tickets(old: &Config, new: &mut Config) {
    let kept = |old: Option<&Arc<ServerTls>>, new: &mut Option<Arc<ServerTls>>| {
        if let (Some(old), Some(new)) = (old, new) {
            *new = Arc::new(ServerTls::clone(new).replacing(old));
        }
    };
    for block in &mut new.http {
        let before = old.http.iter().find(|other| other.name == block.name);
        kept(before.and_then(|block| block.tls.as_ref()), &mut block.tls);
    }
    for block in &mut new.tcp {
        let before = old.tcp.iter().find(|other| other.name == block.name);
        kept(before.and_then(|block| block.tls.as_ref()), &mut block.tls);
    }
    for block in &mut new.sql {
        let before = old.sql.iter().find(|other| other.name == block.name);
        kept(before.and_then(|block| block.tls.as_ref()), &mut block.tls);
    }
}

/// What is to be said of workers that have not taken an edition over in time.
fn late(edition: u64, workers: &[WorkerId]) -> Option<String> {
    let list: Vec<String> = workers.iter().map(|worker| worker.0.to_string()).collect();
    let who = match list.len() {
        0 => return None,
        1 => format!("worker {} works", list[0]),
        _ => format!("workers {} work", list.join(", ")),
    };
    let time = TAKE_TIME.as_secs();
    Some(format!(
        "warning: edition {edition} is not at work everywhere: {who} by an earlier one after {time} s still, and takes it over as soon as it turns"
    ))
}

/// What a reload cannot change.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |same: bool, what: &str| {
        if !same {
            notes.push(format!("{what} changed in the file: that takes effect at the next start"));
        }
    };
    note(old.limits.memory_max == new.limits.memory_max, "[limits] memory_max");
    note(old.workers.count == new.workers.count, "[workers] count");
    note(old.workers.engine == new.workers.engine, "[workers] engine");
    note(old.admin.listen == new.admin.listen, "[admin] listen");
    note(old.process == new.process, "[process]");
    notes
}

fn keep_what_is_fixed(old: &Config, new: &mut Config) {
    new.limits.memory_max = old.limits.memory_max;
    new.workers = old.workers;
    new.admin.listen.clone_from(&old.admin.listen);
    new.process.clone_from(&old.process);
}

/// What differs between two configurations, for people.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut list = Vec::new();
    let mut compare = |kind: &str, old: Vec<String>, new: Vec<String>| {
        list.extend(old.iter().filter(|name| !new.contains(name)).map(|name| format!("- {kind} {name}")));
        list.extend(new.iter().filter(|name| !old.contains(name)).map(|name| format!("+ {kind} {name}")));
    };
    let listeners = |config: &Config| config.listeners.iter().map(|one| one.address.to_string()).collect();
    compare("listener", listeners(old), listeners(new));
    compare("http block", names(&old.http, |one| &one.name), names(&new.http, |one| &one.name));
    compare("tcp block", names(&old.tcp, |one| &one.name), names(&new.tcp, |one| &one.name));
    compare("sql block", names(&old.sql, |one| &one.name), names(&new.sql, |one| &one.name));
    compare("pool", names(&old.pools, |one| &one.name), names(&new.pools, |one| &one.name));
    let log = |config: &Config| config.log.access.iter().map(|_| format!("{:?}", config.log)).collect();
    compare("log", log(old), log(new));
    let servers = |config: &Config| -> Vec<String> {
        let server = |one: &Server| {
            let pool = &config.pools[one.pool.index()].name;
            let name =
                if one.name == one.address.to_string() { String::new() } else { format!(" ({})", one.name) };
            format!("{pool}: {}{name}, weight {}", one.address, one.weight)
        };
        config.servers.iter().map(server).collect()
    };
    compare("server", servers(old), servers(new));
    list
}

fn names<T>(list: &[T], name: impl Fn(&T) -> &str) -> Vec<String> {
    list.iter().map(|one| name(one).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_do_not_take_an_edition_are_named() {
        let config = Config::parse(
            "http.a = { listen = ['127.0.0.1:81'], routes = [{ answer = { status = 200 } }] }",
            "test.toml",
        );
        let config = Arc::new(config.unwrap());
        let first = Edition::first(config.clone(), 3, Doors::default());
        let shared = Shared::new(first, 3);
        let next = shared.edition().next(config, Doors::default());
        let number = shared.publish(next).number;
        let said = |shared: &Shared| late(number, &shared.untaken(number));
        assert!(said(&shared).unwrap().contains("workers 0, 1, 2 work by an earlier one"));
        [0, 2].into_iter().for_each(|worker| shared.seat(WorkerId(worker)).take(number));
        let text = said(&shared).unwrap();
        assert!(text.starts_with("warning: edition 2 ") && text.contains("worker 1 works"), "{text}");
        shared.seat(WorkerId(1)).take(number + 1);
        assert_eq!(said(&shared), None);
    }
}
