//! A server that follows a script, for everything that a decent server never does.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Wire, address};

/// What a server received, by connection.
pub type Record = Arc<Mutex<Vec<Vec<u8>>>>;

/// A scripted server: its script runs once per connection, in a thread of its own.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    record: Record,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one; `script` gets each connection, whose `number` counts from 0. The connection closes when it returns.
    pub fn start(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        Self::start_at(address(), script)
    }

    /// The same on a given address.
    pub fn start_at(at: SocketAddr, script: impl Fn(&mut Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let record = Record::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let (kept, stop, script) = (record.clone(), stopping.clone(), Arc::new(script));
        let accepting = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                kept.lock().unwrap().push(Vec::new());
                let (script, record) = (script.clone(), kept.clone());
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    wire.number = number;
                    wire.record = Some(record);
                    script(&mut wire);
                });
            }
        });
        Self { address: at, record, stopping, accepting: Some(accepting) }
    }

    /// One that answers every complete request with these bytes, on kept connections.
    pub fn answering(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::start(move |wire| {
            while let Ok(Some(request)) = wire.request() {
                let head_alone = request.head.starts_with("HEAD ");
                let end = if head_alone { answer.find("\r\n\r\n").unwrap() + 4 } else { answer.len() };
                if wire.send(&answer.as_bytes()[..end]).is_err() {
                    return;
                }
            }
        })
    }

    /// One that answers `200` with the body `ok`.
    pub fn ok() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }

    /// What was received, by connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.record.lock().unwrap().clone()
    }

    /// Everything that was received, as text, connection after connection.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received().concat()).into_owned()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.record.lock().unwrap().len()
    }

    /// Forgets what was received. Only when no connection is open.
    pub fn forget(&self) {
        for bytes in self.record.lock().unwrap().iter_mut() {
            bytes.clear();
        }
    }

    /// How often `text` was received.
    pub fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }

    /// Stops listening; open connections go on with their script.
    pub fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(accepting) = self.accepting.take() {
            let _ = TcpStream::connect(self.address);
            let _ = accepting.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
