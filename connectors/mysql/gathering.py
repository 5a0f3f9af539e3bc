"""The events of one batch, as they come, with their transactions' runs and ordinals."""

from __future__ import annotations

from array import array
from typing import Final

from connectors.mysql import events as log_events
from connectors.mysql import gathered, rowimage
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.events import TYPE_AT
from connectors.mysql.position import Snapshots
from connectors.mysql.routes import ROUTE_AT, ROUTE_END, Routes
from connectors.mysql.rowevents import (
    DELETE_ROWS,
    DELETES,
    INSERTS,
    UPDATE_ROWS,
    UPDATES,
    WRITE_ROWS,
    decompressed,
    rows_head,
)
from connectors.mysql.snapshot import judge
from connectors.mysql.tables import Route, Tables
from connectors.mysql.transactions import Consumed
from ensign_core.change import Batch, Op, Position, Run, Schema, Tx
from ensign_core.plugin import Context

NO_BODY: Final = b""

NO_TABLE: Final = b"\xff\xff\xff\x00\x00\x00"
"""The table id of a rows event that has no rows, but ends a statement."""

KINDS: Final = {
    **dict.fromkeys(INSERTS, (Op.INSERT, rowimage.WRITE)),
    **dict.fromkeys(UPDATES, (Op.UPDATE, rowimage.UPDATE)),
    **dict.fromkeys(DELETES, (Op.DELETE, rowimage.DELETE)),
    log_events.PARTIAL_UPDATE_ROWS: (Op.UPDATE, rowimage.PARTIAL_UPDATE),
}

PLAIN_HEADS: Final = frozenset((WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS))
EXTRA_AT: Final = 27
"""Rows events as servers of today write them, and where the length of their further data stands,
which counts itself: `rows_head` in short."""

MARKER: Final = Schema("ensign.transaction", (("database", "ensign"), ("table", "transaction")), ())
"""The schema of the begin and the commit of transactions: no columns."""


class Gathering:
    """The base of `connectors.mysql.stream.Stream`, whose hot path fills the columns itself.

    The ordinal of event N is ``_base`` + N: rows that are no events raise ``_base``, and events
    that are no rows lower it. ``_taken`` counts the rows events of the transaction, of whatever
    tables, and its statements; those up to ``_skip`` are covered by an earlier batch, whichever of
    them were captured then (I3).
    """

    def __init__(
        self,
        config: MysqlConfig,
        tables: Tables,
        snapshots: Snapshots,
        context: Context,
        routes: Routes,
        consumed: Consumed,
        *,
        mariadb: bool,
    ) -> None:
        self._config = config
        self._tables = tables
        self._snapshots = snapshots
        self._context = context
        self.routes = routes
        self.consumed = consumed
        self._mariadb = mariadb
        self._lengths = bytes(256)
        self._marked = False
        self._muted = self._replays = False
        self._mute_rows = 0
        self._tx: Tx | None = None
        self._taken = self._skip = 0
        self._base = 0
        self._runs: list[Run] = []
        self._bodies = gathered.Gathered()
        self._reset()

    def _reset(self) -> None:
        self._ops = bytearray()
        self._schema_ids = array("H")
        self._letters = 0
        self._schemas: dict[Schema, int] = {}

    def __len__(self) -> int:
        """What the next batch covers: events, and rows set aside, which are none."""
        return len(self._ops) + self._letters

    def take(self, position: Position) -> Batch:
        """The events so far as a batch that moves the source to ``position``."""
        count = len(self._ops)
        runs = self._runs
        if runs and runs[-1].start == count:
            runs.pop()
        body, ends = self._bodies.take()
        batch = Batch(
            self._ops, self._schema_ids, ends, body, runs, list(self._schemas), position
        )  # fmt: skip
        self._base += count
        self._reset()
        self._runs = []
        if self._tx is not None:
            self._runs.append(Run(0, self._base, self._tx))
        return batch

    def _schema_id(self, schema: Schema) -> int:
        return self._schemas.setdefault(schema, len(self._schemas))

    def _add(self, op: Op, schema: Schema, body: bytes) -> None:
        self._ops.append(op)
        self._schema_ids.append(self._schema_id(schema))
        self._bodies.append(body)

    def _extra(self, op: Op, schema: Schema) -> None:
        """An event that is no captured row: its ordinal is that of the row behind it."""
        self._add(op, schema, NO_BODY)
        self._base -= 1
        self._next_run()

    def _leave_out(self, rows: int = 1) -> None:
        """Rows that are no events: they count all the same, so that ordinals are the server's."""
        self._base += rows
        self._next_run()

    def _next_run(self) -> None:
        assert self._tx is not None
        start = len(self._ops)
        run = Run(start, self._base + start, self._tx)
        if self._runs and self._runs[-1].start == start:
            self._runs[-1] = run
        else:
            self._runs.append(run)

    def map_rows(self, event: bytes) -> None:
        length = self._lengths[log_events.TABLE_MAP]
        self.routes.map(event, length, mariadb=self._mariadb)

    def take_compressed(self, event: bytes) -> None:
        self.take_rows(decompressed(event, self._lengths[event[TYPE_AT]]))

    def take_rows(self, event: bytes) -> None:
        key = event[ROUTE_AT:ROUTE_END]
        try:
            route, fast = self.routes.fast[key], True
        except KeyError:
            if key == NO_TABLE:
                return
            if key not in self.routes.all:
                raise error("stream_damaged", what="rows without a table map") from None
            route, fast = self.routes.all[key], False
        if self._tx is None:
            raise error("stream_damaged", what="rows outside of a transaction")
        if self._muted:
            self._mute_rows += route is not None
            return
        self._taken += 1
        if route is None or self._taken <= self._skip:
            return
        kind = event[TYPE_AT]
        op, image = KINDS[kind]
        if kind in PLAIN_HEADS and len(event) > EXTRA_AT + 2:
            at = EXTRA_AT + (event[EXTRA_AT] | event[EXTRA_AT + 1] << 8)
        else:
            at = rows_head(event, self._lengths[kind]).at
        start = len(self._bodies)
        if not self._marked:
            self._lead_in(route)
            start = len(self._bodies)
        try:
            count = route.decoder.rows(event, at, image, self._bodies)
        except rowimage.NoBaseError:
            self._tables.stop(route.name, "document_unknown")
            self.routes.sort()
            return
        except ValueError:
            self._set_aside(event, route)
            return
        if fast:
            self._ops += bytes((op,)) * count
            self._schema_ids.extend(array("H", (self._schema_id(route.schema),)) * count)
        else:
            self._judged(route, op, start)

    def _lead_in(self, route: Route) -> None:
        """What goes before a row: the begin of its transaction, its table's new structure."""
        self._mark_begin()
        if self._tables.unannounced(route.name):
            self._extra(Op.SCHEMA, route.schema)

    def _judged(self, route: Route, op: Op, start: int) -> None:
        """Rows one by one: those of a table that is read by a snapshot."""
        bodies = self._bodies.bodies(start)
        self._bodies.cut(start)
        begun, watching = self.consumed.begun, self.routes.windows.get(route.name, ())
        windows = [w for w in watching if w.wants(begun, xa=self._replays)]
        for body in bodies:
            for window in windows:
                window.add(op, route.schema, body)
            if self.routes.remembers:
                self.routes.remember(route, op, body)
            table = self._snapshots.tables.get(route.name)
            seen = (op, body) if table is None else judge(table, route.schema, op, body)
            if seen is None:
                self._leave_out()
            else:
                self._add(seen[0], route.schema, seen[1])

    def _mark_begin(self) -> None:
        if self._config.transaction_markers and not self._marked:
            self._marked = True
            self._extra(Op.BEGIN, MARKER)

    def _set_aside(self, event: bytes, route: Route) -> None:
        """A rows event that cannot be processed: a dead letter, with the batch whose position
        covers it."""
        damaged = error("row_damaged", table=route.name, pipeline=self._context.pipeline)
        self._context.dead_letter(event, damaged)
        self._letters += 1
