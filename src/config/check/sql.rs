//! `[sql.NAME]` blocks.

use super::pool::queue;
use super::*;
use crate::config::model::{
    Balance, Consistency, Pool, PoolHealth, PoolTimes, Pooling, Reads, Sql, SqlAccount, SqlTimes, SqlUsers,
};
use crate::mysql::auth::Password;
use crate::proxyproto::Version;

const READS: [(&str, Reads); 2] = [("replicas", Reads::Replicas), ("primary", Reads::Primary)];
const CONSISTENCY: [(&str, Consistency); 3] = [
    ("read-your-writes", Consistency::ReadYourWrites),
    ("global", Consistency::Global),
    ("eventual", Consistency::Eventual),
];
const POOLING: [(&str, Pooling); 2] = [("session", Pooling::Session), ("transaction", Pooling::Transaction)];
const ACCOUNT: &str = "write it like { user = \"ringgate\", password_file = \"/etc/ringgate/sql.secret\" }";
const USERS: &str =
    "write users = \"from-server\", or [ { user = \"app\", password_file = \"/etc/ringgate/app.secret\" } ]";

impl<'t> Checker<'t, '_> {
    /// Checks a block and adds it with its listeners and its servers.
    pub(super) fn sql_block(&mut self, name: &'t str, block: &Table<'t>) {
        let addresses = self.listen(block);
        let listening = self.server_tls(block, false);
        let servers = self.servers(block, PoolId(self.config.pools.len() as u32), "10.0.0.21:3306");
        if let Some(server) = servers.iter().find(|server| server.backup) {
            block.mistake(
                format!(
                    "server \"{}\" is a backup: who serves what follows from the servers' roles",
                    server.name
                ),
                "remove backup; with weight = 0 a replica gets no reads",
            );
        }
        let server_tls = self.client_tls(block, "server_tls", &servers);
        let send = [("v1", Version::V1), ("v2", Version::V2)];
        let send_proxy = block.get("server_proxy_protocol").and_then(|value| value.word(&send));
        let trusted = self.networks(block, "trusted_proxies");
        let accept_proxy = self.accept_proxy(block, &trusted);
        let account = match block.get("account") {
            Some(value) => self.sql_account(&value),
            None => {
                block.mistake(
                    "there is no account to look after the servers with",
                    "add account = { user = \"ringgate\", password_file = \"/etc/ringgate/sql.secret\" }",
                );
                None
            }
        };
        let users = self.sql_users(block);
        let (times, pool_times) = sql_times(block);
        let (queue_max, queue_time) = queue(block);
        let idle_max = block.get("idle_connections").and_then(|value| value.integer(0..=1_000_000));
        let word = |key| block.get(key);
        let pool = Pool {
            name: format!("sql.{name}"),
            balance: Balance::LeastConnections,
            servers: Vec::new(),
            by_role: true,
            tls: server_tls,
            send_proxy,
            times: PoolTimes { queue: queue_time, ..pool_times },
            attempts_max: limits::ATTEMPTS_DEFAULT,
            queue_max,
            // What a client's address was told of is of no use for another one.
            idle_max: if send_proxy.is_some() {
                0
            } else {
                idle_max.map_or(limits::SERVER_IDLE_DEFAULT, |n| n as usize)
            },
            keep_alive: false,
            health: PoolHealth::default(),
        };
        let sql = Sql {
            name: name.to_owned(),
            tls: listening.tls,
            certificates: listening.certificates,
            pool: self.add_pool(pool, servers),
            account: account.unwrap_or_default(),
            users,
            reads: word("reads").and_then(|value| value.word(&READS)).unwrap_or_default(),
            consistency: word("consistency").and_then(|value| value.word(&CONSISTENCY)).unwrap_or_default(),
            pooling: word("pooling").and_then(|value| value.word(&POOLING)).unwrap_or_default(),
            lag_max: block.duration("lag_max", limits::SQL_LAG_DEFAULT),
            compression: block.boolean("compression", true),
            accept_proxy,
            times,
        };
        block.finish();
        self.serve(addresses, Serves::Sql(SqlId(self.config.sql.len() as u32)));
        self.config.sql.push(sql);
    }

    fn sql_account(&self, value: &Value<'t>) -> Option<SqlAccount> {
        let table = value.table(ACCOUNT)?;
        let user = table.get("user").and_then(|value| value.text());
        let password = table.get("password_file").and_then(|value| self.password(&value));
        for key in ["user", "password_file"] {
            if table.get(key).is_none() {
                table.mistake(format!("the account has no {key}"), ACCOUNT);
            }
        }
        table.finish();
        Some(SqlAccount { user: user?.to_owned(), password: password? })
    }

    /// The first line of a file.
    fn password(&self, value: &Value<'t>) -> Option<Password> {
        let (path, bytes) = self.file(value)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.contains(&0) {
            let what = format!("{} holds no password in its first line", path.display());
            value.mistake(what, "write the password there, and nothing else");
            return None;
        }
        Some(Password::new(line))
    }

    fn sql_users(&self, block: &Table<'t>) -> SqlUsers {
        let Some(value) = block.get("users") else { return SqlUsers::FromServer };
        if value.is_text() {
            return value
                .word(&[("from-server", ())])
                .map_or(SqlUsers::FromServer, |()| SqlUsers::FromServer);
        }
        if !value.is_list() {
            value.mistake("these are no users", USERS);
            return SqlUsers::FromServer;
        }
        let items = value.list(false);
        let mut users: Vec<SqlAccount> = Vec::new();
        for item in &items {
            let Some(account) = self.sql_account(item) else { continue };
            if users.iter().any(|other| other.user == account.user) {
                item.mistake(format!("user \"{}\" is listed twice", account.user), "remove one of them");
            }
            users.push(account);
        }
        if items.is_empty() {
            value.mistake("nobody could log in", USERS);
        }
        SqlUsers::Listed(users)
    }
}

/// Times of clients, and of connections to servers.
fn sql_times(block: &Table<'_>) -> (SqlTimes, PoolTimes) {
    let (default, pool) = (SqlTimes::default(), PoolTimes::default());
    let Some(table) = block.table("timeouts", "write it like { idle = \"8h\", connect = \"5s\" }") else {
        return (default, pool);
    };
    let times = SqlTimes {
        handshake: table.duration("handshake", default.handshake),
        idle: table.duration("idle", default.idle),
        progress: table.duration("progress", default.progress),
        first_byte: table.duration("answer", default.first_byte),
        primary: table.duration("primary", default.primary),
    };
    let pool = PoolTimes {
        connect: table.duration("connect", pool.connect),
        idle: table.duration("server_idle", pool.idle),
        ..pool
    };
    table.finish();
    (times, pool)
}
