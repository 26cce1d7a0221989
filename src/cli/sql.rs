//! `ringgate explain sql`: where statements would go, and why.
//!
//! What goes in: statements, as arguments or one per line of standard input, and what kind of server and session they
//! are for. What comes out: a line for each. It owns nothing. Always true: nothing is connected to.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use clap::Args;

use super::{complain, say};
use crate::mysql::classify::classify;
use crate::mysql::lexer::{Charset, Dialect, Vendor};
use crate::route::split::{Place, Reads, SessionState, decide};

/// The arguments.
#[derive(Debug, Args)]
pub struct Sql {
    /// The statements; without any, one per line of standard input
    #[arg(value_name = "STATEMENT")]
    statements: Vec<String>,
    /// Whose server reads them: mariadb-VERSION or mysql-VERSION
    #[arg(long, value_name = "SERVER", default_value = "mariadb-10.11", value_parser = server)]
    server: Dialect,
    /// The session's sql_mode, as far as it changes how text is read: ANSI_QUOTES, NO_BACKSLASH_ESCAPES, ORACLE
    #[arg(long, value_name = "MODES", default_value = "", value_parser = sql_mode)]
    sql_mode: String,
    /// The session's character_set_client
    #[arg(long, value_name = "NAME", default_value = "utf8mb4", value_parser = charset)]
    charset: Charset,
    /// One session: each statement finds what those before it left behind
    #[arg(long)]
    session: bool,
}

/// `mariadb-10.11`, `mysql-9.7.4`: parts that are not said are the latest.
fn server(text: &str) -> Result<Dialect, String> {
    let wrong = || "expected mariadb-VERSION or mysql-VERSION, such as mariadb-10.11 or mysql-9".to_owned();
    let (vendor, version) = text.split_once('-').ok_or_else(wrong)?;
    let mut numbers = [99; 3];
    let parts: Vec<&str> = version.split('.').collect();
    if parts.len() > numbers.len() {
        return Err(wrong());
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = part.parse().ok().filter(|number| *number < 100).ok_or_else(wrong)?;
    }
    let [major, minor, patch] = numbers;
    let version = major * 10_000 + minor * 100 + patch;
    match vendor.to_ascii_lowercase().as_str() {
        "mariadb" => Ok(Dialect::mariadb(version)),
        "mysql" => Ok(Dialect::mysql(version)),
        _ => Err(wrong()),
    }
}

/// The modes that servers have; those that do not change how text is read are fine.
fn sql_mode(text: &str) -> Result<String, String> {
    const KNOWN: &[&str] = &[
        "ALLOW_INVALID_DATES",
        "ANSI",
        "ANSI_QUOTES",
        "DB2",
        "EMPTY_STRING_IS_NULL",
        "ERROR_FOR_DIVISION_BY_ZERO",
        "HIGH_NOT_PRECEDENCE",
        "IGNORE_BAD_TABLE_OPTIONS",
        "IGNORE_SPACE",
        "MAXDB",
        "MSSQL",
        "MYSQL323",
        "MYSQL40",
        "NO_AUTO_CREATE_USER",
        "NO_AUTO_VALUE_ON_ZERO",
        "NO_BACKSLASH_ESCAPES",
        "NO_DIR_IN_CREATE",
        "NO_ENGINE_SUBSTITUTION",
        "NO_FIELD_OPTIONS",
        "NO_KEY_OPTIONS",
        "NO_TABLE_OPTIONS",
        "NO_UNSIGNED_SUBTRACTION",
        "NO_ZERO_DATE",
        "NO_ZERO_IN_DATE",
        "ONLY_FULL_GROUP_BY",
        "ORACLE",
        "PAD_CHAR_TO_FULL_LENGTH",
        "PIPES_AS_CONCAT",
        "POSTGRESQL",
        "REAL_AS_FLOAT",
        "SIMULTANEOUS_ASSIGNMENT",
        "STRICT_ALL_TABLES",
        "STRICT_TRANS_TABLES",
        "TIME_ROUND_FRACTIONAL",
        "TIME_TRUNCATE_FRACTIONAL",
        "TRADITIONAL",
    ];
    for mode in text.split(',').map(str::trim).filter(|mode| !mode.is_empty()) {
        let upper = mode.to_ascii_uppercase();
        if !KNOWN.contains(&upper.as_str()) {
            let near = KNOWN
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, &upper).total_cmp(&strsim::jaro_winkler(b, &upper)));
            return Err(format!("no sql_mode is called {mode:?}; did you mean {}?", near.unwrap_or(&"")));
        }
    }
    Ok(text.to_owned())
}

fn charset(name: &str) -> Result<Charset, String> {
    let unknown = || {
        format!(
            "{name:?} is no character set that a client can use; such are utf8mb4, latin1, gbk, big5, sjis"
        )
    };
    Charset::by_name(name.as_bytes()).ok_or_else(unknown)
}

/// Says where each statement goes.
pub fn run(arguments: &Sql) -> ExitCode {
    let mut dialect = Dialect { charset: arguments.charset, ..arguments.server };
    dialect.set_sql_mode(arguments.sql_mode.as_bytes());
    if dialect.vendor == Vendor::MySql && arguments.sql_mode.to_ascii_uppercase().contains("ORACLE") {
        complain("sql_mode ORACLE is MariaDB's: MySQL does not have it");
        return ExitCode::FAILURE;
    }
    let mut state = SessionState::new(dialect);
    let mut tell = |statement: &[u8]| {
        if !arguments.session {
            state = SessionState::new(dialect);
        }
        say(&line(statement, &mut state));
    };
    if !arguments.statements.is_empty() {
        arguments.statements.iter().for_each(|statement| tell(statement.as_bytes()));
        return ExitCode::SUCCESS;
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        complain("one statement per line; Ctrl-D ends");
    }
    for line in input.lock().split(b'\n') {
        match line {
            Ok(line) if line.trim_ascii().is_empty() => {}
            Ok(line) => tell(&line),
            Err(error) => {
                complain(&format!("standard input cannot be read: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Where a statement goes, and why; the session remembers it as if it went well.
pub fn line(statement: &[u8], state: &mut SessionState) -> String {
    let verdict = classify(statement, state.dialect());
    let decision = decide(&verdict, state, Reads::Replicas);
    if let Some(place) = decision.place(state.last_place()) {
        let ran_on =
            if decision.target == crate::mysql::verdict::Target::All { Place::Primary } else { place };
        state.after(&verdict, ran_on, true, None);
    }
    format!("{:<8} {:<16} {}", decision.target.word(), decision.why.word(), decision.why.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_versions() {
        for (text, expected) in [
            ("mariadb-10.11", Some(Dialect::mariadb(101_199))),
            ("MariaDB-10.6.3", Some(Dialect::mariadb(100_603))),
            ("mysql-9", Some(Dialect::mysql(99_999))),
            ("mysql-8.0.36", Some(Dialect::mysql(80_036))),
            ("mysql", None),
            ("mysql-", None),
            ("mysql-x", None),
            ("mysql-8.0.1.2", None),
            ("mysql-8.100", None),
            ("postgres-16", None),
        ] {
            assert_eq!(server(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_nobody_knows_is_said_so() {
        assert!(sql_mode("ansi_quotes, STRICT_TRANS_TABLES,").is_ok());
        let told = sql_mode("ANSI_QOUTES").unwrap_err();
        assert!(told.contains("did you mean ANSI_QUOTES?"), "{told}");
        assert!(charset("utf16").unwrap_err().contains("no character set that a client can use"));
    }

    #[test]
    fn a_line_says_where_and_why() {
        let mut state = SessionState::new(Dialect::mariadb(101_119));
        for (text, start) in [
            ("select 1", "replica  read             it only reads"),
            ("begin", "primary  begin            it begins"),
            ("select 1", "primary  in-transaction   a transaction is open"),
            ("shutdown", "refuse   administer"),
        ] {
            let told = line(text.as_bytes(), &mut state);
            assert!(told.starts_with(start), "{text}: {told}");
        }
    }
}
