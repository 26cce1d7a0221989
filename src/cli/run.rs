//! `ringgate run`: from a file, or the demo, to a running process.
//!
//! What goes in: the arguments. What comes out: the exit code of the process. It owns the configuration until the workers
//! take it. Always true: nothing listens before the whole configuration was found good; the first SIGTERM or SIGINT
//! lets requests finish, the second ends at once.

use std::io;
use std::process::ExitCode;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::{RunArguments, complain, demo, load, say, summary};
use crate::close::Close;
use crate::config::model::Config;
use crate::control::{Applied, Handle, Origin, ReloadError, Running, start_from};
use crate::control::{systemd, upgrade};
use crate::counters::Count;
use crate::net::Address;
use crate::ring::Listening;
use crate::sandbox;
use crate::worker::edition::Inherited;
use crate::worker::spawn::StartError;

/// Loads the configuration and serves it until the process is told to end.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    let (mut config, urls) = match &arguments.file {
        Some(file) => match load(file) {
            Some(config) => (config, None),
            None => return ExitCode::FAILURE,
        },
        None => match demo::config() {
            Ok((config, urls)) => (config, Some(urls)),
            Err(why) => {
                complain(&format!("the demo cannot start: {why}"));
                return ExitCode::FAILURE;
            }
        },
    };
    let mut origin = Origin {
        file: arguments.file.clone(),
        engine: arguments.engine.map(Into::into),
        workers: arguments.workers.map(usize::from),
        settings: Vec::new(),
    };
    origin.adjust(&mut config);
    let listeners = summary::listeners(&config);
    // Before the workers: a signal that comes while they start is not lost.
    let signals = match Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]) {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("ringgate: signals cannot be received: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut inherited = match Handed::take(&config) {
        Ok(inherited) => inherited,
        Err(error) => {
            complain(&format!("ringgate: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (mut before, sandboxed) = (inherited.before.take(), inherited.sandboxed);
    origin.settings = before.as_mut().map(|before| std::mem::take(&mut before.settings)).unwrap_or_default();
    let mut notes = Vec::new();
    let restrict = |config: &Config| {
        notes = sandbox::drop_privileges(config).map_err(|error| StartError::new(error.to_string()))?;
        let more = sandbox::enter(config, arguments.file.as_deref(), sandboxed);
        notes.extend(more.map_err(|error| StartError::new(error.to_string()))?);
        Ok(())
    };
    match start_from(config, origin, inherited.sockets, restrict) {
        Ok(running) => {
            inherited.notes.iter().for_each(|note| complain(&format!("note: {note}")));
            say(&started(&running.engine().to_string(), running.workers(), &listeners));
            notes.iter().for_each(|note| complain(&format!("note: {note}")));
            running.notes().iter().for_each(|note| complain(&format!("note: {note}")));
            if let Some(urls) = urls {
                say(&format!("\nThis is the demo: open {urls}\nStop it with Ctrl-C."));
            }
            systemd::ready(&format!("serving with {} workers", running.workers()));
            if let Some(before) = before
                && let Err(error) = before.ready()
            {
                complain(&format!("the process before this one does not listen any more: {error}"));
            }
            serve(running, signals)
        }
        Err(error) => {
            complain(&format!("ringgate: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(running: Running, signals: Signals) -> ExitCode {
    obey(signals, running.handle());
    let sums = running.counts();
    match running.join() {
        Ok(()) => {
            let (requests, connections) = (sums.sum(Count::Requests), sums.sum(Count::Accepted));
            say(&format!("stopped: {connections} connections, {requests} requests"));
            for close in Close::ALL.iter().filter(|close| sums.closed(**close) > 0) {
                say(&format!("  {:>9}  {:<22}  {}", sums.closed(*close), close.word(), close.about()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("ringgate: a worker's kernel interface failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Sockets that listen already, from systemd or from the version before.
#[derive(Default)]
struct Handed {
    sockets: Inherited,
    before: Option<upgrade::Inherited>,
    /// The sandbox is in force already.
    sandboxed: bool,
    notes: Vec<String>,
}

impl Handed {
    fn take(config: &Config) -> io::Result<Self> {
        let mut handed = Self::default();
        let mut list: Vec<Listening> = Vec::new();
        if let Some(mut before) = upgrade::inherited()? {
            handed.sandboxed = before.sandboxed;
            list.append(&mut before.listening);
            handed.before = Some(before);
        }
        list.extend(systemd::activated()?.into_iter().map(|(listening, _)| listening));
        let wanted = |address: &Address| {
            config.listeners.iter().any(|listener| listener.address == *address)
                || config.admin.listen.contains(address)
        };
        for listening in list {
            if wanted(&listening.address) {
                handed.sockets.push((listening.address, listening.fd));
            } else {
                handed.notes.push(format!(
                    "{} was handed over, but nothing in the configuration listens there: it is closed",
                    listening.address
                ));
            }
        }
        Ok(handed)
    }
}

/// Turns signals into orders, on a thread of its own that ends with the process.
fn obey(mut signals: Signals, handle: Handle) {
    thread::spawn(move || {
        let mut draining = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                if !handle.reload(tell_reload) {
                    complain("reload: too many orders wait already");
                }
            } else if signal == SIGUSR1 {
                handle.reopen_log();
            } else if signal == SIGUSR2 {
                complain("upgrade: starting the new version");
                if !handle.upgrade(tell_upgrade) {
                    complain("upgrade: too many orders wait already");
                }
            } else if draining {
                handle.kill();
            } else {
                draining = true;
                complain(
                    "stopping: no new connections, requests in progress are finished; again to stop at once",
                );
                handle.drain();
            }
        }
    });
}

/// Says how an upgrade went.
fn tell_upgrade(result: Result<u32, String>) {
    match result {
        Ok(process) => {
            complain(&format!("upgrade: process {process} serves; this one finishes what is in progress"))
        }
        Err(why) => complain(&format!("upgrade: {why}")),
    }
}

/// Says how a reload went.
fn tell_reload(result: Result<Applied, ReloadError>) {
    match result {
        Ok(applied) => {
            for note in &applied.notes {
                let is_warning = note.starts_with("warning: ");
                complain(&if is_warning { note.clone() } else { format!("note: {note}") });
            }
            complain(&format!("reloaded (edition {}): {} changes", applied.edition, applied.changes.len()));
            applied.changes.iter().for_each(|change| complain(&format!("  {change}")));
        }
        Err(error) => complain(&format!("{error}\n\nnot reloaded: nothing has changed")),
    }
}

/// What is printed at the start: version, engine, workers, and what listens where.
pub(super) fn started(engine: &str, workers: usize, listeners: &str) -> String {
    let plural = if workers == 1 { "worker" } else { "workers" };
    let version = env!("CARGO_PKG_VERSION");
    format!("ringgate {version}, {engine}, {workers} {plural}\n{listeners}")
}
