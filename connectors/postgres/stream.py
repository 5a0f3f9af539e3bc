"""The stream of changes: from CopyData messages to a `Batch`, without decoding a row.

The hot path looks at two slices of each message (see `connectors.postgres.pgoutput`): bytes 25 to
29 say what it is and of which table, and the rest is the event's body. Everything else goes through
`Stream._other`, which also handles tables whose snapshot is not settled. On the source's thread.
"""

from __future__ import annotations

import time
from array import array
from itertools import accumulate
from typing import Final

import psycopg
from psycopg import pq

from connectors.postgres import pgoutput
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import by_state, error
from connectors.postgres.pgoutput import ROUTE_END, TAG_AT, lsn_text
from connectors.postgres.position import Partial, Snapshots
from connectors.postgres.relations import Relations
from connectors.postgres.session import Session
from connectors.postgres.snapshot import judge, judge_truncate
from ensign_core.change import Batch, Op, Position, Run, Schema, Tx
from ensign_core.errors import EnsignError

LINGER_S: Final = 0.0005
LINGERS_MAX: Final = 4
"""In the middle of a transaction the rest is on its way: reading it in larger pieces costs far less
than waking up for every few rows. After so many pauses without data the batch is returned."""

EVERY_ROW: Final = 1 << 62
"""Rows to skip of a transaction that is covered as a whole."""

SILENCE_S_MAX: Final = 60.0
"""A server that does not even answer a request for a keepalive for so long is gone."""

OPS: Final = {
    pgoutput.INSERT: Op.INSERT,
    pgoutput.UPDATE: Op.UPDATE,
    pgoutput.DELETE: Op.DELETE,
}


class Stream:
    """Receives what the server sends and answers it.

    ``lsn`` is the end of the last complete transaction or keepalive, ``acked`` what may be
    confirmed, ``asked`` whether the server waits for news: a server that shuts down does, until all
    is confirmed. Between `take`s the events of one batch collect here.
    """

    def __init__(
        self,
        session: Session,
        config: PostgresConfig,
        relations: Relations,
        snapshots: Snapshots,
        *,
        lsn: int,
        partial: Partial | None,
        acked: int,
    ) -> None:
        self._session = session
        self._conn = session.conn
        self._relations = relations
        self._snapshots = snapshots
        self._bytes_max = config.batch_bytes_max
        self._heartbeat_s = config.heartbeat_s
        self.lsn = lsn
        self.acked = acked
        self._replayed = partial
        self._begun: pgoutput.Begin | None = None
        self._tx: Tx | None = None
        self._skip = 0
        self._base = 0
        self._runs: list[Run] = []
        self._fed_at = self._heard_at = time.monotonic()
        self._asked_at = 0.0
        self.asked = False
        self._next_lsn = snapshots.passed(lsn)
        self._reset()

    def _reset(self) -> None:
        self._ops = bytearray()
        self._schema_ids = array("H")
        self._bodies: list[bytes] = []
        self._size = 0
        self._schemas: dict[Schema, int] = {}
        self._routes: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def in_transaction(self) -> bool:
        return self._begun is not None

    @property
    def partial(self) -> Partial | None:
        """The transaction that the stream is in the middle of, for the position."""
        if self._begun is None:
            # Not begun again yet: what was consumed of it before is still consumed.
            return self._replayed
        if self._skip > EVERY_ROW >> 1:
            # It ended before the position did: what follows it may be in its middle.
            return self._replayed
        rows = self._base + len(self._ops) + self._skip
        return Partial(self._begun.final_lsn, self._begun.xid, rows)

    def drain(self, deadline: float) -> None:
        """Take in what has arrived, until a batch is full, nothing more is there, or the deadline
        passes (`time.monotonic`). Does not wait while it holds events, but within a transaction for
        at most `LINGERS_MAX` * `LINGER_S`."""
        lingers = 0
        try:
            while True:
                taken = self._take_in()
                if self._size >= self._bytes_max:
                    return
                now = time.monotonic()
                if taken:
                    lingers = 0
                    self._heard_at = now
                    if now - self._fed_at > self._heartbeat_s:
                        self.feed()
                elif self._begun is not None and self._ops and lingers < LINGERS_MAX:
                    lingers += 1
                    time.sleep(LINGER_S)
                else:
                    return
                if now >= deadline:
                    return
        except psycopg.OperationalError:
            raise self._session.failure(doing="streaming") from None

    def _take_in(self) -> int:
        """Read the socket once and take in all whole messages; how many there were."""
        conn = self._conn
        conn.consume_input()
        get = conn.get_copy_data
        ops, schema_ids, bodies = self._ops, self._schema_ids, self._bodies
        routes = self._routes
        size, size_max = self._size, self._bytes_max
        taken = 0
        while True:
            count, view = get(1)
            if count > TAG_AT:
                taken += 1
                data = view.tobytes()
                route = routes.get(data[TAG_AT:ROUTE_END])
                if route is not None:
                    ops.append(route[0])
                    schema_ids.append(route[1])
                    bodies.append(data[ROUTE_END:])
                    size += count
                    if size >= size_max:
                        break
                else:
                    self._size = size
                    self._other(data)
                    size = self._size
                    routes = self._routes
                    if size >= size_max:
                        break
            elif count > 0:
                taken += 1
                self._keepalive(view.tobytes())
            elif count == 0:
                break
            else:
                raise self._ended()
        self._size = size
        return taken

    def take(self, position: Position) -> Batch:
        """The events so far as a batch that moves the source to ``position``."""
        count = len(self._ops)
        runs = self._runs
        if runs and runs[-1].start == count:
            runs.pop()
        batch = Batch(
            self._ops, self._schema_ids, array("I", accumulate(map(len, self._bodies))),
            b"".join(self._bodies), runs, list(self._schemas), position,
        )  # fmt: skip
        self._base += count
        self._reset()
        self._runs = []
        if self._tx is not None:
            self._runs.append(Run(0, self._base, self._tx))
        return batch

    def _other(self, data: bytes) -> None:
        """Every message that the hot path has no route for."""
        tag = data[TAG_AT]
        if tag in OPS:
            self._row(data, tag)
        elif tag == pgoutput.BEGIN:
            self._begin(pgoutput.parse_begin(data))
        elif tag == pgoutput.COMMIT:
            self._commit(pgoutput.parse_commit(data))
        elif tag == pgoutput.RELATION:
            self._relations.learn(data)
            self._routes.clear()
        elif tag == pgoutput.TRUNCATE:
            for oid in pgoutput.parse_truncate(data):
                self._truncate(oid)
        elif tag == pgoutput.TYPE:
            self._relations.name_type(*pgoutput.parse_type(data))
        elif tag not in (pgoutput.ORIGIN, pgoutput.MESSAGE):
            raise error("protocol_damaged")

    def _begin(self, begin: pgoutput.Begin) -> None:
        self._begun = begin
        self._tx = Tx(str(begin.xid), lsn_text(begin.final_lsn), begin.committed_at)
        self._base = -len(self._ops)
        self._skip = 0
        replayed = self._replayed
        if begin.final_lsn < self.lsn:
            self._skip = EVERY_ROW
        elif replayed is not None:
            self._replayed = None
            if (replayed.final_lsn, replayed.xid) == (begin.final_lsn, begin.xid):
                self._skip = replayed.rows  # I3
        if self._skip:
            self._routes.clear()
        self._passed(begin.final_lsn)
        self._next_run()

    def _commit(self, commit: pgoutput.Commit) -> None:
        self._begun = None
        self._tx = None
        self._skip = 0
        if commit.end_lsn > self.lsn:
            self.lsn = commit.end_lsn
            self._passed(commit.end_lsn)
        if self._runs and self._runs[-1].start == len(self._ops):
            self._runs.pop()

    def _passed(self, lsn: int) -> None:
        """Everything that commits before ``lsn`` has been sent: let go of chunks behind it."""
        if lsn >= self._next_lsn:
            self._next_lsn = self._snapshots.passed(lsn)

    def reroute(self) -> None:
        """Called when tables were taken up: no row of theirs may pass by their snapshots."""
        self._routes.clear()

    def settle(self) -> None:
        """Called after a chunk was read: the stream may have passed it already."""
        self._next_lsn = self._snapshots.passed(self.lsn)

    def _row(self, data: bytes, tag: int) -> None:
        if self._skip:
            self._skip_replayed()
            return
        oid = pgoutput.relation_oid(data)
        schema = self._schema(oid)
        if schema is None:
            self._leave_out()
            return
        op = OPS[tag]
        body = data[ROUTE_END:]
        table = self._snapshots.tables.get(oid)
        if table is None:
            route = (int(op), self._schema_id(schema))
            self._routes[data[TAG_AT:ROUTE_END]] = route
        else:
            assert self._begun is not None
            seen = judge(table, schema, op, self._begun.xid, body)
            if seen is None:
                self._leave_out()
                return
            op, body = seen
        self._add(op, schema, body)

    def _truncate(self, oid: int) -> None:
        if self._skip:
            self._skip_replayed()
            return
        schema = self._schema(oid)
        table = self._snapshots.tables.get(oid)
        assert self._begun is not None
        if schema is None or (table is not None and not judge_truncate(table, self._begun.xid)):
            self._leave_out()
        else:
            self._add(Op.TRUNCATE, schema, b"")

    def _schema(self, oid: int) -> Schema | None:
        if self._begun is None:
            raise error("protocol_damaged")
        try:
            return self._relations[oid]
        except KeyError:
            raise error("protocol_damaged") from None

    def _schema_id(self, schema: Schema) -> int:
        return self._schemas.setdefault(schema, len(self._schemas))

    def _add(self, op: Op, schema: Schema, body: bytes) -> None:
        self._ops.append(op)
        self._schema_ids.append(self._schema_id(schema))
        self._bodies.append(body)
        self._size += len(body) + ROUTE_END

    def _skip_replayed(self) -> None:
        """A row that an earlier batch covers."""
        self._skip -= 1
        self._leave_out()

    def _leave_out(self) -> None:
        """A row that is no event: it counts all the same, so that ordinals are the server's."""
        self._base += 1
        self._next_run()

    def _next_run(self) -> None:
        assert self._tx is not None
        start = len(self._ops)
        run = Run(start, self._base + start, self._tx)
        if self._runs and self._runs[-1].start == start:
            self._runs[-1] = run
        else:
            self._runs.append(run)

    def _keepalive(self, data: bytes) -> None:
        if data[0] != pgoutput.KEEPALIVE:
            raise error("protocol_damaged")
        found = pgoutput.parse_keepalive(data)
        if self._begun is None and found.end_lsn > self.lsn:
            self.lsn = found.end_lsn
            self._passed(found.end_lsn)
        if found.reply:
            self.asked = True
            self.feed()

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
