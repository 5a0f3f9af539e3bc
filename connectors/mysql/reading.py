"""Reads the tables whose snapshot is under way, chunk after chunk.

A chunk counts only when its rows are returned, which is when the stream is at its gate. Before they
are, the next chunk begins, so that the server reads it while the rows of the last are stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from connectors.mysql.chunks import (
    LATER_S,
    RETRY_S,
    Chunk,
    Opener,
    Piece,
    first_rows,
    fitting_rows,
    unreadable,
)
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.position import Place, Snapshots
from connectors.mysql.snapshot import Key, NotToldError, Patches, TableSnapshot, key_of, places_of
from connectors.mysql.stream import Stream
from connectors.mysql.tables import Tables
from ensign_core.change import Stage
from ensign_core.errors import EnsignError

TURN_S: Final = 0.005
"""How long the reader waits for rows while the stream may have something too."""

REFUSALS_MAX: Final = 40
"""How often in a row a table may be changing just when it is read."""

WHOLE_FILL: Final = 0.5
"""How much of `batch_bytes_max` a part of a table has that is read in one chunk."""


class SnapshotReader:
    """Implements the chunks of `Snapshots.tables`. One per source, on its thread (I1)."""

    def __init__(self, config: MysqlConfig, tables: Tables, stream: Stream, opener: Opener) -> None:
        self._config = config
        self._tables = tables
        self._stream = stream
        self._opener = opener
        self._chunk: Chunk | None = None
        self._patches: Patches | None = None
        self._held = 0
        self._rows: dict[str, int] = {}
        self._retry_at = 0.0
        self._refusals = 0

    @property
    def busy(self) -> bool:
        """Whether a chunk is under way."""
        return self._chunk is not None

    @property
    def holding(self) -> bool:
        """Whether rows are held: nothing else may be returned before they are released."""
        return self._held > 0

    @property
    def gate(self) -> Place | None:
        """Where the stream must not pass until the chunk is returned."""
        return self._chunk.gate if self._chunk is not None else None

    def due(self, snapshots: Snapshots, now: float) -> bool:
        """Whether `step` has something to do."""
        if self._chunk is not None:
            return True
        return not snapshots.paused and bool(snapshots.tables) and now >= self._retry_at

    def wake_at(self) -> float:
        """When `due` may be true next, by `time.monotonic`."""
        return self._retry_at

    def abandon(self) -> None:
        """Give up the chunk under way: its rows are read again later. Not while `holding`."""
        if self._chunk is not None:
            self._opener.end(self._chunk)
        self._chunk = self._patches = None

    def step(self, snapshots: Snapshots, deadline: float) -> Piece | None:
        """Go on with the chunk under way or begin one; its rows when they are all there and the
        stream is at the gate, or None. Call it when all events of the stream were returned.
        Updates the table's state in ``snapshots``."""
        if self._chunk is None:
            self._begin(snapshots)
            return None
        chunk = self._chunk
        table = snapshots.tables.get(chunk.name)
        if not self._held and not self._counts(chunk, table):
            self._again(RETRY_S)
            return None
        assert table is not None
        try:
            return self._part(chunk, table, snapshots, deadline)
        except NotToldError:
            self._again(RETRY_S)
        except EnsignError as failed:
            self._refused(failed, chunk.name)
        return None

    def _counts(self, chunk: Chunk, table: TableSnapshot | None) -> bool:
        """Whether a chunk may be returned: the table's state is as it was when it began."""
        return (
            table is not None
            and table.begun
            and table.key == chunk.key
            and table.cursor == chunk.lower
            and self._opener.current(chunk)
        )

    def _again(self, pause_s: float) -> None:
        self.abandon()
        self._retry_at = time.monotonic() + pause_s

    def _refused(self, failed: EnsignError, name: str) -> None:
        """A table that is changed while it is read is read later; what else fails is raised."""
        if failed.code == "mysql.privilege_missing":
            raise error("select_privilege", user=self._config.user, table=name)
        self._refusals += 1
        if self._held or not unreadable(failed) or self._refusals > REFUSALS_MAX:
            raise failed
        self._again(LATER_S)

    def _begin(self, snapshots: Snapshots) -> None:
        """Begin the next chunk: one table after the other."""
        for table in snapshots.tables.values():
            if table.name in snapshots.stopped:
                continue
            if table.name not in self._tables.structures:
                # Gone, and nobody has told yet.
                self._retry_at = time.monotonic() + LATER_S
                return
            self._open(table)
            return
        self._retry_at = time.monotonic() + LATER_S

    def _open(self, table: TableSnapshot) -> None:
        key = self._opener.key(self._tables.structures[table.name])
        if table.begun and key != table.key:
            table.void()
        table.begun, table.key = True, key
        rows = self._rows.get(table.name, first_rows(self._config))
        try:
            found = self._opener.open(table.name, table.cursor, rows, None)
        except EnsignError as failed:
            self._refused(failed, table.name)
            return
        if isinstance(found, Chunk):
            self._chunk = found
        else:
            self._retry_at = time.monotonic() + found

    def _part(
        self, chunk: Chunk, table: TableSnapshot, snapshots: Snapshots, deadline: float
    ) -> Piece | None:
        at_gate = self._stream.at_gate
        if not at_gate:
            deadline = min(deadline, time.monotonic() + TURN_S)
        if chunk.whole:
            return self._part_of_whole(chunk, table, snapshots, deadline) if at_gate else None
        there = chunk.receive(self._config.batch_bytes_max, deadline)
        if not (there and at_gate):
            return None
        return self._range(chunk, table, snapshots)

    def _range(self, chunk: Chunk, table: TableSnapshot, snapshots: Snapshots) -> Piece:
        """A chunk of a key range is there."""
        upper, rows, size = chunk.upper(), len(chunk.bodies), chunk.bodies.size
        piece = Piece(chunk.schema, chunk.bodies, 0, chunk.gate, table.wipe)
        if len(chunk.window):
            patches = chunk.window.patches(chunk.schema)
            bodies = patches.applied(chunk.bodies.bodies())
            bodies += patches.added(self._range_of(chunk, upper))
            piece = piece._replace(bodies=bodies)
        self._opener.end(chunk)
        self._chunk = None
        self._refusals = 0
        if rows:
            self._rows[table.name] = fitting_rows(self._config, rows, size)
        table.rows += rows
        table.wipe = False
        if upper is None:
            snapshots.done(table.name)
            self._stream.routes.sort()
        else:
            table.cursor = upper
        if not snapshots.paused:
            self._begin(snapshots)
        return piece

    def _range_of(self, chunk: Chunk, upper: Key | None) -> Callable[[bytes], bool]:
        """What tells whether a row's key is in the chunk's range."""
        lower, found = chunk.lower, places_of(chunk.key, chunk.schema)
        assert found is not None
        places = found

        def within(row: bytes) -> bool:
            key = key_of(chunk.key, places, row)
            return (lower is None or key > lower) and (upper is None or key <= upper)

        return within

    def _part_of_whole(
        self, chunk: Chunk, table: TableSnapshot, snapshots: Snapshots, deadline: float
    ) -> Piece | None:
        """Some rows of a table that is one chunk, or its last ones. The stream stays at the gate
        until all are returned."""
        if not self._held and self._patches is None and len(chunk.window):
            self._patches = chunk.window.patches(chunk.schema)
        size_max = int(self._config.batch_bytes_max * WHOLE_FILL)
        if not chunk.receive(size_max, deadline):
            return None
        last = chunk.ended
        piece = Piece(chunk.schema, chunk.bodies, max(0, self._held - 1), chunk.gate)
        rows = len(chunk.bodies)
        if self._patches is not None:
            bodies = self._patches.applied(chunk.bodies.bodies())
            if last:
                bodies += self._patches.added(lambda _row: True)
            rows = len(bodies)
            chunk.bodies.take()
            piece = piece._replace(bodies=bodies)
        piece = piece._replace(wipe=table.wipe and not self._held)
        table.rows += rows
        if not last:
            self._held = (self._held or 1) + rows
            return piece._replace(stage=Stage.HOLD)
        stage = Stage.RELEASE if self._held else Stage.NONE
        self._held = 0
        table.wipe = False
        self.abandon()
        snapshots.done(table.name)
        self._stream.routes.sort()
        return piece._replace(stage=stage)
