//! One run: builds the world of a seed, lets it happen, and checks what is left.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringgate::clock::Moment;
use ringgate::close::Close;
use ringgate::config::model::Config;
use ringgate::counters::Count;
use ringgate::ids::WorkerId;
use ringgate::ring::Io;
use ringgate::ring::sim::{Random, Sim, World};
use ringgate::worker::Worker;
use ringgate::worker::edition::{Doors, Edition};
use ringgate::worker::shared::{Orders, Shared};

use crate::changes::Changes;
use crate::client::Client;
use crate::ledger::{Ledger, Record, Shared as SharedLedger, Tally};
use crate::raw::Raw;
use crate::scenario::{Mood, Scenario};
use crate::secure::Material;
use crate::server::Server;

/// Virtual time that no run needs.
const TIME_MAX: Duration = Duration::from_secs(20_000);
/// Turns that no run needs: a worker that spins is found by this.
const TURNS_MAX: u64 = 2_000_000;

/// For so long an edition may be held after its last session: its listeners are closing.
const SETTLE_TIME: Duration = Duration::from_secs(3);

struct Run {
    world: World,
    ledger: SharedLedger,
    shared: Arc<Shared>,
    workers: Vec<Option<Worker<Sim>>>,
    changes: Changes,
    random: Random,
}

/// Runs one seed. Errors: what was broken.
pub fn run(seed: u64, trace: bool, material: &Material) -> Result<Tally, String> {
    let scenario = Scenario::new(seed, material);
    let world = World::new(seed, scenario.faults.clone());
    if trace {
        println!(
            "seed {seed}: {:?}, {:?}, {:?}\n{}",
            scenario.mood, scenario.tight, scenario.faults, scenario.config
        );
        for (number, script) in scenario.clients.iter().enumerate() {
            println!("client {number} (actor {}): {script:?}", scenario.servers.len() + number);
        }
        for (id, ask) in scenario.asks.iter().enumerate() {
            println!("request {id}: {ask:?}");
        }
        let start = world.now();
        world.on_trace(Box::new(move |at, line| {
            println!("[{:12.6}] {line}", at.since(start).as_secs_f64());
        }));
    }
    let config = Config::parse(&scenario.config, "sim.toml").map_err(|mistakes| format!("{mistakes}"))?;
    let shared = Arc::new(Shared::new(
        Edition::first(Arc::new(config), scenario.workers, Doors::default()),
        scenario.workers,
    ));
    let ledger = Rc::new(RefCell::new(Ledger {
        tight: scenario.tight,
        attempts_max: scenario.attempts_max,
        pool_sizes: scenario.pool_sizes,
        tls: scenario.tls,
        calm: scenario.mood == Mood::Calm,
        records: records(&scenario),
        ..Ledger::default()
    }));
    let mut workers = Vec::new();
    for number in 0..scenario.workers {
        let id = WorkerId(number as u32);
        let mut worker =
            Worker::new(id, world.host(scenario.pages), Arc::clone(&shared), seed + number as u64);
        worker.listen().map_err(|error| error.to_string())?;
        workers.push(Some(worker));
    }
    let changes = Changes::new(&world, &scenario.changes, seed.is_multiple_of(2));
    let mut run = Run { world, ledger, shared, workers, changes, random: Random::new(seed ^ 0xd1ce) };
    run.populate(&scenario);
    let turns = run.go(&scenario)?;
    let mut tally = run.ledger.borrow().tally.clone();
    tally.closes = Close::ALL.iter().map(|close| run.shared.closed(*close)).collect();
    tally.turns = (turns, seed);
    Ok(tally)
}

fn records(scenario: &Scenario) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for script in &scenario.clients {
        let source = script.proxied.map_or(script.from, |(source, _)| source);
        for id in &script.asks {
            assert_eq!(*id, records.len());
            let ask = scenario.asks[*id].clone();
            records.push(Record { ask, client: source.ip(), given: Vec::new(), outcome: None });
        }
    }
    records
}

impl Run {
    fn populate(&mut self, scenario: &Scenario) {
        for (number, habits) in scenario.servers.iter().enumerate() {
            let server = Server::new(number, habits.clone(), Rc::clone(&self.ledger));
            self.world.add(Box::new(server), Duration::ZERO);
        }
        for (number, script) in scenario.clients.iter().enumerate() {
            let wait = Duration::from_millis(1) + self.random.time(Duration::ZERO, scenario.spread);
            self.world.add(Box::new(Client::new(number, script.clone(), Rc::clone(&self.ledger))), wait);
        }
        for (number, script) in scenario.raws.iter().enumerate() {
            let wait = Duration::from_millis(1) + self.random.time(Duration::ZERO, scenario.spread);
            self.world.add(Box::new(Raw::new(number, script.clone(), Rc::clone(&self.ledger))), wait);
        }
    }

    fn go(&mut self, scenario: &Scenario) -> Result<u64, String> {
        let start = self.world.now();
        let drain_at = scenario.drain_at.map_or(Moment::NEVER, |time| start + time);
        self.world.look_at(drain_at.min(start + TIME_MAX + Duration::from_secs(1)));
        self.world.look_when_finished();
        let mut ordered: Option<Moment> = None;
        let mut settles = None;
        let mut turns = 0;
        while self.workers.iter().any(Option::is_some) {
            self.step()?;
            turns += 1;
            self.world.take_look();
            let now = self.world.now();
            if ordered.is_none() {
                self.changes.run(&self.world, &self.shared, &mut self.ledger.borrow_mut())?;
            }
            if ordered.is_none() && (now >= drain_at || self.is_settled(&mut settles)?) {
                ordered = Some(now);
                self.ledger.borrow_mut().draining = true;
                self.world.trace(|| "ORDER to stop".to_owned());
                self.world.look_at(now + scenario.drain_time + Duration::from_secs(121));
                let orders = if scenario.kill && scenario.mood != Mood::Calm && now >= drain_at {
                    Orders::Kill
                } else if scenario.leave {
                    Orders::Leave
                } else {
                    Orders::Drain
                };
                self.shared.order(orders);
            }
            let late =
                ordered.is_some_and(|at| now.since(at) > scenario.drain_time + Duration::from_secs(120));
            if late || now.since(start) > TIME_MAX || turns > TURNS_MAX {
                return Err(format!("stuck after {turns} turns and {:?}: {}", now.since(start), self.dump()));
            }
            if turns % 64 == 0 {
                self.check_pages()?;
            }
        }
        let completions: u64 = (0..self.workers.len()).map(|at| self.world.report(at).completions).sum();
        self.world.trace(|| format!("END {turns} turns, {completions} completions"));
        // Clients that outlive the process see its end.
        self.world.pass(Duration::from_secs(6_000));
        self.failures()?;
        self.check_end()?;
        Ok(turns)
    }

    /// True when everybody is finished for so long that no worker needs an old edition any more.
    fn is_settled(&self, settles: &mut Option<Moment>) -> Result<bool, String> {
        if self.world.busy() > 0 {
            return Ok(false);
        }
        let now = self.world.now();
        let at = self.changes.last() + SETTLE_TIME;
        if now < at {
            if settles.replace(at) != Some(at) {
                self.world.look_at(at);
            }
            return Ok(false);
        }
        check_editions(&self.workers)?;
        Ok(true)
    }

    /// One turn of one worker.
    fn step(&mut self) -> Result<(), String> {
        let at = self.random.below(self.workers.len() as u64) as usize;
        let turned = turn(&self.world, &mut self.workers, at);
        self.ledger.borrow().failures.first().map_or(turned, |first| Err(first.clone()))
    }

    fn failures(&self) -> Result<(), String> {
        let ledger = self.ledger.borrow();
        if ledger.failures.is_empty() { Ok(()) } else { Err(ledger.failures.join("\n")) }
    }

    fn check_pages(&mut self) -> Result<(), String> {
        for (at, worker) in self.workers.iter_mut().enumerate() {
            let Some(worker) = worker else { continue };
            if !worker.check_pages() {
                return Err(format!("worker {at}: free + lent + held pages are not all pages"));
            }
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), String> {
        let ledger = self.ledger.borrow();
        if let Some(at) = ledger.records.iter().position(|record| record.outcome.is_none()) {
            return Err(format!("request {at} never ended: {:?}", ledger.records[at]));
        }
        self.changes.check_end(&self.shared)?;
        for view in self.shared.edition().balancer.servers() {
            if view.in_flight != 0 {
                return Err(format!("a claim was not given back: {view:?}"));
            }
        }
        if self.shared.sum(Count::Open) != 0 {
            return Err(format!("{} connections are counted as open", self.shared.sum(Count::Open)));
        }
        match self.shared.closed(Close::Bug) {
            0 => Ok(()),
            bugs => Err(format!("{bugs} sessions ended by a bug")),
        }
    }

    fn dump(&self) -> String {
        let mut text = format!("{} actors are busy; {:?}\n", self.world.busy(), self.world.injected());
        for at in 0..self.workers.len() {
            text += &format!("worker {at}: {:?}\n", self.world.report(at));
            for line in self.world.sockets(at) {
                text += &format!("  {line}\n");
            }
        }
        for (id, record) in self.ledger.borrow().records.iter().enumerate() {
            if record.outcome.is_none() {
                text += &format!("request {id} has no end: {record:?}\n");
            }
        }
        text
    }
}

/// No worker holds an edition that no session needs.
pub fn check_editions(workers: &[Option<Worker<Sim>>]) -> Result<(), String> {
    for (number, worker) in workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        let (held, sessions) = (worker.editions(), worker.sessions());
        if held > 1 + sessions {
            return Err(format!("worker {number} holds {held} editions for {sessions} sessions"));
        }
    }
    Ok(())
}

/// One turn of a worker; one that ends has given everything back.
pub fn turn(world: &World, workers: &mut [Option<Worker<Sim>>], at: usize) -> Result<(), String> {
    let Some(worker) = &mut workers[at] else { return Ok(()) };
    if worker.turn().map_err(|error| error.to_string())? {
        return Ok(());
    }
    let (sessions, sockets) = (worker.sessions(), worker.sockets());
    let whole = worker.check_pages();
    let lent = worker.io().lent();
    let pool = worker.io().pool();
    let (free, made) = (pool.free(), pool.made());
    let report = world.report(at);
    let clean = sessions == 0 && sockets == 0 && whole && report.sockets == 0 && report.listeners == 0;
    if !clean || free != made || lent != 0 {
        return Err(format!(
            "worker {at} ended with {sessions} sessions, {sockets} sockets, {free} free and {lent} lent of {made} pages; \
             {report:?}; {:?}",
            world.sockets(at)
        ));
    }
    workers[at] = None;
    Ok(())
}
