//! What MySQL stores of a `caching_sha2_password`: SHA-crypt of the password.
//!
//! The `authentication_string` of an account goes in as a [`Stored`]; [`Stored::verify`] says whether a password is the
//! one. Owns the salt and the hash. Always true: a password of more than 256 bytes is none, as for the server, so that the
//! work has a bound. It is milliseconds of work on purpose: not for a worker's turn.
//! Source: akkadia.org/drepper/SHA-crypt.txt; MySQL takes a salt of 20 bytes.

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{PASSWORD_BYTES_MAX, Secret, hash};

const SALT_BYTES: usize = 20;
const DIGITS: usize = 43;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `$A$005$`, the salt, and 43 digits.
#[derive(Clone, Debug)]
pub struct Stored {
    rounds: u32,
    salt: [u8; SALT_BYTES],
    digits: Secret<DIGITS>,
}

impl Stored {
    /// Reads an `authentication_string`. The salt is any bytes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(b"$A$")?;
        let (thousands, rest) = rest.split_first_chunk::<3>()?;
        let (salt, digits) = rest.strip_prefix(b"$")?.split_first_chunk()?;
        // "005" is hexadecimal and counts thousands of rounds.
        let mut rounds = 0;
        for digit in thousands {
            rounds = rounds * 16 + char::from(*digit).to_digit(16)?;
        }
        let digits: &[u8; DIGITS] = digits.try_into().ok()?;
        (rounds > 0).then(|| Self { rounds: rounds * 1000, salt: *salt, digits: Secret::new(digits) })
    }

    /// Whether this is the password.
    pub fn verify(&self, password: &[u8]) -> bool {
        password.len() <= PASSWORD_BYTES_MAX
            && self.digits.is(digits(&sha_crypt(password, &self.salt, self.rounds)).reveal())
    }
}

/// The hash, before it becomes digits. The numbers are the steps of the specification.
fn sha_crypt(password: &[u8], salt: &[u8], rounds: u32) -> Secret<32> {
    // 4. to 8.
    let b: Secret<32> = hash(&SHA256, &[password, salt, password]);
    // 1. to 3., 9. to 12.
    let mut a = Context::new(&SHA256);
    a.update(password);
    a.update(salt);
    repeat(b.reveal(), password.len(), |part| a.update(part));
    let mut length = password.len();
    while length > 0 {
        a.update(if length & 1 == 1 { b.reveal() } else { password });
        length >>= 1;
    }
    let mut c = Secret::new(&finish(a));
    // 13. to 16.
    let mut dp = Context::new(&SHA256);
    (0..password.len()).for_each(|_| dp.update(password));
    let p = sequence(&Secret::new(&finish(dp)), password.len());
    // 17. to 20.
    let mut ds = Context::new(&SHA256);
    (0..16 + u32::from(c.reveal()[0])).for_each(|_| ds.update(salt));
    let s = sequence(&Secret::new(&finish(ds)), salt.len());
    // 21.
    for round in 0..rounds {
        let odd = round % 2 == 1;
        let mut next = Context::new(&SHA256);
        next.update(if odd { &p } else { c.reveal() });
        if round % 3 != 0 {
            next.update(&s);
        }
        if round % 7 != 0 {
            next.update(&p);
        }
        next.update(if odd { c.reveal() } else { &p });
        c = Secret::new(&finish(next));
    }
    c
}

fn finish(context: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().zip(context.finish().as_ref()) {
        *place = *byte;
    }
    bytes
}

/// `length` bytes of a hash that is repeated, in parts.
fn repeat(hash: &[u8], length: usize, mut each: impl FnMut(&[u8])) {
    let mut left = length;
    while left > 0 {
        let part = hash.get(..left.min(hash.len())).unwrap_or_default();
        each(part);
        left -= part.len();
    }
}

fn sequence(hash: &Secret<32>, length: usize) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    repeat(hash.reveal(), length, |part| out.extend_from_slice(part));
    out
}

/// 22.: the bytes in groups of three, each as four digits with the lowest first.
fn digits(hash: &Secret<32>) -> Secret<DIGITS> {
    let byte = |at: usize| u32::from(hash.reveal().get(at).copied().unwrap_or_default());
    let mut text = Zeroizing::new([0; DIGITS]);
    let mut places = text.iter_mut();
    let mut put = |bits: u32, count: u32| {
        for (index, place) in (0..count).zip(&mut places) {
            let letter = ALPHABET.get((bits >> (6 * index)) as usize & 63);
            *place = letter.copied().unwrap_or_default();
        }
    };
    let mut group = (0, 10, 20);
    for _ in 0..10 {
        put(byte(group.0) << 16 | byte(group.1) << 8 | byte(group.2), 4);
        group = (group.2 + 1, group.0 + 1, group.1 + 1);
    }
    put(byte(31) << 8 | byte(30), 3);
    Secret::new(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_openssl_passwd() {
        // As `openssl passwd -5 -salt ...` and crypt(3) print them.
        let long: &[u8] =
            b"a very much longer text to encrypt.  This one even stretches over morethan one line.";
        type Row = (&'static [u8], &'static [u8], u32, &'static [u8]);
        let table: [Row; 6] = [
            (b"saltstring", b"Hello world!", 5000, b"5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (b"saltstringsaltst", b"Hello world!", 10_000, b"3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
            (b"saltstringsaltst", long, 5000, b"gLl2ijR5xacVyGj.s7X9fnVkkwHUdYIj7sOOeOzeXW2"),
            (b"anotherlongsalts", long, 1400, b"Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1"),
            (b"abcdefghijklmnop", b"", 5000, b"p99E2fxZB/BTl9j.a2VRY5z71zEP761isnVBuiGlzV3"),
            (b"abcdefghijklmnop", &[b'p'; 64], 5000, b"0U8HkPz41kM.A/0/lBEzpsQst2dJZFrbV8UFiqzHdvC"),
        ];
        for (salt, password, rounds, expected) in table {
            assert_eq!(digits(&sha_crypt(password, salt, rounds)).reveal(), expected, "{password:?}");
        }
    }

    #[test]
    fn an_account_of_mysql_knows_its_password() {
        // The example of hashcat for its mode 7401 ("MySQL $A$ (sha256crypt)"); the password is `hashcat`.
        let mut text = b"$A$005$".to_vec();
        text.extend_from_slice(
            b"\xf9\xcc\x98\xce\x08\x89\x29\x24\xf5\x0a\x21\x3b\x6b\xc5\x71\xa2\xc1\x17\x78\xc5",
        );
        text.extend_from_slice(b"bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/");
        let stored = Stored::parse(&text).unwrap();
        assert!(stored.verify(b"hashcat"));
        assert!(!stored.verify(b"hashcat\0") && !stored.verify(b"") && !stored.verify(&[b'h'; 257]));
        assert!(!format!("{stored:?}").contains("bTy95"), "the hash is not printed");
        for end in 0..text.len() {
            assert!(Stored::parse(&text[..end]).is_none());
        }
        for wrong in [&b"$A$00g$"[..], b"$A$000$", b"$B$005$", b"$A$0055"] {
            let mut other = text.clone();
            other[..7].copy_from_slice(wrong);
            assert!(Stored::parse(&other).is_none());
        }
        text.push(b'x');
        assert!(Stored::parse(&text).is_none());
    }
}
