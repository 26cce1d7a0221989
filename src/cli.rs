//! The command line: `ringgate run`, `check`, `explain`, `ctl` and `top`.
//!
//! What goes in: the arguments of the process. What comes out: an exit code, and text for people: answers on standard
//! output, mistakes and warnings on standard error. It owns nothing. Always true: exit code 0 is success, 1 means that
//! the configuration, the host or the running process does not allow what was asked, 2 that the command line was not understood.

use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::model::{Config, Engine};
use crate::config::{self, Mistake};

mod admin_address;
mod admin_client;
mod admin_model;
mod ctl;
mod demo;
mod run;
mod sql;
mod top;

#[cfg(test)]
mod tests;

use crate::tell::url::Url;
use crate::tell::{explain, summary};

const ABOUT: &str = "\
ringgate is a front door for Linux hosts: TLS, HTTP balancing, MySQL reads split from writes, TCP relaying, on io_uring.
One process, one binary, a worker per core; what it does stands in one TOML file.";

const EXAMPLES: &str = "\
Examples:
  ringgate run                          a demo: two servers and a certificate, nothing to configure
  ringgate check /etc/ringgate.toml     every mistake with its line, or what listens where
  ringgate run /etc/ringgate.toml       the same file, at work; SIGTERM lets requests finish, then ends
  ringgate explain http /etc/ringgate.toml --url https://www.example.org/api/x
                                        which route and pool take this request, and why
  ringgate explain sql \"select 1\"      which server takes this statement, and why
  ringgate ctl servers                  what a running process does; drain web/a takes a server out of it
  ringgate top                          the same, live

The smallest useful file:
  [http.public]
  listen = [\":80\"]
  pool = \"web\"

  [pool.web]
  servers = [\"10.0.0.11:80\", \"10.0.0.12:80\"]

More: README.md and dist/examples of the source (packages put them into /usr/share/doc/ringgate).";

/// The arguments.
#[derive(Debug, Parser)]
#[command(name = "ringgate", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a configuration file says; without a file, a demo
    Run(RunArguments),
    /// Name every mistake in a configuration file, or show what it does
    Check {
        /// The configuration file
        file: PathBuf,
    },
    /// Say what would happen to a request or a statement, and why
    #[command(subcommand)]
    Explain(Explain),
    /// Ask a running process, or change what it does
    Ctl(ctl::Ctl),
    /// Watch a running process: servers, rates, latencies, errors
    Top(top::Top),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The configuration file; without one a demo runs
    file: Option<PathBuf>,
    /// How to speak with the kernel, instead of what the file says
    #[arg(long, value_enum)]
    engine: Option<EngineName>,
    /// How many workers, instead of what the file says (default: one per core)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=crate::limits::WORKERS_MAX as i64))]
    workers: Option<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    /// io_uring where the host allows it, else epoll
    Auto,
    /// io_uring or nothing
    #[value(name = "io_uring")]
    IoUring,
    /// epoll
    Epoll,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Auto => Self::Auto,
            EngineName::IoUring => Self::IoUring,
            EngineName::Epoll => Self::Epoll,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// Which listener, certificate, route, pool and servers take an HTTP request
    Http {
        /// The configuration file
        file: PathBuf,
        /// What a client asks for
        #[arg(long, value_parser = Url::parse)]
        url: Url,
        /// The client's address
        #[arg(long, value_name = "IP")]
        from: Option<IpAddr>,
        /// The request's method
        #[arg(long, default_value = "GET")]
        method: String,
    },
    /// Which server of a primary and its replicas gets each SQL statement
    Sql(sql::Sql),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check { file } => check(&file),
        Command::Explain(Explain::Http { file, url, from, method }) => {
            let Some(config) = load(&file).map(expanded) else { return ExitCode::FAILURE };
            let answer = explain::http(&config, None, &url, from, &method);
            say(&answer.text);
            if answer.is_served { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Explain(Explain::Sql(arguments)) => sql::run(&arguments),
        Command::Ctl(arguments) => ctl::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
    }
}

fn check(file: &Path) -> ExitCode {
    let Some(config) = load(file).map(expanded) else { return ExitCode::FAILURE };
    say(&format!("{}: ok\n{}", file.display(), summary::whole(&config)));
    ExitCode::SUCCESS
}

/// With the servers that names stand for.
fn expanded(config: Config) -> Config {
    config::expand(&config, &config.found)
}

/// Loads a file; mistakes and warnings go to standard error.
fn load(file: &Path) -> Option<Config> {
    match config::load(file) {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(warn);
            Some(loaded.config)
        }
        Err(mistakes) => {
            let count = mistakes.0.len();
            let plural = if count == 1 { "mistake" } else { "mistakes" };
            let list = if in_colour() { format!("{mistakes:#}") } else { mistakes.to_string() };
            complain(&format!("{list}\n\n{}: {count} {plural}", file.display()));
            None
        }
    }
}

fn warn(warning: &Mistake) {
    complain(&format!("{}\n", warning.render(in_colour())));
}

/// Whether standard error shows colours.
fn in_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes to standard output. That nobody reads it is no reason to fail.
fn say(text: &str) {
    _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Writes to standard error. That nobody reads it is no reason to fail.
fn complain(text: &str) {
    _ = writeln!(std::io::stderr(), "{text}");
}
