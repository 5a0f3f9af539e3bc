"""One connection to the server: statements and COPY, each with a deadline.

A source has two, both used by its one thread (I1): one that streams, one that asks the catalog and
reads snapshots. They have the same settings, so that a value has one text wherever it is read. This
is libpq through `psycopg.pq`, since psycopg has no replication API. Nothing here reconnects (I9).
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import pq

from connectors.postgres.config import PostgresConfig
from connectors.postgres.connecting import connect, conninfo, ready
from connectors.postgres.errors import by_state, error
from connectors.postgres.receiving import receiver
from ensign_core.errors import EnsignError

CANCEL_S_MAX: Final = 5.0
CLOSE_ROUNDS_MAX: Final = 8

Row = tuple[str | None, ...]


class Session:
    """A libpq connection. ``facts`` are what its errors may name: user, database, where. Nothing
    may be written through one that is ``read_only``.

    The constructor connects. Every method raises an `EnsignError` of `connectors.postgres.errors`
    and leaves a connection that can only be closed, but for `tolerate`d SQLSTATEs of `query`.
    """

    def __init__(self, config: PostgresConfig, pipeline: str, *, replication: bool = False) -> None:
        self._timeout_s = config.query_timeout_s
        self.read_only = config.read_only
        info, self.facts = conninfo(config, pipeline, replication=replication)
        self.conn = connect(info, config.connect_timeout_s, self.facts)
        self._poll = select.poll()
        self._poll.register(self.conn.socket, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Block until the server has sent something, or the time is over."""
        return bool(self._poll.poll(max(0.0, timeout_s) * 1000))

    def query(
        self,
        sql: str,
        params: Sequence[str | None] = (),
        *,
        doing: str = "reading the catalog",
        timeout_s: float | None = None,
        tolerate: Sequence[str] = (),
        statement: str = "",
    ) -> list[Row] | str:
        """Run one statement with text parameters; its rows. A SQLSTATE in ``tolerate`` is returned
        instead of raised (the connection stays usable). Facts for errors: ``doing`` and
        ``statement``, what an administrator could run instead."""
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        facts = {**self.facts, "doing": doing, "statement": statement}
        failed = ""
        rows: list[Row] = []
        try:
            self.conn.send_query_params(
                sql.encode(), [None if p is None else p.encode() for p in params]
            )
            while (result := self._result(deadline, facts)) is not None:
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    failed = failed or _state_of(result)
                elif result.status == pq.ExecStatus.TUPLES_OK:
                    rows = _rows(result)
                elif result.status in (pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COPY_OUT):
                    break
        except psycopg.OperationalError:
            raise self.failure(**facts) from None
        if failed in tolerate and failed:
            return failed
        if failed or self.conn.status == pq.ConnStatus.BAD:
            raise by_state(failed or "08006", **facts)
        return rows

    def rows(
        self, sql: str, params: Sequence[str | None] = (), *, doing: str = "reading the catalog"
    ) -> list[Row]:
        """`query` for a statement of which no failure is tolerated."""
        found = self.query(sql, params, doing=doing)
        assert not isinstance(found, str)
        return found

    def simple(self, command: str, *, doing: str, tolerate: Sequence[str] = ()) -> list[Row] | str:
        """Run a replication command: a walsender takes the simple protocol only."""
        deadline = time.monotonic() + self._timeout_s
        facts = {**self.facts, "doing": doing}
        rows: list[Row] = []
        failed = ""
        try:
            self.conn.send_query(command.encode())
            while (result := self._result(deadline, facts)) is not None:
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    failed = _state_of(result)
                elif result.status == pq.ExecStatus.TUPLES_OK:
                    rows = _rows(result)
                elif result.status == pq.ExecStatus.COPY_BOTH:
                    return rows
        except psycopg.OperationalError:
            raise self.failure(**facts) from None
        if failed and failed in tolerate:
            return failed
        if failed or self.conn.status == pq.ConnStatus.BAD:
            raise by_state(failed or "08006", **facts)
        return rows

    def _result(self, deadline: float, facts: dict[str, object]) -> pq.abc.PGresult | None:
        """The next result of the statement under way; past the deadline it is cancelled."""
        while self.conn.is_busy():
            if not self.wait(deadline - time.monotonic()):
                self.cancel()
                raise error("timeout", **facts)
            self.conn.consume_input()
        return self.conn.get_result()

    def cancel(self) -> None:
        """Ask the server to cancel the statement under way; it may have ended meanwhile, or be out
        of reach. Waits within a limit, and holds no other thread up."""
        deadline = time.monotonic() + CANCEL_S_MAX
        with suppress(psycopg.OperationalError):
            try:
                asked = self.conn.cancel_conn()
            except psycopg.NotSupportedError:
                # libpq before 17 has only a call that blocks.
                self.conn.get_cancel().cancel()
                return
            asked.start()
            reading, writing = pq.PollingStatus.READING, pq.PollingStatus.WRITING
            while (state := asked.poll()) in (reading, writing):
                if not ready(asked.socket, reading=state == reading, deadline=deadline):
                    return

    def failure(self, **facts: object) -> EnsignError:
        """The error for a connection that failed: by the server's last word, if it said one."""
        state = ""
        try:
            for _ in range(CLOSE_ROUNDS_MAX):
                result = self.conn.get_result()
                if result is None:
                    break
                state = _state_of(result) or state
        except psycopg.Error:
            pass
        return by_state(state or "08006", **{**self.facts, **facts})

    def close(self) -> None:
        """Close the connection; the server rolls back what was under way."""
        self.conn.finish()


class CopyOut:
    """A COPY TO STDOUT under way, read without ever waiting longer than asked. ``blocked``: it did
    not get a lock in time, and the transaction is over."""

    def __init__(self, session: Session, sql: str, *, doing: str, statement: str = "") -> None:
        self._session = session
        self._facts = {**session.facts, "doing": doing, "statement": statement}
        self._started = False
        self.finished = False
        self.blocked = False
        self._receive = receiver(session.conn)
        # Takes one statement only, whatever an operator's condition holds.
        session.conn.send_query_params(sql.encode(), [])

    def read(self, bytes_max: int, deadline: float) -> tuple[list[bytes], int]:
        """Lines received until there are ``bytes_max`` of them, the COPY ends (`finished`), or the
        deadline passes (`time.monotonic`); and their bytes."""
        lines: list[bytes] = []
        size = 0
        try:
            if not self._start(deadline):
                return lines, size
            while size < bytes_max:
                rows, received, last = self._receive(bytes_max - size)
                lines += rows
                size += received
                if last < 0:
                    self._finish()
                    break
                if last == 0 and not self._more(deadline):
                    break
        except psycopg.OperationalError:
            raise self._session.failure(**self._facts) from None
        return lines, size

    def _more(self, deadline: float) -> bool:
        if not self._session.wait(deadline - time.monotonic()):
            return False
        self._session.conn.consume_input()
        return True

    def _start(self, deadline: float) -> bool:
        conn = self._session.conn
        while not self._started:
            if conn.is_busy():
                if not self._more(deadline):
                    return False
                continue
            result = conn.get_result()
            if result is not None and _state_of(result) == "55P03":
                while conn.get_result() is not None:
                    pass
                self.blocked = True
                return False
            if result is None or result.status != pq.ExecStatus.COPY_OUT:
                self._raise(result)
            self._started = True
        return True

    def _finish(self) -> None:
        conn = self._session.conn
        while (result := conn.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                self._raise(result)
        self.finished = True

    def _raise(self, result: pq.abc.PGresult | None) -> None:
        state = _state_of(result) if result is not None else "08006"
        while self._session.conn.get_result() is not None:
            pass  # so that the connection can go on, if it still does
        raise by_state(state, **self._facts)

    def abandon(self) -> None:
        """Cancel what is left and drop it, so that the connection can go on, if it still does."""
        self._session.cancel()
        deadline = time.monotonic() + CANCEL_S_MAX
        try:
            while not self._dropped():
                if not self._more(deadline):
                    raise by_state("08006", **self._facts)
        except psycopg.OperationalError:
            raise self._session.failure(**self._facts) from None
        self.finished = True

    def _dropped(self) -> bool:
        """Drop what was received; whether that was all."""
        conn = self._session.conn
        with suppress(psycopg.Error):  # as which a cancelled COPY ends
            while (count := conn.get_copy_data(1)[0]) > 0:
                pass
            if count == 0:
                return False
        while not conn.is_busy():
            result = conn.get_result()
            if result is None:
                return True
            if result.status == pq.ExecStatus.COPY_OUT:
                return self._dropped()  # it had not begun when it was given up
        return False


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """An SQL string literal, whatever standard_conforming_strings says."""
    text = value.replace("'", "''")
    return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"


def _state_of(result: pq.abc.PGresult) -> str:
    return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()


def _rows(result: pq.abc.PGresult) -> list[Row]:
    width = range(result.nfields)
    return [
        tuple(_text(result.get_value(row, column)) for column in width)
        for row in range(result.ntuples)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")
