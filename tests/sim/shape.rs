//! A run's configuration as a shape: it can be written as a file, and changed while the run goes on.

use std::fmt::Write;
use std::path::PathBuf;

use ringgate::net::Address;
use ringgate::ring::sim::Random;

use crate::ledger::Tight;

/// A server of a pool.
#[derive(Clone, Debug)]
pub struct ServerShape {
    pub address: Address,
    /// It is in the configuration.
    pub present: bool,
    /// It has a name of its own: to ringgate it is another server than the one without.
    pub named: bool,
    pub weight: usize,
    pub backup: bool,
    /// Requests at a time; 0 is no limit.
    pub places: usize,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolShape {
    pub name: &'static str,
    /// Nobody needs it otherwise.
    pub present: bool,
    pub proxy: Option<&'static str>,
    pub ca: Option<PathBuf>,
    pub balance: &'static str,
    pub attempts: usize,
    pub keep_alive: bool,
    pub few_idle: bool,
    pub queue: Option<(usize, usize)>,
    /// Seconds of its timeouts.
    pub seconds: Option<usize>,
    pub servers: Vec<ServerShape>,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Shape {
    pub tight: Tight,
    pub calm: bool,
    pub proxy_in: bool,
    pub site: Option<PathBuf>,
    pub front: String,
    /// A second address of the same block.
    pub second: String,
    pub second_open: bool,
    /// The address of the relay.
    pub relay: Option<String>,
    pub relay_open: bool,
    /// The second host is served.
    pub two_routed: bool,
    /// The first host is served by the other pool.
    pub other_routed: bool,
    /// Routes and pools of which nobody hears.
    pub spare: usize,
    /// Lists stand the other way round.
    pub reversed: bool,
    pub body: usize,
    pub requests: usize,
    /// Seconds of the timeouts of clients.
    pub seconds: usize,
    pub connections: Option<(usize, usize)>,
    pub drain_ms: u128,
    pub attempts_max: usize,
    /// The pools `one`, `two`, `other`, and `raw` for the relay.
    pub pools: Vec<PoolShape>,
}

const BALANCES: [&str; 4] = ["round-robin", "least-connections", "ip-hash", "random-two"];

impl PoolShape {
    pub fn vary(&mut self, random: &mut Random, tight: Tight, calm: bool, attempts_max: usize) {
        self.balance = random.pick(&BALANCES);
        self.attempts = random.between(1, attempts_max);
        self.keep_alive = !random.chance(100);
        self.few_idle = random.chance(100);
        self.queue = match (calm, tight.queue) {
            (true, _) => Some((1000, 1_000_000)),
            (_, true) => Some((random.pick(&[0, 1, 3, 100]), random.pick(&[50, 1000, 20_000]))),
            _ => None,
        };
        self.seconds = tight.times.then(|| random.pick(&[2, 2, 3]));
    }

    /// Takes servers out and puts them in.
    fn turn_over(&mut self, random: &mut Random) {
        let before = self.servers.clone();
        if random.coin() {
            self.servers.iter_mut().for_each(|server| server.present = !server.present);
        } else {
            let at = random.below(self.servers.len() as u64) as usize;
            self.servers[at].present = !self.servers[at].present;
        }
        if !self.servers.iter().any(|server| server.present) {
            self.servers = before;
        }
    }

    fn write(&self, out: &mut String, reversed: bool) {
        let _ = write!(
            out,
            "[pool.{}]\nbalance = \"{}\"\nattempts = {}\n",
            self.name, self.balance, self.attempts
        );
        if let Some(version) = self.proxy {
            let _ = writeln!(out, "proxy_protocol = \"{version}\"");
        }
        if let Some(ca) = &self.ca {
            let _ = writeln!(out, "tls = {{ ca = \"{}\", server_name = \"one.test\" }}", ca.display());
        }
        if !self.keep_alive {
            *out += "keep_alive = false\n";
        }
        if self.few_idle {
            *out += "idle_connections = 1\n";
        }
        if let Some((most, time)) = self.queue {
            let _ = writeln!(out, "queue = {{ max = {most}, timeout = \"{time}ms\" }}");
        }
        if let Some(seconds) = self.seconds {
            let _ = writeln!(
                out,
                "timeouts = {{ connect = \"500ms\", first_byte = \"{seconds}s\", progress = \"{seconds}s\", idle = \"1s\" }}"
            );
        }
        *out += "servers = [\n";
        let mut servers: Vec<&ServerShape> = self.servers.iter().filter(|server| server.present).collect();
        if reversed {
            servers.reverse();
        }
        let primaries = servers.iter().any(|server| !server.backup);
        for (at, server) in servers.into_iter().enumerate() {
            let _ = write!(out, "  {{ address = \"{}\"", server.address);
            if server.named {
                let _ = write!(out, ", name = \"again-{at}\"");
            }
            if server.places > 0 {
                let _ = write!(out, ", connections = {}", server.places);
            }
            if server.backup && primaries {
                *out += ", backup = true";
            } else {
                let _ = write!(out, ", weight = {}", server.weight);
            }
            *out += " },\n";
        }
        *out += "]\n\n";
    }
}

impl Shape {
    /// The file.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_front(&mut out);
        let accept = "proxy_protocol = true\ntrusted_proxies = [\"10.9.0.0/16\"]\n";
        let accept = if self.proxy_in { accept } else { "" };
        if let (Some(relay), true) = (&self.relay, self.relay_open) {
            let idle =
                if self.tight.times { "timeouts = { idle = \"5s\", handshake = \"2s\" }\n" } else { "" };
            let _ = write!(out, "[tcp.relay]\nlisten = [\"{relay}\"]\npool = \"raw\"\n{accept}{idle}\n");
        }
        for spare in 0..self.spare {
            let _ = write!(out, "[pool.spare{spare}]\nservers = [\"10.0.9.{}:1\"]\n\n", spare + 1);
        }
        let mut pools: Vec<&PoolShape> = self.pools.iter().filter(|pool| self.needs(pool)).collect();
        if self.reversed {
            pools.reverse();
        }
        pools.into_iter().for_each(|pool| pool.write(&mut out, self.reversed));
        out += "[limits]\n";
        if let Some((most, each)) = self.connections {
            let _ = write!(out, "connections_max = {most}\nconnections_per_client_max = {each}\n");
        }
        let _ = writeln!(out, "drain = \"{}ms\"", self.drain_ms);
        out
    }

    fn write_front(&self, out: &mut String) {
        let second = if self.second_open { format!(", \"{}\"", self.second) } else { String::new() };
        let _ = write!(out, "[http.front]\nlisten = [\"{}\"{second}]\nroutes = [\n", self.front);
        for spare in 0..self.spare {
            let _ = writeln!(out, "  {{ host = \"spare{spare}.test\", pool = \"spare{spare}\" }},");
        }
        let two = "  { host = \"two.test\", pool = \"two\" },\n";
        if self.two_routed && self.reversed {
            *out += two;
        }
        *out +=
            "  { host = \"one.test\", path = \"/fixed\", answer = { status = 418, text = \"fixed\" } },\n";
        *out += "  { host = \"one.test\", path = \"/moved\", redirect = { to = \"https://other.test\", status = 308 } },\n";
        let one = if self.other_routed { "other" } else { "one" };
        let _ = writeln!(out, "  {{ host = \"one.test\", pool = \"{one}\" }},");
        if self.two_routed && !self.reversed {
            *out += two;
        }
        *out += "]\n";
        if self.proxy_in {
            *out += "proxy_protocol = true\ntrusted_proxies = [\"10.9.0.0/16\"]\n";
        }
        if self.tight.times {
            let _ = writeln!(
                out,
                "timeouts = {{ handshake = \"2s\", head = \"2s\", idle = \"{0}s\", progress = \"{0}s\", tunnel = \"5s\" }}",
                self.seconds
            );
        } else if self.seconds > 0 {
            let _ = writeln!(out, "timeouts = {{ idle = \"{0}s\", progress = \"{0}s\" }}", 60 + self.seconds);
        }
        let requests =
            if self.requests > 0 { format!(", requests = {}", self.requests) } else { String::new() };
        let _ = writeln!(out, "limits = {{ body = \"{}B\"{requests} }}", self.body);
        if let Some(site) = &self.site {
            let _ = writeln!(out, "certificates = [\"{}\"]", site.display());
        }
        out.push('\n');
    }

    fn needs(&self, pool: &PoolShape) -> bool {
        let routed = match pool.name {
            "one" => !self.other_routed,
            "two" => self.two_routed,
            "other" => self.other_routed,
            _ => self.relay_open,
        };
        routed || pool.present
    }

    /// What clients must do: the first settings and each later ones.
    pub fn vary(&mut self, random: &mut Random) {
        self.requests = if self.tight.connections { random.between(2, 4) } else { 0 };
        self.seconds = random.between(2, 4);
        self.connections = match self.tight.connections {
            true => Some((random.between(1, 4), random.between(0, 2))),
            false => random.coin().then(|| (random.between(500, 5000), 0)),
        };
    }

    /// Changes something.
    pub fn change(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 3) {
            self.change_one(random);
        }
    }

    fn change_one(&mut self, random: &mut Random) {
        let at = random.below(self.pools.len() as u64) as usize;
        let (tight, calm, attempts_max) = (self.tight, self.calm, self.attempts_max);
        let pool = &mut self.pools[at];
        let server = random.below(pool.servers.len() as u64) as usize;
        match random.below(13) {
            0..=2 => pool.turn_over(random),
            3 => pool.servers.iter_mut().for_each(|server| server.weight = random.between(1, 3)),
            4 => pool.vary(random, tight, calm, attempts_max),
            5 if pool.servers[server].places == 0 => pool.servers[server].named ^= true,
            6 if !calm && tight.queue => pool.servers[server].places = random.between(1, 3),
            5..=7 => self.vary(random),
            8 => self.other_routed ^= true,
            9 => {
                self.pools[1].present = random.coin();
                self.two_routed ^= true;
            }
            10 => self.second_open ^= true,
            11 => self.relay_open ^= true,
            _ => {
                self.reversed = random.coin();
                self.spare = random.between(0, 2);
            }
        }
    }
}
