//! The PROXY protocol as the scripted ends speak it (haproxy's proxy-protocol.txt, sections 2.1 and 2.2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The source that a header names, and how long it is; `None` when more is needed.
pub fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, String> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return parse_v2(bytes);
    }
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > 107 { Err("a line of more than 107 bytes".to_owned()) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|e| e.to_string())?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(Some((None, end + 2))),
        ["PROXY", "TCP4" | "TCP6", source, _, port, _] => {
            let ip: IpAddr = source.parse().map_err(|_| format!("{line:?}"))?;
            let port: u16 = port.parse().map_err(|_| format!("{line:?}"))?;
            Ok(Some((Some(SocketAddr::new(ip, port)), end + 2)))
        }
        _ => Err(format!("{line:?}")),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, String> {
    if bytes.len() < 16 {
        return Ok(None);
    }
    let len = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes.len() < len {
        return Ok(None);
    }
    match (bytes[12], bytes[13]) {
        (0x20, _) => Ok(Some((None, len))),
        (0x21, 0x11) if len >= 28 => {
            let ip = Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]);
            let port = u16::from_be_bytes([bytes[24], bytes[25]]);
            Ok(Some((Some(SocketAddr::from((ip, port))), len)))
        }
        other => Err(format!("version 2 with {other:?}")),
    }
}

/// A header that names `source`.
pub fn write(source: SocketAddr, v2: bool) -> Vec<u8> {
    let local: SocketAddr = SocketAddr::from(([10, 0, 0, 1], 80));
    if !v2 {
        let (ip, port) = (source.ip(), source.port());
        return format!("PROXY TCP4 {ip} {} {port} {}\r\n", local.ip(), local.port()).into_bytes();
    }
    let mut out = SIGNATURE.to_vec();
    out.extend_from_slice(&[0x21, 0x11, 0, 12]);
    for address in [source, local] {
        if let IpAddr::V4(ip) = address.ip() {
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&local.port().to_be_bytes());
    out
}

#[test]
fn what_is_written_is_parsed() {
    let source = SocketAddr::from(([192, 0, 2, 9], 4242));
    for v2 in [false, true] {
        let header = write(source, v2);
        for len in 0..header.len() {
            assert_eq!(parse(&header[..len]), Ok(None));
        }
        assert_eq!(parse(&header), Ok(Some((Some(source), header.len()))));
    }
}
