//! `ringgate run`: from a file to a running process.
//!
//! What goes in: the arguments. What comes out: the exit code of the process. It owns the configuration until the workers
//! take it. Always true: nothing listens before the whole configuration was found good.

use std::process::ExitCode;

use super::{RunArguments, complain, load, say, summary};
use crate::config::model::{Config, Engine};

/// Loads the configuration and serves it until the process is told to end.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    let Some(file) = &arguments.file else {
        complain("no configuration file: ringgate run FILE");
        return ExitCode::from(2);
    };
    let Some(mut config) = load(file) else { return ExitCode::FAILURE };
    if let Some(engine) = arguments.engine {
        config.workers.engine = engine.into();
    }
    if let Some(workers) = arguments.workers {
        config.workers.count = Some(usize::from(workers));
    }
    let engine = match config.workers.engine {
        Engine::Auto => "auto",
        Engine::IoUring => "io_uring",
        Engine::Epoll => "epoll",
    };
    let workers = config.workers.count.unwrap_or_else(cores);
    say(&started(&config, engine, workers));
    // TO CONNECT: hand `config` to the workers here, with the engine that was chosen in place of `engine` above.
    ExitCode::SUCCESS
}

/// What is printed at the start: version, engine, workers, and what listens where.
pub(super) fn started(config: &Config, engine: &str, workers: usize) -> String {
    let plural = if workers == 1 { "worker" } else { "workers" };
    let version = env!("CARGO_PKG_VERSION");
    format!("ringgate {version}, {engine}, {workers} {plural}\n{}", summary::listeners(config))
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
