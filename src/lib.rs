//! # ringgate: a front door for Linux hosts
//!
//! One process, one binary. A worker thread per core, each with its own io_uring. Clients connect; a worker decrypts TLS,
//! understands HTTP, chooses a server, and moves bytes both ways. The program is a thin shell around this library: a
//! front door can be started from any Rust program.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{TcpListener, TcpStream};
//!
//! // A port that is free now.
//! let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
//! let config = ringgate::Config::parse(
//!     &format!(
//!         "[http.hello]
//!          listen = [\"127.0.0.1:{port}\"]
//!          routes = [ {{ answer = {{ status = 200, text = \"hello\" }} }} ]
//!          [workers]
//!          count = 1"
//!     ),
//!     "hello.toml",
//! )?;
//! let running = ringgate::start(config)?;
//!
//! let mut client = TcpStream::connect(("127.0.0.1", port))?;
//! client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"));
//!
//! // What is in progress is finished, then the workers end.
//! running.drain();
//! running.join()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The design: five ideas, in order of importance
//!
//! 1. **Protocols do no I/O.** Not only the parsers: a whole session (a client connection and its server connections) is
//!    a plain struct. [`session::Session::on`] changes its state, [`session::Session::pump`] says what should be in
//!    flight. No socket, no clock, no future in it. The kernel is reached from one folder, [`ring`].
//! 2. **`pump` follows from state and is idempotent.** After every event the worker calls it once. It asks for a receive
//!    if and only if there is room, for a send if and only if there are bytes and no send is in flight. What happens
//!    once (connect, park, close) is decided by `on`.
//! 3. **Pages move; views do not outlive the event.** A [`buf::Page`] has exactly one holder: the pool, the kernel, or one
//!    queue. A parsed head is a borrowed view over a page: within one event it is parsed, judged and written anew. A body
//!    byte is not copied between the receive and the send.
//! 4. **Operations belong to sockets, sockets to the ring.** A session knows legs ([`session::Leg`]), the worker maps legs
//!    to sockets. Closing is a state of the ring: cancel, join, close, then exactly one `Closed`. Ids carry a generation: a
//!    completion of a socket's old life reaches nobody.
//! 5. **Every bound, every end, every counter has one home**: [`limits`], [`close`], [`counters`].
//!
//! # A request, step by step
//!
//! accept -> [`session::http`] -> [`session::conn`] (TLS) -> [`http::h1`] -> [`route`] -> [`balance`] -> [`session::dial`]
//! takes a kept connection or connects -> [`session::exchange`] -> [`session::relay`] -> send. The head is parsed in place
//! and rewritten into a fresh page. The relay moves pages and stops while the other side's outbox is full; then the inbox
//! fills, then no receive is asked for, then the kernel's window closes: back-pressure needs no further mechanism. The end
//! of an answer parks the server's connection and starts the next request, or ends with a reason from [`close`].
//!
//! # A change while running, step by step
//!
//! A signal, a call of the admin interface, a name that resolves differently, a file that changed -> [`control`], one thread
//! with an ordinary async runtime. It makes a configuration out of the file, the live settings and the addresses of names,
//! opens what listens newly, and publishes a [`worker::edition::Edition`]. Each worker takes it over between two turns: the
//! state of servers and the [`meters`] are shared with the edition before, sessions go over when their exchange allows
//! it ([`session::moves`]), and those on what was removed end in an orderly way. Everything that can fail is done before an
//! edition is published. In the other direction a finished exchange leaves an [`access::Access`], which becomes numbers
//! and, if wanted, a line of the log. What shapes SQL statements have each worker keeps for itself ([`meters::digests`]), and
//! tells when it is asked.
//!
//! # Who may import whom
//!
//! Downwards only; a test reads the `use crate::` lines and fails on any other edge.
//!
//! | layer | modules | what |
//! |---|---|---|
//! | 0 | [`access`] [`buf`] [`clock`] [`close`] [`counters`] [`ids`] [`limits`] [`net`] | the nouns |
//! | 1 | [`http`] [`mysql`] [`proxyproto`] [`tls`] | bytes <-> meaning |
//! | 2 | [`config`] [`route`] [`balance`] [`cluster`] [`meters`] | text -> model, meaning -> choice |
//! | 3 | [`session`] | choice -> intentions |
//! | 3 | [`tell`] | model -> words for people |
//! | 4 | [`ring`] (imports layer 0 only) [`sandbox`] | intentions -> kernel; giving up what is not needed |
//! | 5 | [`worker`] | where sessions meet the kernel |
//! | 5 | [`control`] (imports [`worker`]; never the other way) | where the process is run |
//! | 6 | [`cli`] | the command line |
//!
//! [`session`] and [`ring`] do not know each other. [`http`] does not know [`config`]. Nothing below [`worker`] knows
//! threads. Workers share three things only, in [`worker::shared`]: the edition, the balancer's atomics, and
//! counters that each worker writes for itself.

pub mod access;
pub mod buf;
pub mod clock;
pub mod close;
pub mod counters;
pub mod ids;
pub mod limits;
pub mod net;

pub mod http;
pub mod mysql;
pub mod proxyproto;
pub mod tls;

pub mod balance;
pub mod cluster;
pub mod config;
pub mod meters;
pub mod route;

pub mod session;
pub mod tell;

pub mod ring;
pub mod sandbox;

pub mod worker;

pub mod control;

pub mod cli;

pub use config::model::Config;
pub use control::{Running, start};
pub use worker::spawn::StartError;
