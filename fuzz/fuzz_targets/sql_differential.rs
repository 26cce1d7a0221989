//! SQL text: what another parser takes for a write is never judged to run on a replica.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringgate::mysql::classify::classify;
use ringgate::mysql::lexer::Dialect;
use ringgate::mysql::verdict::Target;
use sqlparser::ast::Statement;
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

fuzz_target!(|text: &str| {
    // It reads executable comments, and names beyond ASCII, in ways of its own.
    if text.contains("/*") || !text.is_ascii() {
        return;
    }
    let Ok(statements) = Parser::parse_sql(&MySqlDialect {}, text) else { return };
    let writes = statements.iter().any(|statement| {
        matches!(
            statement,
            Statement::Insert { .. }
                | Statement::Update { .. }
                | Statement::Delete { .. }
                | Statement::CreateTable { .. }
                | Statement::CreateView { .. }
                | Statement::CreateIndex { .. }
                | Statement::AlterTable { .. }
                | Statement::Drop { .. }
                | Statement::Truncate { .. }
        )
    });
    for dialect in [Dialect::mariadb(101_119), Dialect::mysql(90_704)] {
        let verdict = classify(text.as_bytes(), dialect);
        assert!(!writes || verdict.target != Target::Replica, "{verdict:?}");
    }
});
