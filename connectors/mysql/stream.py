"""The stream of changes: from events of the binary log to a `Batch`.

The hot path hands a rows event to its table's compiled decoder, which writes bodies into the
batch. Rows of tables that are read by a snapshot, and those that an earlier batch covers, are taken
out again and judged one by one. On the source's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from connectors.mysql import events as log_events
from connectors.mysql.ahead import NotYetError
from connectors.mysql.changes import Changes
from connectors.mysql.config import MysqlConfig
from connectors.mysql.cursor import Cursor
from connectors.mysql.damage import DamagedError
from connectors.mysql.errors import error
from connectors.mysql.events import TYPE_AT
from connectors.mysql.gathering import KINDS, MARKER, Gathering
from connectors.mysql.log import Log
from connectors.mysql.payload import inner_events
from connectors.mysql.position import Partial, Place, Snapshots
from connectors.mysql.routes import Routes
from connectors.mysql.rowevents import PLAIN_OF_COMPRESSED
from connectors.mysql.statements import Statement, begins_transaction, query
from connectors.mysql.tables import Tables
from connectors.mysql.transactions import Consumed
from connectors.mysql.xa import Prepared
from ensign_core.change import Op, Tx
from ensign_core.plugin import Context

LINGER_S: Final = 0.0005
LINGERS_MAX: Final = 4
"""In the middle of a transaction the rest is on its way: reading it in larger pieces costs far less
than waking up for every few rows. After so many pauses without data the batch is returned."""


class Stream(Gathering):
    """Receives what the server sends.

    ``place`` is the end of the last complete transaction in the server's log, ``committed_at_us``
    (since 1970) when the last one that began was committed there, 0 before the first. Between
    `take`s the events of one batch gather here. While there is a ``gate``, the stream stops before
    the first transaction at or behind it.
    """

    def __init__(
        self,
        log: Log,
        config: MysqlConfig,
        tables: Tables,
        snapshots: Snapshots,
        context: Context,
        consumed: Consumed,
        prepared: Prepared,
        changes: Changes,
        *,
        mariadb: bool,
        place: Place,
        partials: Sequence[Partial],
    ) -> None:
        routes = Routes(tables, snapshots, remembers=consumed.mode == "file" and not mariadb)
        super().__init__(config, tables, snapshots, context, routes, consumed, mariadb=mariadb)
        self._compare = changes.compare
        self._log = log
        self._prepared = prepared
        self._changes = changes
        self.place = place
        self._made = place.file, 0
        self._replayed = {partial.id: partial for partial in partials}
        self._bytes_max = config.batch_bytes_max
        self._queue: Iterator[bytes] = iter(())
        self._inner: Iterator[bytes] | None = None
        self._following: Iterator[bytes] | None = None
        self._kept: bytes | None = None
        self._cursor = Cursor(place)
        self._start = place
        self._id = ""
        self._committing: log_events.Xa | None = None
        self._grouped = self._undone = False
        self.committed_at_us = 0
        self.gate: Place | None = None
        self.heard_at = time.monotonic()
        self._handlers = self._table_of_handlers()

    def _table_of_handlers(self) -> dict[int, Callable[[bytes], None]]:
        handlers: dict[int, Callable[[bytes], None]] = {
            log_events.FORMAT_DESCRIPTION: self._describe,
            log_events.ROTATE: self._rotate,
            log_events.HEARTBEAT: self._heartbeat,
            log_events.HEARTBEAT_V2: self._heartbeat,
            log_events.GTID: self._gtid,
            log_events.ANONYMOUS_GTID: self._gtid,
            log_events.GTID_TAGGED: self._gtid,
            log_events.MARIADB_GTID: self._gtid,
            log_events.QUERY: self._query,
            log_events.QUERY_COMPRESSED: self._query,
            log_events.EXECUTE_LOAD_QUERY: self._query,
            log_events.TABLE_MAP: self.map_rows,
            log_events.XID: self._commit,
            log_events.XA_PREPARE: self._xa_prepare,
            log_events.TRANSACTION_PAYLOAD: self._payload,
            log_events.INCIDENT: self._incident,
        }
        for kind in KINDS:
            handlers[kind] = self.take_rows
        for kind in PLAIN_OF_COMPRESSED:
            handlers[kind] = self.take_compressed
        return handlers

    @property
    def here(self) -> Place:
        """The end of the last event, which may be in the middle of a transaction."""
        return self._cursor.here

    @property
    def in_transaction(self) -> bool:
        return self._tx is not None

    @property
    def at_gate(self) -> bool:
        """Whether all before the gate has come, and nothing else."""
        if self.gate is None or self._tx is not None:
            return False
        return self.place.order >= self.gate.order

    @property
    def partials(self) -> list[Partial]:
        """The transactions of which some rows were consumed, for the position: those that have not
        begun again yet, since another server may have them in another order, and the one that the
        stream is in the middle of."""
        found = [*self._replayed.values()]
        taken = max(self._taken, self._skip)
        if self._tx is not None and (taken or self._marked):
            rows = self._base + len(self._ops)
            found.append(Partial(self._id, self._start, taken, rows, self._marked))
        return found

    @property
    def settled(self) -> bool:
        """Whether it stands between two transactions, and knows where."""
        return self._tx is None and not self._replayed and bool(self.place.file)

    def drain(self, deadline: float) -> None:
        """Take in what has arrived, until a batch is full, nothing more is there, or the deadline
        passes (`time.monotonic`). Does not wait while it holds events, but within a transaction for
        at most `LINGERS_MAX` * `LINGER_S`."""
        lingers = 0
        while True:
            taken = self._take_in()
            if self._bodies.size >= self._bytes_max or self.at_gate:
                return
            if taken:
                lingers = 0
            elif self._log.receive():
                self.heard_at = time.monotonic()
                continue
            elif self._tx is not None and self._ops and lingers < LINGERS_MAX:
                lingers += 1
                time.sleep(LINGER_S)
            else:
                return
            if time.monotonic() >= deadline:
                return

    def _take_in(self) -> bool:
        """Handle events that are there already; whether there were any."""
        taken = False
        if self._kept is not None:
            if self.at_gate:
                return False
            kept, self._kept = self._kept, None
            self._handle(kept)
            if self._waits:
                return True
            taken = True
        bodies, size_max = self._bodies, self._bytes_max
        while True:
            taken = taken or self._inner is not None
            if self._take_inner():
                return True
            for event in self._queue:
                taken = True
                self._handle(event)
                if bodies.size >= size_max or self._waits:
                    return True
                if self._inner is not None:
                    break
            else:
                found = self._log.events()
                if not found:
                    return taken
                self._cursor.foresee(found[-1])
                self._queue = iter(found)

    @property
    def _waits(self) -> bool:
        """Whether an event is kept for later."""
        return self._kept is not None

    def _take_inner(self) -> bool:
        """Handle events within one; whether the batch is full before they are over."""
        while self._inner is not None:
            for event in self._inner:
                self._handle(event)
                if self._bodies.size >= self._bytes_max or self._waits:
                    return True
            self._inner, self._following = self._following, None
            if self._inner is None:
                self._inner_over()
        return False

    def _handle(self, event: bytes) -> None:
        handler = self._handlers.get(event[TYPE_AT])
        try:
            if handler is not None:
                handler(event)
            elif self._inner is None:
                self._moved(event)
        except NotYetError:
            self._kept = event
        except DamagedError as damaged:
            raise error("stream_damaged", what=str(damaged)) from None

    def _moved(self, event: bytes) -> None:
        """The log was read to this event's end."""
        self._cursor.advance(event)
        self._stand()

    def _stand(self) -> None:
        if self._tx is None:
            self.place = self._cursor.here

    def _describe(self, event: bytes) -> None:
        self._moved(event)
        self._file_begins(event, self._cursor.here.file)

    def _rotate(self, event: bytes) -> None:
        self._cursor.rotate(event)
        self._stand()

    def _heartbeat(self, event: bytes) -> None:
        if self._tx is None and self._kept is None:
            self._cursor.heartbeat(event)
            self._stand()

    def _advance(self, event: bytes) -> None:
        # An event within another has no place of its own.
        if self._inner is None:
            self._cursor.advance(event)

    def _gtid(self, event: bytes) -> None:
        if self._tx is not None:
            raise error("stream_damaged", what="a transaction in another one")
        if self.at_gate:
            self._kept = event
            return
        self._advance(event)
        begun = self.consumed.begin(event)
        self._open(event, begun.id, begun.committed_at)
        self._grouped, self._muted = begun.grouped, begun.prepared
        self._undone = begun.undone

    def _open(self, event: bytes, name: str, committed_at: int | None) -> None:
        """A transaction begins with this event."""
        self._start = self._cursor.start_of(event)
        self._id = name or str(self._start)
        if committed_at is None:
            committed_at = int.from_bytes(event[:4], "little") * 1_000_000
        self._tx = Tx(self._id, str(self._start), committed_at)
        self.committed_at_us = committed_at
        self._base = -len(self._ops)
        self._taken = self._skip = 0
        self._marked = self._muted = False
        self._mute_rows = 0
        replayed = self._replayed.pop(self._id, None)
        if replayed is not None:
            self._skip, self._marked = replayed.taken, replayed.marked  # I3
            self._base += replayed.rows
        self._afresh()

    def _commit(self, event: bytes) -> None:
        """The transaction ends with this event."""
        if self._inner is not None:
            return
        self._advance(event)
        self._close()

    def _close(self) -> None:
        if self._marked:
            self._extra(Op.COMMIT, MARKER)
        if self._committing is not None:
            self._prepared.over(self._committing)
        self._tx = self._committing = None
        self._marked = self._muted = self._grouped = self._undone = self._replays = False
        self.consumed.end()
        self.place = self._cursor.here
        if self._runs and self._runs[-1].start == len(self._ops):
            self._runs.pop()

    def _payload(self, event: bytes) -> None:
        self._advance(event)
        self._within(inner_events(event))

    def _query(self, event: bytes) -> None:
        if event[TYPE_AT] == log_events.QUERY and begins_transaction(event):
            self._grouped = True
            if self._tx is None:
                self._advance(event)
                self._open(event, "", None)
            return
        found = query(event)
        self._advance(event)
        if self._tx is None:
            self._open(event, "", None)
        words = found.statement[:40].upper().split(None, 2)
        verb = words[0] if words else b""
        if verb in (b"SAVEPOINT", b"ROLLBACK"):
            if not self._savepoint(found.statement):
                self._commit(event)
        elif verb == b"COMMIT":
            self._commit(event)
        elif verb == b"XA":
            self._xa(found, event)
        elif verb != b"RELEASE":
            if not self._undone:
                self._statement(found)
            if not self._grouped:
                self._commit(event)

    def _statement(self, found: Statement) -> None:
        """A statement that may be about tables: their maps are asked for anew behind it."""
        told = self._changes.statement(found)
        self.routes.forget()
        self._taken += 1
        if self._taken <= self._skip:
            return
        for op, schema in told:
            self._mark_begin()
            if op is Op.SCHEMA:
                self._extra(op, schema)
            else:
                self._add(op, schema, b"")

    def _xa(self, found: Statement, event: bytes) -> None:
        """A statement of a transaction in two phases: its rows come when it commits."""
        statement = log_events.xa_statement(found.statement)
        if statement is None:
            raise error("stream_damaged", what="an XA statement of an unknown form")
        if statement.verb == "START":
            self._muted = self._grouped = True
        elif statement.verb == "COMMIT":
            self._committing = statement.xa
            start = self._prepared.start(statement.xa, self._cursor.here)
            if start is None:
                self._commit(event)
            else:
                self._replay(start)
        elif statement.verb == "ROLLBACK":
            self._prepared.over(statement.xa)
            self._commit(event)

    def _xa_prepare(self, event: bytes) -> None:
        found = log_events.xa_prepare(event)
        self._advance(event)
        if self._mute_rows and found.one_phase:
            self._replay(self._start)
            return
        if not found.one_phase:
            self._prepared.note(found.xa, self._start if self._mute_rows else None)
        self._close()

    def _replay(self, start: Place) -> None:
        """Take in the rows of a prepared transaction that commits now."""
        self._muted = False
        self._replays = True
        self.routes.forget()
        self._within(self._prepared.events(start))

    def _within(self, found: Iterator[bytes]) -> None:
        """What comes next are events within one: they end the transaction."""
        if self._inner is None:
            self._inner = found
        else:
            self._following = found

    def _inner_over(self) -> None:
        self.routes.forget()
        if self._tx is not None:
            self._close()

    def _incident(self, event: bytes) -> None:
        pipeline = self._context.pipeline
        raise error("log_incident", place=str(self._cursor.here), pipeline=pipeline)
