"""Many clients over few server connections: what each left must be there again, and nothing of the others'.

Words are the door's host and port, a server's port (whose connections are counted), how many clients, how many steps each
takes, and how many connections the server may have at most.
"""

import random
import sys
import threading
import traceback

import pymysql

host = sys.argv[1]
door, server, clients, rounds, most = map(int, sys.argv[2:7])


def connect(port=door):
    return pymysql.connect(
        host=host, port=port, user="app", password="secret", database="shop", autocommit=True, connect_timeout=30
    )


def one(cursor, text, *values):
    cursor.execute(text, values or None)
    row = cursor.fetchone()
    return row[0] if row else None


def setup():
    cursor = connect().cursor()
    cursor.execute("CREATE TABLE pooled (id INT AUTO_INCREMENT PRIMARY KEY, who INT, n INT, UNIQUE (who, n))")


class Client:
    """One that checks everything that it is told."""

    def __init__(self, number):
        self.number = number
        self.chance = random.Random(number)
        self.connection = connect()
        self.cursor = self.connection.cursor()
        self.written = 0
        self.insert_id = 0
        self.mode = one(self.cursor, "SELECT @@sql_mode")
        self.database = "shop"
        self.history = []

    def insert(self):
        self.cursor.execute("INSERT INTO shop.pooled (who, n) VALUES (%s, %s)", (self.number, self.written))
        self.written += 1
        self.insert_id = self.cursor.lastrowid
        assert self.insert_id > 0

    def count(self):
        seen = one(self.cursor, "SELECT COUNT(*) FROM shop.pooled WHERE who = %s", self.number)
        assert seen == self.written, ("rows", self.number, seen, self.written)

    def last_id(self):
        seen = one(self.cursor, "SELECT LAST_INSERT_ID()")
        assert seen == self.insert_id, ("last insert id", self.number, seen, self.insert_id)

    def set_mode(self):
        self.mode = self.chance.choice(["ANSI_QUOTES", "STRICT_TRANS_TABLES", "NO_BACKSLASH_ESCAPES"])
        self.cursor.execute("SET SESSION sql_mode = %s", (self.mode,))

    def check_mode(self):
        seen = one(self.cursor, "SELECT @@sql_mode")
        assert seen == self.mode, ("sql_mode", self.number, seen, self.mode)

    def set_database(self):
        self.database = self.chance.choice(["shop", "other"])
        self.cursor.execute("USE " + self.database)

    def check_database(self):
        seen = one(self.cursor, "SELECT DATABASE()")
        assert seen == self.database, ("database", self.number, seen, self.database)

    def transaction(self):
        self.cursor.execute("BEGIN")
        self.insert()
        self.count()
        if self.chance.random() < 0.5:
            self.cursor.execute("COMMIT")
        else:
            self.cursor.execute("ROLLBACK")
            self.written -= 1

    def variable(self):
        self.cursor.execute("SET @mine = %s", (self.number,))
        assert one(self.cursor, "SELECT @mine") == self.number
        self.connection.ping()
        self.reset()

    def nothing_foreign(self):
        assert one(self.cursor, "SELECT @mine") is None
        self.reset()

    def temporary(self):
        self.cursor.execute("CREATE TEMPORARY TABLE mine (n INT)")
        self.cursor.execute("INSERT INTO mine VALUES (%s)", (self.number,))
        assert one(self.cursor, "SELECT n FROM mine") == self.number
        self.cursor.execute("DROP TEMPORARY TABLE mine")

    def warning(self):
        self.cursor.execute("SET SESSION sql_mode = ''")
        self.mode = ""
        self.cursor.execute("SELECT CAST('x' AS SIGNED)")
        self.cursor.fetchall()
        assert self.connection.show_warnings(), "a warning was there"

    def error(self):
        try:
            self.cursor.execute("SELECT nothing FROM nowhere")
            raise AssertionError("no error")
        except pymysql.err.ProgrammingError as error:
            assert error.args[0] == 1146
        self.cursor.execute("SHOW ERRORS")
        assert self.cursor.fetchone()[1] == 1146

    def reset(self):
        """COM_RESET_CONNECTION."""
        self.connection._execute_command(31, b"")
        self.connection._read_ok_packet()
        self.connection.autocommit_mode = True
        self.mode = one(self.cursor, "SELECT @@GLOBAL.sql_mode")
        self.insert_id = 0

    def go_on(self):
        """Leaves, and another comes."""
        self.connection.close()
        self.connection = connect()
        self.cursor = self.connection.cursor()
        self.insert_id = 0
        self.database = "shop"
        self.mode = one(self.cursor, "SELECT @@sql_mode")
        assert self.mode == one(self.cursor, "SELECT @@GLOBAL.sql_mode"), "a new client's sql_mode"
        self.last_id()

    def step(self):
        steps = [self.insert, self.insert, self.count, self.count, self.last_id, self.set_mode, self.check_mode]
        steps += [self.set_database, self.check_database, self.transaction, self.variable, self.nothing_foreign]
        steps += [self.temporary, self.warning, self.error, self.go_on]
        step = self.chance.choice(steps)
        self.history.append(step.__name__)
        step()


def run(client, failures):
    try:
        for _ in range(rounds):
            client.step()
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-2].line
        failures.append((client.number, client.history[-5:], where, repr(error)))


setup()
failures = []
everyone = [Client(number) for number in range(clients)]
threads = [threading.Thread(target=run, args=(client, failures)) for client in everyone]
for thread in threads:
    thread.start()
seen = 0
watch = connect(server).cursor()
while any(thread.is_alive() for thread in threads):
    for thread in threads[:1]:
        thread.join(0.05)
    threads = [thread for thread in threads if thread.is_alive()]
    count = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND id <> CONNECTION_ID()"
    seen = max(seen, one(watch, count))
assert not failures, failures[:5]
assert 0 < seen <= most, ("connections of the server", seen)
print("done")
