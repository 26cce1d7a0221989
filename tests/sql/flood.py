"""A client that asks for much and reads nothing keeps nobody else from working: words are the door's host and port."""

import sys

import pymysql

host, door = sys.argv[1], int(sys.argv[2])


def connect():
    return pymysql.connect(host=host, port=door, user="app", password="secret", database="shop", connect_timeout=30)


def floods(packet):
    """Sends a packet again and again until it is not taken any more; the client is still there."""
    client = connect()
    client._sock.settimeout(1)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += client._sock.send(packet * 1000)
    except TimeoutError:
        return client
    raise AssertionError("all of it was taken")


def packet(payload):
    return len(payload).to_bytes(3, "little") + b"\0" + payload


# Executes a statement that does not exist; asks for what is not spoken.
held = [floods(packet(b"\x17" + bytes(9))), floods(packet(b"\x12" + bytes(10)))]
for _ in range(20):
    client = connect()
    with client.cursor() as cursor:
        cursor.execute("SELECT REPEAT('x', 100000)")
        assert len(cursor.fetchone()[0]) == 100000
    client.close()
print("done")
