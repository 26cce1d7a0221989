"""The compressed protocol packet by packet: what is within must be what an ordinary connection gets.

Words are host and port of the door, and a file with rows for LOAD DATA.
"""

import hashlib
import socket
import struct
import sys
import threading
import zlib

import MySQLdb

host, port, rows_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
COMPRESS, DEPRECATE_EOF = 1 << 5, 1 << 24


class Packed:
    """A client that compresses, whose every packet can be cut and counted as a test likes it."""

    def __init__(self, scramble_with=b"secret"):
        self.socket = socket.create_connection((host, port))
        self.socket.settimeout(20)
        greeting = self.plain()
        end = greeting.index(b"\0", 1)
        first, second = greeting[end + 5 : end + 13], greeting[end + 32 : end + 44]
        offered = struct.unpack("<H", greeting[end + 14 : end + 16])[0]
        assert offered & COMPRESS, hex(offered)
        sha = lambda *parts: hashlib.sha1(b"".join(parts)).digest()
        one = sha(scramble_with)
        answer = bytes(a ^ b for a, b in zip(one, sha(first, second, sha(one))))
        flags = 1 | 8 | COMPRESS | 1 << 7 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 19 | DEPRECATE_EOF
        login = struct.pack("<IIB23x", flags, 1 << 30, 45) + b"app\0\x14" + answer + b"shop\0mysql_native_password\0"
        self.socket.sendall(struct.pack("<I", len(login))[:3] + b"\1" + login)
        assert self.plain()[0] == 0
        self.within = b""
        self.sequence = 0

    def exactly(self, count):
        out = b""
        while len(out) < count:
            piece = self.socket.recv(count - len(out))
            if not piece:
                raise EOFError(out)
            out += piece
        return out

    def plain(self):
        head = self.exactly(4)
        return self.exactly(int.from_bytes(head[:3], "little"))

    def packet(self, piece, packed):
        payload = zlib.compress(piece) if packed else piece
        size = len(piece) if packed else 0
        out = struct.pack("<I", len(payload))[:3] + bytes([self.sequence & 255]) + struct.pack("<I", size)[:3] + payload
        self.sequence += 1
        return out

    def send(self, payload, pieces=1, packed=True, inner=0):
        self.sequence = 0
        stream = struct.pack("<I", len(payload))[:3] + bytes([inner]) + payload
        step = max(1, -(-len(stream) // pieces))
        return b"".join(self.packet(stream[at : at + step], packed) for at in range(0, len(stream), step))

    def more(self, count):
        while len(self.within) < count:
            head = self.exactly(7)
            assert head[3] == self.sequence & 255, (head, self.sequence)
            self.sequence += 1
            size = int.from_bytes(head[4:], "little")
            payload = self.exactly(int.from_bytes(head[:3], "little"))
            piece = zlib.decompress(payload) if size else payload
            assert len(piece) == (size or len(payload))
            self.within += piece
        out, self.within = self.within[:count], self.within[count:]
        return out

    def receive(self):
        head = self.more(4)
        return self.more(int.from_bytes(head[:3], "little"))

    def rows(self):
        """Payloads up to the end of a result."""
        first = self.receive()
        out = [first]
        if first[0] in (0, 0xFF):
            return out
        for _ in range(first[0]):
            out.append(self.receive())
        while True:
            out.append(self.receive())
            if out[-1][0] in (0xFE, 0xFF):
                return out


def refused(stream, code):
    client = Packed()
    client.socket.sendall(stream(client))
    client.sequence = 1
    told = client.exactly(7)
    payload = client.exactly(int.from_bytes(told[:3], "little"))
    if told[4:] != b"\0\0\0":
        payload = zlib.decompress(payload)
    assert payload[4] == 0xFF and int.from_bytes(payload[5:7], "little") == code, payload
    assert client.socket.recv(10) == b""


client = Packed()
text = b"\3SELECT REPEAT('abc', 100), 'and a text that is long enough to be compressed'"
for pieces in (1, 2, 3, len(text) + 4):
    for packed in (True, False):
        for size in (1 << 20, 1, 7, 11):
            stream = client.send(text, pieces, packed)
            for at in range(0, len(stream), size):
                client.socket.sendall(stream[at : at + size])
            told = client.rows()
            assert len(told) == 5, told
            assert told[3].endswith(b"and a text that is long enough to be compressed"), told

# One behind the other without waiting: each answer is counted on from its own command.
streams = [client.send(b"\3SELECT REPEAT('x', 300000)"), client.send(b"\3SELECT 2"), client.send(b"\x0e")]
client.socket.sendall(b"".join(streams))
client.sequence = 1
assert len(client.rows()[2]) > 300000
assert client.within == b""
client.sequence = 1
assert client.rows()[2] == b"\x012"
client.sequence = 1
assert client.receive()[0] == 0

# What is none.
refused(lambda client: b"\1\0\0\0\x64\0\0x", 1157)
refused(lambda client: b"\x05\0\0\3\0\0\0" + b"\1\0\0\0\x0e", 1156)
bomb = zlib.compress(bytes(12 << 20))
refused(lambda client: struct.pack("<I", len(bomb))[:3] + b"\0\x05\0\0" + bomb, 1157)

# Drivers.
connection = MySQLdb.connect(
    host=host, port=port, user="app", passwd="secret", db="shop", compress=True, local_infile=1, charset="utf8mb4", autocommit=True
)
cursor = connection.cursor()


def ask(statement, *values):
    cursor.execute(statement, values or None)
    return cursor.fetchall()


assert ask("SHOW STATUS LIKE 'Compression'") == (("Compression", "OFF"),), "the door's connection to the server"
assert ask("SELECT @@server_id")[0][0] > 1
for size in list(range(0, 120)) + [16370 + extra for extra in range(30)] + [100000, (1 << 24) - 20, 1 << 24, 40 << 20]:
    body = "y" * size
    assert ask("SELECT LENGTH(%s), %s", body, body[:1000]) == ((size, body[:1000]),)
rows = ask("SELECT seq, MD5(seq) FROM seq_1_to_200000")
assert rows == tuple((number, hashlib.md5(str(number).encode()).hexdigest()) for number in range(1, 200001))
ask(f"LOAD DATA LOCAL INFILE '{rows_file}' INTO TABLE rows_in")
assert cursor.rowcount == 100000, cursor.rowcount
assert ask("SELECT COUNT(*), SUM(a) FROM rows_in") == ((100000, 4999950000),)
try:
    ask("LOAD DATA LOCAL INFILE '/nowhere/at/all' INTO TABLE rows_in")
    raise AssertionError("no file")
except MySQLdb.Error:
    pass
assert ask("SELECT 6") == ((6,),)
connection.change_user("app", "secret", "shop")
assert ask("SELECT DATABASE()") == (("shop",),)
connection.ping()
try:
    connection.change_user("app", "wrong", "shop")
    raise AssertionError("a wrong password")
except MySQLdb.Error as error:
    assert error.args[0] == 1045, error


def one(number, bad):
    own = MySQLdb.connect(host=host, port=port, user="app", passwd="secret", db="shop", compress=number % 2 == 0)
    for turn in range(30):
        own.query(f"SELECT {number}, REPEAT('{number}-', {turn * 400})")
        ((who, told),) = own.store_result().fetch_row(0)
        if int(who) != number or told != (f"{number}-" * (turn * 400)).encode() and told != f"{number}-" * (turn * 400):
            bad.append((number, turn))


bad = []
threads = [threading.Thread(target=one, args=(number, bad)) for number in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not bad, bad[:3]
print("done")
