"""What stands where a MySQL server is expected and says what no server should: it greets as one and
keeps all that it is sent.

Packets are those of the MySQL documentation, "Protocol::HandshakeV10" and
"Protocol::AuthSwitchRequest".
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from threading import Thread
from types import TracebackType
from typing import Self

ANSWER_S_MAX = 10.0
CAPABILITIES = 0x000FA20F
"""Protocol 4.1, logins by plugin, connection attributes, a database."""
TLS = 0x800
TLS_REQUEST_BYTES = 36
"""Protocol::SSLRequest with its header."""
OK = b"\x00\x00\x00\x02\x00\x00\x00"


def greeting(plugin: str, *, tls: bool) -> bytes:
    """The packet by which a server begins."""
    flags = CAPABILITIES | (TLS if tls else 0)
    parts = struct.pack("<BHBHHB10x", 0, flags & 0xFFFF, 45, 2, flags >> 16, 21)
    head = b"\x0a9.9.9\x00" + struct.pack("<I", 7) + b"saltsalt"
    return head + parts + b"saltsaltsalt\x00" + plugin.encode() + b"\x00"


def switch(plugin: str) -> bytes:
    """The packet that asks for another authentication plugin."""
    return b"\xfe" + plugin.encode() + b"\x00" + b"salt" * 5 + b"\x00"


class Rogue:
    """``with Rogue([b"first packet", ...]) as rogue``: sends one packet, and each further one when
    it was sent something; then it waits for the end. ``received`` is what came, behind TLS where
    there is a ``context``, and ``in_clear`` what came before."""

    def __init__(self, packets: Sequence[bytes], context: ssl.SSLContext | None = None) -> None:
        self._packets = packets
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(ANSWER_S_MAX)
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self.in_clear = b""
        self._thread = Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._thread.join(ANSWER_S_MAX)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(ANSWER_S_MAX)
        try:
            self._talk(client)
        except OSError:
            client.close()

    def _talk(self, client: socket.socket) -> None:
        number = 0
        for packet in self._packets:
            client.sendall(struct.pack("<I", len(packet) | number << 24) + packet)
            if number == 0 and self._context is not None:
                # Nothing more than the packet: the client's first words of TLS may be there too.
                self.in_clear = client.recv(TLS_REQUEST_BYTES, socket.MSG_WAITALL)
                client = self._context.wrap_socket(client, server_side=True)
                number = 1
            got = client.recv(1 << 16)
            self.received += got
            number += 2
        while got := client.recv(1 << 16):
            self.received += got
        client.close()
