//! Texts of single values: times, sizes, addresses, networks, names.
//!
//! What goes in: the text of one value. What comes out: the value, or a [`Fault`] that says what is wrong and what to
//! write instead. It owns nothing. Always true: nothing here looks at other values, files or the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

/// Bytes of a Unix socket's path at most (`sun_path` of 108 bytes with its end).
const UNIX_PATH_BYTES_MAX: usize = 107;
/// The longest time that can be configured; longer ones are surely mistaken.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What is wrong with a value, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) advice: String,
}

/// A fault as the error of any result.
fn fault<T>(what: impl Into<String>, advice: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { what: what.into(), advice: advice.into() })
}

/// What the TOML parser says, for people. `near` is the text that it speaks of.
pub(super) fn syntax(message: &str, near: &str) -> (String, String) {
    let message = message.replace('\n', ", ");
    let (what, expected) = message.split_once(", expected ").unwrap_or((&message, ""));
    let own = |what: &str, advice: &str| (what.to_owned(), advice.to_owned());
    match what {
        "string values must be quoted" if near.is_empty() => {
            own("the value is missing", "write one behind the =")
        }
        "string values must be quoted" => ("text must be in quotes".to_owned(), format!("write \"{near}\"")),
        "duplicate key" => (
            format!("\"{near}\" is here for the second time"),
            "a key and a block can be written once: put them together".to_owned(),
        ),
        "unclosed table" => own("the name of the block is not closed", "write ] behind it"),
        "unclosed array" => own("the list is not closed", "write ] behind its last item"),
        "unclosed inline table" => own("the table is not closed", "write } behind its last value"),
        "invalid basic string" if expected == "`\"`" => {
            own("the text is not closed", "write \" behind it, on the same line")
        }
        "invalid literal string" if expected == "`'`" => {
            own("the text is not closed", "write ' behind it, on the same line")
        }
        "key with no value" => own("the key has no value", "write it like key = \"value\""),
        "unexpected key or value" => {
            own("the line should end here", "write what follows on a line of its own, or put # before it")
        }
        "missing comma between array elements" => {
            own("a comma is missing before this", "write , behind the item before it")
        }
        "missing comma between key-value pairs" => {
            own("a comma is missing before this", "write , behind the value before it")
        }
        _ if expected.is_empty() || expected == "nothing" => (what.to_owned(), String::new()),
        _ => (what.to_owned(), format!("expected {expected}")),
    }
}

/// `"10s"`, `"500ms"`, `"1m30s"`, `"1h"`, `"2d"`. Never zero.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    const ADVICE: &str = "write it like \"500ms\", \"10s\", \"1m30s\", \"1h\" or \"2d\"";
    let bad = || fault(format!("\"{text}\" is not a time"), ADVICE);
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return bad(),
        };
        let Some(ms) = number.parse().ok().and_then(|count: u64| count.checked_mul(unit_ms)) else {
            return bad();
        };
        if unit_ms >= last {
            return bad();
        }
        total = total.saturating_add(Duration::from_millis(ms));
        last = unit_ms;
        rest = tail;
    }
    match total {
        Duration::ZERO if text.is_empty() => bad(),
        Duration::ZERO => fault("a time of zero would end everything at once", ADVICE),
        _ if total > DURATION_MAX => fault(format!("{text} is longer than a year"), ADVICE),
        _ => Ok(total),
    }
}

/// `"16KiB"`, `"10MiB"`, `"1GB"`, `"512B"`.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        short @ ("k" | "m" | "g") if digits > 0 => {
            let unit = short.to_ascii_uppercase();
            return fault(format!("\"{text}\" is not a size"), format!("write \"{number}{unit}iB\""));
        }
        _ => 0,
    };
    match number.parse::<u64>().ok().filter(|_| factor > 0).and_then(|count| count.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => fault(
            format!("\"{text}\" is not a size"),
            "write it like \"512B\", \"16KiB\", \"10MiB\" or \"1GiB\"",
        ),
    }
}

/// A size for people.
pub(super) fn show_size(bytes: u64) -> String {
    let units: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(factor, name)| format!("{}{name}", bytes / factor))
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// One address.
    Address(SocketAddr),
    /// Every address of the host.
    All(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// `"ip:port"`, `"[v6]:port"`, `":port"`, `"*:port"`, `"unix:/path"`.
pub(super) fn listen(text: &str, folder: &Path) -> Result<Listen, Fault> {
    const ADVICE: &str = "write \"127.0.0.1:80\", \"[::1]:80\", \":80\" (every address) or \"unix:/path\"";
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path, folder).map(Listen::Unix);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => fault("port 0 means any free port: nobody could find it", ADVICE),
            _ => Ok(Listen::Address(address)),
        };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return fault(format!("\"{text}\" has no port"), format!("write \"{}\"", SocketAddr::new(ip, 80)));
    }
    if let Some(port) = text.strip_prefix("*:").or_else(|| text.strip_prefix(':')) {
        return match port.parse() {
            Ok(0) => fault("port 0 means any free port: nobody could find it", ADVICE),
            Ok(port) => Ok(Listen::All(port)),
            Err(_) => fault(format!("\"{port}\" is not a port"), "ports are 1 to 65535"),
        };
    }
    if text.parse::<u16>().is_ok() {
        return fault(
            format!("\"{text}\" is not an address"),
            format!("write \":{text}\" for every address of this host"),
        );
    }
    if let Some(rest) = text.strip_prefix("localhost:") {
        return fault(
            format!("\"{text}\" is not an address"),
            format!("write \"127.0.0.1:{rest}\" or \"[::1]:{rest}\""),
        );
    }
    fault(format!("\"{text}\" is not an address"), ADVICE)
}

/// The path of a Unix socket.
fn unix(path: &str, folder: &Path) -> Result<PathBuf, Fault> {
    if path.is_empty() || path.contains('\0') {
        return fault("the path of the Unix socket is missing", "write it like \"unix:/run/app.sock\"");
    }
    let path = folder.join(path);
    if path.as_os_str().len() > UNIX_PATH_BYTES_MAX {
        return fault(
            format!("the path of the Unix socket is longer than {UNIX_PATH_BYTES_MAX} bytes"),
            "the kernel takes no longer one: choose a shorter path",
        );
    }
    Ok(path)
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host name and port, to be resolved.
    Name(String, u16),
    /// A service name, whose SRV records say hosts and ports.
    Service(String),
    /// A Unix socket.
    Unix(PathBuf),
}

/// `"ip:port"`, `"host.name:port"`, `"unix:/path"`.
pub(super) fn server(text: &str, folder: &Path) -> Result<Target, Fault> {
    const ADVICE: &str = "write \"10.0.0.1:80\", \"[2001:db8::1]:80\", \"host.name:80\" or \"unix:/path\"";
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path, folder).map(Target::Unix);
    }
    if let Some(name) = text.strip_prefix("srv:") {
        if !is_host_name(name) || !name.starts_with('_') {
            return fault(
                format!("\"{name}\" is not the name of a service"),
                "write it like \"srv:_http._tcp.web.internal\"",
            );
        }
        return Ok(Target::Service(name.to_owned()));
    }
    for (scheme, port, more) in [("http://", ":80", ""), ("https://", ":443", ", and tls = true in the pool")]
    {
        if let Some(rest) = text.strip_prefix(scheme) {
            let host = rest.split('/').next().unwrap_or_default();
            let port = if host.contains(':') { "" } else { port };
            return fault("a server is an address, not a URL", format!("write \"{host}{port}\"{more}"));
        }
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => fault("port 0 cannot be connected to", ADVICE),
            _ if address.ip().is_unspecified() => {
                fault(format!("{} cannot be connected to", address.ip()), "write the address of one server")
            }
            _ => Ok(Target::Address(address)),
        };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return fault(format!("\"{text}\" has no port"), format!("write \"{}\"", SocketAddr::new(ip, 80)));
    }
    if text.starts_with('/') {
        return fault(
            format!("\"{text}\" is not an address"),
            format!("write \"unix:{text}\" for a Unix socket"),
        );
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        let advice = if is_host_name(text) { format!("write \"{text}:80\"") } else { ADVICE.into() };
        return fault(format!("\"{text}\" has no port"), advice);
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return fault(format!("\"{port}\" is not a port"), "ports are 1 to 65535");
    };
    // A name of digits and dots alone is a mistyped address.
    if !is_host_name(name) || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return fault(format!("\"{name}\" is neither an address nor a host name"), ADVICE);
    }
    Ok(Target::Name(name.to_owned(), port))
}

fn is_host_name(text: &str) -> bool {
    let fits = |label: &str| !label.is_empty() && label.len() <= 63;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(allowed)
        && text.len() <= 253
        && text.strip_suffix('.').unwrap_or(text).split('.').all(fits)
}

/// `"10.0.0.0/8"`, `"2001:db8::/32"`, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return fault(
            format!("\"{text}\" is not a network"),
            "write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.1\"",
        );
    };
    if network.addr() != network.network() {
        return fault(
            format!("{} is not the start of a /{} network", network.addr(), network.prefix_len()),
            format!(
                "write \"{}\" for the network or \"{}\" for the one address",
                network.trunc(),
                network.addr()
            ),
        );
    }
    Ok(network)
}

/// The address that `Listen::All` stands for: IPv6, which takes IPv4 too, or IPv4 alone where there is no IPv6.
pub(super) fn all_addresses(port: u16, has_ipv6: bool) -> SocketAddr {
    let ip = if has_ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    SocketAddr::new(ip, port)
}

/// A block's name: short, without blanks and control characters, so that logs and metrics can carry it.
pub(super) fn block_name(name: &str) -> Result<(), Fault> {
    let fine = |char: char| char.is_alphanumeric() || matches!(char, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fine) {
        return fault(
            format!("\"{name}\" cannot be a name"),
            "use up to 64 letters, digits, \"-\", \"_\" and \".\"",
        );
    }
    Ok(())
}

/// The URL of a redirect: absolute (`https://www.example.org`), or where `path_allowed` also a path.
pub(super) fn redirect_url(text: &str, path_allowed: bool) -> Result<(), Fault> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_absolute = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_fine = is_absolute || (path_allowed && is_path);
    if !is_fine {
        let advice = "write it like \"https://www.example.org\"";
        let advice = if path_allowed { format!("{advice} or \"/path\"") } else { advice.into() };
        return fault(format!("\"{text}\" is not a URL"), advice);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return fault(
            "a URL holds no blanks, control or non-ASCII characters",
            "percent-encode them: %20 is a blank",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("1ms", 1),
            ("500ms", 500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2min", 120_000),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0h1s", 1_000),
            ("366d", 31_622_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "s",
            "1",
            "1.5s",
            "1s1s",
            "1s1h",
            " 1s",
            "1s ",
            "+1s",
            "1S",
            "1µs",
            "0ms",
            "367d",
            "18446744073709551616ms",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0B", 0),
            ("512B", 512),
            ("16KiB", 16 << 10),
            ("16kib", 16 << 10),
            ("10 MiB", 10 << 20),
            ("1GiB", 1 << 30),
            ("3kB", 3_000),
            ("3MB", 3_000_000),
            ("3GB", 3_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "B", "10", "1k", "1TiB", "-1B", "1.5MiB", "20000000000GiB", "99999999999999999999B"]
        {
            assert!(size(text).is_err(), "{text}");
        }
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1 << 20, "1MiB"),
            (5 << 30, "5GiB"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        let folder = Path::new("/etc/ringgate");
        for (text, expected) in [
            ("10.0.0.1:80", Listen::Address(([10, 0, 0, 1], 80).into())),
            ("[::]:443", Listen::Address((Ipv6Addr::UNSPECIFIED, 443).into())),
            (":80", Listen::All(80)),
            ("*:65535", Listen::All(65535)),
            ("unix:/run/a", Listen::Unix("/run/a".into())),
            ("unix:a", Listen::Unix("/etc/ringgate/a".into())),
        ] {
            assert_eq!(listen(text, folder), Ok(expected), "{text}");
        }
        assert_eq!(all_addresses(80, true).to_string(), "[::]:80");
        assert_eq!(all_addresses(80, false).to_string(), "0.0.0.0:80");
    }

    #[test]
    fn addresses_of_servers() {
        let name = |name: &str, port| Target::Name(name.into(), port);
        for (text, expected) in [
            ("10.0.0.1:80", Target::Address(([10, 0, 0, 1], 80).into())),
            ("[2001:db8::1]:80", Target::Address(("2001:db8::1".parse::<Ipv6Addr>().unwrap(), 80).into())),
            ("localhost:1", name("localhost", 1)),
            ("app_1.x-y.internal.:8080", name("app_1.x-y.internal.", 8080)),
            ("unix:/run/a", Target::Unix("/run/a".into())),
            ("unix:sock/a", Target::Unix("/srv/sock/a".into())),
        ] {
            assert_eq!(server(text, Path::new("/srv")), Ok(expected), "{text}");
        }
        for text in
            ["", ":80", "a..b:80", "a b:80", "10.0.0:80", "[::1]", "[::1]:0", "x:65536", "x:-1", "ü:80"]
        {
            assert!(server(text, Path::new("/")).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn urls_of_redirects() {
        for (text, absolute, any) in [
            ("https://www.example.org", true, true),
            ("http://x/y?z", true, true),
            ("/x", false, true),
            ("//x", false, false),
            ("https://", false, false),
            ("https:///x", false, false),
            ("ftp://x", false, false),
            ("https://x/\r\n", false, false),
            ("/ü", false, false),
            ("", false, false),
        ] {
            assert_eq!(redirect_url(text, false).is_ok(), absolute, "{text}");
            assert_eq!(redirect_url(text, true).is_ok(), any, "{text}");
        }
    }
}
