"""The stream of changes: from CopyData messages to a `Batch`, without decoding a row.

The hot path looks at two slices of each message (see `connectors.postgres.pgoutput`): bytes 25 to
29 say what it is and of which table, and the rest is the event's body. Everything else goes through
`Stream._other`, which also handles tables whose snapshot is not settled. On the source's thread.
"""

from __future__ import annotations

import struct
import time
from typing import Final

import psycopg

from connectors.postgres import columns, messages, pgoutput
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.feedback import Feedback
from connectors.postgres.gathering import Gathering
from connectors.postgres.pgoutput import ROUTE_END, TAG_AT, lsn_text
from connectors.postgres.position import NOBODY, Partial, Snapshots, mark
from connectors.postgres.relations import Relations
from connectors.postgres.session import Session
from connectors.postgres.snapshot import AsOf, TableSnapshot, judge, judge_truncate
from ensign_core.change import Op, Run, Schema, Tx
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

LINGER_S: Final = 0.0005
LINGERS_MAX: Final = 4
"""In the middle of a transaction the rest is on its way: reading it in larger pieces costs far less
than waking up for every few rows. After so many pauses without data the batch is returned."""

EVERY_ROW: Final = 1 << 62
"""Rows to skip of a transaction that is covered as a whole."""

OPS: Final = {
    pgoutput.INSERT: Op.INSERT,
    pgoutput.UPDATE: Op.UPDATE,
    pgoutput.DELETE: Op.DELETE,
}


class Stream(Feedback, Gathering):
    """Receives what the server sends and answers it.

    ``lsn`` is the end of the last complete transaction, of a message outside of transactions, or of
    a keepalive. Between `take`s the events of one batch gather here. While there is a ``gate``, the
    stream stops before the first transaction that it does not see. ``seen`` are the ids of
    transactions that have begun to come, until somebody clears it.
    """

    def __init__(
        self,
        session: Session,
        config: PostgresConfig,
        relations: Relations,
        snapshots: Snapshots,
        context: Context,
        *,
        lsn: int,
        partial: Partial | None,
        acked: int,
        wal_page: int,
    ) -> None:
        Feedback.__init__(self, session, config.heartbeat_s, acked)
        Gathering.__init__(self)
        self._config = config
        self._relations = relations
        self._snapshots = snapshots
        self._context = context
        self._bytes_max = config.batch_bytes_max
        self._message_schema = messages.message_schema(relations.database)
        self._marker_schema = messages.marker_schema(relations.database)
        self.lsn = lsn
        self._replayed = partial
        self._begun: pgoutput.Begin | None = None
        self._marked = False
        self._next_lsn = snapshots.passed(lsn)
        self._wal_page = wal_page
        self._kept: bytes | None = None
        self.gate: AsOf | None = None
        self.seen: set[int] = set()

    @property
    def at_gate(self) -> bool:
        """Whether all that the gate sees has come, and nothing else."""
        if self.gate is None or self._begun is not None:
            return False
        return self._kept is not None or self.lsn >= self.gate.lsn

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
        return Partial(self._begun.final_lsn, self._begun.xid, rows, self._marked)

    def drain(self, deadline: float) -> None:
        """Take in what has arrived, until a batch is full, nothing more is there, or the deadline
        passes (`time.monotonic`). Does not wait while it holds events, but within a transaction for
        at most `LINGERS_MAX` * `LINGER_S`."""
        lingers = 0
        if self.at_gate:
            self.unwatched()
            return
        if self._kept is not None:
            # Its gate is open.
            kept, self._kept = self._kept, None
            self._other(kept)
        try:
            while True:
                taken = self._take_in()
                if self._size >= self._bytes_max or self._kept is not None:
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
                    if size >= size_max or self._kept is not None:
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

    def _other(self, data: bytes) -> None:
        """Every message that the hot path has no route for."""
        tag = data[TAG_AT]
        if tag in OPS:
            self._row(data, tag)
        elif tag == pgoutput.BEGIN:
            begin = pgoutput.parse_begin(data)
            if self.gate is not None and not self.gate.visible.sees(begin.xid):
                self._kept = data
            else:
                self._begin(begin)
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
        elif tag == pgoutput.MESSAGE:
            self._message(pgoutput.parse_message(data))
        elif tag != pgoutput.ORIGIN:
            raise error("protocol_damaged")

    def _begin(self, begin: pgoutput.Begin) -> None:
        self._begun = begin
        self.seen.add(begin.xid)
        self._tx = Tx(str(begin.xid), lsn_text(begin.final_lsn), begin.committed_at)
        self._base = -len(self._ops)
        self._skip = 0
        self._marked = False
        replayed = self._replayed
        if begin.final_lsn < self.lsn:
            self._skip = EVERY_ROW
        elif replayed is not None:
            self._replayed = None
            if (replayed.final_lsn, replayed.xid) == (begin.final_lsn, begin.xid):
                self._skip = replayed.rows  # I3
                self._marked = bool(replayed.marked)
        if self._skip or self._config.transaction_markers:
            self._routes.clear()
        self._passed(begin.final_lsn)
        self._next_run()

    def _commit(self, commit: pgoutput.Commit) -> None:
        if self._marked:
            self._extra(Op.COMMIT, self._marker_schema)
            self._marked = False
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
        op, body = OPS[tag], data[ROUTE_END:]
        keep = self._relations.kept.get(oid)
        if oid in self._snapshots.tables or keep is not None:
            try:
                seen = self._captured(oid, schema, op, body, keep)
            except (EnsignError, ValueError, IndexError, struct.error):
                self._set_aside(data, schema)
                return
            if seen is None:
                self._leave_out()
                return
            op, body = seen
        self._lead_in(oid, schema)
        if oid not in self._snapshots.tables and keep is None:
            self._routes[data[TAG_AT:ROUTE_END]] = int(op), self._schema_id(schema)
        self._add(op, schema, body)

    def _captured(
        self, oid: int, schema: Schema, op: Op, body: bytes, keep: tuple[int, ...] | None
    ) -> tuple[Op, bytes] | None:
        """A row reduced to the captured columns and judged by its table's snapshot."""
        if keep is not None:
            body = columns.project(body, keep)
        if oid in self._relations.mixed:
            body = columns.key_only(body)
        table = self._under_way(oid, schema)
        if table is None:
            return op, body
        assert self._begun is not None
        return judge(table, schema, op, self._begun.xid, body)

    def _under_way(self, oid: int, schema: Schema) -> TableSnapshot | None:
        """The snapshot that may show a row already: one under another name than the row's, which
        the table had until it was renamed, does not."""
        return None if self._former(schema) else self._snapshots.tables.get(oid)

    def _former(self, schema: Schema) -> bool:
        """Whether it is a name that its table gave up."""
        return self._snapshots.names.get(mark(schema.name)) == NOBODY

    def _set_aside(self, data: bytes, schema: Schema) -> None:
        """A row that cannot be processed: a dead letter, with the batch whose position covers it.
        Until then it takes memory as an event does."""
        self._context.dead_letter(data[TAG_AT:], error("row_damaged", table=schema.name))
        self._letters += 1
        self._size += len(data)
        self._leave_out()

    def structure(self, oid: int, schema: Schema) -> bool:
        """The topic gets rows of a table in this structure: whether it is another one than it had
        last, so that an event says so before them. Called for snapshot rows too. Rows under a name
        that the table gave up end that name's topic: its snapshot under the new one may be read
        before them."""
        if self._former(schema):
            return False
        before = self._snapshots.schemas.get(oid)
        self._snapshots.schemas[oid] = schema.id
        return before is not None and before != schema.id

    def _lead_in(self, oid: int, schema: Schema) -> None:
        """What goes before a row: the begin of its transaction, its table's new structure."""
        self._mark_begin()
        if self.structure(oid, schema):
            self._extra(Op.SCHEMA, schema)

    def _mark_begin(self) -> None:
        if self._config.transaction_markers and not self._marked:
            self._marked = True
            self._extra(Op.BEGIN, self._marker_schema)

    def _message(self, message: pgoutput.Message) -> None:
        """A logical message: in a transaction it counts as a row, else its LSN is its place."""
        captured = messages.captures(self._config, message)
        if message.transactional:
            if self._begun is None:
                raise error("protocol_damaged")
            if self._skip:
                self._skip_replayed()
            elif captured:
                self._mark_begin()
                self._add(Op.MESSAGE, self._message_schema, messages.body(message))
            else:
                self._leave_out()
        elif self._begun is not None:
            raise error("protocol_damaged")
        elif message.lsn > self.lsn:
            if captured:
                self._runs.append(Run(len(self._ops), 0, Tx(None, lsn_text(message.lsn), None)))
                self._add(Op.MESSAGE, self._message_schema, messages.body(message))
            self.lsn = message.lsn
            self._passed(message.lsn)

    def _truncate(self, oid: int) -> None:
        if self._skip:
            self._skip_replayed()
            return
        schema = self._schema(oid)
        table = self._under_way(oid, schema) if schema is not None else None
        assert self._begun is not None
        if schema is None or (table is not None and not judge_truncate(table, self._begun.xid)):
            self._leave_out()
        else:
            self._lead_in(oid, schema)
            self._add(Op.TRUNCATE, schema, b"")

    def _schema(self, oid: int) -> Schema | None:
        if self._begun is None:
            raise error("protocol_damaged")
        try:
            return self._relations[oid]
        except KeyError:
            raise error("protocol_damaged") from None

    def _keepalive(self, data: bytes) -> None:
        if data[0] != pgoutput.KEEPALIVE:
            raise error("protocol_damaged")
        found = pgoutput.parse_keepalive(data, self._wal_page)
        if self._begun is None and found.end_lsn > self.lsn:
            self.lsn = found.end_lsn
            self._passed(found.end_lsn)
        if found.reply:
            self.asked = True
            self.feed()
