"""A connection pooler in front of a real server, as far as Ensign can notice one: it refuses the
startup parameters that it does not know, or gives its clients process ids of its own.

PgBouncer does the first with ``replication`` and ``options`` unless it is told to ignore them, and
always the second. Formats: PostgreSQL documentation, "Message Formats".
"""

from __future__ import annotations

import socket
import struct
import threading
from types import TracebackType
from typing import Self

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
CHUNK_BYTES_MAX = 64 * 1024


class Pooler:
    """``refused`` are names of startup parameters."""

    def __init__(self, host: str, port: int, *, refused: tuple[bytes, ...] = ()) -> None:
        self._target = host, port
        self._refused = refused
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            startup = self._startup(client)
            names = startup[8:].split(b"\0")[::2]
            for name in self._refused:
                if name in names:
                    client.sendall(_refusal(name))
                    return
            server.sendall(startup)
            over = threading.Thread(target=_pump, args=(client, server), daemon=True)
            over.start()
            _pump(server, client, start=self._until_ready(server))

    def _startup(self, client: socket.socket) -> bytes:
        while True:
            length = _exactly(client, 4)
            packet = length + _exactly(client, struct.unpack("!i", length)[0] - 4)
            if struct.unpack("!i", packet[4:8])[0] not in (SSL_REQUEST, GSS_REQUEST):
                return packet
            client.sendall(b"N")

    def _until_ready(self, server: socket.socket) -> bytes:
        """The first messages, with another process id; the server asks for no password."""
        answer = b""
        while True:
            head = _exactly(server, 5)
            body = _exactly(server, struct.unpack("!i", head[1:])[0] - 4)
            if head[:1] == b"K":
                body = struct.pack("!i", 1) + body[4:]
            answer += head + body
            if head[:1] in (b"Z", b"E"):
                return answer


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        chunk = source.recv(size - len(found))
        if not chunk:
            raise OSError("closed")
        found += chunk
    return found


def _pump(source: socket.socket, target: socket.socket, start: bytes = b"") -> None:
    try:
        target.sendall(start)
        while chunk := source.recv(CHUNK_BYTES_MAX):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _refusal(name: bytes) -> bytes:
    fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: " + name + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields
