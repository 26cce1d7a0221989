//! The control plane: one thread that directs the workers and tells the world how they do.
//!
//! What goes in: a configuration, orders (from signals, the admin interface, a program that embeds ringgate). What comes
//! out: editions for the workers, answers for people. It owns: the file's configuration, what was set while running, the
//! admin listeners. Always true: every change of what is at work is one function (`State::publish`), and changes
//! come one after the other; the workers never wait for this thread.
//!
//! The thread runs tokio on io_uring (tokio-uring) where the workers use io_uring too, else plain tokio.

mod admin;
mod api;
pub mod checks;
mod dashboard;
mod digests;
mod handover;
mod live;
pub mod logs;
mod metrics;
mod names;
mod pass;
mod patient;
pub mod sqlmon;
mod state;
mod stats;
pub mod systemd;
pub mod upgrade;
mod views;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::config;
use crate::config::model::{Config, Engine};
use crate::limits::ORDERS_MAX;
use crate::worker::edition::Inherited;
use crate::worker::shared::{Orders, Shared};
use crate::worker::spawn::{self, Counts, EngineInUse, StartError};

use live::Live;
use state::State;
pub use state::{Applied, ReloadError};

/// Where a configuration came from, so that it can be loaded again.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The file; without one there is nothing to reload.
    pub file: Option<PathBuf>,
    /// The kernel interface, instead of what the file says.
    pub engine: Option<Engine>,
    /// How many workers, instead of what the file says.
    pub workers: Option<usize>,
    /// What was set while the version before was running, as that one left it; empty without one.
    pub settings: Vec<u8>,
}

impl Origin {
    /// Puts what was said beside the file into a configuration that was read from it.
    pub fn adjust(&self, config: &mut Config) {
        config.workers.engine = self.engine.unwrap_or(config.workers.engine);
        config.workers.count = self.workers.or(config.workers.count);
    }
}

/// What the control thread is to do.
enum Order {
    /// Load the file again.
    Reload(Reply<Result<Applied, ReloadError>>),
    /// Use another configuration.
    Replace(Box<Config>, Reply<Result<Applied, ReloadError>>),
    /// Start the program's present file with the listening sockets, and drain once it serves.
    Upgrade(Reply<Result<u32, String>>),
    /// Begin to stop.
    Drain,
    /// End the thread: the workers have ended.
    End,
}

type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Gives orders from any thread.
#[derive(Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    logs: logs::Logs,
}

impl Handle {
    /// Loads the file again and applies what changed; calls `reply` on the control thread when all workers serve it, or
    /// when it was refused. The answer is false when too many orders wait already.
    pub fn reload(&self, reply: impl FnOnce(Result<Applied, ReloadError>) + Send + 'static) -> bool {
        self.orders.try_send(Order::Reload(Box::new(reply))).is_ok()
    }

    /// Starts the program's present file with the listening sockets of this process, and drains once it serves. `reply`
    /// gets the number of the new process, or why there is none (then nothing has changed). The answer is false when too
    /// many orders wait already.
    pub fn upgrade(&self, reply: impl FnOnce(Result<u32, String>) + Send + 'static) -> bool {
        self.orders.try_send(Order::Upgrade(Box::new(reply))).is_ok()
    }

    /// Opens the file of the log again: somebody renamed it.
    pub fn reopen_log(&self) {
        self.logs.reopen();
    }

    /// Begins to stop: no new connections, what is in progress is finished, for at most `[limits] drain`.
    pub fn drain(&self) {
        if self.orders.try_send(Order::Drain).is_err() {
            self.shared.order(Orders::Drain);
        }
    }

    /// Ends everything at once.
    pub fn kill(&self) {
        self.shared.order(Orders::Kill);
    }
}

/// A front door that runs.
pub struct Running {
    workers: spawn::Running,
    control: JoinHandle<()>,
    handle: Handle,
}

impl Running {
    /// What moves the bytes.
    pub const fn engine(&self) -> EngineInUse {
        self.workers.engine()
    }

    /// How many workers run.
    pub const fn workers(&self) -> usize {
        self.workers.workers()
    }

    /// What whoever started it should know: why io_uring is not used, how many connections fit.
    pub fn notes(&self) -> &[String] {
        self.workers.notes()
    }

    /// What the workers count, also after they ended.
    pub fn counts(&self) -> Counts {
        self.workers.counts()
    }

    /// Gives orders from elsewhere, while [`Running::join`] waits.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Begins to stop: no new connections, what is in progress is finished, for at most `[limits] drain`.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Ends everything at once.
    pub fn kill(&self) {
        self.handle.kill();
    }

    /// Has the workers use another configuration, and waits until they do. What both configurations have is not touched;
    /// connections on what was removed are drained. Errors: why it cannot be used; then nothing has changed.
    pub fn replace(&self, config: Config) -> Result<Applied, ReloadError> {
        let (tell, told) = std::sync::mpsc::channel();
        let order = Order::Replace(Box::new(config), Box::new(move |answer| _ = tell.send(answer)));
        let ended = || ReloadError::Refused("the control thread has ended or is overloaded".into());
        self.handle.orders.try_send(order).map_err(|_| ended())?;
        told.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Waits until all workers have ended. Errors: the first that a worker's kernel interface had.
    pub fn join(self) -> io::Result<()> {
        let result = self.workers.join();
        self.handle.logs.end();
        // A thread that ended has no need of the order.
        let _ = self.handle.orders.blocking_send(Order::End);
        let ended = self.control.join().map_err(|_| io::Error::other("the control thread panicked"));
        result.and(ended)
    }
}

/// Serves a configuration: one worker per core (or `[workers] count`), and the control thread. Returns once everything
/// listens.
pub fn start(config: Config) -> Result<Running, StartError> {
    start_from(config, Origin::default(), Inherited::new(), |_| Ok(()))
}

/// As [`start`], for a process of its own. `restrict` is called once everything listens and before any thread is started:
/// the moment to give up privileges.
pub fn start_from(
    config: Config,
    origin: Origin,
    inherited: Inherited,
    restrict: impl FnOnce(&Config) -> Result<(), StartError>,
) -> Result<Running, StartError> {
    let file = Arc::new(config);
    let admin = admin::Doors::open(&file.admin, &inherited)?;
    let expanded = config::expand(&file, &file.found);
    let live = pass::read(&origin.settings, &expanded).unwrap_or_else(|error| {
        eprintln!("ringgate: what was set while the version before was running is lost: {error}");
        Live::default()
    });
    let prepared = spawn::prepare(live.over(&expanded), inherited)?;
    live.settle(prepared.edition());
    restrict(&file)?;
    // With the rights that rotating it will have.
    let sink = logs::Sink::open(&file.log).map_err(StartError::new)?;
    let workers = prepared.run()?;
    let logs = match logs::Logs::start(sink, workers.shared().clone()) {
        Ok(logs) => logs,
        Err(error) => {
            workers.kill();
            let _ = workers.join();
            return Err(error);
        }
    };
    let (orders, taken) = mpsc::channel(ORDERS_MAX);
    let (shared, engine) = (workers.shared().clone(), workers.engine());
    let handle = Handle { orders, shared: shared.clone(), logs: logs.clone() };
    let body = move || {
        let main = async move {
            let state = Rc::new(State::new((file, live), origin, shared, engine, admin.copies(), logs));
            serve(state, admin, taken).await;
        };
        block_on(engine, main);
    };
    let control = match thread::Builder::new().name("control".into()).spawn(body) {
        Ok(control) => control,
        Err(error) => {
            workers.kill();
            let _ = workers.join();
            return Err(StartError::new(format!("a thread could not be started: {error}")));
        }
    };
    Ok(Running { workers, control, handle })
}

/// Runs a future to its end, on the runtime that fits.
fn block_on(engine: EngineInUse, main: impl Future<Output = ()>) {
    if engine == EngineInUse::IoUring
        && let Ok(runtime) = tokio_uring::Runtime::new(&tokio_uring::builder())
    {
        return runtime.block_on(main);
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => tokio::task::LocalSet::new().block_on(&runtime, main),
        Err(error) => eprintln!("ringgate: there is no control thread: {error}"),
    }
}

async fn serve(state: Rc<State>, admin: admin::Doors, mut orders: mpsc::Receiver<Order>) {
    state.begin();
    admin.serve(&state);
    tokio::task::spawn_local(watch(state.clone()));
    tokio::task::spawn_local(stats::observe(state.clone()));
    tokio::task::spawn_local(handover::watchdog(state.clone()));
    while let Some(order) = orders.recv().await {
        let state = state.clone();
        match order {
            Order::Reload(reply) => {
                tokio::task::spawn_local(async move { reply(state.reload().await) });
            }
            Order::Replace(config, reply) => {
                tokio::task::spawn_local(async move { reply(state.replace(*config).await) });
            }
            Order::Upgrade(reply) => {
                tokio::task::spawn_local(async move { reply(handover::upgrade(&state).await) });
            }
            Order::Drain => state.stop(),
            Order::End => break,
        }
    }
}

/// Looks at the certificate files every few seconds.
async fn watch(state: Rc<State>) {
    loop {
        tokio::time::sleep(crate::limits::WATCH_TIME).await;
        state.watch().await;
    }
}
