//! Whole programs side by side: HAProxy, nginx and ringgate in front of the same origin.
//!
//! What is this: `cargo bench --bench versus` starts nginx as the origin, then in turn and in several rounds each
//! proxy on a core of its own, loads it from another core, and compares CPU time per request, latency and memory.
//! In: flags behind `--` (`--help` lists them) and the variables HAPROXY, NGINX, RINGGATE, WRK. Out: a table on the
//! terminal and in `versus.md`, all numbers in `versus.json`, a chart in `versus.svg`. Owns: its temporary folder and
//! the programs it started. Always true: nothing that it started outlives it, and it talks to loopback only.
//!
//! On a machine with two cores and other work going on, CPU time per request is the number to trust: the kernel
//! counts it per process, while requests per second and latencies depend on who else runs.
#![allow(clippy::disallowed_methods, reason = "a load generator reads the clock; sessions must not")]

mod chart;
mod configs;
mod load;
mod measure;
mod perf;
mod programs;
mod report;
mod sample;
mod scenario;
mod sql;
mod tls_load;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

use crate::configs::{FILES_MAX, Place};
use crate::programs::{Outcome, Preferred};
use crate::report::Report;
use crate::sample::{Paths, Setup};
use crate::scenario::{Proxy, SCENARIOS, Scenario};

/// Compares HAProxy, nginx and ringgate, each on one core, in front of the same nginx.
///
/// Programs come from Debian (apt-get install -y nginx-light haproxy wrk); HAPROXY=/path, NGINX=/path,
/// RINGGATE=/path and WRK=/path choose other builds.
#[derive(Parser, Debug)]
#[command(name = "versus", bin_name = "cargo bench --bench versus --", after_help = scenarios_help())]
struct Options {
    /// Rounds; in each, every scenario runs once with every proxy.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load in each run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Only these scenarios (names with commas between them).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// SQL instead of HTTP: MariaDB directly, through HAProxy in TCP mode, and through ringgate (sql-point, sql-point-ps,
    /// sql-rw, sql-rw-ps, sql-large, sql-idle).
    #[arg(long)]
    sql: bool,
    /// Only these proxies.
    #[arg(long, value_delimiter = ',', default_values = ["haproxy", "nginx", "ringgate"],
          value_parser = ["haproxy", "nginx", "ringgate"])]
    proxies: Vec<String>,
    /// Where the results go.
    #[arg(long, default_value = "target/versus")]
    out: PathBuf,
    /// Record a profile of each proxy in the first round (needs perf; numbers are a little high then).
    #[arg(long)]
    perf: bool,
    /// Ask the kernel to prefer these programs to all others (needs root): for busy machines, whose other work
    /// hardly gets on meanwhile.
    #[arg(long)]
    priority: bool,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The names for `--only`.
fn scenarios_help() -> String {
    let line = |scenario: &Scenario| format!("  {:<12} {}\n", scenario.name, scenario.title);
    format!("Scenarios:\n{}", SCENARIOS.iter().map(line).collect::<String>())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |word: &str| arguments.iter().any(|argument| argument == word);
    // cargo test, nextest: nothing here is a test, and nothing slow may start.
    let wanted = asked("--bench") || asked("--help") || asked("-h");
    if asked("--list") || asked("--test") || !wanted {
        eprintln!("versus measures whole programs: cargo bench --bench versus");
        return ExitCode::SUCCESS;
    }
    match compare(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("versus: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything. False when a run failed.
fn compare(options: &Options) -> Outcome<bool> {
    if options.sql {
        return compare_sql(options);
    }
    let scenarios = scenario::select(&options.only)?;
    let proxies: Vec<Proxy> = [Proxy::Haproxy, Proxy::Nginx, Proxy::Ringgate]
        .into_iter()
        .filter(|proxy| options.proxies.iter().any(|word| word == proxy.key()))
        .collect();
    let paths = find_programs(&proxies)?;
    check_files_limit()?;
    let folder = tempfile::Builder::new()
        .prefix("versus-")
        .tempdir()
        .map_err(|error| format!("no temporary folder: {error}"))?;
    programs::end_all_on_signals(folder.path())?;
    let setup = prepare(options, paths, folder.path())?;
    let preferred = if options.priority { Some(Preferred::start()?) } else { None };
    let mut origin = sample::start_origin(&setup)?;
    let mut report = Report::new(&setup, options.rounds, &proxies);
    for round in 0..options.rounds {
        for (index, scenario) in scenarios.iter().enumerate() {
            for proxy in order(scenario, &proxies, round as usize + index) {
                let sample = sample::run(&setup, scenario, proxy, round);
                origin.check_alive()?;
                eprintln!("{}", report::progress(&sample, scenario, options.rounds));
                report.samples.push(sample);
            }
        }
    }
    drop(origin);
    drop(preferred);
    finish(&report, &scenarios, &options.out)
}

/// The same for SQL.
fn compare_sql(options: &Options) -> Outcome<bool> {
    let mut ringgate = PathBuf::from(env!("CARGO_BIN_EXE_ringgate"));
    if std::env::var_os("RINGGATE").is_some() {
        ringgate = programs::find("RINGGATE", "ringgate")?;
    }
    let folder = tempfile::Builder::new().prefix("versus-").tempdir();
    let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
    check_files_limit()?;
    programs::end_all_on_signals(folder.path())?;
    let cores = measure::cores_allowed();
    let [proxy, load, ..] = cores[..] else {
        return Err("two cores are needed: one for the proxy, one for load and servers".to_owned());
    };
    let own = std::process::id().to_string();
    tell("taskset", &["-apc", &load.to_string(), &own])?;
    if options.priority {
        tell("renice", &["-n", "-15", "-p", &own])?;
    }
    let preferred = if options.priority { Some(Preferred::start()?) } else { None };
    sample::make_folder(&options.out)?;
    let done = sql::compare(sql::Wanted {
        rounds: options.rounds,
        seconds: options.seconds,
        only: &options.only,
        ringgate,
        cores: [proxy, load],
        folder: folder.path(),
        out: &options.out,
    });
    drop(preferred);
    done
}

/// The proxies of one scenario, beginning with another one each time, so that none is always first.
fn order(scenario: &Scenario, proxies: &[Proxy], turn: usize) -> Vec<Proxy> {
    let mut list = proxies.to_vec();
    if let Some(at) = list.iter().position(|proxy| *proxy == Proxy::Haproxy) {
        list.splice(at + 1..at + 1, scenario.variants.iter().copied());
    }
    let by = turn % list.len().max(1);
    list.rotate_left(by);
    list
}

fn find_programs(proxies: &[Proxy]) -> Outcome<Paths> {
    let mut paths = Paths { wrk: programs::find("WRK", "wrk")?, ..Paths::default() };
    // The origin is Debian's nginx also when NGINX names another build.
    paths.origin = programs::find("ORIGIN_NGINX", "nginx")?;
    for proxy in proxies {
        match proxy {
            Proxy::Haproxy | Proxy::HaproxySplice | Proxy::HaproxyBuffers => {
                paths.haproxy = programs::find("HAPROXY", "haproxy")?
            }
            Proxy::Nginx => paths.nginx = programs::find("NGINX", "nginx")?,
            // cargo builds the release binary of this checkout before it runs this.
            Proxy::Ringgate => {
                paths.ringgate = match std::env::var_os("RINGGATE") {
                    Some(_) => programs::find("RINGGATE", "ringgate")?,
                    None => PathBuf::from(env!("CARGO_BIN_EXE_ringgate")),
                }
            }
        }
    }
    for helper in ["setpriv", "taskset", "renice", "kill"] {
        programs::find_in_path(helper)
            .map_err(|_| format!("{helper} is missing: apt-get install -y util-linux procps"))?;
    }
    Ok(paths)
}

/// 4,000 idle connections need open files, here and in the proxies (which raise their own soft limit).
fn check_files_limit() -> Outcome<()> {
    let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let limits: Vec<usize> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    match limits[..] {
        [soft, hard] if soft < 5000 || hard < FILES_MAX => {
            Err(format!("too few open files allowed ({soft}, at most {hard}): ulimit -n {FILES_MAX}"))
        }
        _ => Ok(()),
    }
}

fn prepare(options: &Options, paths: Paths, folder: &Path) -> Outcome<Setup> {
    let cores = measure::cores_allowed();
    let [proxy_core, load_core, ..] = cores[..] else {
        return Err("two cores are needed: one for the proxy, one for load and origin".to_owned());
    };
    let own = std::process::id().to_string();
    tell("taskset", &["-apc", &load_core.to_string(), &own])?;
    if options.priority {
        tell("renice", &["-n", "-15", "-p", &own])?;
    }
    let [origin, plain, tls, unix] = programs::free_ports()?;
    let user = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = user.lines().any(|line| line.split_ascii_whitespace().take(2).eq(["Uid:", "0"]));
    let place = Place { folder: folder.to_owned(), origin, plain, tls, unix, root };
    configs::write_material(&place)?;
    sample::make_folder(&options.out)?;
    let perf = options.perf.then(|| options.out.join("perf"));
    if let Some(folder) = &perf {
        sample::make_folder(folder)?;
    }
    Ok(Setup { place, proxy_core, load_core, paths, seconds: options.seconds, perf })
}

/// Runs a program that changes a property of this process; everything started later inherits it.
fn tell(program: &str, words: &[&str]) -> Outcome<()> {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Writes the results and prints the tables. False when a run failed.
fn finish(report: &Report, scenarios: &[&'static Scenario], out: &Path) -> Outcome<bool> {
    let write = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let markdown = report.markdown(scenarios);
    write("versus.md", &markdown)?;
    write("versus.json", &format!("{:#}\n", report.json(scenarios)))?;
    write("versus.svg", &chart::svg(&report.bars(scenarios)))?;
    println!("{markdown}");
    eprintln!("versus: written to {0}/versus.md, {0}/versus.json and {0}/versus.svg", out.display());
    Ok(report.samples.iter().all(|sample| sample.failure.is_none()))
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_always_first_and_variants_have_their_rows() {
        let all = [Proxy::Haproxy, Proxy::Nginx, Proxy::Ringgate];
        let plain = scenario::select(&["small".to_owned()]).unwrap()[0];
        let large = scenario::select(&["large".to_owned()]).unwrap()[0];
        assert_eq!(order(plain, &all, 0), all);
        assert_eq!(order(plain, &all, 4), [Proxy::Nginx, Proxy::Ringgate, Proxy::Haproxy]);
        assert_eq!(
            order(large, &all, 0),
            [Proxy::Haproxy, Proxy::HaproxySplice, Proxy::Nginx, Proxy::Ringgate]
        );
        assert_eq!(order(large, &[Proxy::Nginx], 3), [Proxy::Nginx]);
    }
}
