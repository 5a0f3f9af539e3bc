"""What a stream tells its server: how far it may forget, and that somebody still listens."""

from __future__ import annotations

import time
from typing import Final

import psycopg
from psycopg import pq

from connectors.postgres import pgoutput
from connectors.postgres.errors import by_state, error
from connectors.postgres.session import Session
from ensign_core.errors import EnsignError

SILENCE_S_MAX: Final = 60.0
"""A server that does not even answer a request for a keepalive for so long is gone."""


class Feedback:
    """The base of `connectors.postgres.stream.Stream`, on the source's thread. ``acked`` is what
    may be confirmed, ``asked`` whether the server waits for news: a server that shuts down does,
    until all is confirmed."""

    def __init__(self, session: Session, heartbeat_s: float, acked: int) -> None:
        self._session = session
        self._conn = session.conn
        self._heartbeat_s = heartbeat_s
        self.acked = acked
        self.asked = False
        self._fed_at = self._heard_at = time.monotonic()
        self._asked_at = 0.0

    def feed(self, *, ask: bool = False) -> None:
        """Send a status update with what was acked, never more (I5); ``ask`` for a keepalive."""
        message = pgoutput.status_update(self.acked, time.time_ns() // 1000, reply=ask)
        try:
            self._conn.put_copy_data(message)
            self._conn.flush()
        except psycopg.OperationalError:
            raise self._session.failure(doing="streaming") from None
        self._fed_at = time.monotonic()
        if ask:
            self._asked_at = self._fed_at

    def tend(self) -> None:
        """Called while nothing comes: keep the connection alive and notice when it is not."""
        now = time.monotonic()
        if now - self._fed_at > self._heartbeat_s:
            self.feed()
        silent_s = now - self._heard_at
        if silent_s > SILENCE_S_MAX:
            raise error("connection_lost")
        if silent_s > SILENCE_S_MAX / 4 and now - self._asked_at > SILENCE_S_MAX / 4:
            self.feed(ask=True)

    def unwatched(self) -> None:
        """The stream was not read for a while, on purpose: silence starts now."""
        self._heard_at = time.monotonic()

    @property
    def fed_ago_s(self) -> float:
        return time.monotonic() - self._fed_at

    def _ended(self) -> EnsignError:
        """The server ended the stream: with an error, or because it shuts down."""
        result = self._conn.get_result()
        if result is None:
            return self._session.failure(doing="streaming")
        if result.status != pq.ExecStatus.FATAL_ERROR:
            return error("restarting")
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b"08006"
        return by_state(state.decode(), **{**self._session.facts, "doing": "streaming"})
