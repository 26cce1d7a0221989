"""Commands byte by byte, through the door and at the primary: the answers must be the same bytes.

Words are host and port of the door, and of the primary. What differs by right is the number of a prepared statement.
"""

import socket
import re
import struct
import sys
import time

import pymysql
from pymysql.constants import CLIENT

words = sys.argv[1:]
DOOR, DIRECT = [(words[at], int(words[at + 1])) for at in (0, 2)]
DEPRECATE_EOF = 1 << 24


def without_state(told):
    """Without the flag of an EOF that something of the session changed: servers leave it from before at times."""
    out, at = b"", 0
    while at + 4 <= len(told):
        end = at + 4 + int.from_bytes(told[at : at + 3], "little")
        packet = told[at:end]
        if len(packet) == 9 and packet[4] == 0xFE:
            packet = packet[:8] + bytes([packet[8] & ~0x40])
        if packet[4:5] == b"\xff":
            # It may name the number of a prepared statement.
            packet = packet[3:4] + re.sub(rb"handler \(\d+\)", b"handler", packet[4:])
        out, at = out + packet, end
    return out + told[at:]


class Client:
    def __init__(self, server, flags):
        self.connection = pymysql.connect(
            host=server[0],
            port=server[1],
            user="app",
            password="secret",
            database="shop",
            autocommit=None,
            client_flag=CLIENT.MULTI_STATEMENTS | CLIENT.MULTI_RESULTS | CLIENT.PS_MULTI_RESULTS | flags,
        )
        self.socket = self.connection._sock
        self.statement = 0

    def send(self, *payloads):
        packets = b"".join(struct.pack("<I", len(payload))[:3] + b"\0" + payload for payload in payloads)
        self.socket.sendall(packets)

    def receive(self, least):
        """All that comes until nothing comes any more; at least so many bytes, if they come within a while."""
        told, end = b"", time.monotonic() + 2
        while True:
            self.socket.settimeout(0.02)
            try:
                piece = self.socket.recv(65536)
                if not piece:
                    return told + b"(closed)"
                told += piece
            except socket.timeout:
                if len(told) >= least or time.monotonic() > end:
                    return told

    def run(self, command, least):
        payloads = command(self.statement) if callable(command) else command
        self.send(*(payloads if isinstance(payloads, list) else [payloads]))
        told = self.receive(least)
        if payloads[:1] == b"\x16" and told[4:5] == b"\0":
            self.statement = struct.unpack("<I", told[5:9])[0]
            told = told[:5] + b"...." + told[9:]
        return told


def query(text):
    return b"\x03" + (text if isinstance(text, bytes) else text.encode())


def prepare(text):
    return b"\x16" + text.encode()


def execute(types, values, flags=0, nulls=b"\0", statement=None):
    """`types` is None for those of the time before; there may be no parameters at all."""

    def command(number):
        head = b"\x17" + struct.pack("<IBI", number if statement is None else statement, flags, 1)
        if types == b"":
            return head
        return head + nulls + (b"\0" if types is None else b"\1" + types) + values

    return command


def numbered(code, rest=b""):
    return lambda number: bytes([code]) + struct.pack("<I", number) + rest


LONG, STRING, BLOB = b"\x03\0", b"\xfd\0", b"\xfc\0"
one, two = struct.pack("<i", 1), struct.pack("<i", 2)

COMMANDS = [
    b"\x0e",
    query("SELECT 1"),
    query(""),
    query(";"),
    query("SELECT 'a\0b'"),
    query("/* nothing */"),
    query("SELECT a, b FROM t; SELECT nothing; SELECT 1"),
    query("SELECT a, b FROM t; SELECT b FROM t; DO 0"),
    query("CALL two()"),
    query("DELETE FROM t WHERE a = 999"),
    [query("SELECT 1"), query("SELECT b FROM t"), b"\x0e", query("SELEC")],
    # Prepared statements.
    prepare("SELECT a, b FROM t WHERE a = ?"),
    execute(LONG, one),
    execute(None, two),
    execute(None, one),
    query("SELECT 2"),
    execute(None, two),
    execute(LONG, b"", nulls=b"\1"),
    execute(STRING, b"\x011"),
    execute(LONG, one, flags=1),
    numbered(0x1C, struct.pack("<I", 1)),
    numbered(0x1C, struct.pack("<I", 10)),
    numbered(0x1A),
    execute(LONG, two),
    numbered(0x1C, struct.pack("<I", 1)),
    [b"\x17\xff", b"\x0e"],
    prepare("SELECT LENGTH(?), MD5(?)"),
    lambda number: [
        b"\x18" + struct.pack("<IH", number, 0) + b"x" * 100,
        b"\x18" + struct.pack("<IH", number, 0) + b"y" * 70000,
        execute(BLOB + STRING, b"\x01z")(number),
    ],
    execute(None, b"\x02zz\x01z"),
    numbered(0x1A),
    execute(BLOB + STRING, b"\x02zz\x01z"),
    prepare("SELECT * FROM missing"),
    execute(LONG, one, statement=99999),
    numbered(0x1A),
    prepare("SELECT b FROM t ORDER BY a"),
    execute(b"", b""),
    execute(b"", b"", statement=0xFFFFFFFF),
    execute(b"", b"", flags=1),
    numbered(0x1C, struct.pack("<I", 1)),
    query("SELECT 3"),
    numbered(0x1C, struct.pack("<I", 5)),
    lambda number: [numbered(0x19)(number), b"\x0e"],
    execute(b"", b""),
    prepare("CALL two()"),
    execute(b"", b""),
    prepare("UPDATE t SET b = b WHERE a = ?"),
    execute(LONG, one),
    prepare("SELECT note(?)"),
    execute(LONG, one),
    execute(LONG, two),
    prepare("SELECT @v := ?"),
    execute(LONG, one),
    query("SELECT @v"),
    # Transactions, also by prepared statements.
    prepare("BEGIN"),
    execute(b"", b""),
    query("UPDATE t SET b = 'other' WHERE a = 999"),
    prepare("SELECT b FROM t WHERE a = ?"),
    execute(LONG, one),
    query("ROLLBACK"),
    execute(LONG, one),
    query("START TRANSACTION READ ONLY"),
    execute(None, two),
    query("SELECT b FROM t"),
    # A long text is not kept, and stays where the transaction is all the same.
    query("SELECT b FROM t /* " + "x" * 20000 + " */"),
    query("UPDATE t SET b = 'long' /* " + "x" * 20000 + " */"),
    query("COMMIT"),
    execute(None, one),
    # Other commands.
    b"\x04t\0",
    b"\x04t\0b%",
    b"\x02other",
    query("SELECT DATABASE()"),
    execute(None, one),
    b"\x02missing",
    b"\x02shop",
    b"\x1b\1\0",
    query("SELECT 1; SELECT 2"),
    b"\x1b\0\0",
    query("SELECT 1; SELECT 2"),
    b"\x1b\7\0",
    b"\x0d",
    b"\x77",
    b"\x0c" + struct.pack("<I", 99999),
    query("SET NAMES latin1"),
    query(b"SELECT 'gr\xfc\xdfe', HEX('gr\xfc\xdfe')"),
    b"\x1f",
    query(b"SELECT 'gr\xc3\xbc', HEX('gr\xc3\xbc'), @v"),
    execute(LONG, one),
    query("SELECT DATABASE()"),
    prepare("SELECT b FROM t WHERE a = ?"),
    execute(LONG, one),
    # What a client has no right to.
    [b"\x17", b"\x0e"],
    b"\x01",
]

wrong = 0
for flags in (0, DEPRECATE_EOF | CLIENT.FOUND_ROWS):
    direct, door = Client(DIRECT, flags), Client(DOOR, flags)
    for number, command in enumerate(COMMANDS):
        there = direct.run(command, 1)
        try:
            here = door.run(command, len(there))
        except OSError as error:
            here = repr(error).encode()
        if without_state(here) != without_state(there):
            wrong += 1
            named = command if not callable(command) else command(direct.statement)
            if wrong > 6:
                sys.exit("too much is wrong")
            print(f"flags {flags:#x} command {number} {named!r:.120}\n    here  {here!r:.500}\n    there {there!r:.500}", flush=True)
print("done" if not wrong else f"{wrong} wrong")
