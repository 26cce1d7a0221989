//! SQL side by side: MariaDB directly, through HAProxy in TCP mode, and through ringgate, which splits reads from writes.
//!
//! In: `--sql` and the flags that HTTP has. Out: a table on the terminal and in `sql.md`, all numbers in `sql.json`. Owns
//! nothing but the servers of a comparison. Always true: each proxy has a core to itself with one thread, servers and load
//! share another; HAProxy passes everything on to the primary and understands nothing of it, ringgate has a replica too.

mod world;

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::measure::{self, median};
use crate::programs::{self, Outcome, Program};
use world::{Client, LARGE_ROWS, Paths, World};

/// Idle clients.
const IDLE_CLIENTS: usize = 1000;
/// Time for a proxy to come to rest.
const REST_TIME: Duration = Duration::from_millis(1500);

/// How statements get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Haproxy,
    Ringgate,
}

impl Way {
    const ALL: [Self; 3] = [Self::Direct, Self::Haproxy, Self::Ringgate];

    const fn label(self) -> &'static str {
        match self {
            Self::Direct => "directly",
            Self::Haproxy => "HAProxy, TCP",
            Self::Ringgate => "ringgate",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A test of sysbench, with an option.
    Sysbench(&'static str, &'static str),
    /// A result of 100 MB.
    Large,
    /// Clients that do nothing after one query.
    Idle,
}

/// A scenario: its name, what people call it, what it does.
struct Scenario(&'static str, &'static str, Work);

const SCENARIOS: [Scenario; 6] = [
    Scenario(
        "sql-point",
        "Point selects, as text",
        Work::Sysbench("oltp_point_select", "--db-ps-mode=disable"),
    ),
    Scenario(
        "sql-point-ps",
        "Point selects, prepared",
        Work::Sysbench("oltp_point_select", "--db-ps-mode=auto"),
    ),
    Scenario("sql-rw", "Read and write, as text", Work::Sysbench("oltp_read_write", "--db-ps-mode=disable")),
    Scenario("sql-rw-ps", "Read and write, prepared", Work::Sysbench("oltp_read_write", "--db-ps-mode=auto")),
    Scenario("sql-large", "A result of 100 MB", Work::Large),
    Scenario("sql-idle", "1,000 idle clients", Work::Idle),
];

/// What one run showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Numbers {
    queries: f64,
    per_second: f64,
    mean_ms: f64,
    p95_ms: f64,
    /// Of the proxy: microseconds per query, its share of its core, and that of others.
    cpu_us: f64,
    busy: f64,
    foreign: f64,
    mb_per_second: f64,
    idle_bytes: f64,
    rss_mib: f64,
}

struct Sample {
    round: u32,
    scenario: &'static str,
    way: Way,
    numbers: Outcome<Numbers>,
}

/// What all runs have in common.
struct Setup {
    world: World,
    haproxy: PathBuf,
    ringgate: PathBuf,
    proxy_core: usize,
    seconds: u32,
}

/// What is wanted of a comparison.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Rounds.
    pub rounds: u32,
    /// Seconds of each run.
    pub seconds: u32,
    /// Only these scenarios; all when empty.
    pub only: &'a [String],
    /// ringgate.
    pub ringgate: PathBuf,
    /// The cores of proxies, and of servers and load.
    pub cores: [usize; 2],
    /// The temporary folder.
    pub folder: &'a Path,
    /// Where the results go.
    pub out: &'a Path,
}

/// Runs everything. False when a run failed.
pub fn compare(wanted: Wanted<'_>) -> Outcome<bool> {
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|one| wanted.only.is_empty() || wanted.only.iter().any(|name| name == one.0))
        .collect();
    if scenarios.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|one| one.0).collect();
        return Err(format!("no scenario of SQL is called so; there are {}", names.join(", ")));
    }
    let paths = Paths::find()?;
    let mut facts = paths.facts().to_vec();
    let [proxy_core, load_core] = wanted.cores;
    eprintln!("versus: MariaDB is being set up");
    let haproxy = programs::find("HAPROXY", "haproxy")?;
    facts.push(("HAProxy", programs::line_of(&haproxy, "-v", "version")));
    facts.push(("ringgate", programs::line_of(&wanted.ringgate, "--version", "")));
    facts.push(("Runs", format!("{} of {} s", wanted.rounds, wanted.seconds)));
    let world = World::start(paths, load_core, wanted.folder)?;
    let setup = Setup { world, haproxy, ringgate: wanted.ringgate, proxy_core, seconds: wanted.seconds };
    let mut samples = Vec::new();
    for round in 0..wanted.rounds {
        for (index, scenario) in scenarios.iter().enumerate() {
            let mut ways = Way::ALL;
            ways.rotate_left((round as usize + index) % 3);
            for way in ways {
                let sample =
                    Sample { round, scenario: scenario.0, way, numbers: attempt(&setup, scenario, way) };
                eprintln!("{}", progress(&sample));
                samples.push(sample);
            }
        }
    }
    let (text, all) = (markdown(&facts, &scenarios, &samples), json(&facts, &samples));
    for (name, text) in [("sql.md", &text), ("sql.json", &format!("{all:#}\n"))] {
        let path = wanted.out.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("{text}");
    Ok(samples.iter().all(|sample| sample.numbers.is_ok()))
}

/// A proxy and the port that clients use.
fn start(setup: &Setup, way: Way) -> Outcome<(Option<Program>, u16)> {
    let world = &setup.world;
    let [port] = programs::free_ports()?;
    let (name, program, words, config) = match way {
        Way::Direct => return Ok((None, world.primary)),
        Way::Haproxy => ("haproxy.cfg", &setup.haproxy, &["-db", "-f"][..], haproxy(port, world.primary)),
        Way::Ringgate => {
            let config = ringgate(port, [world.primary, world.replica], &world.secret()?);
            ("ringgate.toml", &setup.ringgate, &["run"][..], config)
        }
    };
    let file = world.folder().join(name);
    fs::write(&file, config).map_err(|error| error.to_string())?;
    let mut all: Vec<&OsStr> = vec![program.as_ref()];
    all.extend(words.iter().map(OsStr::new));
    all.push(file.as_ref());
    let mut program = Program::start(way.label(), setup.proxy_core, &all, &file.with_extension("log"))?;
    program.wait_ready(&[port])?;
    if way == Way::Ringgate {
        world::wait_for_replica(port)?;
    }
    Ok((Some(program), port))
}

/// HAProxy: one thread, the bytes as they are.
fn haproxy(port: u16, primary: u16) -> String {
    format!(
        "global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    maxconn 5000
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen sql
    bind 127.0.0.1:{port} backlog 4096
    server primary 127.0.0.1:{primary}
"
    )
}

/// ringgate: one worker, everything else as it comes.
fn ringgate(port: u16, [primary, replica]: [u16; 2], secret: &Path) -> String {
    format!(
        "[sql.main]
listen = [\"127.0.0.1:{port}\"]
servers = [\"127.0.0.1:{primary}\", \"127.0.0.1:{replica}\"]
account = {{ user = \"ringgate\", password_file = \"{}\" }}
[workers]
count = 1
",
        secret.display()
    )
}

fn attempt(setup: &Setup, scenario: &Scenario, way: Way) -> Outcome<Numbers> {
    let (mut proxy, port) = start(setup, way)?;
    let pid = proxy.as_ref().map(Program::pid);
    let mut rest = 0;
    if matches!(scenario.2, Work::Idle) {
        // What the first clients allocate is not the price of a client.
        drop(idle(port, IDLE_CLIENTS / 10)?);
        thread::sleep(REST_TIME);
        rest = pid.map_or(0, |pid| measure::memory(pid).rss_kib);
    }
    let used = || (pid.map_or(0, measure::cpu_us), measure::core_busy_us(setup.proxy_core));
    let (begun, before) = (Instant::now(), used());
    let mut held = Vec::new();
    let mut numbers = match scenario.2 {
        Work::Sysbench(test, option) => {
            let text = setup.world.sysbench(port, test, &[option], "run", setup.seconds)?;
            parse(&text).ok_or(format!("sysbench says something new:\n{text}"))?
        }
        Work::Large => large(port)?,
        Work::Idle => {
            held = idle(port, IDLE_CLIENTS)?;
            Numbers { queries: held.len() as f64, ..Numbers::default() }
        }
    };
    let (after, wall) = (used(), begun.elapsed().as_micros() as f64);
    let cpu = after.0.saturating_sub(before.0) as f64;
    if !held.is_empty() {
        thread::sleep(REST_TIME);
    }
    let rss = pid.map_or(0, |pid| measure::memory(pid).rss_kib);
    numbers.cpu_us = cpu / numbers.queries.max(1.0);
    numbers.busy = cpu / wall;
    numbers.foreign = (after.1.saturating_sub(before.1) as f64 - cpu).max(0.0) / wall;
    numbers.rss_mib = rss as f64 / 1024.0;
    if !held.is_empty() {
        numbers.idle_bytes = (rss as f64 - rest as f64) * 1024.0 / held.len() as f64;
    }
    proxy.as_mut().map_or(Ok(()), Program::check_alive)?;
    Ok(numbers)
}

/// Clients that have logged in and asked one thing.
fn idle(port: u16, count: usize) -> Outcome<Vec<Client>> {
    let open = |_| {
        let mut client = Client::connect(port)?;
        client.query("SELECT c FROM sbtest1 WHERE id = 1")?;
        Ok(client)
    };
    (0..count).map(open).collect()
}

/// The large result, several times.
fn large(port: u16) -> Outcome<Numbers> {
    let mut client = Client::connect(port)?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let (rows, bytes) = client.query("SELECT b FROM large")?;
        if rows != LARGE_ROWS || bytes < LARGE_ROWS << 20 {
            return Err(format!("{rows} rows of {bytes} bytes came"));
        }
        rates.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
    }
    let queries = rates.len() as f64;
    Ok(Numbers { queries, mb_per_second: median(&rates).unwrap_or(0.0), ..Numbers::default() })
}

/// What sysbench prints at its end.
fn parse(text: &str) -> Option<Numbers> {
    let after = |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim);
    let number = |text: &str| text.split([' ', '(']).next()?.parse::<f64>().ok();
    let (queries, rate) = after("queries:")?.split_once('(')?;
    Some(Numbers {
        queries: number(queries.trim())?,
        per_second: number(rate)?,
        mean_ms: number(after("avg:")?)?,
        p95_ms: number(after("95th percentile:")?)?,
        ..Numbers::default()
    })
}

fn progress(sample: &Sample) -> String {
    let start = format!("{} {:<13} {:<13}", sample.round + 1, sample.scenario, sample.way.label());
    match &sample.numbers {
        Err(why) => format!("{start} FAILED: {why}"),
        Ok(one) => format!(
            "{start} {:>7.1} µs/query, {:.0} queries/s, mean {:.2} ms, {:.0} MB/s, {:.0} bytes/client, core {:.0} % + others {:.0} %",
            one.cpu_us,
            one.per_second,
            one.mean_ms,
            one.mb_per_second,
            one.idle_bytes,
            one.busy * 100.0,
            one.foreign * 100.0
        ),
    }
}

/// The median of a number over the rounds that did not fail.
fn middle(samples: &[Sample], scenario: &str, way: Way, number: impl Fn(&Numbers) -> f64) -> Option<f64> {
    let own = samples.iter().filter(|sample| sample.scenario == scenario && sample.way == way);
    median(&own.filter_map(|sample| sample.numbers.as_ref().ok().map(&number)).collect::<Vec<_>>())
}

fn markdown(facts: &[(&str, String)], scenarios: &[&Scenario], samples: &[Sample]) -> String {
    let mut text = "# SQL: directly, through HAProxy in TCP mode, through ringgate\n\n".to_owned();
    facts.iter().for_each(|(name, value)| _ = writeln!(text, "- {name}: {value}"));
    text += "\nMedians over the rounds. CPU is user plus system time of the proxy. HAProxy passes bytes on to the primary; ringgate \
             reads every statement, sends reads to a replica and fences it.\n";
    for Scenario(name, title, work) in scenarios {
        let show = |way, number: &dyn Fn(&Numbers) -> f64, digits: usize| {
            middle(samples, name, way, number).map_or("–".to_owned(), |number| format!("{number:.digits$}"))
        };
        let ratio = |way, number: &dyn Fn(&Numbers) -> f64, of| {
            let (own, base) = (middle(samples, name, way, number), middle(samples, name, of, number));
            own.zip(base)
                .filter(|(_, base)| *base > 0.0)
                .map_or("–".to_owned(), |(own, base)| format!("{:.2}", own / base))
        };
        let _ = writeln!(text, "\n## {title} (`{name}`)\n");
        text += match work {
            Work::Sysbench(..) => {
                "| way | queries/s | mean ms | p95 ms | CPU µs/query | ÷ HAProxy | core used | others on core | RSS MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            }
            Work::Large => {
                "| way | MB/s | ÷ directly | CPU ms/result | ÷ HAProxy | core used | others on core | RSS MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|\n"
            }
            Work::Idle => "| way | bytes/client | RSS MiB |\n|---|--:|--:|\n",
        };
        for way in Way::ALL {
            let is_proxy = way != Way::Direct;
            let of_proxy = |text: String| if is_proxy { text } else { "–".to_owned() };
            let (cpu, rss) = (|one: &Numbers| one.cpu_us, |one: &Numbers| one.rss_mib);
            let mut shared = vec![
                of_proxy(ratio(way, &cpu, Way::Haproxy)),
                of_proxy(show(way, &|one| one.busy * 100.0, 0) + " %"),
                of_proxy(show(way, &|one| one.foreign * 100.0, 0) + " %"),
                of_proxy(show(way, &rss, 1)),
            ];
            let mut cells = match work {
                Work::Sysbench(..) => vec![
                    show(way, &|one| one.per_second, 0),
                    show(way, &|one| one.mean_ms, 2),
                    show(way, &|one| one.p95_ms, 2),
                    of_proxy(show(way, &cpu, 1)),
                ],
                Work::Large => vec![
                    show(way, &|one| one.mb_per_second, 0),
                    ratio(way, &|one| one.mb_per_second, Way::Direct),
                    of_proxy(show(way, &|one| one.cpu_us / 1e3, 1)),
                ],
                Work::Idle => {
                    shared.drain(..3);
                    vec![of_proxy(show(way, &|one| one.idle_bytes, 0))]
                }
            };
            cells.extend(shared);
            let _ = writeln!(text, "| {} | {} |", way.label(), cells.join(" | "));
        }
        for sample in samples.iter().filter(|sample| sample.scenario == *name) {
            if let Err(why) = &sample.numbers {
                let _ =
                    writeln!(text, "\n{} failed in round {}: {why}", sample.way.label(), sample.round + 1);
            }
        }
    }
    text
}

fn json(facts: &[(&str, String)], samples: &[Sample]) -> Value {
    let sample = |one: &Sample| {
        let numbers = one.numbers.as_ref().copied().unwrap_or_default();
        json!({
            "round": one.round, "scenario": one.scenario, "way": one.way.label(), "queries": numbers.queries,
            "queries_per_second": numbers.per_second, "mean_ms": numbers.mean_ms, "p95_ms": numbers.p95_ms,
            "cpu_us_per_query": numbers.cpu_us, "core_busy": numbers.busy, "core_foreign": numbers.foreign,
            "mb_per_second": numbers.mb_per_second, "idle_bytes_per_client": numbers.idle_bytes, "rss_mib": numbers.rss_mib,
            "failure": one.numbers.as_ref().err(),
        })
    };
    let facts: std::collections::BTreeMap<&str, &str> =
        facts.iter().map(|(name, value)| (*name, value.as_str())).collect();
    json!({ "facts": facts, "samples": samples.iter().map(sample).collect::<Vec<_>>() })
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    #[test]
    fn what_sysbench_prints_is_read() {
        let text = "SQL statistics:\n    queries performed:\n        read:      81820\n    transactions:  81820  (27263.22 per sec.)\n    \
                    queries:                             81820  (27263.22 per sec.)\n\nLatency (ms):\n         min:    0.05\n         avg:    0.29\n         \
                    max:    9.1\n         95th percentile:    0.55\n";
        let numbers = parse(text).unwrap();
        assert_eq!(
            (numbers.queries, numbers.per_second, numbers.mean_ms, numbers.p95_ms),
            (81820.0, 27263.22, 0.29, 0.55)
        );
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn every_row_has_as_many_cells_as_its_head_and_failures_are_told() {
        let mut samples = Vec::new();
        for (scenario, way) in SCENARIOS.iter().flat_map(|one| Way::ALL.map(|way| (one, way))) {
            let numbers =
                Numbers { cpu_us: 10.0, per_second: 1000.0, mb_per_second: 500.0, ..Numbers::default() };
            samples.push(Sample { round: 0, scenario: scenario.0, way, numbers: Ok(numbers) });
        }
        samples.push(Sample {
            round: 1,
            scenario: "sql-idle",
            way: Way::Ringgate,
            numbers: Err("it ended".into()),
        });
        let text = markdown(&[("CPU", "one".into())], &SCENARIOS.iter().collect::<Vec<_>>(), &samples);
        let mut cells = None;
        for line in text.lines() {
            let count = line.starts_with('|').then(|| line.matches('|').count());
            assert!(cells.is_none() || count.is_none() || cells == count, "{line}");
            cells = count;
        }
        assert!(text.contains("ringgate failed in round 2: it ended"), "{text}");
        assert!(text.contains("| HAProxy, TCP | 1000 | 0.00 | 0.00 | 10.0 | 1.00 |"), "{text}");
    }

    #[test]
    fn ringgates_configuration_is_toml() {
        assert!(toml::from_str::<toml::Table>(&ringgate(1, [2, 3], Path::new("/x"))).is_ok());
    }
}
