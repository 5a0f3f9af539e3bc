"""The connection that reads rows of snapshots: each chunk in a transaction of its own, its rows
read from the socket past the driver. On the source's thread."""

from __future__ import annotations

import select
import ssl
import time
from typing import Any, Final

import pymysql

from connectors.mysql import gathered, textrows
from connectors.mysql.commands import packet
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import by_number, error
from connectors.mysql.position import Place
from connectors.mysql.session import Server, Session, quoted, status
from connectors.mysql.structures import Structure

LOCK_DENIED: Final = 1044
"""Access denied to a database: the privilege to lock tables is one of databases."""

SILENCE_S_MAX: Final = 60.0
"""A server that sends nothing of a chunk for so long is gone."""

RECEIVE_BYTES: Final = 1 << 18

_QUERY: Final = b"\x03"

_SETTINGS: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION character_set_results = NULL",
)


class Lane:
    """One connection."""

    def __init__(self, config: MysqlConfig, pipeline: str, server: Server) -> None:
        self.session = Session(config, pipeline)
        self._server = server
        self._timeout_s = config.query_timeout_s
        self._rows: textrows.TextRows | None = None
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self._heard_at = 0.0
        self._doing = ""
        self._statement = ""
        for setting in _SETTINGS:
            self.session.query(setting, doing="setting the connection up")

    @property
    def exact(self) -> bool:
        """Whether the server tells exactly which part of its log a snapshot shows."""
        return self._server.mariadb

    def begin(self, structure: Structure) -> tuple[Place, str]:
        """Begin a transaction with a snapshot; the gate behind all that it can see, and the GTIDs
        that it sees for sure, on MySQL. A table whose engine has no snapshots is held against
        writers instead."""
        session, locked = self.session, not structure.transactional
        executed = ""
        if not self._server.mariadb and self._server.gtids:
            rows = session.rows("SELECT @@GLOBAL.gtid_executed", doing="reading executed GTIDs")
            executed = str(rows[0][0])
        if locked:
            self._lock(structure)
        else:
            session.query(
                "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", doing="reading a snapshot"
            )
        if self._server.mariadb and not locked:
            rows = session.rows(
                "SHOW STATUS LIKE 'binlog_snapshot_%'", doing="reading a snapshot's position"
            )
            found = {str(name).lower(): value for name, value in rows}
            place = Place(
                str(found["binlog_snapshot_file"]), int(found["binlog_snapshot_position"])
            )
            return place, executed
        end = status(session, self._server)
        if end is None:
            raise error("log_disabled")
        return Place(end.file, end.offset), executed

    def _lock(self, structure: Structure) -> None:
        database = quoted(structure.database)
        statement = f"LOCK TABLES {database}.{quoted(structure.table)} READ"
        denied = self.session.query(statement, tolerate=(LOCK_DENIED,), doing="locking a table")
        if denied == LOCK_DENIED:
            facts = {"table": structure.name, "database": database, **self.session.facts}
            raise error("lock_privilege", **facts)

    def select(self, sql: str, rows: textrows.TextRows, *, doing: str, statement: str) -> None:
        """Have the server send the rows of a statement."""
        conn = self.session.conn
        self._rows, self._doing, self._statement = rows, doing, statement
        self._heard_at = time.monotonic()
        try:
            conn._write_bytes(packet(_QUERY + sql.encode()))  # type: ignore[attr-defined]  # the driver has no public way to leave the answer unread
        except (pymysql.Error, OSError) as failed:
            raise self.session.failure(failed, doing=doing) from None
        sock = conn._sock  # type: ignore[attr-defined]  # as above
        sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def receive(self, into: gathered.Gathered, bytes_max: int, deadline: float) -> bool:
        """Take rows in until ``into`` has ``bytes_max`` bytes or no more come (True), or the
        deadline passes (False)."""
        assert self._rows is not None
        sock: Any = self.session.conn._sock  # type: ignore[attr-defined]  # as above
        while True:
            self._decode(into, bytes_max)
            if self._rows.ended or into.size >= bytes_max:
                return True
            try:
                count = sock.recv_into(self._buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                now = time.monotonic()
                if now - self._heard_at > SILENCE_S_MAX:
                    raise error("connection_lost", **self.session.facts) from None
                if now >= deadline:
                    return False
                self._poll.poll((deadline - now) * 1000)
                continue
            except OSError as failed:
                raise self.session.failure(failed, doing=self._doing) from None
            if not count:
                raise error("connection_lost", **self.session.facts)
            self._heard_at = time.monotonic()
            self._rows.feed(self._view[:count])

    def _decode(self, into: gathered.Gathered, bytes_max: int) -> None:
        assert self._rows is not None
        try:
            self._rows.rows(into, max(1, bytes_max - into.size))
        except textrows.ServerError as failed:
            raise by_number(
                failed.number, **self.session.facts, doing=self._doing, statement=self._statement
            ) from None
        except textrows.MismatchError:
            raise error(
                "stream_damaged", what="rows of other columns than were asked for"
            ) from None
        except ValueError as damaged:
            raise error("stream_damaged", what=str(damaged)) from None

    @property
    def ended(self) -> bool:
        """Whether all rows of the last statement were taken in."""
        return self._rows is None or self._rows.ended

    def end(self, *, locked: bool) -> bool:
        """End the chunk's transaction; False where rows are on their way still, so that the
        connection is of no more use."""
        if not self.ended:
            return False
        self._rows = None
        sock: Any = self.session.conn._sock  # type: ignore[attr-defined]  # as above
        sock.settimeout(self._timeout_s)
        self.session.query("UNLOCK TABLES" if locked else "ROLLBACK", doing="ending a chunk")
        return True

    def close(self) -> None:
        self.session.close()
