"""Sequences that once went wrong: words are host and port. Says `done`."""

import sys

import MySQLdb
import pymysql

host, port = sys.argv[1], int(sys.argv[2])


def connect(**options):
    return pymysql.connect(
        host=host, port=port, user="app", password="secret", database="shop", autocommit=True, **options
    )


def rows(cursor, text):
    cursor.execute(text)
    return cursor.fetchall()


# A transaction that only reads stays one whatever is said to the primary meanwhile: the primary's status is not its own.
for between in ["SET NAMES utf8mb4", "USE shop", "PREPARE s FROM 'SELECT 1'", "SELECT * FROM nowhere.none"]:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute("START TRANSACTION READ ONLY")
    assert rows(cursor, "SELECT @@server_id")[0][0] != 1
    try:
        cursor.execute(between)
    except pymysql.err.MySQLError:
        pass
    connection.ping()
    try:
        cursor.execute("INSERT INTO kept (a) VALUES (77)")
        raise AssertionError(f"a write after {between}")
    except pymysql.err.MySQLError as error:
        assert error.args[0] == 1792, (between, error)
    cursor.execute("ROLLBACK")
    assert rows(cursor, "SELECT COUNT(*) FROM kept WHERE a = 77") == ((0,),), between
    cursor.execute("INSERT INTO kept (a) VALUES (78)")
    assert rows(cursor, "SELECT COUNT(*) FROM kept WHERE a = 78") == ((1,),), between
    cursor.execute("DELETE FROM kept")
    connection.close()

# NULL as a character set of results is brought along.
connection = connect()
cursor = connection.cursor()
cursor.execute("SET character_set_results = NULL")
told = rows(cursor, "SELECT @@server_id, @@character_set_results")[0]
assert int(told[0]) != 1 and told[1] is None, told

# The fence cannot be taken away through what is set beside a user variable.
connection = connect()
cursor = connection.cursor()
cursor.execute("START TRANSACTION READ ONLY")
try:
    cursor.execute("SET @a = 1, SESSION tx_read_only = 0")
except pymysql.err.MySQLError as error:
    assert error.args[0] == 1235, error
cursor.execute("COMMIT")
cursor.execute("SELECT note(1), @@server_id")
assert cursor.fetchone()[1] == 1, "it was held back by the fence"

# A procedure's temporary table is found.
connection = MySQLdb.connect(host=host, port=port, user="app", passwd="secret", db="shop", autocommit=True)
cursor = connection.cursor()
cursor.execute("CALL fill()")
while cursor.nextset():
    pass
assert rows(cursor, "SELECT COUNT(*) FROM hidden") == ((1,),)

# Roles are brought nowhere: reads stay where the role is.
cursor.execute("SET ROLE NONE")
assert rows(cursor, "SELECT @@server_id") == ((1,),)
print("done")
