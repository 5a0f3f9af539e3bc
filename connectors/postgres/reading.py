"""Reads the tables whose snapshot is under way, chunk after chunk, on several connections.

While the rows of one chunk are taken in, the server reads the next ones already. A chunk counts
only when its rows are returned; changes that the stream brings until then are suppressed as those
of unread keys, and the chunk is taken again if its snapshot does not see all of them. Where that
happens the stream is not read while chunks are under way, so that a table that is changed all the
time is read as well.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from connectors.postgres.chunks import (
    Chunk,
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
from connectors.postgres.session import Session
from connectors.postgres.snapshot import OWED_MAX, Key, TableSnapshot, Visible
from ensign_core.change import Stage

RETRY_S: Final = 0.05
"""The pause after which a chunk is tried again whose snapshot was too early."""

CAREFUL_CHUNKS: Final = 32
"""For how many chunks the stream waits after one had to be taken again."""

TURN_S: Final = 0.005
"""How long the reader waits for rows while the stream may have something too."""


class SnapshotReader:
    """Implements the chunks of `Snapshots.tables`. One per source, on its thread (I1)."""

    def __init__(
        self, query: Session, config: PostgresConfig, opener: Opener, lanes: Lanes
    ) -> None:
        self._query = query
        self._config = config
        self._opener = opener
        self._lanes = lanes
        self._under_way: deque[Chunk] = deque()
        self._rows: dict[int, int] = {}
        self._alone: set[int] = set()
        self._retry_at: dict[int, float] = {}
        self._careful = 0
        self._round_begun = False
        self._held = 0

    @property
    def busy(self) -> bool:
        """Whether chunks are under way."""
        return bool(self._under_way)

    @property
    def holding(self) -> bool:
        """Whether rows are held: nothing else may be returned before they are released."""
        return self._held > 0

    @property
    def exclusive(self) -> bool:
        """Whether the stream must not be read now."""
        if not self._under_way:
            return False
        head = self._under_way[0]
        return self._careful > 0 or head.whole or head.asked.point is not None

    def due(self, snapshots: Snapshots, now: float) -> bool:
        """Whether `step` has something to do."""
        return bool(self._under_way) or (
            not snapshots.paused and self._next(snapshots, now) is not None
        )

    def idle(self, snapshots: Snapshots) -> bool:
        """Whether there is nothing to read, now or later."""
        return not self._under_way and (
            snapshots.paused or not any(map(_pending, snapshots.tables.values()))
        )

    def wake_at(self, snapshots: Snapshots) -> float:
        """When `due` may be true next, by `time.monotonic`."""
        if self._under_way:
            return 0.0
        times = [self._retry_at.get(t.oid, 0.0) for t in snapshots.tables.values() if _pending(t)]
        return min(times, default=0.0)

    def step(self, snapshots: Snapshots, deadline: float) -> Piece | None:
        """Go on with the chunks under way and begin others; the rows of the first one when they
        are all there, or None. Updates the table's state in ``snapshots`` with them."""
        self._pay(snapshots)
        self._fill(snapshots)
        if not self._under_way:
            return None
        head = self._under_way[0]
        if not self.exclusive:
            deadline = min(deadline, time.monotonic() + TURN_S)
        if not head.receive(bytes_max(self._config, head), deadline):
            return None
        if head.copy.blocked:
            table = snapshots.tables.get(head.asked.oid)
            self._drop(head.asked.oid)
            self._later(table, RETRY_S * 10)
            return None
        return self._part_of_whole(head, snapshots) if head.whole else self._end(head, snapshots)

    def abandon(self) -> None:
        """Give up the chunks under way: their rows are read again later. Not while `holding`."""
        for oid in {chunk.asked.oid for chunk in self._under_way}:
            self._drop(oid)

    def _drop(self, oid: int) -> None:
        """Give up a table's chunks."""
        for chunk in [c for c in self._under_way if c.asked.oid == oid]:
            self._under_way.remove(chunk)
            chunk.end()
            self._lanes.give(chunk.lane)

    def _pay(self, snapshots: Snapshots) -> None:
        """Forget owed transactions that have become visible, where too many are remembered."""
        if all(len(t.owed) <= OWED_MAX for t in snapshots.tables.values()):
            return
        rows = self._query.rows("SELECT pg_current_snapshot()", doing="reading the snapshot")
        visible = Visible.parse(str(rows[0][0]))
        oldest = [chunk.as_of.visible for chunk in list(self._under_way)[:1]]
        for table in snapshots.tables.values():
            table.owed = {
                xid for xid in table.owed
                if not visible.sees(xid) or not all(view.sees(xid) for view in oldest)
            }  # fmt: skip

    def _fill(self, snapshots: Snapshots) -> None:
        """Begin chunks while there are connections for them. Where the stream waits, those of one
        round begin together."""
        if not self._under_way:
            self._round_begun = False
        if self._round_begun and self._careful:
            return
        while len(self._under_way) < self._lanes.count and not snapshots.paused:
            table = self._next(snapshots, time.monotonic())
            if table is None or not self._begin(table, snapshots):
                break
        self._round_begun = bool(self._under_way)

    def _next(self, snapshots: Snapshots, now: float) -> TableSnapshot | None:
        """The table to begin a chunk of: one after the other, but those that cannot be read now
        wait, and those that are read in one chunk are read alone."""
        tables = [t for t in snapshots.tables.values() if self._retry_at.get(t.oid, 0.0) <= now]
        if not self._under_way:
            pointed = (t for t in tables if t.pending_point() is not None)
            return next(pointed, None) or next((t for t in tables if not t.complete), None)
        head = self._under_way[0]
        if head.whole or head.asked.point is not None:
            return None
        last = {chunk.asked.oid: chunk for chunk in self._under_way}
        for table in tables:
            ended = table.oid in last and last[table.oid].upper is None
            if not (table.complete or ended or table.points or table.oid in self._alone):
                return table
        return None

    def _later(self, table: TableSnapshot | None, pause_s: float) -> None:
        if table is not None:
            self._retry_at[table.oid] = time.monotonic() + pause_s

    def _begin(self, table: TableSnapshot, snapshots: Snapshots) -> bool:
        """Lock, look, and start the COPY. False: not now."""
        lane = self._lanes.take()
        if lane is None:
            return False
        chunk = self._opened(lane, table, snapshots)
        if chunk is None:
            self._lanes.give(lane)
            return False
        self._under_way.append(chunk)
        return True

    def _opened(self, lane: Session, table: TableSnapshot, snapshots: Snapshots) -> Chunk | None:
        locked = self._opener.lock(lane, table.oid)
        if locked is None:
            del snapshots.tables[table.oid]
            snapshots.done.add(table.oid)
            return None
        if isinstance(locked, float):
            self._later(table, locked)
            return None
        as_of = self._opener.as_of(lane)
        key = self._opener.key(locked.table)
        alone = not key and bool(self._under_way)
        if alone or as_of is None or not table.ready(as_of.visible):
            rollback(lane)
            if alone:
                self._alone.add(table.oid)
            else:
                self._later(table, RETRY_S)
            return None
        if table.begun and key != table.key:
            self._drop(table.oid)
            table.void()
        table.begun, table.key = True, key
        return self._opener.open(lane, locked, as_of, key, self._range(table))

    def _range(self, table: TableSnapshot) -> Range:
        point = table.pending_point()
        if not table.key or point is not None:
            return Range(table.oid, point=point)
        rows = self._rows.get(table.oid, first_rows(self._config))
        return Range(table.oid, lower=self._planned(table), rows=rows)

    def _planned(self, table: TableSnapshot) -> Key | None:
        """Up to where the table will have been read by the chunks under way."""
        uppers = [chunk.upper for chunk in self._under_way if chunk.asked.oid == table.oid]
        return uppers[-1] if uppers else table.cursor

    def _end(self, chunk: Chunk, snapshots: Snapshots) -> Piece | None:
        """A chunk of a key range, or one row, is there."""
        asked = chunk.asked
        table = snapshots.tables.get(asked.oid)
        if table is None or not _counts(chunk, table):
            self._drop(asked.oid)
            self._careful = CAREFUL_CHUNKS
            return None
        self._careful = max(0, self._careful - 1)
        cut = not chunk.copy.finished
        if cut:
            chunk.cut()
        self._under_way.popleft()
        chunk.end()
        self._lanes.give(chunk.lane)
        lines, size = len(chunk.lines), chunk.size
        piece = chunk.piece()._replace(wipe=table.wipe and asked.point is None)
        if asked.point is not None:
            table.read_point(asked.point, chunk.as_of)
            return piece
        table.read(chunk.upper, chunk.as_of, lines)
        if cut:
            # Those behind it began where it was meant to end.
            self._drop(asked.oid)
        if lines:
            self._rows[asked.oid] = fitting_rows(self._config, lines, size)
        return piece

    def _part_of_whole(self, chunk: Chunk, snapshots: Snapshots) -> Piece | None:
        """Some rows of a table that is one chunk, or its last ones."""
        table = snapshots.tables.get(chunk.asked.oid)
        if not self._held and (table is None or not _counts(chunk, table)):
            self._drop(chunk.asked.oid)
            self._later(table, RETRY_S)
            return None
        assert table is not None
        rows = len(chunk.lines)
        piece = chunk.piece(self._held and self._held - 1)
        wipe = table.wipe and not self._held
        if not chunk.copy.finished:
            self._held = (self._held or 1) + rows
            table.rows += rows
            return piece._replace(wipe=wipe, stage=Stage.HOLD)
        self._under_way.popleft()
        chunk.end()
        self._lanes.give(chunk.lane)
        table.read(None, chunk.as_of, rows)
        stage = Stage.RELEASE if self._held else Stage.NONE
        self._held = 0
        return piece._replace(wipe=wipe, stage=stage)


def _pending(table: TableSnapshot) -> bool:
    return not table.complete or table.pending_point() is not None


def _counts(chunk: Chunk, table: TableSnapshot) -> bool:
    """Whether a chunk that was read may be returned: the table's state is as it was when the chunk
    began, and its snapshot sees all that was suppressed meanwhile."""
    asked = chunk.asked
    if not table.begun or table.key != chunk.key or not table.ready(chunk.as_of.visible):
        return False
    if asked.point is not None:
        return table.points.get(asked.point, chunk.as_of) is None
    return not table.complete and table.cursor == asked.lower
