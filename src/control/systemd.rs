//! What systemd is told, and what it hands over.
//!
//! What goes in: the environment that systemd set (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `LISTEN_FDS`). What comes out: datagrams
//! for it, listening sockets of it. It owns nothing. Always true: without systemd every function does nothing, quickly; a
//! message that cannot be sent is lost, serving goes on.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::limits::HANDED_MAX;
use crate::ring::{Listening, inherit_listening};

/// The first descriptor that systemd hands over.
const FIRST: RawFd = 3;

/// Everything listens (at the start), or the new configuration is at work (after [`reloading`]).
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// A reload begins; [`ready`] must follow, also when it was refused.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process drains, and ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(&one_line(text))]);
}

/// Another process takes over: systemd follows that one from now on. The unit needs `NotifyAccess=all`.
pub fn taken_over_by(process: u32) {
    tell(&[NotifyState::MainPid(process), NotifyState::Status("a new version has taken over")]);
}

/// The process lives. To be told every [`watchdog_interval`].
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be told: twice per `WatchdogSec`. `None` where systemd does not watch.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(Duration::from_millis(1)))
}

fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// A line break would begin another message.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Listening sockets of a `.socket` unit, with their names (`FileDescriptorName=`), once; later calls find none. Errors: what was handed
/// over is no listening stream socket.
pub fn activated() -> io::Result<Vec<(Listening, String)>> {
    let read = |name: &str| std::env::var(name).unwrap_or_default();
    let (process, count, names) = (read("LISTEN_PID"), read("LISTEN_FDS"), read("LISTEN_FDNAMES"));
    let take = |(number, name): (RawFd, String)| {
        let about = |error: io::Error| {
            let text = format!(
                "descriptor {number} ({name}) from systemd cannot be listened on: {error}; the socket unit needs ListenStream="
            );
            io::Error::new(error.kind(), text)
        };
        Ok((inherit_listening(number).map_err(about)?, name))
    };
    handed(std::process::id(), &process, &count, &names).into_iter().map(take).collect()
}

/// The descriptors that the variables name, if they are meant for this process.
fn handed(own: u32, process: &str, count: &str, names: &str) -> Vec<(RawFd, String)> {
    if process.parse() != Ok(own) {
        return Vec::new();
    }
    let count = count.parse::<RawFd>().unwrap_or(0).clamp(0, HANDED_MAX as RawFd);
    let mut names = names.split(':');
    let mut name = || names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
    (FIRST..FIRST + count).map(|number| (number, name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_taken_by_the_process_they_are_meant_for() {
        let cases = [
            ("7", "2", "http:https", vec![(3, "http"), (4, "https")]),
            ("7", "2", "http", vec![(3, "http"), (4, "unknown")]),
            ("8", "2", "http:https", vec![]),
            ("", "", "", vec![]),
            ("7", "-1", "", vec![]),
            ("7", "many", "", vec![]),
        ];
        for (process, count, names, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
            assert_eq!(handed(7, process, count, names), expected, "{process} {count} {names}");
        }
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(one_line("a\nMAINPID=1\r\n"), "a MAINPID=1  ");
    }
}
