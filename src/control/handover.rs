//! Handing over to a new version of the program, and telling the watchdog that the workers turn.
//!
//! What goes in: the state. What comes out: a new process that serves from the same sockets; datagrams for systemd. It owns
//! nothing. Always true: the old process stops to accept only after the new one said that it serves.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use super::state::State;
use super::{systemd, upgrade};
use crate::clock;
use crate::limits::{SUCCESSOR_LOOK_TIME, TAKE_TIME, UPGRADE_TIME};
use crate::net::Address;
use crate::worker::shared::{Ask, Orders};

/// Starts the new version, waits until it serves, and begins to drain this one. Errors: why this process serves on.
pub(super) async fn upgrade(state: &Rc<State>) -> Result<u32, String> {
    // What a reload opens is handed over too, and what is handed over stays what it is: no change from here on.
    state.begin_upgrade().await?;
    let result = hand_over(state).await;
    state.end_upgrade();
    result
}

async fn hand_over(state: &Rc<State>) -> Result<u32, String> {
    if state.shared.is_draining() {
        return Err("this process is stopping already".into());
    }
    let mut sockets =
        doors(state).await.map_err(|error| format!("a listening socket cannot be copied: {error}"))?;
    sockets.extend(state.admin_doors.take_copies().map_err(|error| error.to_string())?);
    let starting =
        upgrade::start(upgrade::borrowed(&sockets), state.settings()).map_err(|error| error.to_string())?;
    drop(sockets);
    let child = starting.wait(UPGRADE_TIME).await.map_err(|error| error.to_string())?;
    let process = child.id();
    tokio::task::spawn_local(outlive(child));
    systemd::taken_over_by(process);
    state.left.send_replace(true);
    state.shared.order(Orders::Leave);
    Ok(process)
}

/// Waits for the end of the new version, should this process still be there: nobody else would.
async fn outlive(mut child: Child) {
    loop {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(SUCCESSOR_LOOK_TIME).await,
            Ok(Some(status)) => {
                return eprintln!("ringgate: the new version, process {}, has ended ({status})", child.id());
            }
            Err(_) => return,
        }
    }
}

/// Second descriptors of all listening sockets of the workers.
async fn doors(state: &State) -> io::Result<Vec<(Address, OwnedFd)>> {
    let (tell, told) = mpsc::channel();
    state.shared.ask(|_| {
        let tell = tell.clone();
        Ask::Doors(Box::new(move |copies| _ = tell.send(copies)))
    });
    drop(tell);
    let (mut list, workers) = (Vec::new(), state.shared.workers());
    let answers = answers(&told, workers).await;
    if answers.len() < workers {
        // Connections in the queue of a socket that is not handed over would be lost.
        return Err(io::Error::new(io::ErrorKind::TimedOut, "a worker does not answer"));
    }
    for copies in answers {
        for (address, copy) in copies {
            list.push((address, copy?));
        }
    }
    Ok(list)
}

/// What workers answer to a question, as far as they do in time.
pub(super) async fn answers<T>(told: &mpsc::Receiver<T>, workers: usize) -> Vec<T> {
    let mut list = Vec::with_capacity(workers);
    let until = clock::now() + TAKE_TIME;
    while list.len() < workers && clock::now() < until {
        match told.try_recv() {
            Ok(answer) => list.push(answer),
            Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    list
}

/// Tells systemd that the process lives, as long as every worker turns.
pub(super) async fn watchdog(state: Rc<State>) {
    let Some(interval) = systemd::watchdog_interval() else { return };
    loop {
        let (tell, told) = mpsc::channel();
        state.shared.ask(|_| {
            let tell = tell.clone();
            Ask::Sessions(0, Box::new(move |_| _ = tell.send(())))
        });
        drop(tell);
        let workers = state.shared.workers();
        if answers(&told, workers).await.len() == workers {
            systemd::alive();
        } else {
            eprintln!("ringgate: a worker does not turn");
        }
        tokio::time::sleep(interval).await;
    }
}
