"""What mysql-connector-python does and hears: words are its folder, host, port, schema, and `pure` or `native`.

`native` is the C extension, which is MySQL's own client library. Each step tells a line; the last line is the server that
answered a read.
"""

import sys

sys.path.insert(0, sys.argv[1])
import mysql.connector

host, port, schema, kind = sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
BYTES = bytes(range(256)) * 300
TEXT = "grüße, 世界, 🦀, \\ ' \" ` % \n"


def connect(**more):
    words = {"user": "app", "password": "secret", "database": schema, **more}
    return mysql.connector.connect(
        host=host, port=port, use_pure=kind == "pure", charset="utf8mb4", ssl_disabled=True, allow_local_infile=True, **words
    )


def tell(*words):
    # What is written in one schema is the same in the other.
    print(*[repr(word).replace(schema, "SCHEMA") for word in words])


def fails(what, *words, **more):
    try:
        what(*words, **more)
        tell("no error")
    except Exception as error:
        # The extension has errors of its own kind.
        if not hasattr(error, "sqlstate"):
            raise
        tell("error", error.errno, error.sqlstate, error.msg)


def rows(cursor):
    return [tuple(bytes(value) if isinstance(value, bytearray) else value for value in row) for row in cursor.fetchall()]


def everything(statement):
    cursor.execute(statement)
    while True:
        tell(rows(cursor) if cursor.with_rows else cursor.rowcount)
        if not cursor.nextset():
            return


fails(connect, password="wrong")
fails(connect, database="missing")
connection = connect()
mysql_server = "MariaDB" not in connection.server_info
cursor = connection.cursor()
for number in range(3):
    cursor.execute("INSERT INTO things (s, y, i) VALUES (%s, %s, %s)", (TEXT, BYTES, number))
    tell("inserted", cursor.lastrowid, cursor.rowcount)
connection.commit()
cursor.execute("SELECT s, y = %s AS same, y, LENGTH(s), i FROM things ORDER BY a", (BYTES,))
read = rows(cursor)
tell(cursor.column_names, [(row[0], row[1], row[3], row[4]) for row in read], all(row[2] == BYTES for row in read))

# Prepared.
prepared = connection.cursor(prepared=True)
for text in ("one", TEXT, None):
    prepared.execute("SELECT ?, CHAR_LENGTH(?), ?", (text, text, 1 << 60))
    tell(rows(prepared))
for number in range(3):
    prepared.execute("INSERT INTO things (s, y, i) VALUES (?, ?, ?)", (TEXT, BYTES, number))
    tell("inserted", prepared.lastrowid, prepared.rowcount)
connection.commit()
prepared.execute("SELECT s, y, i FROM things WHERE i = ? ORDER BY a", (2,))
tell([(row[0], row[1] == BYTES, row[2]) for row in rows(prepared)])
fails(prepared.execute, "SELECT nothing FROM things WHERE a = ?", (1,))
fails(prepared.execute, "INSERT INTO things (a) VALUES (?)", (1,))
prepared.close()

# Attributes of a query, which MySQL knows and whose component reads them back.
if mysql_server:
    for made in (connection.cursor(), connection.cursor(prepared=True)):
        made.add_attribute("trace", "a' -- \\")
        made.add_attribute("count", 77)
        for statement in (
            "SELECT mysql_query_attribute_string('trace'), mysql_query_attribute_string('count')",
            "SELECT i, s FROM things WHERE i = 2 ORDER BY a",
            "INSERT INTO things (s, i) VALUES (mysql_query_attribute_string('trace'), 9)",
            "SELECT s FROM things WHERE i = 9",
        ):
            made.execute(statement)
            tell(rows(made) if made.with_rows else made.rowcount)
        made.clear_attributes()
        made.execute("SELECT mysql_query_attribute_string('trace')")
        tell(rows(made))
        made.close()
    cursor.execute("DELETE FROM things WHERE i = 9")
    connection.commit()

# Transactions.
connection.rollback()
cursor.execute("START TRANSACTION READ ONLY")
cursor.execute("SELECT COUNT(*) FROM things")
tell(connection.in_transaction, rows(cursor))
fails(cursor.execute, "DELETE FROM things")
connection.rollback()
connection.start_transaction(isolation_level="READ COMMITTED")
cursor.execute("DELETE FROM things WHERE i = 1")
tell(cursor.rowcount, connection.in_transaction)
cursor.execute("SELECT COUNT(*) FROM things")
tell(rows(cursor))
connection.rollback()
cursor.execute("SELECT COUNT(*) FROM things")
tell(rows(cursor), connection.in_transaction)
connection.commit()

# Several results.
connection.autocommit = True
for _ in range(2):
    everything("SELECT 1; UPDATE things SET s = 'two' WHERE i = 2; SELECT s FROM things WHERE i = 2; DO 0")
tell(cursor.callproc("two", ()), [rows(result) for result in cursor.stored_results()])
tell(cursor.callproc("adds", (3, 4, 0)))

# Warnings and errors.
connection.get_warnings = True
cursor.execute("SELECT CAST('x' AS SIGNED), 1/0")
tell(rows(cursor), cursor.warnings)
cursor.execute("INSERT IGNORE INTO things (a, s) VALUES (1, 'again')")
tell(cursor.rowcount, cursor.warnings)
cursor.execute("SELECT 1")
tell(rows(cursor), cursor.warnings)
for statement in ("SELEC 1", "SELECT nothing FROM things", "SELECT * FROM missing", "INSERT INTO things (a) VALUES (1)", "CALL fails()"):
    fails(everything, statement)
cursor = connection.cursor()
cursor.execute("UPDATE things SET i = i WHERE i = 2")
tell(cursor.rowcount)

# Session.
cursor.execute("SET @mine = 7, time_zone = '+05:00'")
cursor.execute("SELECT @mine, @@time_zone")
tell(rows(cursor))
fails(connection.cmd_reset_connection)
cursor.execute("SELECT @mine, @@time_zone = '+05:00', DATABASE()")
tell(rows(cursor))
connection.cmd_change_user("app", "secret", schema)
cursor = connection.cursor()
cursor.execute("SELECT @mine, DATABASE(), CURRENT_USER()")
tell(rows(cursor))
connection.ping()
connection.database = "other"
cursor.execute("SELECT DATABASE()")
tell(rows(cursor))
connection.database = schema

# What is big.
megabytes = 17 if kind == "native" else 1
cursor.execute("SELECT REPEAT('x', %s << 20)", (megabytes,))
tell([(len(row[0]), set(row[0])) for row in cursor.fetchall()])
cursor.execute("SELECT LENGTH(%s)", ("y" * (megabytes << 20),))
tell(rows(cursor))
unbuffered = connection.cursor(buffered=False)
unbuffered.execute("SELECT a.i, REPEAT('z', 200) FROM many a, many b")
tell(sum(len(row[1]) for row in unbuffered))
unbuffered.close()

# Attributes of a query.
if mysql_server:
    cursor.add_attribute("one", "two")
    cursor.add_attribute("three", 4)
    cursor.execute("SELECT %s", (5,))
    tell(rows(cursor))
    cursor.clear_attributes()
fails(connection.cmd_change_user, "app", "wrong", schema)
connection.close()

# A pool.
settings = {"host": host, "port": port, "user": "app", "password": "secret", "database": schema, "ssl_disabled": True}
pool = mysql.connector.pooling.MySQLConnectionPool(pool_size=2, use_pure=kind == "pure", **settings)
for number in range(6):
    connection = pool.get_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT @left, %s", (number,))
    tell(rows(cursor))
    cursor.execute("SET @left = 1")
    connection.close()

connection = connect(autocommit=True)
cursor = connection.cursor()
cursor.execute("SELECT @@server_id")
print(cursor.fetchall()[0][0])
