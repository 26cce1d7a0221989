"""Runs the sessions of a table through the door and at the primary, and compares what they hear.

Words: host and port of the door, of the primary, and of each replica. The table is read from standard input: a blank line
ends a session; a line is where the statement must run, a blank, and the statement. What is told: for each statement its
number, `same` or what was heard here and there. Each statement has a comment with its number, to be found in logs.
"""

import sys

import pymysql
from pymysql.constants import CLIENT

words = sys.argv[1:]
servers = list(zip(words[0::2], map(int, words[1::2])))


def connect(server, database):
    return pymysql.connect(
        host=server[0],
        port=server[1],
        user="app",
        password="secret",
        database=database,
        autocommit=True,
        local_infile=True,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )


def outcome(connection, statement):
    """All result sets, or the number of the error."""
    cursor = connection.cursor()
    heard = []
    try:
        cursor.execute(statement)
        while True:
            columns = [(column[0], column[1]) for column in cursor.description or ()]
            heard.append((columns, cursor.rowcount, cursor.lastrowid, cursor.fetchall()))
            if not cursor.nextset():
                return heard
    except pymysql.MySQLError as error:
        return heard + [error.args[0]]


def run(server, database, mark, session, wait):
    heard = []
    connection = connect(server, database)
    for number, where, statement in session:
        heard.append(outcome(connection, f"{statement} /* {mark}{number} */"))
        wait()
    connection.close()
    return heard


watchers = [connect(server, "shop") for server in servers[1:]]
if "MariaDB" in watchers[0].get_server_info():
    POSITION, WAIT = "SELECT @@gtid_binlog_pos", "SELECT MASTER_GTID_WAIT(%s, 5)"
else:
    POSITION, WAIT = "SELECT @@global.gtid_executed", "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, 5)"


def wait():
    """Until the replicas have what the primary has."""
    cursor = watchers[0].cursor()
    cursor.execute(POSITION)
    position = cursor.fetchone()[0]
    for watcher in watchers[1:]:
        watcher.cursor().execute(WAIT, (position,))


def form(heard):
    """Of each result the number of its columns; of an error its number."""
    return [("error", one) if isinstance(one, int) else one and len(one[0]) for one in heard]


sessions, session, number = [], [], 0
for line in sys.stdin.read().splitlines() + [""]:
    if line.startswith("#"):
        continue
    if line.strip():
        session.append((number, *line.split(" ", 1)))
        number += 1
    elif session:
        sessions.append(session)
        session = []
for session in sessions:
    here = run(servers[0], "shop", "here", session, wait)
    there = run(servers[1], "twin", "there", session, wait)
    for (number, where, statement), one, other in zip(session, here, there):
        # An error quotes the mark.
        same = repr(one).replace("/* here", "/* there") == repr(other)
        same = same or (where.endswith("~") and form(one) == form(other))
        print(number, "same" if same else f"here {one} there {other}")
