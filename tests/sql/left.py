"""What clients leave on server connections that others use next, and what became of what they had.

Words are the door's host and port, the ports of the primary and of two replicas, and the door's pooling, `session` or
`transaction`. The latter has one connection at a time to each server.
"""

import sys
import time

import pymysql
from pymysql.constants import CLIENT

host, door = sys.argv[1], int(sys.argv[2])
primary, *replicas = [int(port) for port in sys.argv[3:6]]
pooling = sys.argv[6]


def connect(port=door, **more):
    return pymysql.connect(
        host=host, port=port, user="app", password="secret", database="shop", autocommit=True, connect_timeout=30,
        client_flag=CLIENT.MULTI_STATEMENTS, **more
    )


def rows(client, text):
    with client.cursor() as cursor:
        cursor.execute(text)
        while True:
            told = cursor.fetchall()
            if not cursor.nextset():
                return told


def fails(client, text, number):
    try:
        told = rows(client, text)
    except pymysql.MySQLError as error:
        assert error.args[0] == number, (text, error.args)
        return error.args[1]
    raise AssertionError((text, told))


def leave(client):
    client.close()
    # Until its connections are reset for the next one.
    time.sleep(0.3)


client = connect()
rows(client, "CREATE ROLE admin; GRANT SELECT ON shop.* TO admin; GRANT admin TO app")
rows(client, "CREATE TABLE left_t (a INT PRIMARY KEY)")
rows(
    client,
    "CREATE FUNCTION takes() RETURNS INT NOT DETERMINISTIC BEGIN DO GET_LOCK('taken', 0); SET @taken = 1; SIGNAL SQLSTATE '45000'; RETURN 1; END",
)
leave(client)

# What came before the statement that failed has been done.
client = connect()
fails(client, "SET ROLE admin; SELECT * FROM missing", 1146)
leave(client)
client = connect()
assert rows(client, "DO 1; SELECT CURRENT_ROLE()") == ((None,),)
leave(client)

# A function that failed has done what it did.
for text in ("INSERT INTO left_t VALUES (takes())", "SELECT takes()"):
    client = connect()
    fails(client, text, 1644)
    leave(client)
    client = connect()
    rows(client, "DO 1")
    rows(client, "SELECT 1")
    for port in (primary, *replicas):
        assert rows(connect(port), "SELECT IS_USED_LOCK('taken')") == ((None,),), f"{port} after {text}"
    leave(client)

# Messages are for who caused them.
if pooling == "transaction":
    client, second = connect(), connect()
    rows(client, "INSERT INTO left_t VALUES (4711)")
    fails(client, "INSERT INTO left_t VALUES (4711)", 1062)
    time.sleep(1.5)
    try:
        assert "4711" not in str(rows(second, "SHOW WARNINGS"))
    except pymysql.MySQLError as error:
        assert "was given back" in error.args[1]
    second.close()
    leave(client)

# A client that has begun to send a command holds nobody up.
if pooling == "transaction":
    client = connect()
    text = b"\x03INSERT INTO left_t VALUES (1)"
    client._sock.sendall(len(text).to_bytes(4, "little") + text + b"\x09")
    time.sleep(0.3)
    second = connect()
    second.ping()
    rows(second, "INSERT INTO left_t VALUES (2)")
    second.close()
    leave(client)

# Who asks what only a connection knew that is gone is told so.
client = connect()
rows(client, "SELECT SQL_CALC_FOUND_ROWS a FROM left_t LIMIT 1")
for port in replicas:
    server = connect(port)
    for number, *_ in rows(server, "SELECT id FROM information_schema.processlist WHERE user = 'app' AND id <> CONNECTION_ID()"):
        try:
            rows(server, f"KILL {number}")
        except pymysql.MySQLError:
            pass
    server.close()
time.sleep(0.3)
fails(client, "SELECT FOUND_ROWS()", 1235)
client.close()

# So are user variables that go with a transaction.
client = connect()
rows(client, "START TRANSACTION READ ONLY")
rows(client, "SELECT COUNT(*) FROM left_t INTO @there")
assert "does not pass this on" in fails(client, "BEGIN", 1235)
rows(client, "ROLLBACK")
leave(client)
print("done")
