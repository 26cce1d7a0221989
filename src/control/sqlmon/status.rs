//! What a server says about itself: whether it takes writes, how far it is, whom it follows.
//!
//! Tables go in, a [`Seen`] comes out. It owns nothing. Always true: columns are found by their name, so that what
//! a version has more or less of them does not matter; what cannot be read is not there.

use super::tables::{Row, Table};
use crate::clock::Moment;
use crate::cluster::Gtid;
use crate::mysql::facts::{Vendor, Version};

/// A thread of replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Thread {
    /// It does not run.
    #[default]
    No,
    /// It tries to reach its source.
    Connecting,
    /// It runs.
    Yes,
}

impl Thread {
    fn read(text: &str) -> Self {
        match text {
            "Yes" => Self::Yes,
            "" | "No" => Self::No,
            // "Connecting"; MariaDB also says "Preparing".
            _ => Self::Connecting,
        }
    }

    /// The word of the servers.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::No => "No",
            Self::Connecting => "Connecting",
            Self::Yes => "Yes",
        }
    }
}

/// Whom a server follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// As it was configured.
    pub(super) host: String,
    pub(super) port: u16,
    /// Its server id, once the replica has reached it.
    pub(super) server_id: Option<u64>,
    /// Fetches.
    pub(super) io: Thread,
    /// Applies.
    pub(super) sql: Thread,
    /// Seconds behind, as the replica thinks.
    pub(super) behind: Option<u64>,
    /// What went wrong last.
    pub(super) error: String,
}

impl Source {
    /// It is followed, or would be if it could be reached.
    pub(super) fn runs(&self) -> bool {
        self.io != Thread::No || self.sql != Thread::No
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// When it was asked.
    pub(super) asked: Moment,
    /// When it had answered.
    pub(super) answered: Moment,
    pub(super) version: Version,
    pub(super) server_id: u64,
    /// Neither `read_only` nor `super_read_only`.
    pub(super) is_writable: bool,
    /// `init_connect` is set.
    pub(super) has_init: bool,
    /// What it writes gets a GTID.
    pub(super) has_gtids: bool,
    /// What it has executed of what others wrote.
    pub(super) applied: Vec<Gtid>,
    /// What it has executed at all.
    pub(super) executed: Vec<Gtid>,
    /// Whom it follows; none for who is no replica.
    pub(super) sources: Vec<Source>,
}

/// What to ask a server of this version: two results.
pub(super) const fn question(version: Version) -> &'static str {
    match version.vendor {
        Vendor::MariaDb => {
            "SELECT @@version AS version, @@global.read_only AS read_only, \
             @@server_id AS server_id, @@global.init_connect AS init_connect, @@global.log_bin AS gtids, \
             @@global.gtid_slave_pos AS applied, @@global.gtid_binlog_pos AS written, \
             @@global.gtid_current_pos AS current; SHOW ALL SLAVES STATUS"
        }
        Vendor::MySql if version.number >= 80_022 => {
            "SELECT @@version AS version, @@global.read_only OR @@global.super_read_only AS read_only, \
             @@server_id AS server_id, @@global.init_connect AS init_connect, @@global.gtid_mode AS gtids, \
             @@global.gtid_executed AS applied; SHOW REPLICA STATUS"
        }
        Vendor::MySql => {
            "SELECT @@version AS version, @@global.read_only OR @@global.super_read_only AS read_only, \
             @@server_id AS server_id, @@global.init_connect AS init_connect, @@global.gtid_mode AS gtids, \
             @@global.gtid_executed AS applied; SHOW SLAVE STATUS"
        }
    }
}

/// What the account lacks when the question is refused with one of these numbers (ER_SPECIFIC_ACCESS_DENIED_ERROR,
/// ER_TABLEACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_COLUMNACCESS_DENIED_ERROR, ER_ACCESS_DENIED_ERROR).
pub(super) const fn is_missing_privilege(code: u16) -> bool {
    matches!(code, 1227 | 1142 | 1044 | 1143 | 1045)
}

/// The statement that gives an account what the question needs.
pub(super) fn grant(version: Version, account: &str) -> String {
    let privilege = match version.vendor {
        Vendor::MariaDb if version.number >= 100_502 => "SLAVE MONITOR",
        _ => "REPLICATION CLIENT",
    };
    format!("GRANT {privilege} ON *.* TO {account}")
}

/// An account for a statement, out of what CURRENT_USER() says: the user, `@`, the host's pattern.
pub(super) fn quoted(current: &str) -> String {
    let (user, host) = current.rsplit_once('@').unwrap_or((current, "..."));
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    format!("'{}'@'{}'", quoted(user), quoted(host))
}

/// Reads the answer to the question, which was asked and answered at these times.
pub(super) fn read(tables: &[Table], (asked, answered): (Moment, Moment)) -> Option<Seen> {
    let [about, replication, ..] = tables else { return None };
    let about = about.first()?;
    let list = |name| Gtid::parse_list(about.get(&[name]).unwrap_or_default(), false).collect::<Vec<_>>();
    let applied = list("applied");
    let mut executed = applied.clone();
    for gtid in list("written").into_iter().chain(list("current")) {
        match executed.iter_mut().find(|one| one.source == gtid.source) {
            Some(one) => one.number = one.number.max(gtid.number),
            None => executed.push(gtid),
        }
    }
    Some(Seen {
        asked,
        answered,
        version: Version::parse(about.get(&["version"])?)?,
        server_id: about.number(&["server_id"])?,
        is_writable: matches!(about.text(&["read_only"]), "0" | "OFF"),
        has_init: !about.text(&["init_connect"]).is_empty(),
        has_gtids: !matches!(about.text(&["gtids"]), "0" | "OFF" | "OFF_PERMISSIVE"),
        applied,
        executed,
        sources: replication.rows().map(source).collect(),
    })
}

fn source(row: Row<'_>) -> Source {
    let errors = ["Last_IO_Error", "Last_SQL_Error"].map(|name| row.text(&[name]));
    Source {
        host: row.text(&["Source_Host", "Master_Host"]).to_owned(),
        port: row.text(&["Source_Port", "Master_Port"]).parse().unwrap_or(0),
        server_id: row.number(&["Source_Server_Id", "Master_Server_Id"]).filter(|id| *id != 0),
        io: Thread::read(row.text(&["Replica_IO_Running", "Slave_IO_Running"])),
        sql: Thread::read(row.text(&["Replica_SQL_Running", "Slave_SQL_Running"])),
        behind: row.number(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
        error: errors.into_iter().find(|error| !error.is_empty()).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEN: (Moment, Moment) = (Moment(1), Moment(2));

    fn gtid(source: u128, number: u64) -> Gtid {
        Gtid { source, number }
    }

    #[test]
    fn mariadb_is_read() {
        let about = Table::of(
            &["version", "read_only", "server_id", "applied", "written", "current"],
            &[&[
                Some("10.11.6-MariaDB-log"),
                Some("1"),
                Some("2"),
                Some("0-1-7"),
                Some("0-1-7,5-2-9"),
                Some("0-1-7"),
            ]],
        );
        let columns = [
            "Connection_name",
            "Master_Host",
            "Master_Port",
            "Slave_IO_Running",
            "Slave_SQL_Running",
            "Seconds_Behind_Master",
            "Master_Server_Id",
            "Last_IO_Error",
            "Last_SQL_Error",
        ];
        let replication = Table::of(
            &columns,
            &[
                &["", "db1", "3306", "Yes", "Yes", "3", "1", "", ""].map(Some),
                &[
                    Some("b"),
                    Some("db9"),
                    Some("3307"),
                    Some("Connecting"),
                    Some("No"),
                    None,
                    Some("0"),
                    Some(""),
                    Some("dup"),
                ],
            ],
        );
        let seen = read(&[about, replication], WHEN).unwrap();
        assert_eq!((seen.version.number, seen.server_id, seen.is_writable), (101_106, 2, false));
        assert_eq!((seen.applied, seen.executed), (vec![gtid(0, 7)], vec![gtid(0, 7), gtid(5, 9)]));
        let [one, two] = &seen.sources[..] else { panic!("two sources") };
        assert_eq!((one.host.as_str(), one.port, one.server_id, one.behind), ("db1", 3306, Some(1), Some(3)));
        assert_eq!((one.io, one.sql, one.runs()), (Thread::Yes, Thread::Yes, true));
        assert_eq!(
            (two.io, two.sql, two.server_id, two.behind),
            (Thread::Connecting, Thread::No, None, None)
        );
        assert_eq!(two.error, "dup");
    }

    #[test]
    fn mysql_is_read() {
        let about = Table::of(
            &["version", "read_only", "server_id", "applied"],
            &[&["9.7.4", "0", "1", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"].map(Some)],
        );
        let columns = ["Source_Host", "Source_Port", "Replica_IO_Running", "Replica_SQL_Running"];
        let seen = read(&[about.clone(), Table::of(&columns, &[])], WHEN).unwrap();
        assert!(seen.is_writable && seen.sources.is_empty() && seen.applied == seen.executed);
        assert_eq!((seen.version.vendor, seen.executed[0].number), (Vendor::MySql, 5));
        let stopped = Table::of(&columns, &[&["a", "1", "No", "No"].map(Some)]);
        let seen = read(&[about.clone(), stopped], WHEN).unwrap();
        assert!(!seen.sources[0].runs() && seen.sources[0].behind.is_none());
        assert_eq!(read(&[about], WHEN), None, "half an answer");
        assert_eq!(read(&[], WHEN), None);
    }

    #[test]
    fn questions_and_grants_fit_the_version() {
        for (version, word, statement) in [
            ("10.11.6-MariaDB", "SHOW ALL SLAVES STATUS", "GRANT SLAVE MONITOR ON *.* TO 'it''s'@'10.%'"),
            ("10.4.1-MariaDB", "gtid_slave_pos", "GRANT REPLICATION CLIENT ON *.* TO 'it''s'@'10.%'"),
            ("8.0.21", "SHOW SLAVE STATUS", "GRANT REPLICATION CLIENT ON *.* TO 'it''s'@'10.%'"),
            ("8.0.22", "SHOW REPLICA STATUS", "GRANT REPLICATION CLIENT ON *.* TO 'it''s'@'10.%'"),
        ] {
            let version = Version::parse(version.as_bytes()).unwrap();
            assert!(question(version).contains(word));
            assert_eq!(grant(version, &quoted("it's@10.%")), statement);
        }
        assert_eq!((quoted("a@b@%"), quoted("a\\")), ("'a@b'@'%'".into(), "'a\\\\'@'...'".into()));
        assert!(is_missing_privilege(1227) && !is_missing_privilege(1064));
    }
}
