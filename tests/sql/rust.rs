//! `mysql_async`, as Rust programs use it: through the door it hears what it hears at the server itself.

use std::fmt::{Debug, Write};
use std::net::SocketAddr;

use mysql_async::prelude::{BatchQuery, Query, Queryable, WithParams};
use mysql_async::{Conn, Error, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row, TxOpts, params};

use crate::common::{Engine, PASSWORD};
use crate::door::Door;
use crate::others::{compare, schema};

const TEXT: &str = "grüße, 世界, 🦀, \\ ' \" ` % \n";

/// What was heard, line by line.
#[derive(Default)]
struct Heard(String);

impl Heard {
    fn tell(&mut self, what: impl Debug) {
        writeln!(self.0, "{what:?}").unwrap();
    }

    #[track_caller]
    fn fails<T>(&mut self, outcome: Result<T, Error>) {
        match outcome {
            Err(Error::Server(error)) => self.tell((error.code, error.state, error.message)),
            Err(error) => panic!("{error}, behind {}", self.0),
            Ok(_) => self.tell("no error"),
        }
    }
}

fn options(at: SocketAddr, schema: &str) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(at.ip().to_string())
        .tcp_port(at.port())
        .user(Some("app"))
        .pass(Some(PASSWORD))
        .db_name(Some(schema))
        .prefer_socket(Some(false))
}

/// Runs everything; the last line is the server that answered a read.
fn run(at: SocketAddr, schema: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut heard = Heard::default();
        for wrong in [options(at, schema).pass(Some("wrong")), options(at, schema).db_name(Some("missing"))] {
            heard.fails(Conn::new(wrong).await);
        }
        // MySQL asks by any plugin whom it does not know.
        assert!(Conn::new(options(at, schema).user(Some("nobody"))).await.is_err());
        let mut conn = Conn::new(options(at, schema)).await.unwrap();
        for outcome in [
            statements(&mut conn, &mut heard).await,
            transactions(&mut conn, &mut heard).await,
            sessions(&mut conn, &mut heard).await,
        ] {
            outcome.unwrap_or_else(|error| panic!("{error}, behind {}", heard.0));
        }
        conn.disconnect().await.unwrap();
        for reset in [true, false] {
            pool(options(at, schema), reset, &mut heard).await.unwrap();
        }
        let mut conn = Conn::new(options(at, schema)).await.unwrap();
        let id: u32 = conn.query_first("SELECT @@server_id").await.unwrap().unwrap();
        conn.disconnect().await.unwrap();
        format!("{}{id}", heard.0.replace(schema, "SCHEMA"))
    })
}

async fn statements(conn: &mut Conn, heard: &mut Heard) -> Result<(), Error> {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for number in 0..3 {
        let insert = "INSERT INTO things (s, y, i) VALUES (:s, :y, :i)";
        conn.exec_drop(insert, params! { "s" => TEXT, "y" => &bytes, "i" => number }).await?;
        heard.tell((
            conn.last_insert_id(),
            conn.affected_rows(),
            conn.get_warnings(),
            conn.info().into_owned(),
        ));
    }
    let rows: Vec<(String, Vec<u8>, i64)> = conn.query("SELECT s, y, i FROM things ORDER BY a").await?;
    heard.tell(rows.iter().map(|row| (&row.0, row.1 == bytes, row.2)).collect::<Vec<_>>());
    let rows: Vec<(String, Vec<u8>, i64)> =
        conn.exec("SELECT s, y, i FROM things WHERE i > ? ORDER BY a", (0,)).await?;
    heard.tell(rows.iter().map(|row| (&row.0, row.1 == bytes, row.2)).collect::<Vec<_>>());
    for text in [Some(TEXT), None] {
        let row: Option<Row> = conn.exec_first("SELECT ?, CHAR_LENGTH(?), ? + 1", (text, text, 41)).await?;
        heard.tell(row.map(Row::unwrap));
    }
    let many: Vec<Params> = (0..20).map(|number| (format!("many {number}"), number).into()).collect();
    "INSERT INTO things (s, i) VALUES (?, ?)".with(many).batch(&mut *conn).await?;
    heard.tell(conn.query_first::<(i64, i64), _>("SELECT COUNT(*), MAX(a) FROM things").await?);
    // Several results; the last ones are not read.
    let mut result =
        conn.query_iter("SELECT 1; UPDATE things SET s = 'two' WHERE i = 2; SELECT 2, 3; CALL two()").await?;
    heard.tell(result.collect::<Row>().await?.into_iter().map(Row::unwrap).collect::<Vec<_>>());
    heard.tell((result.collect::<Row>().await?.len(), result.affected_rows()));
    heard.tell(result.collect::<(i64, i64)>().await?);
    result.drop_result().await?;
    heard.tell("CALL two()".run(&mut *conn).await?.collect::<i64>().await?);
    // Warnings and errors.
    heard.tell(conn.query_first::<Row, _>("SELECT CAST('x' AS SIGNED), 1/0").await?.map(Row::unwrap));
    heard.tell(conn.get_warnings());
    heard.tell(conn.query::<(String, u16, String), _>("SHOW WARNINGS").await?);
    for text in ["SELEC 1", "SELECT nothing FROM things", "SELECT * FROM missing", "CALL fails()"] {
        heard.fails(conn.query_drop(text).await);
        heard.fails(conn.exec_drop(text, ()).await);
    }
    heard.fails(conn.exec_drop("INSERT INTO things (a) VALUES (?)", (1,)).await);
    // What is big.
    let text: Option<String> = conn.query_first("SELECT REPEAT('x', 17 << 20)").await?;
    heard.tell(text.map(|text| text.len()));
    heard.tell(conn.exec_first::<u64, _, _>("SELECT LENGTH(?)", ("y".repeat(17 << 20),)).await?);
    let sum = conn.exec_fold(
        "SELECT REPEAT('z', 200) FROM many a, many b WHERE a.i > ?",
        (1,),
        0,
        |sum, text: String| sum + text.len(),
    );
    heard.tell(sum.await?);
    Ok(())
}

async fn transactions(conn: &mut Conn, heard: &mut Heard) -> Result<(), Error> {
    const COUNT: &str = "SELECT COUNT(*) FROM things";
    let mut read_only = TxOpts::new();
    read_only.with_readonly(true);
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction.exec_drop("DELETE FROM things WHERE i = ?", (1,)).await?;
    heard.tell((transaction.affected_rows(), transaction.query_first::<u64, _>(COUNT).await?));
    transaction.rollback().await?;
    heard.tell(conn.query_first::<u64, _>(COUNT).await?);
    let mut transaction = conn.start_transaction(read_only).await?;
    heard.tell(transaction.exec_first::<u64, _, _>(COUNT, ()).await?);
    heard.fails(transaction.query_drop("DELETE FROM things").await);
    heard.fails(transaction.exec_drop("DELETE FROM things WHERE i = ?", (1,)).await);
    transaction.commit().await?;
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction.exec_drop("DELETE FROM things WHERE i = ?", (1,)).await?;
    transaction.commit().await?;
    heard.tell(conn.query_first::<u64, _>(COUNT).await?);
    Ok(())
}

async fn sessions(conn: &mut Conn, heard: &mut Heard) -> Result<(), Error> {
    const STATE: &str = "SELECT @mine, @@time_zone = '+05:00', DATABASE(), CURRENT_USER()";
    for way in ["reset", "change_user"] {
        conn.query_drop("SET @mine = 7, time_zone = '+05:00'; CREATE TEMPORARY TABLE tt (a INT)").await?;
        heard.tell(conn.query_first::<Row, _>(STATE).await?.map(Row::unwrap));
        match way {
            "reset" => heard.tell(conn.reset().await?),
            _ => conn.change_user(mysql_async::ChangeUserOpts::default()).await?,
        }
        heard.tell(conn.query_first::<Row, _>(STATE).await?.map(Row::unwrap));
        heard.fails(conn.query_drop("SELECT * FROM tt").await);
        conn.ping().await?;
    }
    // A statement means what it meant when it was prepared.
    conn.query_drop("SET sql_mode = 'ANSI_QUOTES'").await?;
    let statement = conn.prep("SELECT \"i\" FROM many ORDER BY i LIMIT 2").await?;
    conn.query_drop("SET sql_mode = ''").await?;
    for _ in 0..3 {
        let rows: Vec<Row> = conn.exec(&statement, ()).await?;
        heard.tell(rows.into_iter().map(Row::unwrap).collect::<Vec<_>>());
    }
    conn.query_drop("SET sql_mode = DEFAULT").await
}

/// Many at a time with few connections, which are reset between two users or not.
async fn pool(options: OptsBuilder, reset: bool, heard: &mut Heard) -> Result<(), Error> {
    let few = PoolConstraints::new(1, 3).unwrap();
    let pool = PoolOpts::default().with_constraints(few).with_reset_connection(reset);
    let pool = Pool::new(options.pool_opts(pool));
    let one = |number: u32| {
        let pool = pool.clone();
        async move {
            let mut conn = pool.get_conn().await?;
            let before: Option<Option<u32>> = conn.query_first("SELECT @left").await?;
            conn.exec_drop("SET @left = ?", (number,)).await?;
            let told: Option<u32> =
                conn.exec_first("SELECT i + ? FROM many ORDER BY i LIMIT 1", (number,)).await?;
            Ok::<_, Error>((told, reset.then_some(before)))
        }
    };
    let tasks: Vec<_> = (0..20).map(|number| tokio::spawn(one(number))).collect();
    for task in tasks {
        heard.tell(task.await.unwrap()?);
    }
    pool.disconnect().await
}

/// Compares it at these two.
#[track_caller]
pub fn compare_mysql_async(door: SocketAddr, direct: SocketAddr) {
    compare(door, direct, run);
}

#[test]
fn mysql_async_hears_what_it_hears_at_mariadb() {
    let all = Door::servers();
    for name in ["shop", "twin"] {
        all.primary.sql(&schema(name));
    }
    all.wait();
    let door = Door::to(Engine::IoUring, all, "");
    compare_mysql_async(door.at, door.all.primary.address);
    door.same_everywhere("shop.things");
}
