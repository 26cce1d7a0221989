"""What the answer to their login tells clients: words are the host, the port, and how many come one after another."""

import sys

from pymysql.connections import Connection, MysqlPacket


class Client(Connection):
    last = b""

    def _read_packet(self, packet_type=MysqlPacket):
        packet = super()._read_packet(packet_type)
        self.last = packet.get_all_data()
        return packet


for _ in range(int(sys.argv[3])):
    client = Client(
        host=sys.argv[1], port=int(sys.argv[2]), user="app", password="secret", database="shop", autocommit=None
    )
    assert client.last[:3] == bytes(3), "an OK packet"
    status = int.from_bytes(client.last[3:5], "little")
    # SERVER_STATUS_AUTOCOMMIT, SERVER_STATUS_NO_BACKSLASH_ESCAPES
    print(bool(status & 1 << 1), bool(status & 1 << 9))
    client.close()
