"""The events of one batch, as they come, with their transactions' runs and ordinals."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from connectors.mysql import events as log_events
from connectors.mysql import gathered, rowimage
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.events import TYPE_AT
from connectors.mysql.position import Place, Snapshots
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
from connectors.mysql.statements import savepoint
from connectors.mysql.tables import Route, Tables
from connectors.mysql.transactions import Consumed
from ensign_core.change import Batch, Op, Position, Run, Schema, Tx
from ensign_core.plugin import Context

NO_BODY: Final = b""

START: Final = b""
"""The name of the point in a transaction where it begins, which no savepoint has."""

NO_TABLE: Final = b"\xff\xff\xff\x00\x00\x00"
"""The table id of a rows event that has no rows, but ends a statement."""

KINDS: Final = {
    **dict.fromkeys(INSERTS, (Op.INSERT, rowimage.WRITE)),
    **dict.fromkeys(UPDATES, (Op.UPDATE, rowimage.UPDATE)),
    **dict.fromkeys(DELETES, (Op.DELETE, rowimage.DELETE)),
    log_events.PARTIAL_UPDATE_ROWS: (Op.UPDATE, rowimage.PARTIAL_UPDATE),
}

PLAIN_HEADS: Final = frozenset((WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS))
ROWS: Final = frozenset((Op.INSERT, Op.UPDATE, Op.DELETE))
EXTRA_AT: Final = 27
"""Rows events as servers of today write them, and where the length of their further data stands,
which counts itself: `rows_head` in short."""

MARKER: Final = Schema("ensign.transaction", (("database", "ensign"), ("table", "transaction")), ())
"""The schema of the begin and the commit of transactions: no columns."""


class Gathering:
    """The base of `connectors.mysql.stream.Stream`, whose hot path fills the columns itself.

    The ordinal of event N is ``_base`` + N: rows that are no events raise ``_base``, and events
    that are no rows lower it. ``_taken`` counts the rows events of the transaction, of whatever
    tables, and its statements but for SAVEPOINT; those up to ``_skip`` are covered by an earlier
    batch, whichever of them were captured then (I3). ``_written`` are the tables whose rows came in
    the transaction, and ``_saved`` its savepoints: how many of its events (``_before`` in earlier
    batches, the rest in this one) were there, negative where an earlier source returned some.
    """

    _compare: Callable[[str], None]
    """See `connectors.mysql.changes.Changes.compare`."""
    place: Place
    """See `connectors.mysql.stream.Stream`."""

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
        self._made = ("", 0)
        self._marked = False
        self._muted = self._replays = False
        self._mute_rows = 0
        self._tx: Tx | None = None
        self._taken = self._skip = 0
        self._base = self._before = 0
        self._written: set[str] = set()
        self._saved: dict[bytes, int] = {}
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

    def _file_begins(self, event: bytes, file: str) -> None:
        found = log_events.format_description(event)
        self._lengths = (b"\0" + found.post_header_lengths).ljust(256, b"\0")
        if found.started and file != self._made[0]:
            self._tables.show_all()
        self._made = file, log_events.header(event).timestamp_s

    @property
    def made_s(self) -> int:
        """When the file was begun in which the last complete transaction ends (s since 1970); 0
        where the server has not told it yet."""
        file, made_s = self._made
        return made_s if file == self.place.file else 0

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
        self._before += count
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
        if route is None:
            return
        self._written.add(route.name)
        if self._taken <= self._skip:
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

    def _afresh(self) -> None:
        """A transaction begins."""
        self._written.clear()
        self._saved.clear()
        self._save(START)
        self._next_run()

    def _savepoint(self, statement: bytes) -> bool:
        """A savepoint, or a return to one; whether the transaction goes on."""
        verb, name = savepoint(statement)
        if self._muted:
            # They come again with the rows.
            return name != START
        if verb == b"SAVEPOINT":
            self._save(name)
        else:
            self._undo(name)
        return name != START

    def _save(self, name: bytes) -> None:
        behind = self._taken < self._skip
        self._saved[name] = -1 if behind else self._before + len(self._ops)

    def _undo(self, name: bytes) -> None:
        """Rows behind a savepoint were rolled back, and are in the log all the same: MariaDB writes
        them where temporary tables or others that cannot be rolled back are in between. Those of
        this batch are taken out. Where some are in an earlier one, or a snapshot has seen them,
        their tables are compared."""
        self._taken += 1
        if self._taken <= self._skip:
            # An earlier source has done it.
            return
        saved = self._saved.get(name, -1)
        start = saved - self._before
        if name in self._saved and saved >= 0:
            self._take_out(max(0, start))
        seen = self._snapshots.tables.keys() | self.routes.windows.keys()
        for table in self._written if start < 0 else self._written & seen:
            self._compare(table)

    def _take_out(self, start: int) -> None:
        """Take rows out again from an index on, but those of tables that cannot be rolled back."""
        schemas = list(self._schemas)
        bodies, end = self._bodies.bodies(start), self._base + len(self._ops)
        ops, ids = self._ops[start:], self._schema_ids[start:]
        ordinals = [self._ordinal(start + i) for i in range(len(ops))]
        self._bodies.cut(start)
        del self._ops[start:], self._schema_ids[start:]
        while self._runs and self._runs[-1].start > start:
            self._runs.pop()
        for op, schema_id, ordinal, body in zip(ops, ids, ordinals, bodies, strict=True):
            structure = self._tables.structures.get(schemas[schema_id].name)
            if op in ROWS and (structure is None or structure.transactional):
                continue
            self._base = ordinal - len(self._ops)
            self._next_run()
            self._add(Op(op), schemas[schema_id], body)
        # What is behind them has the ordinals that it would have had.
        self._base = end - len(self._ops)
        self._next_run()

    def _ordinal(self, index: int) -> int:
        run = next(run for run in reversed(self._runs) if run.start <= index)
        return run.ordinal + index - run.start

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
