"""The binary log as a stream of events: a connection that the server sends to. I/O only.

It has its own connection, whose socket is read past the driver once the dump has begun. The driver
cannot connect again behind our back (I9): nothing calls it from then on.
"""

from __future__ import annotations

import hashlib
import select
import ssl
import time
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import pymysql

from connectors.mysql import framing
from connectors.mysql.commands import (
    HEARTBEATS_V2,
    START_OF_FILE,
    dump,
    dump_gtid,
    packet,
    register,
    settings,
)
from connectors.mysql.config import MysqlConfig
from connectors.mysql.damage import DamagedError, ServerError
from connectors.mysql.errors import by_number, error
from connectors.mysql.events import ROTATE, TYPE_AT, rotate
from connectors.mysql.position import Place
from connectors.mysql.session import Server, Session
from connectors.mysql.transactions import Consumed
from ensign_core.errors import EnsignError

HEARTBEAT_S: Final = 0.25
"""How often an idle server says where its log ends."""

SILENCE_S_MAX: Final = 30.0
"""A server that sends not even heartbeats for so long is gone."""

ANSWER_S_MAX: Final = 30.0
"""How long a server may take to find the place in its log."""

DENIED: Final = ("mysql.password_rejected", "mysql.privilege_missing")
"""The answers to a command for which a privilege is missing: servers give the number of a rejected
password (1045)."""

EVENTS_BYTES: Final = 1 << 18
"""About how many bytes of events are taken at a time."""


class Log:
    """A dump of the binary log. Everything raises an `EnsignError`."""

    def __init__(self, config: MysqlConfig, pipeline: str, server: Server, server_id: int) -> None:
        self._session = Session(config, pipeline)
        self._server = server
        self.server_id = server_id
        self._framer = framing.Framer(True)
        self._sock: Any = None
        self._first: list[bytes] = []
        self._heard_at = time.monotonic()

    def start(self, consumed: Consumed, place: Place) -> None:
        """Have the server send what comes after what was consumed; in mode ``file``, after
        ``place``."""
        if consumed.mode == "gtid":
            payload = dump_gtid(self.server_id, consumed.gtids, HEARTBEATS_V2)
        elif consumed.mode == "mariadb":
            payload = dump(self.server_id, "", START_OF_FILE)
        else:
            flags = 0 if self._server.mariadb else HEARTBEATS_V2
            payload = dump(self.server_id, place.file, place.offset, flags)
        had = consumed.domains if consumed.mode == "mariadb" else None
        facts = self._session.facts
        digest = hashlib.blake2b(f"{facts['pipeline']} {self.server_id}".encode(), digest_size=16)
        statements = settings(
            self._server.mariadb, heartbeat_s=HEARTBEAT_S, uuid=UUID(bytes=digest.digest()), had=had
        )
        for statement in statements:
            self._session.query(statement, doing="starting to stream")
        conn = self._session.conn
        enrol(self._session, self.server_id, f"ensign {facts['pipeline']}")
        try:
            _send(self._session, payload)
        except (pymysql.Error, OSError) as failed:
            raise self._session.failure(failed, doing="starting to stream") from None
        self._sock = conn._sock  # type: ignore[attr-defined]  # the driver has no public name for it
        self._sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self._heard_at = time.monotonic()
        self._first = self._answer()

    @property
    def file(self) -> str:
        """The file of the log in which a dump that has begun begins."""
        return next((rotate(e).file for e in self._first if e[TYPE_AT] == ROTATE), "")

    def _answer(self) -> list[bytes]:
        """The first events: a server that refuses to send its log says so in their place."""
        deadline = self._heard_at + ANSWER_S_MAX
        while self.wait(deadline - time.monotonic()):
            self.receive()
            found = self.events()
            if found:
                return found
        raise error("timeout", **self._session.facts, doing="waiting for the binary log")

    def wait(self, timeout_s: float) -> bool:
        """Block until the server has sent something, or the time is over."""
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return bool(pending) or bool(self._poll.poll(max(0.0, timeout_s) * 1000))

    def receive(self) -> bool:
        """Take in what has arrived without waiting; whether anything had. Call it when `events` has
        none left."""
        try:
            count = self._sock.recv_into(self._framer.buffer())
        except (BlockingIOError, ssl.SSLWantReadError):
            if time.monotonic() - self._heard_at > SILENCE_S_MAX:
                raise error("connection_lost", **self._session.facts) from None
            return False
        except OSError as failed:
            raise self._session.failure(failed, doing="streaming") from None
        if not count:
            # What the server said before it hung up comes first.
            self._first = self.events()
            if self._first:
                return True
            raise error("connection_lost", **self._session.facts)
        self._framer.filled(count)
        self._heard_at = time.monotonic()
        return True

    def read(self, deadline_s: float) -> list[bytes] | None:
        """For whoever has nothing else to do: the next events, none where what has come is not a
        whole one; None if nothing came until ``deadline_s``, of the monotonic clock."""
        found = self.events()
        if not found and not self.receive() and not self.wait(deadline_s - time.monotonic()):
            return None
        return found

    def events(self) -> list[bytes]:
        """Events that are complete, without their checksums. Raises ``mysql.log_refused`` for what
        the server says of the dump itself, such as that the log was purged."""
        if self._first:
            first, self._first = self._first, []
            return first
        try:
            found = self._framer.events(EVENTS_BYTES)
        except ServerError as refused:
            raise by_number(refused.number, **self._session.facts, doing="streaming") from None
        except DamagedError as damaged:
            raise error("stream_damaged", what=str(damaged)) from None
        if not found and self._framer.ended:
            raise error("connection_lost", **self._session.facts)
        return found

    def close(self) -> None:
        """Close the connection; the server ends the dump when it notices."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
        self._session.close()


def enrol(session: Session, server_id: int, name: str) -> None:
    """Tell the server who reads its log, which takes the privilege to read it: what is missing then
    is ``mysql.replication_privilege``."""
    try:
        _send(session, register(server_id, name))
        session.conn._read_ok_packet()  # type: ignore[attr-defined]  # no public way to run a command
    except (pymysql.Error, OSError) as failed:
        found = session.failure(failed, doing="starting to stream")
        if found.code in DENIED:
            raise error("replication_privilege", **session.facts) from None
        raise found from None


def _send(session: Session, payload: bytes) -> None:
    conn = session.conn
    conn._write_bytes(packet(payload))  # type: ignore[attr-defined]  # as above
    conn._next_seq_id = 1  # type: ignore[attr-defined]  # the answer's number


def refused(failed: EnsignError) -> bool:
    """Whether the server ended a dump for a reason of the log's, or of another reader's."""
    return failed.code == "mysql.log_refused"
