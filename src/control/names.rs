//! Names that stand for servers, while the process runs: resolved again when the time of their records is over.
//!
//! What goes in: a configuration with names, answers of DNS. What comes out: what names stand for ([`Names::answers`]). It
//! owns: the answers, and a task per name. Always true: a name that cannot be resolved keeps its last answer; at most
//! [`LOOKUPS_MAX`] names are being resolved.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::state::State;
use crate::clock::{self, Moment};
use crate::config::model::{Config, Dns, Found, Lookup, Records};
use crate::config::names::Resolver;
use crate::limits::{LOGGED_ADDRESSES_MAX, LOOKUP_RETRY_TIME_MAX, LOOKUPS_MAX, RESOLVER_TIME};

/// What names stand for.
pub type Answers = HashMap<Lookup, Vec<Found>>;

/// Names that are resolved again and again.
pub struct Names {
    answers: RefCell<Answers>,
    tasks: RefCell<HashMap<Lookup, AbortHandle>>,
    dns: RefCell<Dns>,
    /// Who is asked, and since when.
    resolver: RefCell<Option<(Resolver, Moment)>>,
    places: Rc<Semaphore>,
    /// Names whose last answer was none, and why.
    stale: RefCell<BTreeMap<String, String>>,
    failures: Cell<u64>,
}

impl Names {
    /// Knows what was found when the file was loaded.
    pub fn new(file: &Config) -> Self {
        Self {
            answers: RefCell::new(file.found.clone()),
            tasks: RefCell::default(),
            dns: RefCell::new(file.dns.clone()),
            resolver: RefCell::default(),
            places: Rc::new(Semaphore::new(LOOKUPS_MAX)),
            stale: RefCell::default(),
            failures: Cell::new(0),
        }
    }

    /// The last answers.
    pub fn answers(&self) -> Answers {
        self.answers.borrow().clone()
    }

    /// The last answers for the names of another file: those that were found when it was loaded, else those that are known.
    pub fn answers_for(&self, file: &Config) -> Answers {
        let wanted = lookups(file);
        let mut answers = self.answers();
        answers.retain(|lookup, _| wanted.contains(lookup));
        answers.extend(file.found.clone());
        answers
    }

    /// How often names could not be resolved.
    pub const fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Names that cannot be resolved now, and why.
    pub fn stale(&self) -> BTreeMap<String, String> {
        self.stale.borrow().clone()
    }

    /// Resolves the names of a file's configuration from now on, and no others.
    pub fn follow(&self, file: &Config, state: &Weak<State>) {
        self.answers.replace(self.answers_for(file));
        let wanted = lookups(file);
        if self.dns.replace(file.dns.clone()) != file.dns {
            self.resolver.take();
        }
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|lookup, task| {
            let stays = wanted.contains(lookup);
            if !stays {
                task.abort();
                self.stale.borrow_mut().remove(&lookup.to_string());
            }
            stays
        });
        for lookup in wanted {
            let task = |lookup: &Lookup| tokio::task::spawn_local(follow(lookup.clone(), state.clone()));
            tasks.entry(lookup).or_insert_with_key(|lookup| task(lookup).abort_handle());
        }
    }

    /// Who is asked. What the system says may have changed; when it cannot be read, what it said before counts.
    fn resolver(&self) -> Result<Resolver, String> {
        let now = clock::now();
        let mut kept = self.resolver.borrow_mut();
        if let Some((resolver, since)) = &*kept
            && now < *since + RESOLVER_TIME
        {
            return Ok(resolver.clone());
        }
        match (Resolver::new(&self.dns.borrow()), &*kept) {
            (Ok(resolver), _) => Ok(kept.insert((resolver, now)).0.clone()),
            (Err(_), Some((resolver, _))) => Ok(resolver.clone()),
            (Err(error), None) => Err(error),
        }
    }

    /// Takes an answer. True when it is another one than before.
    fn take(&self, lookup: &Lookup, found: Vec<Found>) -> bool {
        self.stale.borrow_mut().remove(&lookup.to_string());
        let before = self.answers.borrow_mut().insert(lookup.clone(), found.clone());
        before != Some(found)
    }

    /// Takes that there is none. True when there was one the last time.
    fn fail(&self, lookup: &Lookup, error: &str) -> bool {
        self.failures.set(self.failures.get() + 1);
        self.stale.borrow_mut().insert(lookup.to_string(), error.to_owned()).is_none()
    }

    /// How long to wait after so many failures in a row.
    fn retry(&self, failures: u32) -> Duration {
        let dns = self.dns.borrow();
        let longest = LOOKUP_RETRY_TIME_MAX.min(dns.ttl_max).max(dns.ttl_min);
        dns.ttl_min.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
    }
}

/// The names of a configuration, each once.
fn lookups(config: &Config) -> HashSet<Lookup> {
    config.servers.iter().filter_map(|server| server.lookup.clone()).collect()
}

/// Resolves one name for as long as there is somebody who wants to know.
async fn follow(lookup: Lookup, state: Weak<State>) {
    let mut failures = 0;
    // An answer that could not be used is tried again.
    let mut is_due = false;
    loop {
        let answer = {
            let Some(state) = state.upgrade() else { return };
            let names = state.names();
            let places = names.places.clone();
            let _place = places.acquire().await;
            match names.resolver() {
                Ok(resolver) => resolver.look_up(&lookup).await,
                Err(error) => Err(error),
            }
        };
        let Some(state) = state.upgrade() else { return };
        let wait = match answer {
            Ok(answer) => {
                if failures > 0 {
                    eprintln!("the name \"{}\" is resolved again", lookup.name);
                }
                failures = 0;
                is_due = (state.names().take(&lookup, answer.found.clone()) || is_due)
                    && !apply(&state, &lookup, &answer).await;
                answer.ttl
            }
            Err(error) => {
                failures += 1;
                if state.names().fail(&lookup, &error) {
                    eprintln!(
                        "the name \"{}\" cannot be resolved, its last answer stays: {error}",
                        lookup.name
                    );
                }
                state.names().retry(failures)
            }
        };
        drop(state);
        tokio::time::sleep(wait).await;
    }
}

/// Has the workers use an answer. False: that was not possible.
async fn apply(state: &Rc<State>, lookup: &Lookup, answer: &Records) -> bool {
    match state.apply_names().await {
        Ok(None) => true,
        Ok(Some(edition)) => {
            eprintln!("the name \"{}\" stands for {} now (edition {edition})", lookup.name, shown(answer));
            true
        }
        Err(error) => {
            eprintln!("what the name \"{}\" stands for now cannot be used: {error}", lookup.name);
            false
        }
    }
}

/// An answer for the log.
fn shown(answer: &Records) -> String {
    let (count, left_out) = (answer.found.len(), answer.left_out);
    let shown = answer.found.iter().take(LOGGED_ADDRESSES_MAX).map(|found| found.address.to_string());
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if count > LOGGED_ADDRESSES_MAX {
        text += &format!(" and {} more", count - LOGGED_ADDRESSES_MAX);
    }
    if left_out > 0 {
        text += &format!(" (it has {left_out} more than can be used)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nowhere, parse_in};

    fn file(servers: &str) -> Config {
        let text =
            format!("http.a = {{ listen = ['127.0.0.1:81'], pool = 'x' }}\n[pool.x]\nservers = [{servers}]");
        parse_in(&text, "test.toml", &Nowhere).unwrap().config
    }

    fn lookup(name: &str) -> Lookup {
        Lookup { name: name.into(), port: Some(80) }
    }

    fn found(last: u8) -> Vec<Found> {
        vec![Found { address: ([10, 0, 0, last], 80).into(), service: None }]
    }

    #[test]
    fn a_failure_keeps_the_last_answer_and_is_told_once() {
        let names = Names::new(&file("'web.internal:80'"));
        let web = lookup("web.internal");
        assert!(names.take(&web, found(1)) && !names.take(&web, found(1)));
        assert!(names.fail(&web, "late") && !names.fail(&web, "late"));
        assert_eq!((names.failures(), names.stale().len()), (2, 1));
        assert_eq!(names.answers()[&web], found(1));
        assert!(names.take(&web, found(2)) && names.stale().is_empty());
        assert!(names.fail(&web, "late"), "a new failure is news");
    }

    #[test]
    fn a_new_file_brings_its_answers_and_keeps_those_that_it_lacks() {
        let names = Names::new(&file("'web.internal:80', 'old.internal:80'"));
        names.take(&lookup("web.internal"), found(1));
        let mut new = file("'web.internal:80', 'new.internal:80'");
        new.found.remove(&lookup("web.internal"));
        let answers = names.answers_for(&new);
        let mut list: Vec<_> =
            answers.iter().map(|(lookup, found)| format!("{} {}", lookup.name, found[0].address)).collect();
        list.sort();
        assert_eq!(list, ["new.internal 192.0.2.1:80", "web.internal 10.0.0.1:80"]);
    }

    #[test]
    fn failures_in_a_row_are_tried_less_and_less_often() {
        let names = Names::new(&Config::default());
        let waits: Vec<u64> = [1, 2, 3, 4, 5, 100].map(|n| names.retry(n).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn long_answers_are_shortened_in_the_log() {
        let found = (1..=10).flat_map(found).collect();
        let text = shown(&Records { found, left_out: 3, ttl: Duration::ZERO });
        assert!(text.ends_with("10.0.0.8:80 and 2 more (it has 3 more than can be used)"), "{text}");
    }
}
