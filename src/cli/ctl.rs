//! `ringgate ctl`: questions and orders to a running process.
//!
//! What goes in: a command, and where the admin interface listens. What comes out: text (or, with `--json`, the answer as
//! it came) on standard output, refusals on standard error, and an exit code. It owns nothing. Always true: every order
//! is one request; when it is refused, the process goes on as before and the exit code is 1.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::admin_address::Reach;
use super::admin_client::{Client, Trouble, segment};
use super::admin_model::{
    Certificate, Difference, Digests, Explained, Listener, Refusal, Reloaded, Servers, Session,
};
use super::{complain, say};
use crate::config;
use crate::tell::url::Url;

mod tables;

pub(super) use tables::{clean, milliseconds, number, per_second, span};

const EXAMPLES: &str = "\
Examples:
  ringgate ctl servers                  every server: state, weight, in flight, rates, last check
  ringgate ctl drain web/10.0.0.11:80   no new requests to it; those in progress are finished
  ringgate ctl weight web/b 20          another share, until the file says otherwise
  ringgate ctl reload                   the file is checked whole and applied, or nothing changes
  ringgate ctl digests --by max         SQL statements by shape, the slowest first
  ringgate ctl explain --url https://www.example.org/api/x

SERVER is POOL/NAME, or a name or address that only one pool has.
--config FILE reads from [admin] of the configuration where the interface listens, and its token.";

/// The arguments of `ctl`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Ctl {
    #[command(flatten)]
    reach: Reach,
    /// Print the answer as it came: JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Version, uptime, connections, rates, latencies, load of the workers
    Status,
    /// Servers with their state, weight, rates and last check
    Servers {
        /// Only this pool
        pool: Option<String>,
    },
    /// No new requests to a server; those in progress are finished
    Drain {
        /// POOL/NAME, or a name or address that only one pool has
        server: String,
    },
    /// A server is out of service until it is ready again: no new requests, whatever its checks say
    Maint {
        /// POOL/NAME, or a name or address that only one pool has
        server: String,
    },
    /// A server takes requests again
    Ready {
        /// POOL/NAME, or a name or address that only one pool has
        server: String,
    },
    /// Change a server's share of the requests
    Weight {
        /// POOL/NAME, or a name or address that only one pool has
        server: String,
        /// 0 (none) to 1000
        #[arg(value_parser = clap::value_parser!(u16).range(0..=1000))]
        weight: u16,
    },
    /// Add a server to a pool
    Add(Add),
    /// Remove a server from its pool; requests in progress are finished
    Remove {
        /// POOL/NAME, or a name or address that only one pool has
        server: String,
    },
    /// Connections of clients
    Sessions {
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Shapes of SQL statements: which come often, take long, or fail
    Digests {
        /// Only this [sql] block
        block: Option<String>,
        /// What comes first
        #[arg(long, value_enum, default_value_t = By::Time)]
        by: By,
        /// How many of each block at most
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2000))]
        limit: u16,
        /// Print long statements whole
        #[arg(long)]
        full: bool,
    },
    /// Certificates and how long they are valid
    Certs,
    /// What listens where
    Listeners,
    /// Apply the configuration file; nothing changes when it has mistakes
    Reload,
    /// Where the process and its file disagree
    Diff,
    /// End the process: no new connections, requests in progress are finished
    Shutdown {
        /// End at the latest after this time, such as 30s (default: what the configuration says)
        #[arg(long = "in", value_name = "TIME", value_parser = config::duration)]
        within: Option<Duration>,
    },
    /// Which route, pool and server a request gets now, and why
    Explain {
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
    /// The metrics as Prometheus reads them
    Metrics,
}

#[derive(Debug, Args)]
struct Add {
    /// The pool
    pool: String,
    /// host:port or unix:/path
    address: String,
    /// A name (default: the address)
    #[arg(long)]
    name: Option<String>,
    /// 0 to 1000 (default: 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    weight: Option<u16>,
    /// Only used when no other server of the pool can be
    #[arg(long)]
    backup: bool,
}

/// The orders of statements.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// What took the most time altogether
    Time,
    /// What came most often
    Count,
    /// Of what one took longest
    Max,
    /// What failed most often
    Errors,
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Count => "count",
            Self::Max => "max",
            Self::Errors => "errors",
        }
    }
}

/// The words of a server's administrative state.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Ready,
    Drain,
    Maint,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// Gives an order, or asks a question.
pub(super) fn run(arguments: &Ctl) -> ExitCode {
    let told = arguments.reach.client().and_then(|client| {
        let teller = Teller { client: &client, json: arguments.json };
        teller.carry_out(&arguments.command)
    });
    match told {
        Ok(code) => code,
        Err(trouble) => {
            complain(&clean(&format!("ringgate: {trouble}")));
            ExitCode::FAILURE
        }
    }
}

/// What a server that was added has beside what it shows later.
#[derive(serde::Deserialize)]
struct Added {
    note: Option<String>,
}

type Told = Result<ExitCode, Trouble>;

struct Teller<'c> {
    client: &'c Client,
    json: bool,
}

impl Teller<'_> {
    fn carry_out(&self, order: &Order) -> Told {
        match order {
            Order::Status => self.show("/v1/status", tables::status),
            Order::Servers { pool } => self.servers(pool.as_deref()),
            Order::Drain { server } => self.set_state(server, State::Drain),
            Order::Maint { server } => self.set_state(server, State::Maint),
            Order::Ready { server } => self.set_state(server, State::Ready),
            Order::Weight { server, weight } => self.set_weight(server, *weight),
            Order::Add(add) => self.add(add),
            Order::Remove { server } => self.remove(server),
            Order::Sessions { limit } => {
                self.show(&format!("/v1/sessions?limit={limit}"), |all: &Vec<Session>| tables::sessions(all))
            }
            Order::Digests { block, by, limit, full } => {
                let mut target = format!("/v1/digests?by={}&limit={limit}", by.word());
                block.iter().for_each(|block| target += &format!("&block={}", segment(block)));
                self.show(&target, |all: &Digests| tables::digests(all, *full))
            }
            Order::Certs => self.show("/v1/certs", |all: &Vec<Certificate>| tables::certificates(all)),
            Order::Listeners => self.show("/v1/listeners", |all: &Vec<Listener>| tables::listeners(all)),
            Order::Reload => self.reload(),
            Order::Diff => self.show("/v1/diff", |all: &Vec<Difference>| tables::differences(all)),
            Order::Shutdown { within } => self.shutdown(*within),
            Order::Explain { url, from, method } => self.explain(url, *from, method),
            Order::Metrics => {
                say(&self.client.ask("GET", "/metrics", None)?);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    /// Asks, and prints the answer as it came or as a text.
    fn show<T: DeserializeOwned>(&self, target: &str, text: impl FnOnce(&T) -> String) -> Told {
        let body = self.client.ask("GET", target, None)?;
        if self.json {
            say(&body);
        } else {
            say(&clean(&text(&self.understand(&body)?)));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Gives an order, and prints the answer as it came or this text.
    fn order(&self, method: &str, target: &str, body: Option<String>, done: &str) -> Told {
        let answer = self.client.ask(method, target, body.as_deref())?;
        say(&if self.json { answer } else { clean(done) });
        Ok(ExitCode::SUCCESS)
    }

    fn understand<T: DeserializeOwned>(&self, body: &str) -> Result<T, Trouble> {
        serde_json::from_str(body).map_err(|error| {
            let at = self.client.place();
            let what = format!("the answer of {at} is not understood: {error}");
            Trouble::new(what, "is it ringgate, and of the same version? --json prints answers as they come")
        })
    }

    fn servers(&self, pool: Option<&str>) -> Told {
        let Some(pool) = pool else { return self.show("/v1/servers", tables::servers) };
        let body = self.client.ask("GET", "/v1/servers", None)?;
        let mut all: Servers = self.understand(&body)?;
        if !all.pools.iter().any(|found| found.name == pool) {
            let names: Vec<&str> = all.pools.iter().map(|pool| pool.name.as_str()).collect();
            let what = format!("there is no pool {pool}");
            return Err(Trouble::new(what, format!("the pools are: {}", names.join(", "))));
        }
        if self.json {
            let whole: serde_json::Value = self.understand(&body)?;
            let found =
                whole["pools"].as_array().and_then(|list| list.iter().find(|found| found["name"] == pool));
            say(&json!({ "pools": [found] }).to_string());
        } else {
            all.pools.retain(|found| found.name == pool);
            say(&clean(&tables::servers(&all)));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The pool and name that a text of the command line means.
    fn resolve(&self, server: &str) -> Result<(String, String), Trouble> {
        let all: Servers = self.understand(&self.client.ask("GET", "/v1/servers", None)?)?;
        find(&all, server)
    }

    fn set_state(&self, server: &str, state: State) -> Told {
        let (pool, name) = self.resolve(server)?;
        let done = match state {
            State::Ready => format!("{pool}/{name} takes requests again"),
            State::Drain => format!("{pool}/{name} gets no new requests; those in progress are finished"),
            State::Maint => format!("{pool}/{name} is out of service; requests in progress are finished"),
        };
        self.order("PATCH", &path(&pool, &name), Some(json!({ "state": state.word() }).to_string()), &done)
    }

    fn set_weight(&self, server: &str, weight: u16) -> Told {
        let (pool, name) = self.resolve(server)?;
        let done = format!("{pool}/{name} has weight {weight}");
        self.order("PATCH", &path(&pool, &name), Some(json!({ "weight": weight }).to_string()), &done)
    }

    fn add(&self, add: &Add) -> Told {
        let mut body = json!({ "address": add.address });
        if let Some(name) = &add.name {
            body["name"] = json!(name);
        }
        if let Some(weight) = add.weight {
            body["weight"] = json!(weight);
        }
        if add.backup {
            body["backup"] = json!(true);
        }
        let target = format!("/v1/pools/{}/servers", segment(&add.pool));
        let name = add.name.as_ref().unwrap_or(&add.address);
        let answer = self.client.ask("POST", &target, Some(&body.to_string()))?;
        if self.json {
            say(&answer);
            return Ok(ExitCode::SUCCESS);
        }
        say(&clean(&format!("{}/{name} was added", add.pool)));
        let added: Added = self.understand(&answer)?;
        added.note.iter().for_each(|note| say(&clean(&format!("note: {note}"))));
        Ok(ExitCode::SUCCESS)
    }

    fn remove(&self, server: &str) -> Told {
        let (pool, name) = self.resolve(server)?;
        let done = format!("{pool}/{name} was removed; requests in progress are finished");
        self.order("DELETE", &path(&pool, &name), None, &done)
    }

    fn reload(&self) -> Told {
        let answer = self.client.request("POST", "/v1/reload", Some("{}"))?;
        if self.json {
            say(&answer.body);
            return Ok(if answer.status < 300 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if answer.status >= 300 {
            let refusal: Refusal = serde_json::from_str(&answer.body).unwrap_or_default();
            for mistake in &refusal.mistakes {
                complain(&clean(&format!("{}\n", mistake.trim_end())));
            }
            let mut trouble = self.client.refusal(&answer);
            if trouble.advice.is_empty() && !refusal.mistakes.is_empty() {
                trouble.advice = "nothing was changed".into();
            }
            return Err(trouble);
        }
        say(&clean(&tables::reloaded(&self.understand::<Reloaded>(&answer.body)?)));
        Ok(ExitCode::SUCCESS)
    }

    fn shutdown(&self, within: Option<Duration>) -> Told {
        let (body, done) = match within {
            Some(time) => {
                let seconds = time.as_secs_f64().ceil();
                (
                    json!({ "in_s": seconds as u64 }),
                    format!(
                        "ringgate ends when requests in progress are finished, in {seconds} s at the latest"
                    ),
                )
            }
            None => (json!({}), "ringgate ends when requests in progress are finished".to_owned()),
        };
        self.order("POST", "/v1/shutdown", Some(body.to_string()), &done)
    }

    fn explain(&self, url: &Url, from: Option<IpAddr>, method: &str) -> Told {
        let mut body = json!({ "url": url.to_string(), "method": method });
        if let Some(from) = from {
            body["from"] = json!(from.to_string());
        }
        let answer = self.client.ask("POST", "/v1/explain", Some(&body.to_string()))?;
        let explained: Explained = self.understand(&answer)?;
        say(&if self.json { answer } else { clean(&explained.text) });
        Ok(if explained.served { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn path(pool: &str, name: &str) -> String {
    format!("/v1/pools/{}/servers/{}", segment(pool), segment(name))
}

/// The server that a text means: `pool/name`, or a name or address that occurs once; or all servers of a host name in the
/// file.
fn find(all: &Servers, wanted: &str) -> Result<(String, String), Trouble> {
    let list = || {
        all.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool.name.as_str(), server)))
    };
    let whole: Vec<_> = list()
        .filter(|(pool, server)| {
            wanted
                .strip_prefix(pool)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|rest| rest == server.name)
        })
        .collect();
    let by_address = |(pool, server): &(&str, &super::admin_model::Server)| {
        wanted == server.address
            || wanted.strip_prefix(pool).and_then(|rest| rest.strip_prefix('/')) == Some(&server.address)
    };
    let mut found = whole;
    if found.is_empty() {
        found = list().filter(|(_, server)| server.name == wanted).collect();
    }
    if found.is_empty() {
        found = list().filter(by_address).collect();
    }
    if found.is_empty()
        && let Some(of) = find_of(all, wanted)
    {
        return Ok(of);
    }
    match found.as_slice() {
        [(pool, server)] => Ok(((*pool).to_owned(), server.name.clone())),
        [] => {
            let near = list().map(|(pool, server)| format!("{pool}/{}", server.name));
            let near = near.min_by_key(|name| strsim::damerau_levenshtein(name, wanted));
            let advice = near.map_or("no pool has servers".to_owned(), |near| {
                format!("did you mean {near}? ringgate ctl servers lists all of them")
            });
            Err(Trouble::new(format!("there is no server {wanted}"), advice))
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|(pool, server)| format!("{pool}/{}", server.name)).collect();
            Err(Trouble::new(
                format!("{wanted} is not one server"),
                format!("say which: {}", names.join(", ")),
            ))
        }
    }
}

/// The pool and host name in the file that a text means, if there is one of it.
fn find_of(all: &Servers, wanted: &str) -> Option<(String, String)> {
    let of = |pool: &super::admin_model::Pool| -> Option<(String, String)> {
        let within = wanted.strip_prefix(&pool.name).and_then(|rest| rest.strip_prefix('/'));
        let is_it = |of: &&String| *of == wanted || Some(of.as_str()) == within;
        let of = pool.servers.iter().filter_map(|server| server.of.as_ref()).find(is_it)?;
        Some((pool.name.clone(), of.clone()))
    };
    let mut found = all.pools.iter().filter_map(of);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::super::admin_model::{Pool, Server};
    use super::*;

    #[test]
    fn servers_are_found_by_whole_name_by_name_and_by_address() {
        let server = |name: &str, address: &str| Server {
            name: name.into(),
            address: address.into(),
            ..Server::default()
        };
        let pool = |name: &str, servers: Vec<Server>| Pool { name: name.into(), servers, ..Pool::default() };
        let all = Servers {
            pools: vec![
                pool("web", vec![server("a", "10.0.0.1:80"), server("b", "10.0.0.2:80")]),
                pool(
                    "api",
                    vec![
                        server("a", "10.0.0.3:80"),
                        server("unix:/run/x", "unix:/run/x"),
                        server("c", "10.0.0.2:80"),
                    ],
                ),
            ],
        };
        for (wanted, found) in [
            ("web/a", Ok("web a")),
            ("b", Ok("web b")),
            ("unix:/run/x", Ok("api unix:/run/x")),
            ("api/unix:/run/x", Ok("api unix:/run/x")),
            ("10.0.0.1:80", Ok("web a")),
            ("api/10.0.0.2:80", Ok("api c")),
            ("a", Err("say which: web/a, api/a")),
            ("10.0.0.2:80", Err("say which: web/b, api/c")),
            ("wen/a", Err("did you mean web/a? ringgate ctl servers lists all of them")),
        ] {
            let is = find(&all, wanted)
                .map(|(pool, name)| format!("{pool} {name}"))
                .map_err(|trouble| trouble.advice);
            assert_eq!(is, found.map(str::to_owned).map_err(str::to_owned), "{wanted}");
        }
        let mut all = all;
        for (pool, ip) in [(0, "10.1.0.1"), (0, "10.1.0.2"), (1, "10.1.0.3")] {
            let mut one = server(&format!("web.internal:80@{ip}"), &format!("{ip}:80"));
            one.of = Some("web.internal:80".into());
            all.pools[pool].servers.push(one);
        }
        let is = |wanted| find(&all, wanted).map(|(pool, name)| format!("{pool} {name}"));
        assert_eq!(is("web/web.internal:80").unwrap(), "web web.internal:80", "all of them");
        assert_eq!(is("web.internal:80@10.1.0.2").unwrap(), "web web.internal:80@10.1.0.2");
        assert!(is("web.internal:80").is_err(), "it is in two pools");
        assert_eq!(find(&Servers::default(), "x").unwrap_err().advice, "no pool has servers");
    }
}
