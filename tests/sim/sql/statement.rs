//! The statements of the simulated clients: as texts, as prepared texts with parameters, and read back by servers.
//!
//! Every statement bears its id, a place in the list of records: what arrives at a server can be compared with what was
//! said, letter by letter.

/// A statement. `id` is its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    Begin {
        id: usize,
        read_only: bool,
    },
    Commit {
        id: usize,
    },
    Rollback {
        id: usize,
    },
    /// One row, as long as `pad` makes it.
    Read {
        id: usize,
        key: usize,
        client: usize,
        pad: usize,
        locks: bool,
    },
    /// `long` more bytes in a comment.
    Write {
        id: usize,
        key: usize,
        long: usize,
    },
    /// A function that writes, which its text does not say.
    Function {
        id: usize,
        key: usize,
        shape: usize,
    },
    /// A view over such a function.
    View {
        id: usize,
        key: usize,
        shape: usize,
    },
    Insert {
        id: usize,
    },
    InsertId {
        id: usize,
    },
    SetVariable {
        id: usize,
    },
    ReadVariable {
        id: usize,
    },
    SetSession {
        id: usize,
        value: usize,
    },
    Autocommit {
        id: usize,
        on: bool,
    },
    /// Has LAST_INSERT_ID() be its id.
    SetInsertId {
        id: usize,
    },
    Lock {
        id: usize,
    },
    Unlock {
        id: usize,
    },
}

use Statement::*;

/// Where rows of INSERT live: one key each.
pub const LOG: usize = 1_000_000;

impl Statement {
    pub fn text(&self) -> String {
        match *self {
            Begin { id, read_only: false } => format!("BEGIN /* {id} */"),
            Begin { id, read_only: true } => format!("START TRANSACTION READ ONLY /* {id} */"),
            Commit { id } => format!("COMMIT /* {id} */"),
            Rollback { id } => format!("ROLLBACK /* {id} */"),
            Read { id, key, client, pad, locks } => {
                let end = if locks { " FOR UPDATE" } else { "" };
                format!(
                    "SELECT k, v, {id}, @@max_error_count, DATABASE(), REPEAT('c{client};', {pad}) FROM t WHERE k = {key}{end}"
                )
            }
            Write { id, key, long } => {
                let comment = if long > 0 { format!(" /* {} */", "x".repeat(long)) } else { String::new() };
                format!("UPDATE t SET v = {id} WHERE k = {key}{comment}")
            }
            Function { id, key, shape } => format!("SELECT note{shape}({key}, {id})"),
            View { id, key, shape } => format!("SELECT * FROM noted{shape} WHERE k = {key} AND v = {id}"),
            Insert { id } => format!("INSERT INTO log (v) VALUES ({id})"),
            InsertId { id } => format!("SELECT LAST_INSERT_ID(), {id}"),
            SetVariable { id } => format!("SET @a = {id}"),
            ReadVariable { id } => format!("SELECT @a, {id}"),
            SetSession { id, value } => format!("SET SESSION max_error_count = {value} /* {id} */"),
            SetInsertId { id } => format!("SELECT LAST_INSERT_ID({id})"),
            Lock { id } => format!("SELECT GET_LOCK('x', 0), {id}"),
            Unlock { id } => format!("SELECT RELEASE_ALL_LOCKS(), {id}"),
            Autocommit { id, on } => format!("SET autocommit = {} /* {id} */", usize::from(on)),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<usize> = text
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        let is = |start: &str| text.starts_with(start);
        let statement = match numbers[..] {
            [id] if is("BEGIN") => Begin { id, read_only: false },
            [id] if is("START") => Begin { id, read_only: true },
            [id] if is("COMMIT") => Commit { id },
            [id] if is("ROLLBACK") => Rollback { id },
            [id, client, pad, key] if is("SELECT k") => {
                Read { id, key, client, pad, locks: text.ends_with("UPDATE") }
            }
            [id, key] if is("UPDATE") => Write { id, key, long: text.matches('x').count() },
            [shape, key, id] if is("SELECT note") => Function { id, key, shape },
            [shape, key, id] if is("SELECT *") => View { id, key, shape },
            [id] if is("INSERT") => Insert { id },
            [id] if is("SELECT LAST_INSERT_ID()") => InsertId { id },
            [id] if is("SELECT LAST") => SetInsertId { id },
            [_, id] if is("SELECT GET_LOCK") => Lock { id },
            [id] if is("SELECT RELEASE") => Unlock { id },
            [id] if is("SET @a") => SetVariable { id },
            [id] if is("SELECT @a") => ReadVariable { id },
            [value, id] if is("SET SESSION max") => SetSession { id, value },
            [on, id] if is("SET autocommit") => Autocommit { id, on: on == 1 },
            _ => return None,
        };
        (statement.text() == text).then_some(statement)
    }

    pub const fn id(&self) -> usize {
        match *self {
            Begin { id, .. } | Commit { id } | Rollback { id } | Read { id, .. } | Write { id, .. } => id,
            Function { id, .. } | View { id, .. } | Insert { id } | InsertId { id } => id,
            SetVariable { id } | ReadVariable { id } | SetSession { id, .. } | Autocommit { id, .. } => id,
            SetInsertId { id } | Lock { id } | Unlock { id } => id,
        }
    }

    /// The key that it writes.
    pub const fn writes(&self) -> Option<usize> {
        match *self {
            Write { key, .. } | Function { key, .. } | View { key, .. } => Some(key),
            Insert { id } => Some(LOG + id),
            _ => None,
        }
    }

    /// The same to be prepared, and its parameters.
    pub fn prepared(&self) -> (String, Vec<usize>) {
        match *self {
            Read { id, key, client, pad, locks } => {
                let end = if locks { " FOR UPDATE" } else { "" };
                let text = format!(
                    "SELECT k, v, ?, @@max_error_count, DATABASE(), REPEAT('c{client};', ?) FROM t WHERE k = ?{end}"
                );
                (text, vec![id, pad, key])
            }
            Write { id, key, .. } => ("UPDATE t SET v = ? WHERE k = ?".to_owned(), vec![id, key]),
            Function { id, key, shape } => (format!("SELECT note{shape}(?, ?)"), vec![key, id]),
            View { id, key, shape } => {
                (format!("SELECT * FROM noted{shape} WHERE k = ? AND v = ?"), vec![key, id])
            }
            other => (other.text(), Vec::new()),
        }
    }
}

/// A prepared text with its parameters put in.
pub fn bind(text: &str, parameters: &[usize]) -> String {
    let mut parameters = parameters.iter();
    let put = |letter: char| match letter {
        '?' => parameters.next().map_or_else(String::new, usize::to_string),
        other => other.to_string(),
    };
    text.chars().map(put).collect()
}

/// Columns of the result of a text, prepared or not; none for what answers OK.
pub fn columns(text: &str) -> usize {
    match text {
        _ if text.starts_with("SELECT k") => 6,
        _ if text.starts_with("SELECT note") || text.starts_with("SELECT LAST_INSERT_ID(?") => 1,
        _ if text.starts_with("SELECT") => 2,
        _ => 0,
    }
}

/// What a row of this client is filled up with.
pub fn pad(client: usize, count: usize) -> String {
    format!("c{client};").repeat(count)
}

#[test]
fn texts_are_read_back() {
    let all = [
        Begin { id: 7, read_only: false },
        Begin { id: 7, read_only: true },
        Commit { id: 7 },
        Rollback { id: 7 },
        Read { id: 7, key: 5, client: 3, pad: 9, locks: false },
        Read { id: 7, key: 5, client: 3, pad: 9, locks: true },
        Write { id: 7, key: 5, long: 0 },
        Function { id: 7, key: 5, shape: 2 },
        View { id: 7, key: 5, shape: 2 },
        Insert { id: 7 },
        InsertId { id: 7 },
        SetVariable { id: 7 },
        ReadVariable { id: 7 },
        SetSession { id: 7, value: 70 },
        Autocommit { id: 7, on: true },
        SetInsertId { id: 7 },
        Lock { id: 7 },
        Unlock { id: 7 },
    ];
    for statement in all {
        assert_eq!(Statement::parse(&statement.text()), Some(statement));
        assert_eq!(statement.id(), 7);
        let (text, parameters) = statement.prepared();
        assert_eq!(bind(&text, &parameters), statement.text());
    }
    let long = Write { id: 7, key: 5, long: 20_000 };
    assert_eq!(Statement::parse(&long.text()), Some(long));
}
