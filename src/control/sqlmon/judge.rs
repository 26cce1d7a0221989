//! Who is primary, who follows it: the decision alone.
//!
//! What all servers of a block said goes in, and who was primary before; roles come out. It owns nothing. Always true: there
//! is at most one primary; who is known to be it stays it as long as it takes writes; a server that took writes beside it is
//! not followed when the known one is merely lost.

use super::status::{Seen, Source, Thread};
use crate::cluster::Role;

/// A server of the block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look<'a> {
    /// What it said; `None`: it was not reached.
    pub(super) seen: Option<&'a Seen>,
    /// Its server id, from when it was reached last.
    pub(super) server_id: Option<u64>,
    /// Its address as it could stand in the configuration of its replicas.
    pub(super) hosts: [&'a str; 2],
    /// Its port.
    pub(super) port: u16,
    /// It took writes beside the known primary, and has not been seen otherwise since.
    pub(super) contested: bool,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The primary, if there is one.
    pub(super) primary: Option<usize>,
    /// Of each server, in the same order.
    pub(super) members: Vec<Verdict>,
    /// Those that could be primary; more than one is an alarm.
    pub(super) writable: Vec<usize>,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) role: Role,
    /// It gets what the primary writes, or had got it when the primary was lost.
    pub(super) replicates: bool,
    /// It takes writes beside the primary, or did so when that one was lost.
    pub(super) contested: bool,
}

/// Decides. `known`: who was primary last. `settled`: all servers had time to answer; before, a first primary is not chosen.
pub(super) fn decide(looks: &[Look<'_>], known: Option<usize>, settled: bool) -> Decision {
    let candidates: Vec<usize> = (0..looks.len()).filter(|at| is_candidate(looks, *at, known)).collect();
    let primary = choose(looks, &candidates, known, settled);
    let verdict = |(at, look): (usize, &Look<'_>)| {
        let Some(seen) = look.seen else {
            return Verdict { role: Role::Unknown, replicates: false, contested: look.contested };
        };
        let is_candidate = candidates.contains(&at);
        let role = match () {
            () if primary == Some(at) => Role::Primary,
            () if !is_candidate && !seen.sources.is_empty() => Role::Replica,
            () => Role::Unknown,
        };
        Verdict {
            role,
            replicates: role == Role::Replica && replicates(looks, at, primary, &candidates),
            contested: is_candidate && primary != Some(at) && (primary.is_some() || look.contested),
        }
    };
    let members = looks.iter().enumerate().map(verdict).collect();
    Decision { primary, members, writable: candidates }
}

fn choose(looks: &[Look<'_>], candidates: &[usize], known: Option<usize>, settled: bool) -> Option<usize> {
    if let Some(known) = known.filter(|known| candidates.contains(known)) {
        return Some(known);
    }
    let is_lost = known.is_some_and(|known| looks.get(known).is_some_and(|look| look.seen.is_none()));
    if known.is_none() && !settled {
        return None;
    }
    let allowed = |at: &usize| !is_lost || !looks[*at].contested;
    let allowed: Vec<usize> = candidates.iter().copied().filter(allowed).collect();
    match allowed[..] {
        [only] => Some(only),
        // Of several, the one that is followed, if only one is. While the known one is lost, nothing is guessed.
        _ if is_lost => None,
        _ => {
            let mut followed = allowed.into_iter().filter(|at| is_followed(looks, *at));
            followed.next().filter(|_| followed.next().is_none())
        }
    }
}

/// It takes writes, and it is not a replica of a server that may take them too.
fn is_candidate(looks: &[Look<'_>], at: usize, known: Option<usize>) -> bool {
    let Some(seen) = looks[at].seen.filter(|seen| seen.is_writable) else { return false };
    let mut sources = seen.sources.iter().filter(|source| source.runs());
    !sources.any(|source| {
        let Some(other) = find(looks, source).filter(|other| *other != at) else { return false };
        match looks[other].seen {
            // A replica without read_only, whose primary is lost. But the primary of a ring does not fall with its replica.
            None => known != Some(at),
            // Of two that follow each other both are candidates.
            Some(of) => of.is_writable && !follows(looks, of, at),
        }
    })
}

/// Whether a server follows the one at `at`.
fn follows(looks: &[Look<'_>], seen: &Seen, at: usize) -> bool {
    seen.sources.iter().any(|source| source.runs() && find(looks, source) == Some(at))
}

fn is_followed(looks: &[Look<'_>], at: usize) -> bool {
    let others = looks.iter().enumerate().filter(|(other, _)| *other != at);
    others.filter_map(|(_, look)| look.seen).any(|seen| follows(looks, seen, at))
}

/// The server of the block that a source is: by its id, else by its address.
fn find(looks: &[Look<'_>], source: &Source) -> Option<usize> {
    let by_id = source.server_id.and_then(|id| {
        let mut of = looks.iter().enumerate().filter(|(_, look)| look.server_id == Some(id));
        of.next().filter(|_| of.next().is_none())
    });
    let by_address = || {
        looks.iter().enumerate().find(|(_, look)| {
            look.port == source.port && look.hosts.iter().any(|host| host.eq_ignore_ascii_case(&source.host))
        })
    };
    by_id.or_else(by_address).map(|(at, _)| at)
}

/// Which of a server's sources matter: those within the block, or all if none is.
pub(super) fn matter<'a>(looks: &[Look<'a>], at: usize) -> Vec<&'a Source> {
    let Some(seen) = looks.get(at).and_then(|look| look.seen) else { return Vec::new() };
    let within = |source: &&Source| find(looks, source).is_some_and(|other| other != at);
    let any = seen.sources.iter().any(|source| within(&source));
    seen.sources.iter().filter(|source| !any || within(source)).collect()
}

fn replicates(looks: &[Look<'_>], at: usize, primary: Option<usize>, candidates: &[usize]) -> bool {
    matter(looks, at).into_iter().all(|source| {
        let runs = source.sql == Thread::Yes && (source.io == Thread::Yes || primary.is_none());
        // Who follows another one that takes writes does not get what the primary writes.
        let strays = find(looks, source).is_some_and(|of| primary != Some(of) && candidates.contains(&of));
        runs && !strays
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::mysql::facts::Version;

    /// A server by a few words: `w` takes writes, `r` is read-only, `-` was not reached, `!` is contested; then whom it follows
    /// with its threads: `>0` both run, `~0` it connects, `x0` it is stopped.
    fn seen(id: usize, words: &str) -> Option<Seen> {
        let mut letters = words.chars().filter(|letter| *letter != '!');
        let is_writable = match letters.next()? {
            '-' => return None,
            letter => letter == 'w',
        };
        let mut sources = Vec::new();
        while let (Some(how), Some(whom)) = (letters.next(), letters.next()) {
            let (io, sql) = match how {
                '>' => (Thread::Yes, Thread::Yes),
                '~' => (Thread::Connecting, Thread::Yes),
                _ => (Thread::No, Thread::No),
            };
            let host = format!("db{whom}");
            sources.push(Source { host, port: 3306, io, sql, ..Source::default() });
        }
        Some(Seen {
            asked: Moment(1),
            answered: Moment(2),
            version: Version::parse(b"10.11.6-MariaDB").unwrap(),
            server_id: id as u64 + 1,
            is_writable,
            has_init: false,
            has_gtids: true,
            applied: Vec::new(),
            executed: Vec::new(),
            sources,
        })
    }

    /// The roles as words: `P` primary, `R` replica, `S` a replica that does not replicate, `?` unknown, `!` contested too.
    fn roles(servers: &[&str], known: Option<usize>, settled: bool) -> String {
        let all: Vec<Option<Seen>> = servers.iter().enumerate().map(|(id, words)| seen(id, words)).collect();
        let hosts: Vec<String> = (0..all.len()).map(|id| format!("db{id}")).collect();
        let look = |(id, seen): (usize, &'_ Option<Seen>)| -> Look<'static> {
            Look {
                seen: Box::leak(Box::new(seen.clone())).as_ref(),
                server_id: Some(id as u64 + 1),
                hosts: ["10.0.0.1", Box::leak(hosts[id].clone().into_boxed_str())],
                port: 3306,
                contested: servers[id].contains('!'),
            }
        };
        let looks: Vec<Look<'_>> = all.iter().enumerate().map(look).collect();
        let decision = decide(&looks, known, settled);
        let word = |one: &Verdict| {
            let role = match one.role {
                Role::Primary => "P",
                Role::Replica if one.replicates => "R",
                Role::Replica => "S",
                Role::Unknown => "?",
            };
            format!("{role}{}", if one.contested { "!" } else { "" })
        };
        decision.members.iter().map(word).collect()
    }

    #[test]
    fn roles_are_decided() {
        let table: &[(&[&str], Option<usize>, &str, &str)] = &[
            (&["w", "r>0", "r>0"], None, "PRR", "the usual"),
            (&["w", "w>0", "r>0"], None, "PRR", "a replica that forgot read_only"),
            (&["w", "r", "rx0"], Some(0), "P?S", "one that follows nobody, one that was stopped"),
            (&["w", "r>0", "r>1"], None, "PRR", "a chain"),
            (&["w", "r~0"], Some(0), "PS", "a replica that has lost its source"),
            (&["-", "r~0", "r>0"], Some(0), "?RR", "the primary is lost: who has what it wrote serves on"),
            (&["-", "w~0", "r~0"], Some(0), "?RR", "a writable replica of a lost primary is no primary"),
            (&["-", "w", "r>1"], Some(0), "?PR", "promoted"),
            (&["r", "w", "r>1"], Some(0), "?PR", "switched over"),
            (&["r>1", "w", "r>1"], Some(0), "RPR", "switched over, the old one follows"),
            (&["w>1", "w", "r>1"], Some(0), "RPR", "the same without read_only"),
            (&["w", "w", "r>0"], Some(0), "P?!R", "two: the known one stays"),
            (&["w", "w", "r>1"], Some(0), "P?!S", "the same, and a replica follows the wrong one"),
            (&["w", "w!", "r>0"], Some(0), "P?!R", "still"),
            (&["-", "w!", "r~0"], Some(0), "??!R", "the known one is lost: the other one is not followed"),
            (&["-", "-!", "r~0"], Some(0), "??!R", "nor when it comes back later"),
            (&["r", "w!", "r>1"], Some(0), "?PR", "the known one gave way"),
            (&["w", "r!", "r>0"], Some(0), "P?R", "the other one gave way"),
            (&["-", "w", "w"], Some(0), "???", "two new ones: nothing is guessed"),
            (&["w", "w", "r>1"], None, "?!PR", "two at the start: the one that is followed"),
            (&["w", "w", "r"], None, "???", "two at the start, and nothing speaks for one"),
            (&["w>1", "r>0"], None, "PR", "a ring, one of which is read-only"),
            (&["w~1", "-"], Some(0), "P?", "a ring whose other server is lost"),
            (&["w~1", "-"], None, "R?", "the same at the start: it could be a replica"),
            (&["w>1", "w>0"], Some(1), "?!P", "a ring in which both take writes"),
            (&["w>9", "r>0"], None, "PR", "replicates from elsewhere"),
            (&["r>9", "r>0"], None, "RR", "only replicas: the primary is not in the block"),
            (&[], None, "", "none"),
        ];
        for (servers, known, expected, about) in table {
            assert_eq!(roles(servers, *known, true), *expected, "{about}: {servers:?}");
        }
    }

    #[test]
    fn a_first_primary_is_not_chosen_before_all_could_answer() {
        assert_eq!(roles(&["w", "-", "-"], None, false), "???");
        assert_eq!(roles(&["w", "-", "-"], None, true), "P??");
        assert_eq!(roles(&["w", "-", "-"], Some(0), false), "P??");
    }

    #[test]
    fn sources_are_found_by_id_before_address() {
        let one = seen(0, "w").unwrap();
        let mut two = seen(1, "r>9").unwrap();
        two.sources[0].server_id = Some(1);
        let look = |seen, host| Look {
            seen: Some(seen),
            server_id: None,
            hosts: [host, ""],
            port: 3306,
            contested: false,
        };
        let mut looks = [look(&one, "db0"), look(&two, "db1")];
        assert_eq!(find(&looks, &two.sources[0]), None);
        looks[0].server_id = Some(1);
        assert_eq!(find(&looks, &two.sources[0]), Some(0));
        looks[1].server_id = Some(1);
        assert_eq!(find(&looks, &two.sources[0]), None, "an id that two have says nothing");
        let source = Source { host: "DB1".into(), port: 3306, ..Source::default() };
        assert_eq!(find(&looks, &source), Some(1));
        assert_eq!(find(&looks, &Source { port: 3307, ..source }), None);
    }
}
