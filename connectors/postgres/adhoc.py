"""Carries out ad hoc snapshots: tables that are streamed already are read again, one at a time.

Nothing of the stream is suppressed. A chunk's rows are put where the stream stands between what the
chunk's snapshot sees and what it does not: the stream stops at that *gate* until they are returned.
Where commits became visible in another order than they were logged in, a change that a row shows
already may come after it once more; folded by key, the result is the same.

To reconcile, the rows are compared with what the topic holds at the gate: only those that differ
are returned, and in the end a delete for each row that the table has no more. The comparison is
not kept: one that is interrupted starts over, and finds what it mended equal.
"""

from __future__ import annotations

import time
from array import array
from itertools import accumulate, pairwise
from typing import Final

from connectors.postgres import catalog, wal
from connectors.postgres.chunks import (
    Chunk,
    Locked,
    Opener,
    Piece,
    Range,
    bytes_max,
    first_rows,
    fitting_rows,
    rollback,
)
from connectors.postgres.config import PostgresConfig
from connectors.postgres.lanes import Lanes
from connectors.postgres.position import Snapshots
from connectors.postgres.reading import RETRY_S, TURN_S
from connectors.postgres.session import Session
from connectors.postgres.snapshot import Asked, AsOf, Key
from ensign_core.change import Op, Schema
from ensign_core.errors import EnsignError
from ensign_core.plugin import Comparison, Context

DELETES_MAX: Final = 10_000
"""Deletes returned at a time."""

COMPARE_S_MAX: Final = 0.05
"""How long the topic is read before the stream has its turn."""


class AdhocReader:
    """Implements `Snapshots.asked`. One per source, on its thread (I1)."""

    def __init__(
        self, query: Session, config: PostgresConfig, opener: Opener, lanes: Lanes, context: Context
    ) -> None:
        self._query = query
        self._config = config
        self._opener = opener
        self._lanes = lanes
        self._context = context
        self._asked: Asked | None = None
        self._chunk: Chunk | None = None
        self._beginning: Session | None = None
        self._ordinal = 0
        self._cursor: Key | None = None
        self._rows = first_rows(config)
        self._comparison: Comparison | None = None
        self._compared: Schema | None = None
        self._read = False
        self._retry_at = 0.0
        self.failed: EnsignError | None = None
        self.reached = False

    @property
    def busy(self) -> bool:
        return self._chunk is not None or self._comparison is not None

    @property
    def gate(self) -> AsOf | None:
        """The moment that the stream must not pass before `step` is called with ``reached``."""
        return self._chunk.as_of if self._chunk is not None else None

    def due(self, snapshots: Snapshots, now: float) -> bool:
        """Whether `step` has something to do."""
        if snapshots.paused or now < self._retry_at:
            return False
        return any(map(snapshots.done.__contains__, (a.oid for a in snapshots.asked[:1])))

    def wake_at(self) -> float:
        """When `due` may be true next, by `time.monotonic`."""
        return self._retry_at

    def heed(self, snapshots: Snapshots) -> None:
        """Give up what is under way and nobody asks for any more: it was stopped, or its table left
        (its gate would hold the stream up for ever)."""
        if self._asked is not None and not any(a is self._asked for a in snapshots.asked):
            self.abandon()

    def abandon(self) -> None:
        """Give up what is under way; what is still asked is read again, from its cursor."""
        if self._chunk is not None:
            self._chunk.end()
            self._lanes.give(self._chunk.lane)
            self._chunk = None
        if self._comparison is not None:
            self._comparison.close()
        self._asked = self._comparison = self._compared = None

    def step(self, snapshots: Snapshots, seen: set[int], deadline: float) -> Piece | None:
        """Go on with what is asked first: rows, or None when there are none now. ``seen`` are the
        transactions that the stream has begun to bring, as far as it is not known that every
        snapshot sees them. Call it when all events of the stream were returned."""
        asked = snapshots.asked[0]
        if asked is not self._asked:
            self.abandon()
            self._asked, self._cursor, self._read = asked, asked.cursor, False
            self._rows = first_rows(self._config)
        try:
            return self._go_on(asked, snapshots, seen, deadline)
        except EnsignError as failed:
            if snapshots.gap or not self._usable():
                raise
            # The rest of the pipeline is not to suffer from what an operator asked for; a gap that
            # is not closed is another matter.
            self.failed = failed
            self._over(asked, snapshots)
            return None

    def _usable(self) -> bool:
        """After an error: whether the connection goes on, so that only what was asked failed."""
        lane = self._chunk.lane if self._chunk is not None else self._beginning
        self._chunk = self._beginning = None
        if lane is None:
            return False
        try:
            rollback(lane)
        except EnsignError:
            return False
        self._lanes.give(lane)
        return True

    def _go_on(
        self, asked: Asked, snapshots: Snapshots, seen: set[int], deadline: float
    ) -> Piece | None:
        if asked.reconcile and not self._comparing(asked, snapshots):
            return None
        if self._read:
            return self._deletes(asked, snapshots)
        if self._chunk is None:
            self._begin(asked, snapshots, seen)
            return None
        return self._rows_of(self._chunk, asked, snapshots, deadline)

    def _comparing(self, asked: Asked, snapshots: Snapshots) -> bool:
        """Whether the comparison has taken in all of the topic. A table without a key cannot be
        compared: it is read anew behind a truncate."""
        if self._comparison is None:
            found = catalog.describe(self._query, asked.oid)
            if found is None:
                self._over(asked, snapshots)
                return False
            schema = self._opener.schema(found)
            if not schema.key:
                self._over(asked, snapshots)
                snapshots.leave(asked.oid)
                name = f"{found.schema}.{found.name}"
                snapshots.take_up(asked.oid, name, wal.running_xmax(self._query))
                snapshots.tables[asked.oid].wipe = True
                return False
            self._comparison, self._compared = self._context.comparison(schema), schema
        return self._comparison.advance(COMPARE_S_MAX)

    def _begin(self, asked: Asked, snapshots: Snapshots, seen: set[int]) -> None:
        lane = self._beginning = self._lanes.take()
        assert lane is not None
        self._open(lane, asked, snapshots, seen)
        self._beginning = None

    def _open(self, lane: Session, asked: Asked, snapshots: Snapshots, seen: set[int]) -> None:
        locked = self._opener.lock(lane, asked.oid, asked.part)
        if not isinstance(locked, Locked):
            self._lanes.give(lane)
            if locked is None:
                self._over(asked, snapshots)
            else:
                self._retry_at = time.monotonic() + locked
            return
        as_of = self._opener.as_of(lane, flushed=True)
        if as_of is None or not all(map(as_of.visible.sees, seen)):
            rollback(lane)
            self._lanes.give(lane)
            self._retry_at = time.monotonic() + RETRY_S
            return
        key = self._opener.key(locked.table)
        if self._cursor is not None and key != asked.key:
            # Where the reader stands says nothing in the order of another key.
            rollback(lane)
            self._lanes.give(lane)
            asked.cursor = None
            self.abandon()
            return
        seen.clear()
        asked.key = key
        self._ordinal = 0
        self._chunk = self._opener.open(
            lane, locked, as_of, key,
            Range(
                asked.oid, lower=self._cursor if key else None, rows=self._rows if key else 0,
                part=asked.part, where=asked.where,
            ),
        )  # fmt: skip

    def _rows_of(
        self, chunk: Chunk, asked: Asked, snapshots: Snapshots, deadline: float
    ) -> Piece | None:
        """Rows of the chunk under way, once they are there and the stream is at the gate."""
        if chunk.whole and not self.reached:
            return None
        if not self.reached:
            deadline = min(deadline, time.monotonic() + TURN_S)
        if not chunk.receive(bytes_max(self._config, chunk), deadline) or not self.reached:
            return None
        if chunk.copy.blocked:
            self._end_chunk(chunk)
            self._retry_at = time.monotonic() + RETRY_S
            return None
        rows, size = len(chunk.lines), chunk.size
        ended = chunk.copy.finished
        if not ended and not chunk.whole:
            chunk.cut()
            ended = True
        piece = chunk.piece(self._ordinal)
        self._ordinal += rows
        asked.rows += rows
        if ended:
            self._end_chunk(chunk)
            self._cursor = chunk.upper
            if rows:
                self._rows = fitting_rows(self._config, rows, size)
            if not asked.reconcile:
                asked.cursor = chunk.upper
            if chunk.upper is None:
                self._read = True
                if not asked.reconcile:
                    self._over(asked, snapshots)
        return self._differing(piece) if asked.reconcile else piece

    def _end_chunk(self, chunk: Chunk) -> None:
        chunk.end()
        self._lanes.give(chunk.lane)
        self._chunk = None

    def _differing(self, piece: Piece) -> Piece | None:
        assert self._comparison is not None
        cuts = pairwise([0, *piece.ends])
        bodies = [piece.body[start:end] for start, end in cuts]
        return _piece(piece, self._comparison.differing(piece.schema, bodies), piece.lsn)

    def _deletes(self, asked: Asked, snapshots: Snapshots) -> Piece | None:
        """Deletes of rows that only the topic has; when there are no more, the next is due."""
        assert self._comparison is not None
        assert self._compared is not None
        absent = self._comparison.absent(DELETES_MAX)
        if not absent:
            self._over(asked, snapshots)
            return None
        empty = Piece(asked.oid, self._compared, b"", array("I"), 0, 0, op=Op.DELETE)
        return _piece(empty, absent, 0)

    def _over(self, asked: Asked, snapshots: Snapshots) -> None:
        """Nothing is left to do of what was asked."""
        snapshots.asked.remove(asked)
        snapshots.gap = snapshots.gap and bool(snapshots.asked)
        snapshots.over(asked.rows)
        self.abandon()


def _piece(piece: Piece, bodies: list[bytes], lsn: int) -> Piece | None:
    if not (bodies or piece.damaged):
        return None
    ends = array("I", accumulate(map(len, bodies)))
    return piece._replace(body=b"".join(bodies), ends=ends, lsn=lsn)
