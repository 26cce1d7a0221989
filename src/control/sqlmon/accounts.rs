//! The accounts of a server, out of its own tables.
//!
//! Rows of `mysql.global_priv` (MariaDB) or `mysql.user` go in, accounts come out. It owns nothing. Always true: what
//! cannot be read becomes an account that nobody can log in to, never one that is open to all; roles are no accounts.

use serde_json::Value;

use super::tables::{Row, Table};
use crate::cluster::{Account, Accounts, Stored};
use crate::config::model::SqlAccount;
use crate::mysql::auth::{Plugin, ed25519, native};
use crate::mysql::facts::{Vendor, Version};

/// What asks for the accounts: first this, and when the table is not there or not allowed, the second.
pub(super) const fn questions(version: Version) -> &'static [&'static str] {
    const USER: &str = "SELECT * FROM mysql.user";
    match version.vendor {
        Vendor::MariaDb if version.number >= 100_400 => {
            &["SELECT User, Host, Priv FROM mysql.global_priv", USER]
        }
        Vendor::MariaDb => &[USER],
        Vendor::MySql if version.number >= 80_014 => {
            &["SELECT User, Host, plugin, authentication_string, account_locked, ssl_type, User_attributes \
             FROM mysql.user"]
        }
        Vendor::MySql => {
            &["SELECT User, Host, plugin, authentication_string, account_locked, ssl_type FROM mysql.user"]
        }
    }
}

/// The table that the service account should be able to read.
pub(super) const fn table(version: Version) -> &'static str {
    match version.vendor {
        Vendor::MariaDb if version.number >= 100_400 => "mysql.global_priv",
        _ => "mysql.user",
    }
}

/// Those that the configuration lists.
pub(super) fn listed(users: &[SqlAccount]) -> Accounts {
    Accounts::new(users.iter().map(|user| {
        let stored = Stored::Password(user.password.clone());
        (
            user.user.as_bytes().to_vec(),
            Account { host: "%".into(), stored, needs_tls: false, is_locked: false },
        )
    }))
}

/// Those of a table.
pub(super) fn read(table: &Table) -> Accounts {
    Accounts::new(table.rows().filter_map(account))
}

fn account(row: Row<'_>) -> Option<(Vec<u8>, Account)> {
    let user = row.get(&["User"])?.to_vec();
    let host = row.text(&["Host"]).to_owned();
    let account = match row.get(&["Priv"]) {
        Some(json) => of_json(host, json)?,
        None => of_columns(host, row)?,
    };
    Some((user, account))
}

/// A row of `mysql.user`.
fn of_columns(host: String, row: Row<'_>) -> Option<Account> {
    if row.text(&["is_role"]) == "Y" {
        return None;
    }
    let needs = match row.text(&["ssl_type"]) {
        "" => 0,
        "ANY" => 1,
        _ => 2,
    };
    let text = row.get(&["authentication_string"]).filter(|text| !text.is_empty());
    let text = text.or(row.get(&["Password"])).unwrap_or_default();
    let plugin = row.get(&["plugin"]).unwrap_or_default();
    // MySQL keeps the password of before when it is told to retain it.
    let attributes =
        row.get(&["User_attributes"]).and_then(|json| serde_json::from_slice::<Value>(json).ok());
    let second = attributes.as_ref().and_then(|all| all.get("additional_password")?.as_str());
    let stored = match second {
        None => stored(plugin, text),
        Some(second) => any_of([text, second.as_bytes()].into_iter().map(|text| stored(plugin, text))),
    };
    Some(finish(host, stored, needs, row.text(&["account_locked"]) == "Y"))
}

/// The JSON of `mysql.global_priv`.
fn of_json(host: String, json: &[u8]) -> Option<Account> {
    let Ok(Value::Object(all)) = serde_json::from_slice(json) else {
        return Some(finish(host, Stored::Other("an account that cannot be read".into()), 0, true));
    };
    if all.get("is_role").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let way = |of: &serde_json::Map<String, Value>| {
        let text = |key| of.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes();
        stored(text("plugin"), text("authentication_string"))
    };
    let stored = match all.get("auth_or").and_then(Value::as_array) {
        None => way(&all),
        // An empty object stands for what the account has beside the list.
        Some(list) => any_of(list.iter().filter_map(Value::as_object).map(|one| {
            let own = one.is_empty();
            way(if own { &all } else { one })
        })),
    };
    let number = |key| all.get(key).and_then(Value::as_u64).unwrap_or(0);
    let is_locked = all.get("account_locked").and_then(Value::as_bool).unwrap_or(false);
    Some(finish(host, stored, number("ssl_type"), is_locked))
}

/// Those of several ways that are spoken.
fn any_of(ways: impl Iterator<Item = Stored>) -> Stored {
    let (mut spoken, mut other) = (Vec::new(), None);
    for way in ways {
        match way {
            Stored::Other(_) => other = other.or(Some(way)),
            _ => spoken.push(way),
        }
    }
    match (spoken.len(), other) {
        (0, other) => other.unwrap_or_else(|| Stored::Other("no way to log in".into())),
        (1, _) => spoken.remove(0),
        _ => Stored::AnyOf(spoken),
    }
}

/// What is stored for a plugin.
fn stored(plugin: &[u8], text: &[u8]) -> Stored {
    let name = String::from_utf8_lossy(if plugin.is_empty() { Plugin::Native.name() } else { plugin });
    let other = || Stored::Other(name.chars().filter(|letter| !letter.is_control()).take(64).collect());
    match Plugin::of_name(name.as_bytes()) {
        Some(Plugin::Native | Plugin::Sha2) if text.is_empty() => Stored::Empty,
        Some(Plugin::Native) => native::parse_stored(text).map_or_else(other, Stored::Native),
        Some(Plugin::Sha2) => Stored::Sha2(text.to_vec()),
        Some(Plugin::Ed25519) => ed25519::parse_stored(text).map_or_else(other, Stored::Ed25519),
        Some(Plugin::Clear) | None => other(),
    }
}

/// `needs`: 0 nothing, 1 TLS, more a certificate of the client, which we cannot show to the server in its place.
fn finish(host: String, stored: Stored, needs: u64, is_locked: bool) -> Account {
    let stored = if needs > 1 { Stored::Other("REQUIRE of a client's certificate".into()) } else { stored };
    Account { host, stored, needs_tls: needs > 0, is_locked }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19";
    const ED25519: &str = "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY";

    fn word(stored: &Stored) -> String {
        match stored {
            Stored::Empty => "empty".into(),
            Stored::Native(_) => "native".into(),
            Stored::Sha2(text) => format!("sha2 {}", text.len()),
            Stored::Ed25519(_) => "ed25519".into(),
            Stored::Password(_) => "password".into(),
            Stored::AnyOf(list) => list.iter().map(word).collect::<Vec<_>>().join(" or "),
            Stored::Other(name) => format!("other {name}"),
        }
    }

    /// The account as words; empty for none.
    fn words(table: &Table) -> String {
        let Some((_, account)) = account(table.first().unwrap()) else { return String::new() };
        let tls = if account.needs_tls { ", tls" } else { "" };
        let locked = if account.is_locked { ", locked" } else { "" };
        format!("{}{tls}{locked}", word(&account.stored))
    }

    #[test]
    fn mariadb_accounts_are_read() {
        for (json, expected) in [
            (format!(r#"{{"access":1,"plugin":"mysql_native_password","authentication_string":"{NATIVE}"}}"#), "native"),
            (r#"{"access":0,"plugin":"mysql_native_password","authentication_string":""}"#.into(), "empty"),
            (r#"{"access":0}"#.into(), "empty"),
            (format!(r#"{{"plugin":"ed25519","authentication_string":"{ED25519}","ssl_type":1}}"#), "ed25519, tls"),
            (r#"{"plugin":"ed25519","authentication_string":"x"}"#.into(), "other ed25519"),
            (
                r#"{"plugin":"mysql_native_password","authentication_string":"invalid","auth_or":[{},{"plugin":"unix_socket"}]}"#.into(),
                "other mysql_native_password",
            ),
            (
                format!(r#"{{"plugin":"ed25519","authentication_string":"{ED25519}","auth_or":[{{"plugin":"unix_socket"}},{{"plugin":"mysql_native_password","authentication_string":"{NATIVE}"}},{{}}]}}"#),
                "native or ed25519",
            ),
            (
                format!(r#"{{"plugin":"ed25519","authentication_string":"{ED25519}","auth_or":[{{"plugin":"pam"}},{{}}]}}"#),
                "ed25519",
            ),
            (r#"{"auth_or":[]}"#.into(), "other no way to log in"),
            (r#"{"access":0,"account_locked":true}"#.into(), "empty, locked"),
            (r#"{"access":0,"ssl_type":2}"#.into(), "other REQUIRE of a client's certificate, tls"),
            (r#"{"access":0,"ssl_type":0}"#.into(), "empty"),
            (r#"{"access":0,"is_role":true}"#.into(), ""),
            ("{".into(), "other an account that cannot be read, locked"),
        ] {
            let table = Table::of(&["User", "Host", "Priv"], &[&[Some("app"), Some("%"), Some(&json)]]);
            assert_eq!(words(&table), expected, "{json}");
        }
    }

    #[test]
    fn rows_of_mysql_user_are_read() {
        const COLUMNS: [&str; 6] =
            ["Host", "User", "plugin", "authentication_string", "account_locked", "ssl_type"];
        let sha2 = format!("$A$005${}", "x".repeat(63));
        for (plugin, text, locked, tls, expected) in [
            ("mysql_native_password", NATIVE, "N", "", "native"),
            ("caching_sha2_password", &sha2, "N", "ANY", "sha2 70, tls"),
            ("caching_sha2_password", "", "Y", "", "empty, locked"),
            ("sha256_password", "$5$", "N", "", "other sha256_password"),
            ("caching_sha2_password", &sha2, "N", "X509", "other REQUIRE of a client's certificate, tls"),
        ] {
            let row = ["10.%", "app", plugin, text, locked, tls].map(Some);
            assert_eq!(words(&Table::of(&COLUMNS, &[&row])), expected);
        }
        // A second password that is still good.
        let columns = [&COLUMNS[..], &["User_attributes"]].concat();
        let second = format!(r#"{{"additional_password": "{sha2}"}}"#);
        for (attributes, expected) in [
            (None, "sha2 70"),
            (Some(r#"{"metadata": {}}"#), "sha2 70"),
            (Some(second.as_str()), "sha2 70 or sha2 70"),
        ] {
            let row = ["%", "app", "caching_sha2_password", &sha2, "N", ""].map(Some);
            let row = [&row[..], &[attributes]].concat();
            assert_eq!(words(&Table::of(&columns, &[&row])), expected);
        }
        // MariaDB's view has the hash of old in a column of its own.
        let columns = ["User", "Host", "Password", "plugin", "authentication_string", "is_role"];
        let old = ["app", "%", NATIVE, "", "", "N"].map(Some);
        assert_eq!(words(&Table::of(&columns, &[&old])), "native");
        let role = ["r", "", "", "", "", "Y"].map(Some);
        assert_eq!(words(&Table::of(&columns, &[&role])), "");
    }

    #[test]
    fn accounts_are_found_by_user_and_host() {
        let row = |user, host| [user, host, NATIVE].map(Some);
        let (one, two) = (row("app", "%"), row("app", "10.0.0.5"));
        let all = read(&Table::of(&["User", "Host", "authentication_string"], &[&one, &two]));
        assert!(all.are_known() && all.len() == 2);
        let found = all.find(b"app", Some([10, 0, 0, 5].into())).unwrap();
        assert_eq!(found.host, "10.0.0.5");
        let user = SqlAccount { user: "app".into(), password: crate::mysql::auth::Password::new(b"x") };
        let all = listed(&[user]);
        assert_eq!(word(&all.find(b"app", None).unwrap().stored), "password");
    }
}
