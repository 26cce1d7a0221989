//! A connection after its handshake: the keys of both directions, and the messages that may still come.
//!
//! What goes in: opened records that are not data (alerts, key updates, tickets). What comes out: answers to them. It
//! owns both directions' keys, and what rustls keeps for key updates. Always true: at most
//! [`QUIET_RECORDS_MAX`] records in a row carry no data.

use rustls::{ExtractedSecrets, SupportedCipherSuite};

use super::TlsError;
use super::handshake::Kernel;
use super::records::{ALERT, Direction, HANDSHAKE, Layout};
use crate::buf::{Pool, Queue};

/// Records in a row that carry no application data: empty ones, alerts, key updates, tickets.
const QUIET_RECORDS_MAX: u32 = 32;
/// Key updates of the other side over the whole connection: each one costs us key derivation. At one an hour that is
/// six weeks.
const KEY_UPDATES_MAX: u32 = 1024;
/// Bytes of a handshake message after the handshake: a ticket and its extensions.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the largest record written here: front, an alert or key update, back.
const SMALL_RECORD_BYTES_MAX: usize = 64;

/// Handshake types (RFC 8446 section 4, RFC 5246 section 7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Alert descriptions (RFC 8446 section 6).
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

/// Both directions of an established connection.
pub(super) struct Traffic {
    pub(super) seal: Direction,
    pub(super) open: Direction,
    /// `None` with TLS 1.2, which has neither key updates nor late tickets.
    kernel: Option<Kernel>,
    is_client: bool,
    suite: SupportedCipherSuite,
    /// A handshake message that is not complete.
    message: Vec<u8>,
    quiet_records: u32,
    key_updates: u32,
    /// The other side wants us to change keys before we send data again (RFC 8446 section 4.6.3). However often it
    /// asks, it gets one answer.
    update_asked: bool,
    renegotiation_refused: bool,
    pub(super) peer_closed: bool,
    pub(super) closed: bool,
}

impl Traffic {
    pub(super) fn new(
        secrets: &ExtractedSecrets,
        suite: SupportedCipherSuite,
        kernel: Kernel,
    ) -> Result<Self, TlsError> {
        let seal = Direction::new(secrets.tx.0, &secrets.tx.1, suite)?;
        let open = Direction::new(secrets.rx.0, &secrets.rx.1, suite)?;
        let is_client = matches!(kernel, Kernel::Client(_));
        let kernel = (seal.layout() == Layout::V13).then_some(kernel);
        Ok(Self {
            seal,
            open,
            kernel,
            is_client,
            suite,
            message: Vec::new(),
            quiet_records: 0,
            key_updates: 0,
            update_asked: false,
            renegotiation_refused: false,
            peer_closed: false,
            closed: false,
        })
    }

    /// Counts a record that carried `len` bytes of data.
    pub(super) fn on_data(&mut self, len: usize) -> Result<(), TlsError> {
        if !self.message.is_empty() {
            // RFC 8446 section 5.1: handshake messages must not be interleaved with other types.
            return Err(TlsError::Unexpected);
        }
        if len > 0 {
            self.quiet_records = 0;
            return Ok(());
        }
        self.on_quiet()
    }

    fn on_quiet(&mut self) -> Result<(), TlsError> {
        self.quiet_records += 1;
        if self.quiet_records > QUIET_RECORDS_MAX { Err(TlsError::Flood) } else { Ok(()) }
    }

    /// Handles an opened record that is not data.
    pub(super) fn on_record(
        &mut self,
        kind: u8,
        content: &[u8],
        out: &mut Queue,
        pool: &mut Pool,
    ) -> Result<(), TlsError> {
        self.on_quiet()?;
        match kind {
            ALERT if self.message.is_empty() => self.on_alert(content),
            HANDSHAKE if content.is_empty() => Err(TlsError::Unexpected),
            HANDSHAKE if self.seal.layout() == Layout::V13 => self.on_message_bytes(content),
            HANDSHAKE => self.on_renegotiation(content, out, pool),
            // A change of cipher spec, and what no RFC knows.
            _ => Err(TlsError::Unexpected),
        }
    }

    /// RFC 8446 section 6, RFC 5246 section 7.2.
    const fn on_alert(&mut self, content: &[u8]) -> Result<(), TlsError> {
        let &[level, description] = content else { return Err(TlsError::BadMessage) };
        match (self.seal.layout(), level, description) {
            (_, _, CLOSE_NOTIFY) => self.peer_closed = true,
            (Layout::V13, _, USER_CANCELED) | (Layout::V12Gcm | Layout::V12ChaCha, 1, _) => {}
            _ => return Err(TlsError::Alert(description)),
        }
        Ok(())
    }

    /// TLS 1.2: a wish to renegotiate is refused once (RFC 5246 section 7.2.2); everything else is wrong.
    fn on_renegotiation(&mut self, content: &[u8], out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        let asked = if self.is_client { HELLO_REQUEST } else { CLIENT_HELLO };
        if content.first() != Some(&asked) {
            return Err(TlsError::Unexpected);
        }
        if self.renegotiation_refused {
            return Err(TlsError::Renegotiation);
        }
        self.renegotiation_refused = true;
        self.write(ALERT, &[1, NO_RENEGOTIATION], out, pool)
    }

    /// TLS 1.3: messages may share a record and may be spread over several.
    fn on_message_bytes(&mut self, content: &[u8]) -> Result<(), TlsError> {
        let mut held = std::mem::take(&mut self.message);
        held.extend_from_slice(content);
        let mut rest = &held[..];
        while let &[kind, high, middle, low, ref behind @ ..] = rest {
            let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if len > MESSAGE_BYTES_MAX {
                return Err(TlsError::BadMessage);
            }
            let Some((body, behind)) = behind.split_at_checked(len) else { break };
            rest = behind;
            self.on_message(kind, body, rest.is_empty())?;
        }
        // Only what is left is kept, and nothing is allocated when nothing is left.
        self.message = rest.to_vec();
        Ok(())
    }

    fn on_message(&mut self, kind: u8, body: &[u8], last: bool) -> Result<(), TlsError> {
        match (kind, body) {
            // RFC 8446 section 5.1: a message before a change of keys ends with its record.
            (KEY_UPDATE, &[0 | 1]) if !last => Err(TlsError::Unexpected),
            (KEY_UPDATE, &[asked @ (0 | 1)]) => {
                self.key_updates += 1;
                if self.key_updates > KEY_UPDATES_MAX {
                    return Err(TlsError::Flood);
                }
                let (number, secrets) = match &mut self.kernel {
                    Some(Kernel::Server(kernel)) => kernel.update_rx_secret()?,
                    Some(Kernel::Client(kernel)) => kernel.update_rx_secret()?,
                    None => return Err(TlsError::Unexpected),
                };
                self.open = Direction::new(number, &secrets, self.suite)?;
                self.update_asked |= asked == 1;
                Ok(())
            }
            (KEY_UPDATE, _) => Err(TlsError::BadMessage),
            (NEW_SESSION_TICKET, _) => match &mut self.kernel {
                Some(Kernel::Client(kernel)) => {
                    kernel.handle_new_session_ticket(body).map_err(|_| TlsError::BadMessage)
                }
                _ => Err(TlsError::Unexpected),
            },
            _ => Err(TlsError::Unexpected),
        }
    }

    /// New keys for what we send (RFC 8446 section 4.6.3), announced under the old ones.
    pub(super) fn update_keys(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        self.write(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out, pool)?;
        self.update_asked = false;
        let (number, secrets) = match &mut self.kernel {
            Some(Kernel::Server(kernel)) => kernel.update_tx_secret()?,
            Some(Kernel::Client(kernel)) => kernel.update_tx_secret()?,
            None => return Err(TlsError::Exhausted),
        };
        self.seal = Direction::new(number, &secrets, self.suite)?;
        Ok(())
    }

    /// Renews the keys before data is sent: when the other side has asked for it, or when they have sealed nearly as many
    /// records as is safe (RFC 8446 section 5.5).
    pub(super) fn renew_if_due(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        let records_max = match self.suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        // The last few are kept for alerts and the key update itself.
        if !self.update_asked && self.seal.number() < records_max.saturating_sub(8) {
            return Ok(());
        }
        if self.kernel.is_none() { Err(TlsError::Exhausted) } else { self.update_keys(out, pool) }
    }

    /// Tells the other side that nothing more will be sent.
    pub(super) fn close_notify(&mut self, out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        if self.closed {
            return Ok(());
        }
        self.write(ALERT, &[1, CLOSE_NOTIFY], out, pool)?;
        self.closed = true;
        Ok(())
    }

    /// Writes a fatal alert; without a page for it the connection closes without one.
    pub(super) fn alert(&mut self, description: u8, out: &mut Queue, pool: &mut Pool) {
        if !self.closed {
            let _ = self.write(ALERT, &[2, description], out, pool);
            self.closed = true;
        }
    }

    /// Seals a few bytes that are not data, behind what is to be sent already.
    fn write(&mut self, kind: u8, content: &[u8], out: &mut Queue, pool: &mut Pool) -> Result<(), TlsError> {
        if pool.available() == 0 {
            // Before a record's number is used up.
            return Err(TlsError::Starved);
        }
        let (front, back) = (self.seal.layout().front(), self.seal.layout().back());
        let mut record = [0; SMALL_RECORD_BYTES_MAX];
        let len = front + content.len() + back;
        record[front..front + content.len()].copy_from_slice(content);
        self.seal.seal(kind, &mut record[..len])?;
        if out.append(&record[..len], pool) { Ok(()) } else { Err(TlsError::Internal) }
    }
}
