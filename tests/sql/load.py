"""Clients that do not stop: words are host, port, what they do, and for how many seconds.

`read`: four clients read; any error is told. `write`: four clients insert numbers, and connect again after an error; the
numbers that were acknowledged are told, one per line.
"""

import sys
import threading
import time

import pymysql

host, port, what, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
end = time.monotonic() + seconds
told, lock = [], threading.Lock()


def connect():
    return pymysql.connect(
        host=host, port=port, user="app", password="secret", database="shop", autocommit=True, read_timeout=20
    )


def read(client):
    connection = connect()
    cursor = connection.cursor()
    count = 0
    while time.monotonic() < end:
        cursor.execute("SELECT b FROM t WHERE a = %s", (client,))
        assert cursor.fetchall() == ((f"row {client}",),)
        count += 1
    assert count > 100, count


def write(client):
    connection, number = None, client
    while time.monotonic() < end:
        try:
            connection = connection or connect()
            connection.cursor().execute("INSERT INTO kept (a) VALUES (%s)", (number,))
            with lock:
                told.append(str(number))
        except pymysql.MySQLError:
            if connection:
                connection._force_close()
            connection = None
            time.sleep(0.05)
        number += 4


def run(client):
    try:
        {"read": read, "write": write}[what](client)
    except BaseException as error:
        with lock:
            told.append(f"error: {error!r}")


clients = [threading.Thread(target=run, args=(client,)) for client in range(4)]
for client in clients:
    client.start()
for client in clients:
    client.join()
print("\n".join(told))
