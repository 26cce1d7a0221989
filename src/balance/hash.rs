//! The consistent hash of a client's address: weighted rendezvous hashing (highest random weight).
//!
//! What goes in: a client's address and the servers that can be used. What comes out: the server on which this
//! client scores best. It owns nothing. Always true: a client's score on a server depends on these two alone, so
//! when a server leaves only its own clients move (to all others, in relation to their weights), and when it is back
//! exactly these return. The score depends on the server's address, not on its place in the file: other servers may
//! be added, removed or moved about, also between two runs.
//!
//! Clients: an IPv4 address counts whole, an IPv6 address by its first 64 bits (a host changes the rest at will,
//! RFC 8981), an IPv4-mapped one as IPv4. Clients of Unix sockets have no address and are all the same client.

use std::net::IpAddr;

use super::state::{Group, Member};
use crate::net::Address;

/// The number that stands for a client.
pub(super) fn client_key(client: Option<IpAddr>) -> u64 {
    match client.map(|ip| ip.to_canonical()) {
        None => mix(1),
        Some(IpAddr::V4(ip)) => mix(u64::from(ip.to_bits()) | 1 << 32),
        Some(IpAddr::V6(ip)) => mix(((ip.to_bits() >> 64) as u64) ^ 0x6a09_e667_f3bc_c908),
    }
}

/// The number that stands for a server; `twin` tells servers of one pool apart that share an address.
pub(super) fn server_seed(address: &Address, twin: u64) -> u64 {
    let text = address.to_string();
    text.bytes().fold(mix(twin), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// Chooses the member on which the client scores best among those that fit.
pub(super) fn choose(group: &Group, client: Option<IpAddr>, fits: impl Fn(usize) -> bool) -> Option<usize> {
    let key = client_key(client);
    if group.equal {
        best(group, |member| mix(key ^ member.seed), fits)
    } else {
        best(group, |member| score(mix(key ^ member.seed), member.weight), fits)
    }
}

/// The member with the highest score. Whether a member fits is asked only if it would be the best so far: the state of
/// most servers is not looked at.
fn best<S: PartialOrd>(
    group: &Group,
    score: impl Fn(&Member) -> S,
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, S)> = None;
    for (at, member) in group.members.iter().enumerate() {
        let score = score(member);
        if best.as_ref().is_none_or(|(_, highest)| score > *highest) && fits(at) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

/// weight / -ln(u) with u uniform in (0, 1]: the best of several is each one with a chance proportional to its weight.
fn score(hash: u64, weight: u32) -> f64 {
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    f64::from(weight) / -uniform.ln()
}

/// A bijection that spreads every input bit over all output bits (the finaliser of SplitMix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENTS: u32 = 20_000;

    fn client(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)))
    }

    fn count(group: &Group, fits: impl Fn(usize) -> bool) -> Vec<u32> {
        let mut counts = vec![0; group.members.len()];
        for n in 0..CLIENTS {
            counts[choose(group, client(n), &fits).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn clients_spread_by_weight() {
        for weights in [&[1u32, 1, 1, 1][..], &[1, 2, 5], &[100, 1000, 300]] {
            let sum: u32 = weights.iter().sum();
            for (got, weight) in count(&Group::of_weights(weights), |_| true).iter().zip(weights) {
                let expected = f64::from(CLIENTS * weight) / f64::from(sum);
                assert!(
                    (f64::from(*got) - expected).abs() < 5.0 * expected.sqrt(),
                    "{weights:?} {got} {expected}"
                );
            }
        }
    }

    #[test]
    fn only_the_clients_of_a_server_that_leaves_move() {
        for weights in [&[1u32, 1, 1, 1][..], &[1, 2, 5, 1]] {
            let group = Group::of_weights(weights);
            for n in 0..CLIENTS {
                let before = choose(&group, client(n), |_| true);
                let after = choose(&group, client(n), |at| at != 2);
                assert!(before == after || before == Some(2), "{n}");
                assert_ne!(after, Some(2));
            }
        }
    }

    #[test]
    fn the_clients_of_a_server_that_leaves_go_to_all_others() {
        let group = Group::of_weights(&[1, 1, 1, 1]);
        let mut moved = [0u32; 4];
        for n in 0..CLIENTS {
            if choose(&group, client(n), |_| true) == Some(2) {
                moved[choose(&group, client(n), |at| at != 2).unwrap()] += 1;
            }
        }
        let third = f64::from(moved.iter().sum::<u32>()) / 3.0;
        for at in [0, 1, 3] {
            assert!((f64::from(moved[at]) - third).abs() < 5.0 * third.sqrt(), "{moved:?}");
        }
    }

    #[test]
    fn a_client_is_what_a_host_cannot_change_at_will() {
        let key = |text: &str| client_key(Some(text.parse().unwrap()));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:aaaa:bbbb:cccc:dddd"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(client_key(None), client_key(None));
        assert_ne!(client_key(None), key("0.0.0.1"));
    }

    #[test]
    fn servers_at_one_address_share_the_clients() {
        let address = Address::Unix("/run/app.sock".into());
        assert_ne!(server_seed(&address, 0), server_seed(&address, 1));
        assert_eq!(server_seed(&address, 0), server_seed(&address.clone(), 0));
    }
}
