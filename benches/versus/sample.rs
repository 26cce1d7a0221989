//! One run: a fresh proxy, one scenario, the numbers.
//!
//! In: a `Setup` and what to run. Out: a `Sample`. Owns the proxy for the length of the run. Always true: the proxy
//! has a core to itself, load and origin share another; its CPU time is read right before and after the load; a
//! proxy that fails gives a sample that says so, and the comparison goes on.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::configs::{self, Place};
use crate::load::{self, Errors, Fault, Load, Wrk};
use crate::measure::{self, Memory};
use crate::perf::Recording;
use crate::programs::{Outcome, Program};
use crate::scenario::{IDLE_CONNECTIONS, Judge, KEPT_CONNECTIONS, Proxy, Scenario, Work};
use crate::tls_load;

/// Client threads that open the idle connections.
const IDLE_THREADS: usize = 8;
/// Time for a proxy to come to rest before its memory is read.
const REST_TIME: Duration = Duration::from_millis(1500);

/// Everything that the runs have in common.
pub struct Setup {
    /// Ports and the temporary folder.
    pub place: Place,
    /// The core of the proxy.
    pub proxy_core: usize,
    /// The core of load and origin.
    pub load_core: usize,
    /// HAProxy, nginx (as a proxy), ringgate, wrk.
    pub paths: Paths,
    /// Seconds of load in a run.
    pub seconds: u32,
    /// Where profiles go, when they are wanted.
    pub perf: Option<PathBuf>,
}

/// The programs.
#[derive(Debug, Default)]
pub struct Paths {
    /// nginx as the origin.
    pub origin: PathBuf,
    /// wrk.
    pub wrk: PathBuf,
    /// HAProxy.
    pub haproxy: PathBuf,
    /// nginx as a proxy.
    pub nginx: PathBuf,
    /// ringgate.
    pub ringgate: PathBuf,
}

/// The numbers of one run.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The round, from 0.
    pub round: u32,
    /// The scenario's name.
    pub scenario: &'static str,
    /// The proxy.
    pub proxy: Proxy,
    /// What the clients saw.
    pub load: Load,
    /// CPU microseconds (user and system) per request of all the proxy's processes.
    pub cpu_us: f64,
    /// The share of its core that the proxy used, 0 to 1.
    pub busy: f64,
    /// The share of the proxy's core that others used during the load, 0 to 1: noise.
    pub foreign: f64,
    /// Memory after the load.
    pub memory: Memory,
    /// Idle scenarios: bytes of RSS per connection.
    pub idle_bytes: Option<f64>,
    /// TLS: version, cipher suite, key exchange, ALPN.
    pub negotiated: Option<String>,
    /// Why the run failed; then the numbers are all 0.
    pub failure: Option<String>,
}

impl Sample {
    fn failed(round: u32, scenario: &Scenario, proxy: Proxy, why: String) -> Self {
        Self {
            round,
            scenario: scenario.name,
            proxy,
            load: Load::default(),
            cpu_us: 0.0,
            busy: 0.0,
            foreign: 0.0,
            memory: Memory::default(),
            idle_bytes: None,
            negotiated: None,
            failure: Some(why),
        }
    }

    /// The number that decides; `None` when there is none.
    pub fn judged(&self, judge: Judge) -> Option<f64> {
        let number = match judge {
            Judge::Cpu => Some(self.cpu_us),
            Judge::P50 => Some(self.load.p50_us),
            Judge::IdleBytes => self.idle_bytes,
        };
        number.filter(|number| self.failure.is_none() && (self.load.requests > 0) && number.is_finite())
    }

    /// For the JSON file.
    pub fn to_json(&self) -> Value {
        let errors = &self.load.errors;
        json!({
            "round": self.round, "scenario": self.scenario, "proxy": self.proxy.key(),
            "requests": self.load.requests, "seconds": self.load.seconds,
            "requests_per_second": self.requests_per_second(),
            "p50_us": self.load.p50_us, "p99_us": self.load.p99_us,
            "cpu_us_per_request": self.cpu_us, "core_busy": self.busy, "core_foreign": self.foreign,
            "rss_kib": self.memory.rss_kib, "pss_kib": self.memory.pss_kib, "peak_kib": self.memory.peak_kib,
            "idle_bytes_per_connection": self.idle_bytes,
            "resumed": self.load.resumed, "negotiated": self.negotiated,
            "errors": {
                "connect": errors.connect, "read": errors.read, "write": errors.write,
                "timeout": errors.timeout, "status": errors.status, "body": errors.body,
            },
            "failure": self.failure,
        })
    }

    /// Right answers per second.
    pub fn requests_per_second(&self) -> f64 {
        if self.load.seconds > 0.0 { self.load.requests as f64 / self.load.seconds } else { 0.0 }
    }
}

/// Starts the origin and waits until it answers.
pub fn start_origin(setup: &Setup) -> Outcome<Program> {
    let place = &setup.place;
    let config = configs::write_origin(place)?;
    let words =
        [setup.paths.origin.as_os_str(), "-e".as_ref(), "stderr".as_ref(), "-c".as_ref(), config.as_ref()];
    let mut origin =
        Program::start("nginx (origin)", setup.load_core, &words, &place.folder.join("origin.log"))?;
    origin.wait_ready(&[place.origin])?;
    Ok(origin)
}

fn start_proxy(setup: &Setup, proxy: Proxy) -> Outcome<Program> {
    let place = &setup.place;
    let config = configs::write_proxy(place, proxy)?;
    let config = config.as_os_str();
    let paths = &setup.paths;
    let word = OsStr::new;
    let words = match proxy {
        Proxy::Haproxy | Proxy::HaproxySplice | Proxy::HaproxyBuffers => {
            vec![paths.haproxy.as_os_str(), word("-db"), word("-f"), config]
        }
        Proxy::Nginx => vec![paths.nginx.as_os_str(), word("-e"), word("stderr"), word("-c"), config],
        Proxy::Ringgate => vec![paths.ringgate.as_os_str(), word("run"), config],
    };
    let log = place.folder.join(format!("{}.log", proxy.key()));
    let mut program = Program::start(proxy.label(), setup.proxy_core, &words, &log)?;
    program.wait_ready(&[place.plain, place.tls, place.unix])?;
    Ok(program)
}

/// Runs one scenario once.
pub fn run(setup: &Setup, scenario: &Scenario, proxy: Proxy, round: u32) -> Sample {
    attempt(setup, scenario, proxy, round).unwrap_or_else(|why| Sample::failed(round, scenario, proxy, why))
}

fn attempt(setup: &Setup, scenario: &Scenario, proxy: Proxy, round: u32) -> Outcome<Sample> {
    let mut program = start_proxy(setup, proxy)?;
    let at = Target::of(setup, scenario);
    let negotiated = at.check()?;
    let recording = match &setup.perf {
        Some(folder) if round == 0 && scenario.work != Work::Idle => {
            let name = format!("{}-{}", scenario.name, proxy.key());
            Some(Recording::start(folder, &name, program.pid(), setup.load_core, setup.seconds)?)
        }
        _ => None,
    };
    let mut at_rest = None;
    if scenario.work == Work::Idle {
        // What is allocated once, for the first connections, is not the price of a connection.
        drop(at.open_idle(KEPT_CONNECTIONS));
        thread::sleep(REST_TIME);
        at_rest = Some(measure::memory(program.pid()));
    }
    let begun = Instant::now();
    let (cpu, core) = (measure::cpu_us(program.pid()), measure::core_busy_us(setup.proxy_core));
    let (load, held) = at.work(setup)?;
    let (cpu, core) = (measure::cpu_us(program.pid()) - cpu, measure::core_busy_us(setup.proxy_core) - core);
    let wall_us = begun.elapsed().as_micros() as f64;
    if scenario.work == Work::Idle {
        thread::sleep(REST_TIME);
    }
    let memory = measure::memory(program.pid());
    let idle_bytes =
        at_rest.map(|rest| (memory.rss_kib as f64 - rest.rss_kib as f64) * 1024.0 / held.len().max(1) as f64);
    drop(held);
    if let Some(recording) = recording {
        recording.finish()?;
    }
    at.check()?;
    program.check_alive()?;
    Ok(Sample {
        round,
        scenario: scenario.name,
        proxy,
        cpu_us: cpu as f64 / load.requests.max(1) as f64,
        busy: cpu as f64 / wall_us,
        foreign: core.saturating_sub(cpu) as f64 / wall_us,
        load,
        memory,
        idle_bytes,
        negotiated,
        failure: None,
    })
}

/// The proxy as a client of one scenario sees it.
struct Target<'a> {
    scenario: &'a Scenario,
    address: SocketAddr,
    body: Vec<u8>,
}

impl<'a> Target<'a> {
    fn of(setup: &Setup, scenario: &'a Scenario) -> Self {
        let place = &setup.place;
        let port = match (scenario.tls, scenario.unix) {
            (true, _) => place.tls,
            (false, true) => place.unix,
            (false, false) => place.plain,
        };
        Self {
            scenario,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            body: configs::body(scenario.bytes),
        }
    }

    /// One request whose answer is compared byte by byte. Says what TLS negotiated.
    fn check(&self) -> Outcome<Option<String>> {
        let path = self.scenario.path();
        if self.scenario.tls {
            return tls_load::negotiated(self.address, path, &self.body).map(Some);
        }
        let mut buffer = Vec::new();
        let request = load::request(path, false);
        let start = load::connect(self.address)
            .and_then(|mut socket| {
                load::exchange(&mut socket, request.as_bytes(), self.body.len(), &mut buffer)
            })
            .map_err(|fault| format!("a request failed: {fault:?}"))?;
        if buffer[start..] == self.body { Ok(None) } else { Err("the body of an answer is wrong".to_owned()) }
    }

    /// The load. Idle connections are returned open.
    fn work(&self, setup: &Setup) -> Outcome<(Load, Vec<TcpStream>)> {
        let (path, bytes, seconds) = (self.scenario.path(), self.scenario.bytes, setup.seconds);
        let load = match self.scenario.work {
            Work::Kept => self.wrk(setup, false)?,
            Work::Connect => self.wrk(setup, true)?,
            Work::Single => load::single(self.address, path, bytes, seconds)?,
            Work::Handshake { resumed } => tls_load::handshakes(self.address, path, bytes, resumed, seconds)?,
            Work::Idle => {
                let begun = Instant::now();
                let (held, errors) = self.open_idle(IDLE_CONNECTIONS);
                let requests = held.len() as u64;
                let seconds = begun.elapsed().as_secs_f64();
                return Ok((Load { requests, seconds, errors, ..Load::default() }, held));
            }
        };
        Ok((load, Vec::new()))
    }

    fn wrk(&self, setup: &Setup, close: bool) -> Outcome<Load> {
        let wrk = Wrk { program: &setup.paths.wrk, core: setup.load_core, folder: &setup.place.folder };
        let scheme = if self.scenario.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", self.address, self.scenario.path());
        wrk.run(&url, close, setup.seconds, self.scenario.bytes)
    }

    /// Opens connections, does one request on each, and leaves them open.
    fn open_idle(&self, count: usize) -> (Vec<TcpStream>, Errors) {
        let (mut held, mut errors) = (Vec::with_capacity(count), Errors::default());
        let open = || self.open_some(count / IDLE_THREADS);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..IDLE_THREADS).map(|_| scope.spawn(open)).collect();
            for thread in threads {
                if let Ok((some, its_errors)) = thread.join() {
                    held.extend(some);
                    errors.add(&its_errors);
                }
            }
        });
        (held, errors)
    }

    fn open_some(&self, count: usize) -> (Vec<TcpStream>, Errors) {
        let (mut held, mut errors) = (Vec::with_capacity(count), Errors::default());
        let request = load::request(self.scenario.path(), false);
        let tls = self.scenario.tls.then(|| tls_load::client(false));
        let mut buffer = Vec::new();
        for _ in 0..count {
            let opened = match &tls {
                // The client's TLS state is not needed to hold the connection.
                Some(Ok(config)) => tls_load::one_request(
                    config,
                    self.address,
                    request.as_bytes(),
                    self.body.len(),
                    &mut buffer,
                )
                .map(|(_, socket, _)| socket),
                Some(Err(_)) => Err(Fault::Connect),
                None => load::one_request(self.address, request.as_bytes(), self.body.len()),
            };
            match opened {
                Ok(socket) => held.push(socket),
                Err(fault) => errors.count(fault),
            }
        }
        (held, errors)
    }
}

/// Creates a folder and those above it.
pub fn make_folder(path: &Path) -> Outcome<()> {
    fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))
}
