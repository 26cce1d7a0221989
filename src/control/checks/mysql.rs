//! Whether a MySQL or MariaDB server takes clients.
//!
//! What goes in: a connection. What comes out: the version that greeted, or why there is none. It owns nothing. Always true:
//! a packet is read only when it is no longer than [`CHECK_BYTES_MAX`].
//!
//! A client that leaves after the greeting counts as a failed handshake, and after `max_connect_errors` (100) of them the
//! server blocks the host. So the check goes on: it says that it is the user `ringgate_check`. There need be no such
//! user: "access denied" ends the handshake in order, and says that the server works.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::ask::{Stream, took, words};
use crate::clock::Moment;
use crate::limits::CHECK_BYTES_MAX;

const USER: &[u8] = b"ringgate_check\0";
const PLUGIN: &[u8] = b"mysql_native_password\0";
/// CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x0000_0200 | 0x0000_8000 | 0x0008_0000;
const UTF8: u8 = 33;
const ERROR: u8 = 0xff;
const SWITCH: u8 = 0xfe;
const OK: u8 = 0x00;
/// "Too many connections", "Host is blocked", "Host is not allowed": it takes no clients, or none from here.
const NOT_SERVED: [u16; 3] = [1040, 1129, 1130];

/// Reads the greeting and answers it in order.
pub(super) async fn greeted(stream: &mut impl Stream, begin: Moment) -> Result<String, String> {
    let (_, greeting) = packet(stream).await?;
    let version = match greeting.split_first() {
        Some((10, rest)) => rest.split(|byte| *byte == 0).next().unwrap_or_default(),
        Some((&ERROR, _)) => return Err(refusal(&greeting).1),
        Some((version, _)) => return Err(format!("greets in version {version} of the protocol, not 10")),
        None => return Err("what it greets with is not MySQL".into()),
    };
    let version: String =
        String::from_utf8_lossy(version).chars().filter(|c| !c.is_control()).take(64).collect();
    // MariaDB 10 says that it is 5.5.5, for the sake of old replicas.
    let version = version.strip_prefix("5.5.5-").unwrap_or(&version);
    let text = format!("{version} in {}", took(begin));
    match say_who(stream).await {
        Some((code, why)) if NOT_SERVED.contains(&code) => Err(why),
        _ => Ok(text),
    }
}

/// Says who it is, and ends in order whatever the answer. An error packet is the answer of this.
async fn say_who(stream: &mut impl Stream) -> Option<(u16, String)> {
    let mut body = CAPABILITIES.to_le_bytes().to_vec();
    body.extend((1u32 << 24).to_le_bytes());
    body.push(UTF8);
    body.extend([0; 23]);
    body.extend(USER);
    body.push(0);
    body.extend(PLUGIN);
    send(stream, 1, &body).await?;
    let (number, mut answer) = packet(stream).await.ok()?;
    if answer.first() == Some(&SWITCH) {
        // Another plugin: no password is no password there too.
        send(stream, number.wrapping_add(1), &[]).await?;
        answer = packet(stream).await.ok()?.1;
    }
    match answer.first() {
        Some(&ERROR) => Some(refusal(&answer)),
        Some(&OK) => {
            const QUIT: u8 = 1;
            send(stream, 0, &[QUIT]).await?;
            None
        }
        _ => None,
    }
}

async fn send(stream: &mut impl Stream, number: u8, body: &[u8]) -> Option<()> {
    let [a, b, c, _] = u32::try_from(body.len()).ok()?.to_le_bytes();
    let mut bytes = vec![a, b, c, number];
    bytes.extend(body);
    stream.write_all(&bytes).await.ok()
}

/// A packet and its number.
async fn packet(stream: &mut impl Stream) -> Result<(u8, Vec<u8>), String> {
    let mut head = [0; 4];
    read(stream, &mut head).await?;
    let [a, b, c, number] = head;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if length > CHECK_BYTES_MAX {
        return Err("what it greets with is not MySQL".into());
    }
    let mut body = vec![0; length];
    read(stream, &mut body).await?;
    Ok((number, body))
}

async fn read(stream: &mut impl Stream, into: &mut [u8]) -> Result<(), String> {
    match stream.read_exact(into).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err("closed without a greeting".into())
        }
        Err(error) => Err(words(&error)),
    }
}

/// The number and text of an error packet.
fn refusal(packet: &[u8]) -> (u16, String) {
    let code = match packet.get(1..3) {
        Some([low, high]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let text = packet.get(3..).unwrap_or_default();
    // Behind '#' stand five letters of SQLSTATE, except before the greeting.
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(200).collect();
    (code, format!("refused: {text} ({code})"))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        [&[body.len() as u8, 0, 0, 0], body].concat()
    }

    /// What comes of a server that says this and closes.
    fn outcome(says: &[&[u8]]) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = duplex(1 << 16);
            for body in says {
                theirs.write_all(&framed(body)).await.unwrap();
            }
            theirs.shutdown().await.unwrap();
            let told = greeted(&mut ours, crate::clock::now()).await;
            told.map(|text| text.split(" in ").next().unwrap_or_default().to_owned())
        })
    }

    #[test]
    fn greetings() {
        const GREETING: &[u8] = b"\x0a8.0.36\0rest";
        assert_eq!(outcome(&[b"\x0a5.5.5-10.11-MariaDB\0"]), Ok("10.11-MariaDB".into()));
        let error = |text: &str| Err(text.to_owned());
        assert_eq!(outcome(&[GREETING]), Ok("8.0.36".into()));
        assert_eq!(outcome(&[GREETING, b"\xff\x15\x04#28000Access denied"]), Ok("8.0.36".into()));
        assert_eq!(
            outcome(&[GREETING, b"\xfemysql_clear\0", b"\xff\x15\x04#28000Access denied"]),
            Ok("8.0.36".into())
        );
        assert_eq!(outcome(&[GREETING, b"\0\0\0"]), Ok("8.0.36".into()));
        assert_eq!(
            outcome(&[GREETING, b"\xff\x10\x04#08004Too many connections"]),
            error("refused: Too many connections (1040)")
        );
        assert_eq!(
            outcome(&[b"\xff\x69\x04Host 'a' is blocked\x1b"]),
            error("refused: Host 'a' is blocked (1129)")
        );
        assert_eq!(outcome(&[b"\x09old"]), error("greets in version 9 of the protocol, not 10"));
        assert_eq!(outcome(&[b""]), error("what it greets with is not MySQL"));
        assert_eq!(outcome(&[]), error("closed without a greeting"));
        assert_eq!(outcome(&[b"\xff"]), error("refused:  (0)"));
    }
}
