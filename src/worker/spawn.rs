//! Starting and stopping the workers of a process.
//!
//! What goes in: a configuration. What comes out: threads that serve it, and a handle to stop them. It owns: the
//! threads. Always true: either every worker listens on every address, or none does and the reason is told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::clock;
use crate::close::Close;
use crate::config::model::{Config, Engine};
use crate::counters::Count;
use crate::ids::WorkerId;
use crate::limits::{DESCRIPTORS_PER_WORKER, DESCRIPTORS_SPARE, PAGE_BYTES, PAGES_MIN, WORKERS_MAX};
use crate::ring::{self, Epoll, Io, Uring};

use super::Worker;
use super::edition::{Doors, Edition, Inherited};
use super::shared::{Orders, Shared};

/// Why nothing was started. The text says what was tried, why it failed, and what to do.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    /// With a text for people.
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// What moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineInUse {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

impl std::fmt::Display for EngineInUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Workers that run.
pub struct Running {
    threads: Vec<JoinHandle<io::Result<()>>>,
    shared: Arc<Shared>,
    engine: EngineInUse,
    notes: Vec<String>,
}

impl Running {
    /// What moves the bytes.
    pub const fn engine(&self) -> EngineInUse {
        self.engine
    }

    /// How many workers run.
    pub const fn workers(&self) -> usize {
        self.threads.len()
    }

    /// What whoever started it should know: why io_uring is not used, how many connections fit.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the workers count, also after they ended.
    pub fn counts(&self) -> Counts {
        Counts(self.shared.clone())
    }

    /// Begins to stop: no new connections, what is in progress is finished, for at most `[limits] drain`.
    pub fn drain(&self) {
        self.shared.order(Orders::Drain);
    }

    /// Ends everything at once.
    pub fn kill(&self) {
        self.shared.order(Orders::Kill);
    }

    /// A handle that gives orders from elsewhere, while [`Running::join`] waits.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// What the workers share with whoever directs them.
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until all workers have ended. Errors: the first that a worker's kernel interface had.
    pub fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked")));
            if ended.is_err() {
                // One worker less would mean that its share of new connections is lost: all end.
                self.shared.order(Orders::Drain);
            }
            result = result.and(ended);
        }
        result
    }
}

/// What workers count.
#[derive(Clone)]
pub struct Counts(Arc<Shared>);

impl Counts {
    /// A counter, summed over all workers.
    pub fn sum(&self, count: Count) -> u64 {
        self.0.sum(count)
    }

    /// How often connections or requests ended this way, over all workers.
    pub fn closed(&self, close: Close) -> u64 {
        self.0.closed(close)
    }
}

/// Stops workers from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// See [`Running::drain`].
    pub fn drain(&self) {
        self.0.order(Orders::Drain);
    }

    /// See [`Running::kill`].
    pub fn kill(&self) {
        self.0.order(Orders::Kill);
    }
}

/// Starts one worker per core (or `[workers] count`), each on its own core, and returns once all of them listen.
pub fn start(config: Config) -> Result<Running, StartError> {
    prepare(config, Inherited::new())?.run()
}

/// Workers that do not run yet, whose sockets listen already: the moment to give up the privilege that this took.
pub struct Prepared {
    edition: Edition,
    engine: EngineInUse,
    count: usize,
    pages: usize,
    cores: Vec<usize>,
    notes: Vec<String>,
}

/// Opens all listening sockets (except `inherited` ones, which are open).
pub fn prepare(config: Config, inherited: Inherited) -> Result<Prepared, StartError> {
    let mut notes = Vec::new();
    let engine = choose(config.workers.engine, &mut notes)?;
    let cores = ring::cores();
    let count = config.workers.count.unwrap_or_else(|| default_count(&cores)).clamp(1, WORKERS_MAX);
    let config = fit_descriptors(config, count, &mut notes);
    let pages = (config.limits.memory_max / PAGE_BYTES as u64) as usize / count;
    if pages < PAGES_MIN {
        return Err(StartError(format!(
            "memory_max is too small for {count} workers: {pages} pages of {PAGE_BYTES} bytes each, at least {PAGES_MIN} \
             are needed; raise [limits] memory_max or lower [workers] count"
        )));
    }
    let doors =
        Doors::open(&config, None, count, &inherited).map_err(|error| StartError(error.to_string()))?;
    let edition = Edition::first(Arc::new(config), count, doors);
    Ok(Prepared { edition, engine, count, pages, cores, notes })
}

impl Prepared {
    /// What they will work by.
    pub const fn edition(&self) -> &Edition {
        &self.edition
    }

    /// Starts the workers.
    pub fn run(self) -> Result<Running, StartError> {
        let Self { edition, engine, count, pages, cores, notes } = self;
        let shared = Arc::new(Shared::new(edition, count));
        let (ready, listening) = mpsc::channel();
        let mut threads = Vec::with_capacity(count);
        let mut failed = None;
        for at in 0..count {
            let id = WorkerId(u32::try_from(at).unwrap_or(0));
            let core = (count > 1 || cores.len() == 1)
                .then(|| cores.get(at % cores.len().max(1)).copied())
                .flatten();
            let (shared, ready) = (shared.clone(), ready.clone());
            let body = move || match engine {
                EngineInUse::IoUring => serve(id, core, || Uring::new(pages), shared, &ready),
                EngineInUse::Epoll => serve(id, core, || Epoll::new(pages), shared, &ready),
            };
            match thread::Builder::new().name(format!("worker-{at}")).spawn(body) {
                Ok(thread) => threads.push(thread),
                Err(error) => failed = Some(format!("a thread could not be started: {error}")),
            }
        }
        drop(ready);
        let running = Running { threads, shared, engine, notes };
        for _ in 0..running.threads.len() {
            let told =
                listening.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended while it started")));
            failed = failed.or(told.err().map(|error| error.to_string()));
        }
        if let Some(why) = failed {
            running.kill();
            let _ = running.join();
            return Err(StartError(why));
        }
        Ok(running)
    }
}

/// The body of a worker's thread.
fn serve<I: Io>(
    id: WorkerId,
    core: Option<usize>,
    open: impl FnOnce() -> io::Result<I>,
    shared: Arc<Shared>,
    ready: &mpsc::Sender<io::Result<()>>,
) -> io::Result<()> {
    if let Some(core) = core {
        ring::pin(core);
    }
    let seed = clock::now().0 ^ (u64::from(id.0) << 48) ^ u64::from(std::process::id());
    let started = open().and_then(|io| {
        let mut worker = Worker::new(id, io, shared, seed);
        worker.listen()?;
        Ok(worker)
    });
    match started {
        Ok(mut worker) => {
            let _ = ready.send(Ok(()));
            worker.run()
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            Ok(())
        }
    }
}

fn choose(wanted: Engine, notes: &mut Vec<String>) -> Result<EngineInUse, StartError> {
    match (wanted, ring::probe()) {
        (Engine::Epoll, _) => Ok(EngineInUse::Epoll),
        (Engine::Auto | Engine::IoUring, Ok(())) => Ok(EngineInUse::IoUring),
        (Engine::Auto, Err(why)) => {
            notes.push(format!("io_uring cannot be used, epoll is used instead: {why}"));
            Ok(EngineInUse::Epoll)
        }
        (Engine::IoUring, Err(why)) => Err(StartError(format!(
            "io_uring cannot be used: {why}; engine = \"auto\" would use epoll instead"
        ))),
    }
}

/// One worker per core that the process may use, or fewer under a CPU quota.
fn default_count(cores: &[usize]) -> usize {
    let quota = thread::available_parallelism().map_or(1, usize::from);
    quota.min(cores.len().max(1))
}

/// Raises the limit of open files and lowers `connections_max` to what fits: a proxied connection needs two, an SQL client three.
pub fn fit_descriptors(mut config: Config, workers: usize, notes: &mut Vec<String>) -> Config {
    let Ok(files) = ring::raise_open_files() else { return config };
    let per_worker = DESCRIPTORS_PER_WORKER + config.listeners.len() as u64;
    let spare = DESCRIPTORS_SPARE + per_worker * workers as u64;
    let each = if config.sql.is_empty() { 2 } else { 3 };
    let fits = (files.saturating_sub(spare) / each).max(1);
    let fits = usize::try_from(fits).unwrap_or(usize::MAX);
    if fits < config.limits.connections_max {
        notes.push(format!(
            "{files} files may be open: at most {fits} client connections at a time; raise it with LimitNOFILE= in \
             the service or `ulimit -n`"
        ));
        config.limits.connections_max = fits;
    }
    config
}
