//! Who may log in, and what is stored of their passwords.
//!
//! What goes in: rows of a server's account table, or the users that the configuration lists. What comes out: the account
//! of a user who comes from an address. It owns the accounts. Always true: the account that is found is the one that the
//! server itself would find (the most specific host first); stored secrets are never shown.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::mysql::auth::{Password, Secret};

/// What is stored of a password.
#[derive(Clone, Debug)]
pub enum Stored {
    /// There is none: only an empty answer is right.
    Empty,
    /// `mysql_native_password`: SHA1(SHA1(password)).
    Native(Secret<20>),
    /// `caching_sha2_password`: the text in the table, `$A$005$...`.
    Sha2(Vec<u8>),
    /// `ed25519`: the public key.
    Ed25519([u8; 32]),
    /// The password itself, from the configuration.
    Password(Password),
    /// Any of these is right, as the server tries them in this order (MariaDB's `VIA ... OR ...`). Those that are spoken.
    AnyOf(Vec<Self>),
    /// A way that is not spoken, in a word for people: a plugin's name, or what else the account asks for.
    Other(String),
}

impl Stored {
    /// By what a password is found that was shown before: only where it could not be had otherwise.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Sha2(text) => Some(text),
            Self::Ed25519(key) => Some(key),
            _ => None,
        }
    }
}

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The host part, as in the table: a pattern with `%` and `_`, an address with a netmask, or empty for every host.
    pub host: String,
    /// What is stored of the password.
    pub stored: Stored,
    /// It may log in over TLS only.
    pub needs_tls: bool,
    /// It may not log in.
    pub is_locked: bool,
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Accounts {
    by_user: HashMap<Vec<u8>, Vec<Account>>,
    /// They were read at least once.
    known: bool,
}

impl Accounts {
    /// Of these rows: user and account.
    pub fn new(rows: impl IntoIterator<Item = (Vec<u8>, Account)>) -> Self {
        let mut by_user: HashMap<Vec<u8>, Vec<Account>> = HashMap::new();
        for (user, account) in rows {
            by_user.entry(user).or_default().push(account);
        }
        for accounts in by_user.values_mut() {
            accounts.sort_by_key(|account| rank(&account.host));
        }
        Self { by_user, known: true }
    }

    /// They were read at least once.
    pub const fn are_known(&self) -> bool {
        self.known
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_user.values().map(Vec::len).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// The account of a user who comes from there (`None`: from this host through a Unix socket). Without one of that name,
    /// the anonymous account if there is one.
    pub fn find(&self, user: &[u8], from: Option<IpAddr>) -> Option<&Account> {
        let of =
            |user: &[u8]| self.by_user.get(user)?.iter().find(|account| matches_host(&account.host, from));
        of(user).or_else(|| of(b""))
    }
}

/// Exact hosts first, then patterns by how late their first wildcard comes, then every host.
fn rank(host: &str) -> (u8, std::cmp::Reverse<usize>) {
    match host.find(['%', '_']) {
        _ if host.is_empty() || host == "%" => (2, std::cmp::Reverse(0)),
        None => (0, std::cmp::Reverse(host.len())),
        Some(at) => (1, std::cmp::Reverse(at)),
    }
}

fn matches_host(host: &str, from: Option<IpAddr>) -> bool {
    if host.is_empty() || host == "%" {
        return true;
    }
    let Some(ip) = from.map(|ip| ip.to_canonical()) else { return host.eq_ignore_ascii_case("localhost") };
    if let Some((network, mask)) = host.split_once('/') {
        return in_network(ip, network, mask);
    }
    if ip.is_loopback() && host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    like(host.as_bytes(), ip.to_string().as_bytes())
}

/// `192.168.0.0/255.255.255.0`, and MySQL's `192.168.0.0/24`.
fn in_network(ip: IpAddr, network: &str, mask: &str) -> bool {
    let (IpAddr::V4(ip), Ok(network)) = (ip, network.parse::<std::net::Ipv4Addr>()) else { return false };
    let mask = match (mask.parse::<std::net::Ipv4Addr>(), mask.parse::<u32>()) {
        (Ok(mask), _) => u32::from(mask),
        (_, Ok(bits)) if bits <= 32 => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
        _ => return false,
    };
    u32::from(ip) & mask == u32::from(network)
}

/// SQL's LIKE with `%`, `_` and `\`, without regard to case. Linear in the product of the lengths, which are short.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'%', rest @ ..] => (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| like(rest, text))),
        [b'_', rest @ ..] => !text.is_empty() && like(rest, &text[1..]),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => match text {
            [first, text @ ..] => first.eq_ignore_ascii_case(byte) && like(rest, text),
            [] => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(hosts: &[(&str, &str)]) -> Accounts {
        let account = |host: &str| Account {
            host: host.to_owned(),
            stored: Stored::Empty,
            needs_tls: false,
            is_locked: false,
        };
        Accounts::new(hosts.iter().map(|(user, host)| (user.as_bytes().to_vec(), account(host))))
    }

    #[test]
    fn the_most_specific_host_is_found() {
        let all = accounts(&[
            ("app", "%"),
            ("app", "10.0.0.%"),
            ("app", "10.0.0.5"),
            ("app", "10.0.%"),
            ("app", "localhost"),
            ("net", "192.168.1.0/255.255.255.0"),
            ("net", "172.16.0.0/12"),
            ("one", "10.0.0._"),
            ("", "127.0.0.1"),
        ]);
        let find = |user: &str, from: &str| {
            let from = (from != "unix").then(|| from.parse().unwrap());
            all.find(user.as_bytes(), from).map(|account| account.host.as_str())
        };
        assert_eq!(find("app", "10.0.0.5"), Some("10.0.0.5"));
        assert_eq!(find("app", "10.0.0.6"), Some("10.0.0.%"));
        assert_eq!(find("app", "10.0.7.6"), Some("10.0.%"));
        assert_eq!(find("app", "::ffff:10.0.7.6"), Some("10.0.%"));
        assert_eq!(find("app", "192.0.2.1"), Some("%"));
        assert_eq!(find("app", "unix"), Some("localhost"));
        assert_eq!(find("app", "127.0.0.1"), Some("localhost"));
        assert_eq!(find("net", "192.168.1.77"), Some("192.168.1.0/255.255.255.0"));
        assert_eq!(find("net", "192.168.2.77"), None);
        assert_eq!(find("net", "172.31.2.7"), Some("172.16.0.0/12"));
        assert_eq!(find("one", "10.0.0.7"), Some("10.0.0._"));
        assert_eq!(find("one", "10.0.0.77"), None);
        assert_eq!(find("nobody", "127.0.0.1"), Some("127.0.0.1"), "the anonymous account");
        assert_eq!(find("nobody", "10.0.0.1"), None);
    }
}
