"""A session that waits between two statements while something happens to its servers: words are host, port and how.

`free`: it has nothing at its server. `bound`: it has a temporary table there. It says `ready`, waits for a line, goes on, and
tells where that ran, or the number of the error.
"""

import sys

import pymysql

host, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
connection = pymysql.connect(
    host=host, port=port, user="app", password="secret", database="shop", autocommit=True, read_timeout=20
)
cursor = connection.cursor()
cursor.execute("INSERT INTO kept (a) VALUES (1)")
if how == "bound":
    cursor.execute("CREATE TEMPORARY TABLE mine (a INT)")
print("ready", flush=True)
sys.stdin.readline()
try:
    cursor.execute("INSERT INTO kept (a) VALUES (2)")
    cursor.execute("SELECT w FROM kept WHERE a = 2 FOR UPDATE")
    print(cursor.fetchone()[0])
except pymysql.err.MySQLError as error:
    print("error", error.args[0])
