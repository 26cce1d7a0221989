//! What a process costs, as the kernel counts it: CPU time and memory of a program with all its children.
//!
//! In: a process id. Out: plain numbers from `/proc`. Owns nothing. Always true: a program's numbers cover its
//! threads (the kernel sums them) and all its descendants; children that ended are in their parent's `cutime`.

use std::collections::HashSet;
use std::fs;

/// Microseconds of one tick in `/proc/PID/stat`: USER_HZ is 100 in the ABI of x86, ARM and RISC-V.
const TICK_US: u64 = 10_000;

/// The fields of `/proc/PID/stat` that count here (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent's process id.
    pub parent: u32,
    /// Ticks of CPU, user and system, of all threads and of children that ended.
    pub ticks: u64,
}

/// Parses `/proc/PID/stat`. The program's name stands in parentheses and may hold blanks and parentheses itself.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 4 of proc(5) is the second after the name; utime, stime, cutime and cstime are 14 to 17.
    let parent = fields.get(1)?.parse().ok()?;
    let mut ticks = 0;
    for field in fields.get(11..15)? {
        ticks += field.parse::<u64>().ok()?;
    }
    Some(Stat { parent, ticks })
}

/// The process and all its descendants that are alive.
pub fn family(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(stat) = read_stat(pid) {
            parents.push((pid, stat.parent));
        }
    }
    descendants(root, &parents)
}

/// `root` and everything below it in a list of (process, parent).
fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut seen = HashSet::from([root]);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        for &(pid, its_parent) in parents {
            if its_parent == parent && seen.insert(pid) {
                found.push(pid);
            }
        }
    }
    found
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// CPU microseconds (user and system) that the program used so far.
pub fn cpu_us(root: u32) -> u64 {
    family(root).into_iter().filter_map(read_stat).map(|stat| stat.ticks * TICK_US).sum()
}

/// Memory of a program in KiB, summed over its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident; a page that two processes share counts twice.
    pub rss_kib: u64,
    /// Proportional: a page that n processes share counts 1/n for each.
    pub pss_kib: u64,
    /// The highest RSS so far.
    pub peak_kib: u64,
}

/// The memory of the program now.
pub fn memory(root: u32) -> Memory {
    let mut sum = Memory::default();
    for pid in family(root) {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let rollup = read("smaps_rollup");
        sum.rss_kib += kib(&rollup, "Rss:").unwrap_or(0);
        sum.pss_kib += kib(&rollup, "Pss:").unwrap_or(0);
        sum.peak_kib += kib(&read("status"), "VmHWM:").unwrap_or(0);
    }
    sum
}

/// The number behind `key` in a file of `key: number kB` lines.
fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU microseconds that one core was busy so far, whoever used it, time stolen by the host included.
pub fn core_busy_us(core: usize) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    parse_core(&text, core).unwrap_or(0) * TICK_US
}

/// Busy ticks of a core in `/proc/stat`: user, nice, system, irq, softirq, steal; not idle and iowait.
fn parse_core(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(name.as_str()))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|f| f.parse().ok()).collect();
    let busy = fields.get(..3)?.iter().sum::<u64>() + fields.get(5..8)?.iter().sum::<u64>();
    Some(busy)
}

/// The cores this process may use, from `/proc/self/status`.
pub fn cores_allowed() -> Vec<usize> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    parse_cores(list.trim())
}

/// A list such as `0-2,5`.
fn parse_cores(list: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// The middle value; of an even count the mean of the two in the middle. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_a_name_that_looks_like_fields() {
        let text = "4242 (a) S 7 (b) R) S 77 4242 4242 0 -1 4194560 1000 0 0 0 150 250 3 4 20 0 1 0 99 1 1\n";
        assert_eq!(parse_stat(text), Some(Stat { parent: 77, ticks: 407 }));
        assert_eq!(parse_stat("4242 (nginx) S 77 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn finds_children_of_children_whatever_the_order() {
        let parents = [(30, 20), (20, 10), (11, 1), (10, 1), (31, 20)];
        let mut found = descendants(10, &parents);
        found.sort_unstable();
        assert_eq!(found, [10, 20, 30, 31]);
    }

    #[test]
    fn counts_its_own_family() {
        assert!(family(std::process::id()).contains(&std::process::id()));
        assert!(memory(std::process::id()).rss_kib > 0);
    }

    #[test]
    fn reads_busy_time_of_one_core() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 8 16 32 64 128 0 0\ncpu1 5 0 0 7 7 0 0 0 0 0\n";
        assert_eq!(parse_core(text, 0), Some(231));
        assert_eq!(parse_core(text, 1), Some(5));
        assert_eq!(parse_core(text, 2), None);
    }

    #[test]
    fn reads_lists_of_cores() {
        for (text, expected) in
            [("0-1", vec![0, 1]), ("3", vec![3]), ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8]), ("", vec![])]
        {
            assert_eq!(parse_cores(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_kib_lines() {
        assert_eq!(kib("Rss:   1692 kB\nPss:  323 kB\n", "Pss:"), Some(323));
        assert_eq!(kib("Rss:   1692 kB\n", "VmHWM:"), None);
    }

    #[test]
    fn median_is_the_middle() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
            (vec![4.0, 1.0, 2.0, 9.0], Some(3.0)),
        ] {
            assert_eq!(median(&values), expected, "{values:?}");
        }
    }
}
