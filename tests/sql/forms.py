"""Commands that only some clients speak: executions in bulk, texts that are too long to be read.

Words are host and port of the door, and of the primary.
"""

import struct
import sys
import time

import pymysql

words = sys.argv[1:]
DOOR, DIRECT = [(words[at], int(words[at + 1])) for at in (0, 2)]
BULK, EXTENDED, UNIT = 1 << 2, 1 << 3, 1 << 5


class Client(pymysql.connections.Connection):
    """With MariaDB's extended capabilities; PyMySQL itself knows none."""

    def __init__(self, server, extended):
        self.extended = extended
        super().__init__(
            host=server[0], port=server[1], user="app", password="secret", database="shop", autocommit=True
        )

    def _get_server_information(self):
        super()._get_server_information()
        self.offered = self._greeting

    def _read_packet(self, *words):
        packet = super()._read_packet(*words)
        if not hasattr(self, "_greeting"):
            data = packet.get_all_data()
            at = data.index(b"\0", 1) + 1
            self._greeting = struct.unpack("<I", data[at + 27 : at + 31])[0]
        return packet

    def write_packet(self, payload):
        if len(payload) > 32 and self._next_seq_id == 1 and not hasattr(self, "sent"):
            # The login: not CLIENT_MYSQL, and the extended half.
            self.sent = True
            lower = struct.unpack("<I", payload[:4])[0] & ~1
            payload = struct.pack("<I", lower) + payload[4:28] + struct.pack("<I", self.extended) + payload[32:]
        super().write_packet(payload)

    def command(self, payload):
        """All bytes of the answer's packets, until it is over by its form: counted by the caller."""
        self._next_seq_id = 0
        out = b""
        for at in range(0, len(payload) + 1, 0xFFFFFF):
            piece = payload[at : at + 0xFFFFFF]
            out += struct.pack("<I", len(piece))[:3] + bytes([at // 0xFFFFFF]) + piece
        self._sock.sendall(out)

    def packet(self):
        head = self._rfile.read(4)
        return self._rfile.read(int.from_bytes(head[:3], "little"))

    def prepare(self, text):
        self.command(b"\x16" + text.encode())
        told = self.packet()
        assert told[0] == 0, told
        number, columns, parameters = struct.unpack("<IHH", told[1:9])
        for count in (parameters, columns):
            if count:
                definitions = [self.packet() for _ in range(count)]
                assert self.packet()[0] == 0xFE
                self.definitions = definitions
        return number

    def ask(self, text):
        cursor = self.cursor()
        cursor.execute(text)
        return cursor.fetchall()


def rows(numbers):
    return b"".join(b"\0" + struct.pack("<i", number) + b"\0" + bytes([len(str(number))]) + str(number).encode() for number in numbers)


TYPES = b"\x03\0\xfd\0"

for server in (DIRECT, DOOR):
    client = Client(server, BULK)
    assert client.offered & (BULK | EXTENDED) == BULK | EXTENDED, hex(client.offered)
    number = client.prepare("INSERT INTO many VALUES (?, ?)")
    client.ask("TRUNCATE many")
    for flags, types, some in ((128, TYPES, range(10)), (0, b"", range(10, 15)), (128, TYPES, range(100, 5100))):
        client.command(b"\xfa" + struct.pack("<IH", number, flags) + types + rows(some))
        told = client.packet()
        assert told[0] == 0 and told[1:2] == (bytes([len(some)]) if len(some) < 251 else b"\xfc"), told
    assert client.ask("SELECT COUNT(*), SUM(a), SUM(b) FROM many WHERE a < 20") == ((15, 105, 105.0),)
    assert client.ask("SELECT COUNT(*), MAX(a) FROM many") == ((5015, 5099),)
    # Types that were told in bulk are told.
    client.command(b"\x17" + struct.pack("<IBI", number, 0, 1) + b"\0\0" + struct.pack("<i", 77) + b"\x0277")
    assert client.packet()[0] == 0
    told = client.ask("SELECT a, b FROM many WHERE a = 77 OR a BETWEEN 15 AND 99")
    assert told == ((77, "77"),), (server, told)
    # One that fails.
    client.command(b"\xfa" + struct.pack("<IH", number, 128) + TYPES + rows([5, 6]))
    told = client.packet()
    assert told[0] == 0xFF and told[1:3] == struct.pack("<H", 1062), told
    # In a transaction that only reads.
    client.ask("START TRANSACTION READ ONLY")
    client.ask("SELECT 1")
    client.command(b"\xfa" + struct.pack("<IH", number, 128) + TYPES + rows([9000]))
    told = client.packet()
    assert told[0] == 0xFF and told[1:3] == struct.pack("<H", 1792), told
    client.ask("COMMIT")
    # What columns are made of is told as to any client with EXTENDED.
    client = Client(server, EXTENDED)
    client.command(b"\x03SELECT doc FROM docs")
    column = [client.packet() for _ in range(3)][1]
    assert b"json" in column, column
    while client.packet()[0] != 0xFE:
        pass
    if server == DOOR:
        assert int(client.ask("SELECT @@server_id")[0][0]) > 1

# Long texts.
client = Client(DOOR, 0)
pad = "/*" + "x" * 20000 + "*/"


def on_replica():
    """Whether a read runs there, once it may have what was written."""
    for _ in range(20):
        if client.ask("SELECT @@server_id")[0][0] > 1:
            return True
        time.sleep(0.1)
    return False


client.ask(f"INSERT INTO many VALUES (6000, 'a@b.c; :)') {pad}")
assert on_replica(), "nothing is left"
client.ask(f"INSERT INTO many VALUES (6001, @v := 'mine') {pad}")
assert client.ask("SELECT @v, @@server_id") == (("mine", 1),), "on the primary, where it was set"
assert on_replica()
client = Client(DOOR, 0)
client.ask(f"SET @w = '{'y' * 20000}'")
assert client.ask("SELECT LENGTH(@w)") == ((20000,),)
client = Client(DOOR, 0)
client.ask(f"CREATE TEMPORARY TABLE hidden (a INT) {pad}")
assert client.ask("SELECT COUNT(*) FROM hidden") == ((0,),)
client = Client(DOOR, 0)
assert client.ask(f"SELECT GET_LOCK('long', 1) {pad}") == ((1,),)
assert not on_replica()
client = Client(DOOR, 0)
number = client.prepare(f"INSERT INTO many VALUES (6002, @x := 'prepared') {pad}")
client.command(b"\x17" + struct.pack("<IBI", number, 0, 1))
assert client.packet()[0] == 0
assert client.ask("SELECT @x") == (("prepared",),)
# The statement before is where it ran.
client = Client(DOOR, 0)
client.ask("SELECT 1")
client.ask(f"INSERT IGNORE INTO many VALUES (5, 'again') {pad}")
assert client.ask("SHOW WARNINGS")[0][1] == 1062
# Within a transaction that only reads, which is on a replica.
client.ask("START TRANSACTION READ ONLY")
((there,),) = client.ask("SELECT @@server_id")
assert there > 1
assert client.ask(f"SELECT @@server_id {pad}") == ((there,),)
try:
    client.ask(f"INSERT INTO many VALUES (7000, 'no') {pad}")
    raise AssertionError("written")
except pymysql.MySQLError as error:
    assert error.args[0] == 1792, error
client.ask("COMMIT")
assert client.ask("SELECT COUNT(*) FROM many WHERE a >= 7000") == ((0,),)
print("done")
