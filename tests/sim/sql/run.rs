//! One run with SQL servers: builds the world of a seed, lets it happen, and checks what is left.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringgate::clock::Moment;
use ringgate::close::Close;
use ringgate::config::model::Config;
use ringgate::counters::Count;
use ringgate::ids::WorkerId;
use ringgate::mysql::facts::Capabilities;
use ringgate::ring::sim::{Random, Sim, World};
use ringgate::worker::Worker;
use ringgate::worker::edition::{Doors, Edition};
use ringgate::worker::shared::{Orders, Shared as Process};

use super::backend::Backend;
use super::caller::Caller;
use super::mind::Mind;
use super::monitor::Monitor;
use super::plot::Plot;
use super::truth::{Shared, Tally, Truth};
use crate::run::turn;
use crate::scenario::Mood;

/// Virtual time that no run needs.
const TIME_MAX: Duration = Duration::from_secs(5_000);
/// Turns that no run needs: a worker that spins is found by this.
const TURNS_MAX: u64 = 2_000_000;
/// After the last client has left for so long, nobody needs an old edition.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Beyond the time to drain.
const DRAIN_TIME_MORE: Duration = Duration::from_secs(120);

struct Run {
    world: World,
    truth: Shared,
    process: Arc<Process>,
    workers: Vec<Option<Worker<Sim>>>,
    random: Random,
    /// Since when a place is free for which somebody waits.
    free_since: [Option<Moment>; 2],
}

/// A place that is free is taken within this time: less than anybody looks without being told.
const FREE_TIME_MAX: Duration = Duration::from_millis(100);

/// Runs one seed. Errors: what was broken, and what happened before.
pub fn run(seed: u64, trace: bool, secret: &Path) -> Result<Tally, String> {
    let plot = Plot::new(seed, secret);
    let world = World::new(seed, plot.faults.clone());
    let start = world.now();
    if trace {
        println!("seed {seed}: {:?}, {:?}\n{}", plot.mood, plot.faults, plot.config);
        plot.places.iter().zip(&plot.servers).for_each(|server| println!("{server:?}"));
        plot.clients.iter().for_each(|client| println!("{client:?}"));
        world.on_trace(Box::new(move |at, line| {
            println!("[{:12.6}] {line}", at.since(start).as_secs_f64());
        }));
    }
    let config = Config::parse(&plot.config, "sim.toml").map_err(|mistakes| format!("{mistakes}"))?;
    let process = Arc::new(Process::new(
        Edition::first(Arc::new(config), plot.workers, Doors::default()),
        plot.workers,
    ));
    let random = Random::new(seed ^ 0x7a6);
    let truth = Truth::new(random, start, plot.places.clone(), plot.records.clone(), plot.users);
    let truth = Rc::new(RefCell::new(truth));
    let mut workers = Vec::new();
    for number in 0..plot.workers {
        let id = WorkerId(number as u32);
        let mut worker = Worker::new(id, world.host(plot.pages), Arc::clone(&process), seed + number as u64);
        worker.listen().map_err(|error| error.to_string())?;
        workers.push(Some(worker));
    }
    let mut run =
        Run { world, truth, process, workers, random: Random::new(seed ^ 0xd1ce), free_since: [None; 2] };
    run.populate(&plot);
    let turns = run.go(&plot).map_err(|why| {
        let what = if trace { String::new() } else { run.truth.borrow().history(60) };
        format!("{why}\n{:?}, {:?}{what}", plot.mood, plot.consistency)
    })?;
    let mut tally = run.truth.borrow().tally.clone();
    tally.turns = turns;
    tally.queued = run.process.sum(Count::Queued);
    Ok(tally)
}

impl Run {
    fn populate(&mut self, plot: &Plot) {
        let start = self.world.now();
        let rotations = plot.rotations.iter().map(|(time, user)| (start + *time, *user)).collect();
        let monitor = Monitor::new(Rc::clone(&self.truth), Arc::clone(&self.process), plot.looks, rotations);
        self.world.add(Box::new(monitor), self.random.time(Duration::ZERO, plot.looks));
        for (number, habits) in plot.servers.iter().enumerate() {
            let server = Backend::new(number, habits.clone(), Rc::clone(&self.truth));
            self.world.add(Box::new(server), Duration::ZERO);
        }
        for script in &plot.clients {
            let wait = Duration::from_millis(1) + self.random.time(Duration::ZERO, plot.spread);
            let deprecates_eof = script.capabilities.has(Capabilities::DEPRECATE_EOF);
            let mind = Mind::new(script.client, plot.consistency, deprecates_eof);
            let client = Caller::new(script.clone(), mind, Rc::clone(&self.truth));
            self.world.add(Box::new(client), wait);
        }
    }

    fn go(&mut self, plot: &Plot) -> Result<u64, String> {
        let start = self.world.now();
        let drain_at = plot.drain_at.map_or(Moment::NEVER, |time| start + time);
        self.world.look_at(drain_at.min(start + TIME_MAX + Duration::from_secs(1)));
        plot.reloads.iter().for_each(|time| self.world.look_at(start + *time));
        self.world.look_when_finished();
        let mut reloads = plot.reloads.iter().map(|time| start + *time).peekable();
        let mut ordered: Option<Moment> = None;
        let mut settles = None;
        let mut turns = 0;
        while self.workers.iter().any(Option::is_some) {
            self.step()?;
            turns += 1;
            self.world.take_look();
            self.check_places(plot)?;
            let now = self.world.now();
            if ordered.is_none() && reloads.next_if(|at| now >= *at).is_some() {
                self.reload(plot)?;
            }
            if ordered.is_none() && (now >= drain_at || self.is_settled(&mut settles)) {
                ordered = Some(now);
                self.world.trace(|| "ORDER to stop".to_owned());
                self.world.look_at(now + plot.drain_time + DRAIN_TIME_MORE + Duration::from_secs(1));
                self.process.order(Orders::Drain);
            }
            let late = ordered.is_some_and(|at| now.since(at) > plot.drain_time + DRAIN_TIME_MORE);
            if late || now.since(start) > TIME_MAX || turns > TURNS_MAX {
                return Err(format!("stuck after {turns} turns and {:?}: {}", now.since(start), self.dump()));
            }
            if turns % 64 == 0 {
                let whole =
                    |worker: &mut Option<Worker<Sim>>| worker.as_mut().is_none_or(Worker::check_pages);
                if !self.workers.iter_mut().all(whole) {
                    return Err("free + lent + held pages are not all pages".to_owned());
                }
            }
        }
        self.truth.borrow_mut().over = true;
        // Clients that outlive the process see its end.
        self.world.pass(Duration::from_secs(2_000));
        self.truth.borrow_mut().check_end();
        self.failures()?;
        self.check_end()?;
        Ok(turns)
    }

    /// No more places of a server are taken than there are, and nobody waits while one is free.
    fn check_places(&mut self, plot: &Plot) -> Result<(), String> {
        if plot.places_max == 0 {
            return Ok(());
        }
        let edition = self.process.edition();
        let used: Vec<usize> = edition.balancer.servers().map(|view| view.in_flight as usize).collect();
        let reloads = !plot.reloads.is_empty();
        if !reloads && used.iter().any(|count| *count > plot.places_max) {
            return Err(format!("more than {} places are taken: {used:?}", plot.places_max));
        }
        if plot.mood != Mood::Calm || reloads {
            return Ok(());
        }
        let is_free = |count: &usize| *count < plot.places_max;
        let free = [used.first().is_some_and(is_free), used.len() > 1 && used[1..].iter().all(is_free)];
        let now = self.world.now();
        for (side, free) in free.into_iter().enumerate() {
            let waiting = edition.clusters[0].lobby(side).len();
            if !free || waiting == 0 {
                self.free_since[side] = None;
            } else if now.since(*self.free_since[side].get_or_insert(now)) > FREE_TIME_MAX {
                return Err(format!("{waiting} wait, and places are free ({side}): {used:?}"));
            }
        }
        Ok(())
    }

    fn reload(&self, plot: &Plot) -> Result<(), String> {
        let config = Config::parse(&plot.config, "sim.toml").map_err(|mistakes| format!("{mistakes}"))?;
        let next = self.process.edition().next(Arc::new(config), Doors::default());
        self.world.trace(|| "RELOAD".to_owned());
        self.process.publish(next);
        Ok(())
    }

    /// True when everybody is finished for so long that no worker needs an old edition any more.
    fn is_settled(&self, settles: &mut Option<Moment>) -> bool {
        if self.world.busy() > 0 {
            return false;
        }
        let now = self.world.now();
        let at = *settles.get_or_insert_with(|| {
            self.world.look_at(now + SETTLE_TIME);
            now + SETTLE_TIME
        });
        now >= at
    }

    /// One turn of one worker.
    fn step(&mut self) -> Result<(), String> {
        let at = self.random.below(self.workers.len() as u64) as usize;
        let turned = turn(&self.world, &mut self.workers, at);
        self.truth.borrow().failures.first().map_or(turned, |first| Err(first.clone()))
    }

    fn failures(&self) -> Result<(), String> {
        let truth = self.truth.borrow();
        if truth.failures.is_empty() { Ok(()) } else { Err(truth.failures.join("\n")) }
    }

    fn check_end(&self) -> Result<(), String> {
        if let Some(view) = self.process.edition().balancer.servers().find(|view| view.in_flight != 0) {
            return Err(format!("a claim was not given back: {view:?}"));
        }
        if self.process.sum(Count::Open) != 0 {
            return Err(format!("{} connections are counted as open", self.process.sum(Count::Open)));
        }
        match self.process.closed(Close::Bug) {
            0 => Ok(()),
            bugs => Err(format!("{bugs} sessions ended by a bug")),
        }
    }

    fn dump(&self) -> String {
        let mut text = format!("{} actors are busy; {:?}\n", self.world.busy(), self.world.injected());
        for at in 0..self.workers.len() {
            let _ =
                self.workers[at].as_ref().map(|worker| text += &format!("{} sessions\n", worker.sessions()));
            self.world.sockets(at).iter().for_each(|line| text += &format!("  {line}\n"));
        }
        text
    }
}
