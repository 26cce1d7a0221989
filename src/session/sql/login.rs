//! The login of an SQL session: what a client must show, and what is then known to log in at servers as the same user.
//!
//! What goes in: a client's packets, the accounts. What comes out: the session's user with its secrets, or an error for the
//! client. It owns the scramble and the secrets, which are never shown. Always true: a user that does not exist costs the
//! same as a wrong password; the answer to both is the server's own error 1045.

use std::net::IpAddr;

use crate::cluster::{Account, Stored};
use crate::mysql::auth::{Password, Plugin, Secret, crypt, ed25519, native, rsa, sha2};
use crate::mysql::errors::Code;
use crate::mysql::facts::{Capabilities, Status, Vendor, Version};
use crate::mysql::handshake::{Greeting, Scramble, scramble_of};

/// What is known of a user's password.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    /// There is none.
    is_empty: bool,
    native: Option<Secret<{ native::BYTES }>>,
    sha2: Option<Secret<{ sha2::BYTES }>>,
    password: Option<Password>,
}

impl Secrets {
    fn of_native(secret: Secret<{ native::BYTES }>) -> Self {
        Self { native: Some(secret), ..Self::default() }
    }

    fn of_password(password: &Password) -> Self {
        Self {
            is_empty: password.reveal().is_empty(),
            native: Some(native::secret_of(password.reveal())),
            sha2: Some(sha2::secret_of(password.reveal())),
            password: Some(password.clone()),
        }
    }

    /// What is known, for a hash of it.
    pub(super) fn each(&self, mut to: impl FnMut(&[u8])) {
        to(self.native.as_ref().map_or(&b""[..], |secret| secret.reveal()));
        to(self.sha2.as_ref().map_or(&b""[..], |secret| secret.reveal()));
        to(self.password.as_ref().map_or(&b""[..], Password::reveal));
    }

    /// The answer to a greeting's scramble, and by which plugin.
    pub(super) fn first_answer(&self, plugin: Plugin, scramble: &Scramble) -> Option<(Plugin, Vec<u8>)> {
        if self.is_empty {
            return Some((plugin, Vec::new()));
        }
        if let (Plugin::Sha2, Some(secret)) = (plugin, &self.sha2) {
            return Some((Plugin::Sha2, sha2::answer(secret, scramble).to_vec()));
        }
        let secret = self.native.as_ref()?;
        Some((Plugin::Native, native::answer(secret, scramble).to_vec()))
    }

    /// The answer to a request to use this plugin; `None` when what it needs is not known.
    pub(super) fn answer(&self, plugin: Plugin, data: &[u8], is_tls: bool) -> Option<Vec<u8>> {
        if self.is_empty {
            return Some(Vec::new());
        }
        match plugin {
            Plugin::Native => Some(native::answer(self.native.as_ref()?, &scramble_of(data)?).to_vec()),
            Plugin::Sha2 => Some(sha2::answer(self.sha2.as_ref()?, &scramble_of(data)?).to_vec()),
            Plugin::Ed25519 => {
                let nonce = data.first_chunk()?;
                Some(ed25519::Key::of_password(self.password.as_ref()?.reveal()).answer(nonce).to_vec())
            }
            Plugin::Clear if is_tls => self.in_clear(),
            Plugin::Clear => None,
        }
    }

    fn in_clear(&self) -> Option<Vec<u8>> {
        let mut answer = self.password.as_ref()?.reveal().to_vec();
        answer.push(0);
        Some(answer)
    }

    /// The password itself for `caching_sha2_password`, or the wish for the key to seal it with.
    pub(super) fn full(&self, is_tls: bool) -> Option<Vec<u8>> {
        if is_tls { self.in_clear() } else { self.password.as_ref().map(|_| vec![sha2::REQUEST_PUBLIC_KEY]) }
    }

    /// The password sealed with a server's key.
    pub(super) fn sealed(&self, key: &[u8], scramble: &Scramble) -> Option<Vec<u8>> {
        rsa::encrypt(self.password.as_ref()?.reveal(), scramble, key).ok()
    }
}

/// The payload for a client whose password a server wants in a way that we cannot answer.
pub(super) fn cannot_answer(plugin: Option<Plugin>) -> Vec<u8> {
    let name = plugin.map_or("another plugin".into(), |plugin| String::from_utf8_lossy(plugin.name()));
    let text = format!(
        "the server asks for {name}, for which the password itself is needed: list this user in the [sql] block of ringgate"
    );
    let mut payload = Vec::new();
    Code::ACCESS_DENIED.packet(text.as_bytes()).write(&mut payload);
    payload
}

/// A login in progress.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) scramble: Scramble,
    pub(super) offered: Capabilities,
    pub(super) capabilities: Capabilities,
    pub(super) collation: u8,
    pub(super) user: Vec<u8>,
    pub(super) database: Vec<u8>,
    /// The plugin that the client was asked to answer by instead of its own.
    pub(super) switched: Option<Plugin>,
    /// The client has our key to seal its password with.
    pub(super) has_key: bool,
}

impl Login {
    /// By which plugin most of such a server's accounts log in.
    fn usual(&self) -> Plugin {
        if self.offered.has(Capabilities::MYSQL) { Plugin::Sha2 } else { Plugin::Native }
    }
}

/// What a client's answer is worth.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is the user. `true`: `caching_sha2_password` says so before the OK.
    In(Secrets, bool),
    /// The client is to answer again, by this plugin.
    Switch(Plugin),
    /// The password itself is needed.
    Full,
    /// It is not, for this reason.
    Out(Code, String),
}

/// What is offered to clients.
pub(super) fn offered(version: Version, has_tls: bool, compresses: bool) -> Capabilities {
    let compress = if compresses { Capabilities::COMPRESS } else { Capabilities::NONE };
    let mysql = if version.vendor == Vendor::MySql { Capabilities::MYSQL } else { Capabilities::NONE };
    let tls = if has_tls { Capabilities::SSL } else { Capabilities::NONE };
    mysql
        | tls
        | compress
        | Capabilities::forms_of(version)
        | Capabilities::FOUND_ROWS
        | Capabilities::LONG_FLAG
        | Capabilities::CONNECT_WITH_DB
        | Capabilities::NO_SCHEMA
        | Capabilities::ODBC
        | Capabilities::LOCAL_FILES
        | Capabilities::IGNORE_SPACE
        | Capabilities::PROTOCOL_41
        | Capabilities::INTERACTIVE
        | Capabilities::IGNORE_SIGPIPE
        | Capabilities::TRANSACTIONS
        | Capabilities::RESERVED
        | Capabilities::SECURE_CONNECTION
        | Capabilities::MULTI_STATEMENTS
        | Capabilities::MULTI_RESULTS
        | Capabilities::PS_MULTI_RESULTS
        | Capabilities::PLUGIN_AUTH
        | Capabilities::PLUGIN_AUTH_LENENC
        | Capabilities::SESSION_TRACK
        | Capabilities::DEPRECATE_EOF
}

/// Twenty random bytes as servers make them: none is NUL or `$`, all are ASCII.
pub(super) fn scramble() -> Option<Scramble> {
    let mut scramble = [0; 20];
    aws_lc_rs::rand::fill(&mut scramble).ok()?;
    for byte in &mut scramble {
        *byte &= 0x7f;
        if matches!(*byte, 0 | b'$') {
            *byte += 1;
        }
    }
    Some(scramble)
}

/// What a server of this version would greet with.
pub(super) fn version_text(version: Version) -> String {
    let (major, minor, patch) = (version.number / 10_000, version.number / 100 % 100, version.number % 100);
    match version.vendor {
        Vendor::MySql => format!("{major}.{minor}.{patch}"),
        Vendor::MariaDb if major < 11 => format!("5.5.5-{major}.{minor}.{patch}-MariaDB"),
        Vendor::MariaDb => format!("{major}.{minor}.{patch}-MariaDB"),
    }
}

/// The greeting.
pub(super) fn greeting<'a>(login: &Login, version: &'a str, id: u32) -> Greeting<'a> {
    Greeting {
        version: version.as_bytes(),
        connection_id: id,
        scramble: login.scramble,
        capabilities: login.offered,
        collation: UTF8MB4_GENERAL_CI,
        status: Status::AUTOCOMMIT,
        plugin: login.usual().name(),
    }
}

const UTF8MB4_GENERAL_CI: u8 = 45;

/// Where a client comes from, and whether it speaks TLS.
pub(super) type From = (Option<IpAddr>, bool);

fn host((from, _): From) -> String {
    from.map_or_else(|| "localhost".to_owned(), |ip| ip.to_canonical().to_string())
}

/// The error of a server that does not let somebody in.
pub(super) fn denied(login: &Login, from: From, used: bool) -> Verdict {
    let user = String::from_utf8_lossy(&login.user);
    let host = host(from);
    let used = if used { "YES" } else { "NO" };
    let text = format!("Access denied for user '{user}'@'{host}' (using password: {used})");
    Verdict::Out(Code::ACCESS_DENIED, text)
}

/// All that is stored of an account's passwords: any of them will do.
fn each(account: &Account) -> &[Stored] {
    match &account.stored {
        Stored::AnyOf(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// The plugin by which somebody without an answer of use is asked.
pub(super) fn wanted(login: &Login, account: &Account) -> Plugin {
    let wanted = |stored: &Stored| match stored {
        Stored::Native(_) => Plugin::Native,
        Stored::Password(_) | Stored::Empty => login.usual(),
        _ => Plugin::Sha2,
    };
    let is_native = each(account).iter().any(|stored| wanted(stored) == Plugin::Native);
    if is_native { Plugin::Native } else { Plugin::Sha2 }
}

/// Judges an answer that was made by `plugin`. `known` are passwords that were shown before, by what is stored of them.
pub(super) fn judge(
    login: &Login,
    account: Option<&Account>,
    known: impl Fn(&Stored) -> Option<Password>,
    (plugin, answer): (Plugin, &[u8]),
    from: From,
) -> Verdict {
    // MySQL's clients say so that they have no password.
    let answer = if plugin == Plugin::Sha2 && answer == b"\0" { b"" } else { answer };
    let denied = || denied(login, from, !answer.is_empty());
    let Some(account) = account else {
        // As much work and as many questions as for a user that exists.
        let usual = login.usual();
        if login.switched.is_none() && plugin != usual {
            return Verdict::Switch(usual);
        }
        if usual == Plugin::Sha2 {
            return if answer.is_empty() { denied() } else { Verdict::Full };
        }
        let _ = native::verify(answer, &login.scramble, &Secret::new(&[0x5a; native::BYTES]));
        return denied();
    };
    if account.needs_tls && !from.1 {
        return denied();
    }
    let by_password = |password: &Password| match plugin {
        _ if password.reveal().is_empty() => answer.is_empty(),
        Plugin::Sha2 => {
            let remembered = sha2::remembered_of(&sha2::secret_of(password.reveal()));
            sha2::verify(answer, &login.scramble, &remembered).is_some()
        }
        _ => {
            let stored = native::stored_of(&native::secret_of(password.reveal()));
            native::verify(answer, &login.scramble, &stored).is_some()
        }
    };
    let secrets = each(account).iter().find_map(|stored| match stored {
        Stored::Empty => answer.is_empty().then(|| Secrets { is_empty: true, ..Secrets::default() }),
        Stored::Native(stored) if plugin == Plugin::Native => {
            native::verify(answer, &login.scramble, stored).map(Secrets::of_native)
        }
        Stored::Password(password) => by_password(password).then(|| Secrets::of_password(password)),
        other => known(other).filter(|known| by_password(known)).map(|known| Secrets::of_password(&known)),
    });
    if let Some(secrets) = secrets {
        return let_in(login, account, (secrets, plugin == Plugin::Sha2 && !answer.is_empty()), from);
    }
    let is_full = |stored: &Stored| matches!(stored, Stored::Sha2(_) | Stored::Ed25519(_));
    let has_full = each(account).iter().any(is_full);
    let wanted = wanted(login, account);
    match each(account).first() {
        Some(Stored::Other(name)) if each(account).len() == 1 => {
            let text = format!(
                "this account logs in by {name}, which ringgate does not speak: list the user in its [sql] block"
            );
            Verdict::Out(Code::AUTH_MODE, text)
        }
        _ if login.switched.is_none() && plugin != wanted => Verdict::Switch(wanted),
        _ if has_full && plugin == Plugin::Sha2 && !answer.is_empty() => Verdict::Full,
        _ => denied(),
    }
}

/// What would be stored of a password that nobody has.
const NOBODY: &[u8] = b"$A$005$aaaaaaaaaaaaaaaaaaaa...........................................";

/// Judges a password; `learn` keeps it for what is stored of it.
pub(super) fn judge_password(
    login: &Login,
    account: Option<&Account>,
    password: &Password,
    learn: impl FnOnce(&Stored),
    from: From,
) -> Verdict {
    let fits = |stored: &&Stored| match stored {
        Stored::Sha2(text) => {
            crypt::Stored::parse(text).is_some_and(|stored| stored.verify(password.reveal()))
        }
        Stored::Ed25519(key) => ed25519::Key::of_password(password.reveal()).public() == *key,
        _ => false,
    };
    if account.is_none() {
        let _ = crypt::Stored::parse(NOBODY).is_some_and(|stored| stored.verify(password.reveal()));
    }
    let account = account.and_then(|account| Some((account, each(account).iter().find(fits)?)));
    let Some((account, stored)) = account else { return denied(login, from, true) };
    learn(stored);
    let_in(login, account, (Secrets::of_password(password), false), from)
}

fn let_in(login: &Login, account: &Account, (secrets, is_fast): (Secrets, bool), from: From) -> Verdict {
    if account.is_locked && !login.offered.has(Capabilities::MYSQL) {
        let text = "Access denied, this account is locked".to_owned();
        return Verdict::Out(Code::ACCOUNT_LOCKED_MARIADB, text);
    }
    if account.is_locked {
        let user = String::from_utf8_lossy(&login.user);
        let text = format!("Access denied for user '{user}'@'{}'. Account is locked.", host(from));
        return Verdict::Out(Code::ACCOUNT_LOCKED, text);
    }
    Verdict::In(secrets, is_fast)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_costs_as_much_as_somebody() {
        assert!(crypt::Stored::parse(NOBODY).is_some_and(|stored| !stored.verify(b"")));
    }
}
