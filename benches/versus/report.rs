//! The results: medians over the rounds, ratios with their spread, targets met or missed; as Markdown, JSON and the
//! bars of the chart.
//!
//! In: samples. Out: text. Owns the samples and the description of the machine. Always true: a ratio is the median
//! of the ratios within each round, so that a noisy minute touches both of its sides.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::chart::{Bar, Group};
use crate::measure::median;
use crate::programs::line_of;
use crate::sample::{Sample, Setup};
use crate::scenario::{Judge, Proxy, Scenario, Target};

/// All samples and where they come from.
pub struct Report {
    /// The runs in their order.
    pub samples: Vec<Sample>,
    facts: Vec<(&'static str, String)>,
}

/// The median of some numbers, the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub middle: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let low = values.iter().copied().reduce(f64::min)?;
        let high = values.iter().copied().reduce(f64::max)?;
        Some(Self { middle: median(values)?, low, high })
    }
}

/// Whether a target is met.
struct Verdict {
    target: Target,
    number: Option<f64>,
}

impl Verdict {
    fn most(&self) -> f64 {
        match self.target {
            Target::Ratio(_, most) | Target::Most(most) => most,
        }
    }

    fn met(&self) -> Option<bool> {
        self.number.map(|number| number <= self.most())
    }

    fn text(&self) -> String {
        let target = match self.target {
            Target::Ratio(proxy, most) => format!("≤ {most} of {}", proxy.label()),
            Target::Most(most) => format!("≤ {}", grouped(most)),
        };
        match self.number {
            None => target,
            Some(number) if number <= self.most() => format!("{target}: met"),
            Some(number) => {
                let shown = if number < 100.0 { format!("{number:.2}") } else { grouped(number) };
                format!("{target}: **missed**, {shown} ({:+.0} %)", (number / self.most() - 1.0) * 100.0)
            }
        }
    }
}

impl Report {
    /// An empty report about this machine and these programs.
    pub fn new(setup: &Setup, rounds: u32, proxies: &[Proxy]) -> Self {
        Self { samples: Vec::new(), facts: facts(setup, rounds, proxies) }
    }

    fn of(&self, scenario: &Scenario, proxy: Proxy) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.scenario == scenario.name && sample.proxy == proxy)
    }

    /// The median of a number over the rounds that did not fail.
    fn middle(&self, scenario: &Scenario, proxy: Proxy, number: impl Fn(&Sample) -> f64) -> Option<f64> {
        let good = self.of(scenario, proxy).filter(|sample| sample.failure.is_none());
        median(&good.map(number).collect::<Vec<_>>())
    }

    /// The deciding number of a proxy, over the rounds.
    fn judged(&self, scenario: &Scenario, proxy: Proxy) -> Option<Spread> {
        Spread::of(
            &self.of(scenario, proxy).filter_map(|sample| sample.judged(scenario.judge)).collect::<Vec<_>>(),
        )
    }

    /// ringgate's deciding number divided by another proxy's, round by round.
    fn ratio(&self, scenario: &Scenario, against: Proxy) -> Option<Spread> {
        self.ratio_of(scenario, Proxy::Ringgate, against)
    }

    fn ratio_of(&self, scenario: &Scenario, proxy: Proxy, against: Proxy) -> Option<Spread> {
        let mut ratios = Vec::new();
        for one in self.of(scenario, proxy) {
            let other = self.of(scenario, against).find(|sample| sample.round == one.round);
            let other = other.and_then(|sample| sample.judged(scenario.judge));
            if let (Some(one), Some(other)) = (one.judged(scenario.judge), other)
                && other > 0.0
            {
                ratios.push(one / other);
            }
        }
        Spread::of(&ratios)
    }

    fn verdicts(&self, scenario: &Scenario) -> Vec<Verdict> {
        let verdict = |target: &Target| {
            let spread = match *target {
                Target::Ratio(proxy, _) => self.ratio(scenario, proxy),
                Target::Most(_) => self.judged(scenario, Proxy::Ringgate),
            };
            Verdict { target: *target, number: spread.map(|spread| spread.middle) }
        };
        scenario.targets.iter().map(verdict).collect()
    }

    /// The rows of a scenario: proxies that ran, in a fixed order.
    fn rows(&self, scenario: &Scenario) -> Vec<Proxy> {
        let all =
            [Proxy::Haproxy, Proxy::HaproxySplice, Proxy::HaproxyBuffers, Proxy::Nginx, Proxy::Ringgate];
        all.into_iter().filter(|proxy| self.of(scenario, *proxy).next().is_some()).collect()
    }

    /// Everything as Markdown.
    pub fn markdown(&self, scenarios: &[&'static Scenario]) -> String {
        let mut text = "# HAProxy, nginx and ringgate side by side\n\n".to_owned();
        for (name, value) in &self.facts {
            text += &format!("- {name}: {value}\n");
        }
        text += "\nNumbers are medians over the rounds; in brackets the lowest and highest. CPU is user plus system \
                 time of all the proxy's processes. A ratio is the median of the ratios within each round; below 1 \
                 ringgate needs less.\n\n## Summary\n\n";
        text += "| scenario | decides | HAProxy | nginx | ringgate | ÷ HAProxy | ÷ nginx | target |\n\
                 |---|---|--:|--:|--:|--:|--:|---|\n";
        for scenario in scenarios {
            text += &self.summary_row(scenario);
        }
        for scenario in scenarios {
            text += &self.scenario_table(scenario);
        }
        text
    }

    fn summary_row(&self, scenario: &Scenario) -> String {
        let number =
            |proxy| self.judged(scenario, proxy).map_or("–".to_owned(), |spread| plain(spread.middle));
        let ratio = |proxy| {
            let show =
                |spread: Spread| format!("**{:.2}** ({:.2}–{:.2})", spread.middle, spread.low, spread.high);
            self.ratio(scenario, proxy).map_or("–".to_owned(), show)
        };
        let targets: Vec<String> = self.verdicts(scenario).iter().map(Verdict::text).collect();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            scenario.title,
            scenario.judge.label(),
            number(Proxy::Haproxy),
            number(Proxy::Nginx),
            number(Proxy::Ringgate),
            ratio(Proxy::Haproxy),
            ratio(Proxy::Nginx),
            targets.join("; "),
        )
    }

    fn scenario_table(&self, scenario: &Scenario) -> String {
        let mut text = format!("\n## {} (`{}`)\n\n", scenario.title, scenario.name);
        let last = match scenario.judge {
            Judge::IdleBytes => "bytes/connection",
            _ if scenario.tls => "resumed",
            _ => "",
        };
        text += "| proxy | requests/s | p50 µs | p99 µs | CPU µs/request | core used | others on core | RSS MiB \
                 | PSS MiB | peak MiB | errors |";
        text += &if last.is_empty() { "\n".to_owned() } else { format!(" {last} |\n") };
        text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";
        text += if last.is_empty() { "\n" } else { "--:|\n" };
        for proxy in self.rows(scenario) {
            text += &self.proxy_row(scenario, proxy);
        }
        for proxy in self.rows(scenario) {
            let agreed: Vec<&str> =
                self.of(scenario, proxy).filter_map(|s| s.negotiated.as_deref()).collect();
            if let Some(first) = agreed.first() {
                text += &format!("\n{} negotiated {first}.", proxy.label());
            }
        }
        if scenario.tls {
            text.push('\n');
        }
        for sample in self.samples.iter().filter(|sample| sample.scenario == scenario.name) {
            if let Some(failure) = &sample.failure {
                text +=
                    &format!("\n{} failed in round {}: {failure}\n", sample.proxy.label(), sample.round + 1);
            }
        }
        text
    }

    fn proxy_row(&self, scenario: &Scenario, proxy: Proxy) -> String {
        let show = |number: &dyn Fn(&Sample) -> f64| {
            self.middle(scenario, proxy, number).map_or("–".to_owned(), plain)
        };
        let timed = |number: &dyn Fn(&Sample) -> f64| {
            if scenario.judge == Judge::IdleBytes { "–".to_owned() } else { show(number) }
        };
        let percent = |number: &dyn Fn(&Sample) -> f64| {
            let share = self.middle(scenario, proxy, number);
            share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0))
        };
        let mib = |kib: u64| kib as f64 / 1024.0;
        let cpu =
            Spread::of(&self.of(scenario, proxy).filter_map(|s| s.judged(Judge::Cpu)).collect::<Vec<_>>());
        let cpu = cpu.map_or("–".to_owned(), |s| {
            format!("{} ({}–{})", plain(s.middle), plain(s.low), plain(s.high))
        });
        let errors: u64 = self.of(scenario, proxy).map(|sample| sample.load.errors.total()).sum();
        let mut cells = vec![
            proxy.label().to_owned(),
            show(&Sample::requests_per_second),
            timed(&|s| s.load.p50_us),
            timed(&|s| s.load.p99_us),
            cpu,
            percent(&|s| s.busy),
            percent(&|s| s.foreign),
            show(&|s| mib(s.memory.rss_kib)),
            show(&|s| mib(s.memory.pss_kib)),
            show(&|s| mib(s.memory.peak_kib)),
            if errors == 0 { "0".to_owned() } else { format!("**{errors}**") },
        ];
        if scenario.judge == Judge::IdleBytes {
            cells.push(show(&|s| s.idle_bytes.unwrap_or(f64::NAN)));
        } else if scenario.tls {
            cells.push(self.resumed(scenario, proxy));
        }
        format!("| {} |\n", cells.join(" | "))
    }

    fn resumed(&self, scenario: &Scenario, proxy: Proxy) -> String {
        let counted: Vec<(u64, u64)> =
            self.of(scenario, proxy).filter_map(|s| Some((s.load.resumed?, s.load.requests))).collect();
        let (resumed, all) = counted.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if all == 0 { "–".to_owned() } else { format!("{:.1} %", resumed as f64 * 100.0 / all as f64) }
    }

    /// Everything as JSON.
    pub fn json(&self, scenarios: &[&'static Scenario]) -> Value {
        let facts: BTreeMap<&str, &str> =
            self.facts.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let summary: Vec<Value> = scenarios.iter().map(|scenario| self.summary_json(scenario)).collect();
        let samples: Vec<Value> = self.samples.iter().map(Sample::to_json).collect();
        json!({ "facts": facts, "summary": summary, "samples": samples })
    }

    fn summary_json(&self, scenario: &Scenario) -> Value {
        let spread = |s: Spread| json!({ "median": s.middle, "low": s.low, "high": s.high });
        let numbers: BTreeMap<&str, Value> = self
            .rows(scenario)
            .into_iter()
            .filter_map(|proxy| Some((proxy.key(), spread(self.judged(scenario, proxy)?))))
            .collect();
        let ratios: BTreeMap<&str, Value> = self
            .rows(scenario)
            .into_iter()
            .filter(|proxy| *proxy != Proxy::Ringgate)
            .filter_map(|proxy| Some((proxy.key(), spread(self.ratio(scenario, proxy)?))))
            .collect();
        let targets: Vec<Value> = self.verdicts(scenario).iter().map(verdict_json).collect();
        json!({
            "scenario": scenario.name, "title": scenario.title, "decides": scenario.judge.label(),
            "numbers": numbers, "ringgate_divided_by": ratios, "targets": targets,
        })
    }

    /// The bars of the chart: scenarios that CPU time decides.
    pub fn bars(&self, scenarios: &[&'static Scenario]) -> Vec<Group> {
        let mut groups = Vec::new();
        for scenario in scenarios.iter().filter(|scenario| scenario.judge == Judge::Cpu) {
            let shown = [Proxy::Haproxy, Proxy::Nginx, Proxy::Ringgate];
            let Some(base) = shown.into_iter().find(|proxy| self.judged(scenario, *proxy).is_some()) else {
                continue;
            };
            let bar = |proxy| {
                let value = self.judged(scenario, proxy)?.middle;
                Some(Bar { proxy, value, share: self.ratio_of(scenario, proxy, base)?.middle })
            };
            let bars: Vec<Bar> = shown.into_iter().filter_map(bar).collect();
            groups.push(Group { title: scenario.title, bars });
        }
        groups
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    let against = match verdict.target {
        Target::Ratio(proxy, _) => Some(proxy.key()),
        Target::Most(_) => None,
    };
    json!({ "against": against, "most": verdict.most(), "number": verdict.number, "met": verdict.met() })
}

/// One line about a run that just ended.
pub fn progress(sample: &Sample, scenario: &Scenario, rounds: u32) -> String {
    let start = format!("{}/{rounds} {:<11} {:<21}", sample.round + 1, scenario.name, sample.proxy.label());
    if let Some(failure) = &sample.failure {
        return format!("{start} FAILED: {failure}");
    }
    let number = sample.judged(scenario.judge).map_or("–".to_owned(), plain);
    let resumed = sample.load.resumed.map_or(String::new(), |count| format!(", {count} resumed"));
    format!(
        "{start} {number:>8} {}, {} requests/s, {} errors{resumed}, core {:.0} % + others {:.0} %",
        scenario.judge.label(),
        plain(sample.requests_per_second()),
        sample.load.errors.total(),
        sample.busy * 100.0,
        sample.foreign * 100.0,
    )
}

/// A number with about three digits that count.
fn plain(number: f64) -> String {
    match number.abs() {
        size if !size.is_finite() => "–".to_owned(),
        size if size >= 99.95 => grouped(number),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// A whole number with commas between thousands.
pub fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = if number < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The machine, the programs, the settings.
fn facts(setup: &Setup, rounds: u32, proxies: &[Proxy]) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let mut facts = vec![
        ("Date", httpdate::fmt_http_date(SystemTime::now())),
        ("CPU", model.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("Kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("Origin", line_of(&setup.paths.origin, "-v", "nginx")),
        ("Load", line_of(&setup.paths.wrk, "-v", "wrk").split(" [").next().unwrap_or_default().to_owned()),
    ];
    for proxy in proxies {
        match proxy {
            Proxy::Haproxy | Proxy::HaproxySplice | Proxy::HaproxyBuffers => {
                let program = &setup.paths.haproxy;
                let tls = line_of(program, "-vv", "Running on OpenSSL");
                facts.push(("HAProxy", format!("{}; {tls}", line_of(program, "-v", "version"))));
            }
            Proxy::Nginx => {
                let program = &setup.paths.nginx;
                facts.push((
                    "nginx",
                    format!("{}; {}", line_of(program, "-v", "nginx"), line_of(program, "-V", "SSL")),
                ));
            }
            Proxy::Ringgate => {
                facts.push((
                    "ringgate",
                    format!("{} ({})", line_of(&setup.paths.ringgate, "--version", ""), commit()),
                ));
            }
        }
    }
    facts.push((
        "Runs",
        format!(
            "{rounds} rounds of {} s each; proxy alone on core {}, load and origin on core {}",
            setup.seconds, setup.proxy_core, setup.load_core
        ),
    ));
    if setup.perf.is_some() {
        facts.push(("Profiled", "perf ran beside the first round, its numbers are a little high".to_owned()));
    }
    facts
}

/// The commit of this checkout, as far as git knows.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let text =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown commit".to_owned() } else { text }
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests;
