//! `ringgate top`: a running process, live, in a terminal.
//!
//! What goes in: answers of the admin interface, once a second, and keys. What comes out: a picture of the size of the
//! terminal; with `--once`, one picture as text. It owns the terminal while it runs. Always true: the terminal is given
//! back as it was, after `q`, a signal and a panic alike; a process that does not answer is asked again.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::de::DeserializeOwned;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::admin_address::Reach;
use super::admin_client::{Client, Trouble};
use super::{complain, ctl, say};

mod draw;
mod view;

use view::{Snapshot, Sort, View};

/// The pause between two questions to the process.
const REFRESH: Duration = Duration::from_secs(1);
/// How long a key or a signal waits to be seen.
const KEY_TIME: Duration = Duration::from_millis(100);
/// Columns of a picture as text.
const ONCE_COLUMNS: u16 = 100;

const KEYS: &str = "\
Keys:
  q, Esc       leave                         n, s, f, r, l, e   sort by name, state, in flight,
  Up, Down     move through the servers                         rate, latency (p99), errors
  PgUp, PgDn   by ten; Home, End             p                  pause";

/// The arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = KEYS)]
pub(super) struct Top {
    #[command(flatten)]
    reach: Reach,
    /// Print one picture as text and end
    #[arg(long)]
    once: bool,
}

/// Shows a running process until the user leaves.
pub(super) fn run(arguments: &Top) -> ExitCode {
    let shown = arguments.reach.client().and_then(|client| match arguments.once {
        true => once(&client),
        false if !std::io::stdout().is_terminal() => {
            Err(Trouble::new("top needs a terminal", "ringgate top --once prints one picture as text"))
        }
        false => live(client),
    });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            complain(&ctl::clean(&format!("ringgate: {trouble}")));
            ExitCode::FAILURE
        }
    }
}

/// One picture as text, high enough for all servers.
fn once(client: &Client) -> Result<(), Trouble> {
    let mut view = View::new(client.place().to_string());
    view.take(Ok(fetch(client)?));
    // A picture has less than 65,536 cells.
    let lines = draw::lines(&view).min(u16::MAX / ONCE_COLUMNS);
    let Ok(mut terminal) = ratatui::Terminal::new(TestBackend::new(ONCE_COLUMNS, lines));
    let Ok(_) = terminal.draw(|frame| draw::plain(frame, &view));
    let rows = terminal.backend().buffer().content.chunks(usize::from(ONCE_COLUMNS));
    let lines =
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned());
    say(&lines.collect::<Vec<_>>().join("\n"));
    Ok(())
}

/// The picture follows the process until the user leaves or a signal comes.
fn live(client: Client) -> Result<(), Trouble> {
    let leave = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&leave))
            .map_err(|error| Trouble::new(format!("signals cannot be received: {error}"), ""))?;
    }
    let place = client.place().to_string();
    let answers = ask_for_ever(client);
    // This also makes a panic restore the terminal before it is printed.
    let mut terminal = ratatui::try_init()
        .map_err(|error| Trouble::new(format!("the terminal cannot be used: {error}"), ""))?;
    let ended = watch(&mut terminal, View::new(place), &answers, &leave);
    ratatui::restore();
    ended.map_err(|error| Trouble::new(format!("the terminal failed: {error}"), ""))
}

fn watch(
    terminal: &mut DefaultTerminal,
    mut view: View,
    answers: &Receiver<Result<Snapshot, Trouble>>,
    leave: &AtomicBool,
) -> std::io::Result<()> {
    let mut is_stale = true;
    while !leave.load(Ordering::Relaxed) {
        if is_stale {
            terminal.draw(|frame| draw::live(frame, &mut view))?;
        }
        is_stale = event::poll(Duration::ZERO)?;
        if is_stale {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !press(&mut view, key) => {
                    return Ok(());
                }
                _ => continue,
            }
        }
        match answers.recv_timeout(KEY_TIME) {
            Ok(answer) => {
                view.take(answer);
                is_stale = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

/// Obeys a key. False when the user leaves.
fn press(view: &mut View, key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c' | 'd') if control => return false,
        KeyCode::Char('p' | ' ') => view.pause(),
        KeyCode::Char(letter) => {
            if let Some(sort) = Sort::of_key(letter) {
                view.sort_by(sort);
            }
        }
        KeyCode::Up => view.step(-1),
        KeyCode::Down => view.step(1),
        KeyCode::PageUp => view.step(-10),
        KeyCode::PageDown => view.step(10),
        KeyCode::Home => view.step(isize::MIN),
        KeyCode::End => view.step(isize::MAX),
        _ => {}
    }
    true
}

/// Asks once per second, on a thread of its own: an interface that is slow to answer does not make keys slow.
fn ask_for_ever(client: Client) -> Receiver<Result<Snapshot, Trouble>> {
    let (send, answers) = sync_channel(1);
    thread::spawn(move || {
        while send.send(fetch(&client)).is_ok() {
            thread::sleep(REFRESH);
        }
    });
    answers
}

fn fetch(client: &Client) -> Result<Snapshot, Trouble> {
    Ok(Snapshot {
        status: get(client, "/v1/status")?,
        servers: get(client, "/v1/servers")?,
        listeners: get(client, "/v1/listeners")?,
        at: crate::clock::now(),
    })
}

fn get<T: DeserializeOwned>(client: &Client, target: &str) -> Result<T, Trouble> {
    let body = client.ask("GET", target, None)?;
    serde_json::from_str(&body)
        .map_err(|error| Trouble::new(format!("the answer to {target} is not understood: {error}"), ""))
}
