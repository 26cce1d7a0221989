//! What it costs to judge a statement: tokens, verdict and digest in one pass; and to count it by its digest.
//!
//! `cargo bench --bench sql` prints nanoseconds. For instructions: build with `--profile profiling`, run the binary under
//! `valgrind --tool=callgrind --toggle-collect='*classify*'` with `--bench --profile-time 1 NAME`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate::limits::SQL_DIGEST_BYTES_MAX;
use ringgate::meters::digests::{Digests, Ran};
use ringgate::mysql::classify::classify;
use ringgate::mysql::digest;
use ringgate::mysql::lexer::Dialect;
use ringgate::route::split::{Reads, SessionState, decide};

const DIALECT: Dialect = Dialect::mariadb(101_119);

fn statements() -> Vec<(&'static str, String)> {
    let numbers: Vec<String> = (0..3400).map(|number| (100_000 + number * 7).to_string()).collect();
    let join = "SELECT o.id, o.total, c.name, COUNT(i.id) AS items FROM orders o JOIN customers c ON c.id = o.customer_id \
        LEFT JOIN items i ON i.order_id = o.id WHERE o.state IN ('new', 'paid') AND o.created >= '2026-01-01' \
        AND c.country = 'NL' GROUP BY o.id ORDER BY o.created DESC LIMIT 20 OFFSET 40";
    vec![
        ("point_select", "SELECT id, k, c, pad FROM sbtest1 WHERE id = 498273 LIMIT 1;".into()),
        ("point_select_quoted", "SELECT `id`, `name` FROM `app`.`users` WHERE `id` = ? LIMIT 1".into()),
        ("range_select", "SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN 5023 AND 5122".into()),
        ("join", join.into()),
        ("select_in_20k", format!("SELECT * FROM t WHERE id IN ({})", numbers.join(","))),
        ("update", "UPDATE sbtest1 SET k = k + 1 WHERE id = 498273".into()),
        ("insert_1k", format!("INSERT INTO t (a, b, c) VALUES (1, '{}', NOW())", "lorem ipsum ".repeat(80))),
        ("insert_rows", format!("INSERT INTO t (a, b) VALUES {}", vec!["(17, 'abcdef')"; 100].join(", "))),
        ("begin", "BEGIN".into()),
        ("set_names", "SET NAMES utf8mb4, autocommit = 1, sql_mode = 'STRICT_TRANS_TABLES'".into()),
    ]
}

fn judge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("classify");
    for (name, text) in statements() {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| classify(black_box(text.as_bytes()), DIALECT)));
    }
    group.finish();
    let state = SessionState::new(DIALECT);
    let verdict = classify(b"SELECT 1", DIALECT);
    criterion.bench_function("decide", |bencher| {
        bencher.iter(|| decide(black_box(&verdict), black_box(&state), Reads::Replicas))
    });
}

/// What it costs to count a statement by its shape: one that is known, and one that another must go for.
fn count(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shapes");
    let text = statements()[0].1.clone().into_bytes();
    let ran = |digest: u64| Ran {
        digest,
        time: Duration::from_micros(150),
        bytes_out: 300,
        failed: false,
        on_replica: true,
        is_understood: true,
    };
    let shape = |out: &mut Vec<u8>| digest::write(&text, DIALECT, out, SQL_DIGEST_BYTES_MAX);
    let mut digests = Digests::default();
    let mut turn = 0u64;
    group.bench_function("known", |bencher| {
        bencher.iter(|| {
            turn += 1;
            digests.note("main", &ran(black_box(turn % 300).wrapping_mul(0x9e37_79b9_7f4a_7c15)), shape);
        });
    });
    group.bench_function("new_when_full", |bencher| {
        bencher.iter(|| {
            turn += 1;
            digests.note("main", &ran(black_box(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15)), shape);
        });
    });
    group.bench_function("text", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| {
            out.clear();
            shape(black_box(&mut out));
        });
    });
    group.finish();
}

criterion_group!(benches, judge, count);
criterion_main!(benches);
