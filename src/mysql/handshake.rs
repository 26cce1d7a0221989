//! The packets of the handshake, read and written: greeting, SSLRequest, the client's response, COM_CHANGE_USER, and what a
//! server says until the client is in.
//!
//! Payloads go in, borrowed views come out, and the other way round. Owns nothing. Always true: a field is read under the
//! capabilities of both sides, never by what the client alone claims; every length is checked against the payload.

#[cfg(test)]
mod tests;

use super::facts::{Capabilities, Status};
use super::generic::{EOF, ERR, ErrPacket, OK};
use super::wire::{Bad, BadPacket, Read, Reader, put_lenenc_bytes, put_nul, put_u16, put_u32};

/// Bytes of the random data that logins by `mysql_native_password` and `caching_sha2_password` answer.
pub const SCRAMBLE_BYTES: usize = 20;
/// Random data to be answered.
pub type Scramble = [u8; SCRAMBLE_BYTES];

const PROTOCOL_10: u8 = 10;
const COM_CHANGE_USER: u8 = 0x11;
const AUTH_MORE: u8 = 0x01;

/// HandshakeV10: the first packet of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting<'a> {
    /// The server's version, with the `5.5.5-` of a MariaDB before 11.
    pub version: &'a [u8],
    /// The id of the connection, as CONNECTION_ID() and KILL know it.
    pub connection_id: u32,
    /// What the login answers, if it is by the plugin named here.
    pub scramble: Scramble,
    /// What the server can do.
    pub capabilities: Capabilities,
    /// The lower byte of the server's default collation.
    pub collation: u8,
    /// The session's state.
    pub status: Status,
    /// The plugin that the server begins with; empty when it does not say (`mysql_native_password` then).
    pub plugin: &'a [u8],
}

/// The first packet of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// It greets.
    Greeting(Greeting<'a>),
    /// It refuses (too many connections, a blocked host), without a SQLSTATE.
    Err(ErrPacket<'a>),
}

impl<'a> First<'a> {
    /// Reads the first payload of a server.
    pub fn parse(payload: &'a [u8]) -> Read<Self> {
        if payload.first() == Some(&ERR) {
            return ErrPacket::parse(payload).map(Self::Err);
        }
        Greeting::parse(payload).map(Self::Greeting)
    }
}

impl<'a> Greeting<'a> {
    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != PROTOCOL_10 {
            return Err(Bad::new(BadPacket::Version, 0));
        }
        let version = reader.nul()?;
        let connection_id = reader.u32()?;
        let first: [u8; 8] = reader.array()?;
        reader.u8()?;
        let lower = reader.u16()?;
        // Servers before 4.1 end here; they have no 20 byte scrambles.
        let collation = reader.u8()?;
        let status = Status(reader.u16()?);
        let upper = reader.u16()?;
        let mut capabilities = Capabilities(u64::from(lower) | u64::from(upper) << 16);
        let scramble_at = reader.at();
        let scramble_bytes = usize::from(reader.u8()?);
        reader.bytes(6)?;
        let extended = reader.u32()?;
        if !capabilities.has(Capabilities::MYSQL) {
            capabilities.0 |= u64::from(extended) << 32;
        }
        // "length of auth-plugin-data-part-2: max(13, length - 8)", the last byte of which is a NUL.
        let further = scramble_bytes.saturating_sub(8).max(13).min(reader.left());
        let second = reader.bytes(further)?.first_chunk::<12>();
        let Some(second) = second else { return Err(Bad::new(BadPacket::Short, scramble_at)) };
        let mut scramble = [0; SCRAMBLE_BYTES];
        for (place, byte) in scramble.iter_mut().zip(first.iter().chain(second)) {
            *place = *byte;
        }
        let plugin = if capabilities.has(Capabilities::PLUGIN_AUTH) { reader.nul_or_eof() } else { b"" };
        Ok(Self { version, connection_id, scramble, capabilities, collation, status, plugin })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(PROTOCOL_10);
        put_nul(out, self.version);
        put_u32(out, self.connection_id);
        let (first, second) = self.scramble.split_at(8);
        out.extend_from_slice(first);
        out.push(0);
        let capabilities = self.capabilities.mysql();
        put_u16(out, capabilities as u16);
        out.push(self.collation);
        put_u16(out, self.status.0);
        put_u16(out, (capabilities >> 16) as u16);
        let named = self.capabilities.has(Capabilities::PLUGIN_AUTH);
        out.push(if named { SCRAMBLE_BYTES as u8 + 1 } else { 0 });
        out.extend_from_slice(&[0; 6]);
        let mysql = self.capabilities.has(Capabilities::MYSQL);
        put_u32(out, if mysql { 0 } else { self.capabilities.mariadb() });
        out.extend_from_slice(second);
        out.push(0);
        if named {
            put_nul(out, self.plugin);
        }
    }
}

/// What begins the packet of a client that answers a greeting, and is all of it in an SSLRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslRequest {
    /// What the client can do, as it says.
    pub capabilities: Capabilities,
    /// Bytes of a packet that the client takes, as it says.
    pub packet_bytes_max: u32,
    /// The lower byte of the client's collation.
    pub collation: u8,
}

/// Bytes of an SSLRequest.
pub const SSL_REQUEST_BYTES: usize = 32;

impl SslRequest {
    /// Whether this answer to a greeting is a wish for TLS, after which the TLS handshake follows at once.
    pub fn is_one(payload: &[u8]) -> bool {
        Self::parse(payload).is_ok_and(|request| {
            payload.len() == SSL_REQUEST_BYTES && request.capabilities.has(Capabilities::SSL)
        })
    }

    /// Reads it, or the same fields of a response.
    pub fn parse(payload: &[u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        let capabilities = u64::from(reader.u16()?);
        if !Capabilities(capabilities).has(Capabilities::PROTOCOL_41) {
            return Err(Bad::new(BadPacket::Protocol320, 0));
        }
        let mut capabilities = Capabilities(capabilities | u64::from(reader.u16()?) << 16);
        let packet_bytes_max = reader.u32()?;
        let collation = reader.u8()?;
        reader.bytes(19)?;
        let extended = reader.u32()?;
        if !capabilities.has(Capabilities::MYSQL) {
            capabilities.0 |= u64::from(extended) << 32;
        }
        Ok(Self { capabilities, packet_bytes_max, collation })
    }

    /// Appends the payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_u32(out, self.capabilities.mysql());
        put_u32(out, self.packet_bytes_max);
        out.push(self.collation);
        out.extend_from_slice(&[0; 19]);
        let mysql = self.capabilities.has(Capabilities::MYSQL);
        put_u32(out, if mysql { 0 } else { self.capabilities.mariadb() });
    }
}

/// HandshakeResponse41: the login of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// What both sides can do.
    pub capabilities: Capabilities,
    /// Bytes of a packet that the client takes, as it says.
    pub packet_bytes_max: u32,
    /// The lower byte of the client's collation.
    pub collation: u8,
    /// Who logs in.
    pub user: &'a [u8],
    /// The answer to the scramble, by the plugin named here.
    pub answer: &'a [u8],
    /// The database to begin with; empty for none.
    pub database: &'a [u8],
    /// The client's plugin; empty when it does not say.
    pub plugin: &'a [u8],
    /// Connection attributes, to be read by [`attributes`].
    pub attributes: &'a [u8],
    /// The compression level for zstd; 0 without.
    pub zstd_level: u8,
}

impl<'a> Response<'a> {
    /// Reads a payload that answers a greeting with the capabilities `offered`.
    pub fn parse(payload: &'a [u8], offered: Capabilities) -> Read<Self> {
        let SslRequest { capabilities, packet_bytes_max, collation } = SslRequest::parse(payload)?;
        // It was read in the form of 4.1, whatever was offered.
        let capabilities = capabilities & (offered | Capabilities::PROTOCOL_41);
        let mut reader = Reader::new(payload);
        reader.bytes(SSL_REQUEST_BYTES)?;
        let user = reader.nul()?;
        let answer = if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            reader.lenenc_bytes()?
        } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
            short_bytes(&mut reader)?
        } else {
            reader.nul()?
        };
        let (mut database, mut plugin, mut attributes): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        if capabilities.has(Capabilities::CONNECT_WITH_DB) {
            database = reader.nul_or_eof();
        }
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            plugin = reader.nul_or_eof();
        }
        if capabilities.has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
            attributes = checked_attributes(&mut reader)?;
        }
        let level = capabilities.has(Capabilities::ZSTD) && !reader.is_empty();
        let zstd_level = if level { reader.u8()? } else { 0 };
        Ok(Self {
            capabilities,
            packet_bytes_max,
            collation,
            user,
            answer,
            database,
            plugin,
            attributes,
            zstd_level,
        })
    }

    /// Appends the payload. An answer of more than 255 bytes needs PLUGIN_AUTH_LENENC among the capabilities.
    pub fn write(&self, out: &mut Vec<u8>) {
        let capabilities = self.capabilities;
        let Self { packet_bytes_max, collation, .. } = *self;
        SslRequest { capabilities, packet_bytes_max, collation }.write(out);
        put_nul(out, self.user);
        if capabilities.has(Capabilities::PLUGIN_AUTH_LENENC) {
            put_lenenc_bytes(out, self.answer);
        } else if capabilities.has(Capabilities::SECURE_CONNECTION) {
            put_short_bytes(out, self.answer);
        } else {
            put_nul(out, self.answer);
        }
        if capabilities.has(Capabilities::CONNECT_WITH_DB) {
            put_nul(out, self.database);
        }
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            put_nul(out, self.plugin);
        }
        if capabilities.has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(out, self.attributes);
        }
        if capabilities.has(Capabilities::ZSTD) {
            out.push(self.zstd_level);
        }
    }
}

/// COM_CHANGE_USER: a new login on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeUser<'a> {
    /// Who logs in.
    pub user: &'a [u8],
    /// The answer to the scramble of the greeting.
    pub answer: &'a [u8],
    /// The database to begin with; empty for none.
    pub database: &'a [u8],
    /// The collation; `None` when it stays the server's default.
    pub collation: Option<u16>,
    /// The client's plugin; empty when it does not say.
    pub plugin: &'a [u8],
    /// Connection attributes, to be read by [`attributes`].
    pub attributes: &'a [u8],
}

impl<'a> ChangeUser<'a> {
    /// Reads the payload of a command that begins with 0x11.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Read<Self> {
        let mut reader = Reader::new(payload);
        if reader.u8()? != COM_CHANGE_USER {
            return Err(Bad::new(BadPacket::Kind, 0));
        }
        let user = reader.nul()?;
        let answer = if capabilities.has(Capabilities::SECURE_CONNECTION) {
            short_bytes(&mut reader)?
        } else {
            reader.nul()?
        };
        let database = reader.nul_or_eof();
        let collation = if reader.is_empty() { None } else { Some(reader.u16()?) };
        let (mut plugin, mut attributes): (&[u8], &[u8]) = (b"", b"");
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            plugin = reader.nul_or_eof();
        }
        if capabilities.has(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
            attributes = checked_attributes(&mut reader)?;
        }
        Ok(Self { user, answer, database, collation, plugin, attributes })
    }

    /// Appends the payload. The answer has 255 bytes at most.
    pub fn write(&self, out: &mut Vec<u8>, capabilities: Capabilities) {
        out.push(COM_CHANGE_USER);
        put_nul(out, self.user);
        if capabilities.has(Capabilities::SECURE_CONNECTION) {
            put_short_bytes(out, self.answer);
        } else {
            put_nul(out, self.answer);
        }
        put_nul(out, self.database);
        let Some(collation) = self.collation else { return };
        put_u16(out, collation);
        if capabilities.has(Capabilities::PLUGIN_AUTH) {
            put_nul(out, self.plugin);
        }
        if capabilities.has(Capabilities::CONNECT_ATTRS) {
            put_lenenc_bytes(out, self.attributes);
        }
    }
}

/// A string whose length is one byte.
fn short_bytes<'a>(reader: &mut Reader<'a>) -> Read<&'a [u8]> {
    let at = reader.at();
    let length = usize::from(reader.u8()?);
    reader.bytes(length).map_err(|_| Bad::new(BadPacket::Short, at))
}

fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend(bytes.iter().take(usize::from(length)));
}

/// Connection attributes whose every pair is complete.
fn checked_attributes<'a>(reader: &mut Reader<'a>) -> Read<&'a [u8]> {
    let at = reader.at();
    let bytes = reader.lenenc_bytes()?;
    let from = reader.at() - bytes.len();
    let mut pairs = Reader::new(bytes);
    while !pairs.is_empty() {
        let pair = pairs.lenenc_bytes().and_then(|_| pairs.lenenc_bytes());
        pair.map_err(|bad| Bad::new(bad.reason, (from + bad.at).max(at)))?;
    }
    Ok(bytes)
}

/// The names and values of connection attributes.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || Some((reader.lenenc_bytes().ok()?, reader.lenenc_bytes().ok()?)))
}

/// Appends one connection attribute.
pub fn put_attribute(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_lenenc_bytes(out, name);
    put_lenenc_bytes(out, value);
}

/// What a server says to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginReply<'a> {
    /// The client is in: an OK packet.
    Ok(&'a [u8]),
    /// It is not.
    Err(ErrPacket<'a>),
    /// AuthSwitchRequest: answer by this plugin.
    Switch {
        /// The plugin's name.
        plugin: &'a [u8],
        /// Its data as it stands in the packet; a scramble usually has a NUL behind it, see [`scramble_of`].
        data: &'a [u8],
    },
    /// The old AuthSwitchRequest, for the hash of before 4.1.
    OldSwitch,
    /// AuthMoreData: what the plugin says next.
    More(&'a [u8]),
}

impl<'a> LoginReply<'a> {
    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Read<Self> {
        let mut reader = Reader::new(payload);
        match reader.u8()? {
            OK => Ok(Self::Ok(payload)),
            ERR => ErrPacket::parse(payload).map(Self::Err),
            EOF if reader.is_empty() => Ok(Self::OldSwitch),
            EOF => Ok(Self::Switch { plugin: reader.nul()?, data: reader.eof() }),
            AUTH_MORE => Ok(Self::More(reader.eof())),
            _ => Err(Bad::new(BadPacket::Kind, 0)),
        }
    }
}

/// The scramble in the data of an AuthSwitchRequest: twenty bytes and a NUL.
pub fn scramble_of(data: &[u8]) -> Option<Scramble> {
    let (scramble, rest) = data.split_first_chunk()?;
    matches!(rest, [] | [0]).then_some(*scramble)
}

/// Appends an AuthSwitchRequest. The data of the plugins with a scramble ends with a NUL, which is not added here.
pub fn write_auth_switch(out: &mut Vec<u8>, plugin: &[u8], data: &[u8]) {
    out.push(EOF);
    put_nul(out, plugin);
    out.extend_from_slice(data);
}

/// Appends an AuthMoreData.
pub fn write_auth_more(out: &mut Vec<u8>, data: &[u8]) {
    out.push(AUTH_MORE);
    out.extend_from_slice(data);
}
