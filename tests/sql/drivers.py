"""What drivers do all day, with PyMySQL and mysqlclient: words are host and port."""

import datetime
import decimal
import sys

import MySQLdb
import pymysql

host, port = sys.argv[1], int(sys.argv[2])
BYTES = bytes(range(256)) * 3
TEXT = "grüße, 世界, 🦀, \0 \\ ' \" ` % \n\r\x1a"


def check(driver, connection):
    cursor = connection.cursor()
    cursor.execute("DELETE FROM things")
    connection.commit()
    row = (
        TEXT,
        BYTES,
        decimal.Decimal("-12345678.90"),
        datetime.datetime(2026, 11, 21, 13, 7, 8, 123456),
        datetime.date(1000, 1, 1),
        datetime.timedelta(hours=700, minutes=3),
        -(1 << 63),
        (1 << 64) - 1,
        1.5,
        None,
    )
    marks = ", ".join(["%s"] * len(row))
    cursor.execute(f"INSERT INTO things (s, y, c, t, d, h, i, u, f, n) VALUES ({marks})", row)
    first = cursor.lastrowid
    assert cursor.rowcount == 1 and first > 0
    connection.commit()
    cursor.execute("SELECT s, y, c, t, d, h, i, u, f, n FROM things WHERE a = %s", (first,))
    told = cursor.fetchall()
    assert told == (row,), told
    cursor.executemany("INSERT INTO things (s) VALUES (%s)", [(f"many {number}",) for number in range(500)])
    assert cursor.rowcount == 500
    cursor.execute("UPDATE things SET s = CONCAT(s, '!') WHERE s LIKE 'many%'")
    assert cursor.rowcount == 500
    connection.rollback()
    cursor.execute("SELECT COUNT(*) FROM things")
    assert cursor.fetchall() == ((1,),), "rolled back"
    try:
        cursor.execute("INSERT INTO things (a, s) VALUES (%s, 'twice')", (first,))
        raise AssertionError("a duplicate")
    except driver.IntegrityError as error:
        assert error.args[0] == 1062
    connection.rollback()
    cursor.execute("DELETE FROM things WHERE a = %s", (first,))
    assert cursor.rowcount == 1
    connection.commit()
    cursor.execute("SELECT * FROM things")
    assert cursor.fetchall() == ()
    connection.ping()
    connection.select_db("other")
    cursor.execute("SELECT DATABASE()")
    assert cursor.fetchall() == (("other",),)
    connection.select_db("shop")
    connection.close()


who = {"host": host, "port": port, "user": "app", "charset": "utf8mb4"}
for round in range(3):
    check(pymysql, pymysql.connect(password="secret", database="shop", **who))
    check(MySQLdb, MySQLdb.connect(passwd="secret", db="shop", **who))

# Rows are read one by one, and not all of them.
connection = pymysql.connect(password="secret", database="shop", autocommit=True, **who)
cursor = connection.cursor(pymysql.cursors.SSCursor)
cursor.execute("SELECT seq, REPEAT('x', 100) FROM seq_1_to_50000")
assert cursor.fetchone()[0] == 1
connection._force_close()
# Another login on the same connection, as pools make it: what the session had is gone.
again = MySQLdb.connect(host=host, port=port, user="app", passwd="secret", db="shop", autocommit=True)
cursor = again.cursor()
cursor.execute("CREATE TEMPORARY TABLE mine (a INT)")
cursor.execute("SET @mine = 1, sql_mode = 'ANSI_QUOTES'")
again.change_user("app", "secret", "shop")
cursor = again.cursor()
cursor.execute("SELECT @mine, @@sql_mode LIKE '%ANSI_QUOTES%', DATABASE(), CURRENT_USER()")
assert cursor.fetchall() == ((None, 0, "shop", "app@%"),)
try:
    cursor.execute("SELECT * FROM mine")
    raise AssertionError("the temporary table is still there")
except MySQLdb.ProgrammingError as error:
    assert error.args[0] == 1146, error
try:
    again.change_user("app", "wrong", "shop")
    raise AssertionError("let in by a wrong password")
except MySQLdb.MySQLError as error:
    assert error.args[0] == 1045, error

print("done")
