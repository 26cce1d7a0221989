"""Big and long things: words are host, port, and a file with rows for LOAD DATA."""

import hashlib
import sys

import pymysql
from pymysql.constants import CLIENT

host, port, rows_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connection = pymysql.connect(
    host=host,
    port=port,
    user="app",
    password="secret",
    database="shop",
    autocommit=True,
    local_infile=True,
    max_allowed_packet=64 << 20,
    client_flag=CLIENT.MULTI_STATEMENTS,
)
cursor = connection.cursor()


def ask(statement, *values):
    cursor.execute(statement, values or None)
    return cursor.fetchall()


def all_of(statement):
    """All result sets; of an error its number."""
    heard = []
    try:
        cursor.execute(statement)
        while True:
            heard.append(cursor.fetchall())
            if not cursor.nextset():
                return heard
    except pymysql.MySQLError as error:
        return heard + [error.args[0]]


# Results.
text = ask("SELECT REPEAT('0123456789abcdef', 1310720)")[0][0]
assert len(text) == 20 << 20 and text == "0123456789abcdef" * 1310720
rows = ask("SELECT seq, MD5(seq) FROM seq_1_to_300000")
assert rows == tuple((number, hashlib.md5(str(number).encode()).hexdigest()) for number in range(1, 300001))
# The payload is four bytes more: at each side of what a packet holds.
for size in ((1 << 24) - 6, (1 << 24) - 5, (1 << 24) - 4, (1 << 24) - 1, 1 << 24):
    (piece,) = ask(f"SELECT REPEAT('x', {size})")
    assert len(piece[0]) == size

# Statements. At each side of what is read whole, and of what a packet holds.
limits = [(1 << 24) - 3, (1 << 24) - 2, (1 << 24) - 1, 1 << 24]
sizes = list(range(16370, 16400)) + [1 << 20] + limits + [17 << 20, 40 << 20]
for size in sizes:
    head, tail = "SELECT LENGTH('", "')"
    body = "y" * (size - len(head) - len(tail))
    told = ask(head + body + tail)
    assert told == ((len(body),),), (size, told)
for size in (16384, 1 << 20, 17 << 20, 40 << 20):
    body = bytes(range(256)) * (size // 256)
    ask("REPLACE INTO blobs VALUES (%s, %s)", size, body)
    assert cursor.rowcount == 1
    assert ask("SELECT b FROM blobs WHERE a = %s", size) == ((body,),)
    assert ask("SELECT 1") == ((1,),)

# Several statements in one, several results of one.
assert all_of("SELECT 1; SELECT 2, 3; SELECT 4") == [((1,),), ((2, 3),), ((4,),)]
assert all_of("SELECT 1; DO 0; SELECT nothing; SELECT 4") == [((1,),), (), 1054]
many = ";".join(f"SELECT {number}" for number in range(2000))
assert all_of(many) == [((number,),) for number in range(2000)]
assert all_of("CALL several()") == [((1,),), ((2,), (3,)), ((300,),), ()]

# An error among rows.
for _ in range(3):
    assert all_of("SELECT seq, fails_at(seq) FROM seq_1_to_60000") == [1644]
    assert ask("SELECT 5") == ((5,),)

# Files.
ask(f"LOAD DATA LOCAL INFILE '{rows_file}' INTO TABLE rows_in")
assert cursor.rowcount == 100000, cursor.rowcount
assert ask("SELECT COUNT(*), SUM(a) FROM rows_in") == ((100000, 4999950000),)
assert all_of("LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE rows_in") == [1017]
assert ask("SELECT 6") == ((6,),)
print("done")
