"""Carries out ad hoc snapshots: tables that are streamed already are read again, one at a time.

Nothing of the stream is suppressed. A chunk's rows are put where the stream is at the chunk's gate,
without those that it has brought a change of since the chunk began: these are newer already.

To reconcile, the rows are compared with what the topic holds at the gate: only those that differ
are returned, and in the end a delete for each row that the table has no more. The comparison is
not kept: one that is interrupted starts over, and finds what it mended equal.
"""

from __future__ import annotations

import time
from typing import Final

from connectors.mysql.chunks import (
    LATER_S,
    RETRY_S,
    Chunk,
    Opener,
    Piece,
    first_rows,
    fitting_rows,
)
from connectors.mysql.config import MysqlConfig
from connectors.mysql.position import Place, Snapshots
from connectors.mysql.reading import TURN_S, WHOLE_FILL
from connectors.mysql.snapshot import Asked, Key, NotToldError
from connectors.mysql.stream import Stream
from connectors.mysql.tables import Tables
from ensign_core.change import Op, Schema
from ensign_core.errors import EnsignError
from ensign_core.plugin import Comparison, Context

DELETES_MAX: Final = 10_000
"""Deletes returned at a time."""

COMPARE_S_MAX: Final = 0.05
"""How long the topic is read before the stream has its turn."""

ONLY_THIS: Final = frozenset(
    ("mysql.refused", "mysql.privilege_missing", "mysql.lock_privilege", "mysql.timeout")
)
"""Failures of what an operator asked for that say nothing of the rest of the pipeline."""


class AdhocReader:
    """Implements `Snapshots.asked`. One per source, on its thread (I1)."""

    def __init__(
        self, config: MysqlConfig, tables: Tables, stream: Stream, opener: Opener, context: Context
    ) -> None:
        self._config = config
        self._tables = tables
        self._stream = stream
        self._opener = opener
        self._context = context
        self._asked: Asked | None = None
        self._chunk: Chunk | None = None
        self._ordinal = 0
        self._cursor: Key | None = None
        self._rows = first_rows(config)
        self._comparison: Comparison | None = None
        self._compared: Schema | None = None
        self._read = False
        self._retry_at = 0.0
        self.failed: EnsignError | None = None

    @property
    def busy(self) -> bool:
        return self._chunk is not None or self._comparison is not None

    @property
    def gate(self) -> Place | None:
        """Where the stream must not pass until the chunk is returned."""
        return self._chunk.gate if self._chunk is not None else None

    def due(self, snapshots: Snapshots, now: float) -> bool:
        """Whether `step` has something to do."""
        if snapshots.paused or now < self._retry_at or not snapshots.asked:
            return False
        # One whose own snapshot is under way is read by that first.
        name = snapshots.asked[0].name
        return name not in snapshots.tables and name not in snapshots.stopped

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
        self._drop()
        if self._comparison is not None:
            self._comparison.close()
        self._asked = self._comparison = self._compared = None

    def _drop(self) -> None:
        if self._chunk is not None:
            self._opener.end(self._chunk)
            self._chunk = None

    def step(self, snapshots: Snapshots, deadline: float) -> Piece | None:
        """Go on with what is asked first: rows, or None when there are none now. Call it when all
        events of the stream were returned."""
        asked = snapshots.asked[0]
        if asked is not self._asked:
            self.abandon()
            self._asked, self._cursor, self._read = asked, asked.cursor, False
            self._rows = first_rows(self._config)
        try:
            return self._go_on(asked, snapshots, deadline)
        except NotToldError:
            self._drop()
            self._retry_at = time.monotonic() + RETRY_S
        except EnsignError as failed:
            if snapshots.gap or failed.code not in ONLY_THIS:
                raise
            # The rest of the pipeline is not to suffer from what an operator asked for; a gap that
            # is not closed is another matter.
            self.failed = failed
            self._over(asked, snapshots)
        return None

    def _go_on(self, asked: Asked, snapshots: Snapshots, deadline: float) -> Piece | None:
        if asked.name not in self._tables.structures:
            self._over(asked, snapshots)
            return None
        if asked.reconcile and not self._comparing(asked, snapshots):
            return None
        if self._read:
            return self._deletes(asked, snapshots)
        if self._chunk is None:
            self._begin(asked)
            return None
        return self._rows_of(self._chunk, asked, snapshots, deadline)

    def _comparing(self, asked: Asked, snapshots: Snapshots) -> bool:
        """Whether the comparison has taken in all of the topic. A table without a key cannot be
        compared: it is read anew behind a truncate."""
        if self._comparison is None:
            schema = self._tables.schema(asked.name)
            if not schema.key:
                self._over(asked, snapshots)
                snapshots.take_up(asked.name, wipe=True)
                self._stream.routes.sort()
                return False
            self._comparison, self._compared = self._context.comparison(schema), schema
        return self._comparison.advance(COMPARE_S_MAX)

    def _begin(self, asked: Asked) -> None:
        key = self._opener.key(self._tables.structures[asked.name])
        if self._cursor is not None and key != asked.key:
            # Where the reader stands says nothing in the order of another key.
            self._cursor = asked.cursor = None
        asked.key = key
        found = self._opener.open(asked.name, self._cursor, self._rows, asked.where)
        if isinstance(found, Chunk):
            self._chunk = found
            self._ordinal = 0
        else:
            self._retry_at = time.monotonic() + found

    def _rows_of(
        self, chunk: Chunk, asked: Asked, snapshots: Snapshots, deadline: float
    ) -> Piece | None:
        """Rows of the chunk under way, once they are there and the stream is at the gate."""
        if not self._opener.current(chunk):
            self._drop()
            self._retry_at = time.monotonic() + LATER_S
            if asked.reconcile and self._compared != self._tables.schema(asked.name):
                self.abandon()
            return None
        at_gate = self._stream.at_gate
        if chunk.whole and not at_gate:
            return None
        if not at_gate:
            deadline = min(deadline, time.monotonic() + TURN_S)
        fill = WHOLE_FILL if chunk.whole else 1
        if not chunk.receive(int(self._config.batch_bytes_max * fill), deadline) or not at_gate:
            return None
        return self._returned(chunk, asked, snapshots)

    def _returned(self, chunk: Chunk, asked: Asked, snapshots: Snapshots) -> Piece | None:
        rows, size = len(chunk.bodies), chunk.bodies.size
        upper = chunk.upper() if chunk.key else None
        bodies = chunk.bodies.bodies()
        if len(chunk.window):
            bodies = chunk.window.patches(chunk.schema).untouched(bodies)
        if asked.reconcile:
            assert self._comparison is not None
            bodies = self._comparison.differing(chunk.schema, bodies)
        piece = Piece(chunk.schema, bodies, self._ordinal, chunk.gate)
        self._ordinal += rows
        asked.rows += rows
        chunk.bodies.take()
        if chunk.ended or not chunk.whole:
            self._drop()
            self._cursor = upper
            if rows:
                self._rows = fitting_rows(self._config, rows, size)
            if not asked.reconcile:
                asked.cursor = upper
            if upper is None:
                self._read = True
                if not asked.reconcile:
                    self._over(asked, snapshots)
        return piece if bodies else None

    def _deletes(self, asked: Asked, snapshots: Snapshots) -> Piece | None:
        """Deletes of rows that only the topic has; when there are no more, the next is due."""
        assert self._comparison is not None
        assert self._compared is not None
        absent = self._comparison.absent(DELETES_MAX)
        if not absent:
            self._over(asked, snapshots)
            return None
        return Piece(self._compared, absent, 0, self._stream.place, op=Op.DELETE)

    def _over(self, asked: Asked, snapshots: Snapshots) -> None:
        """Nothing is left to do of what was asked."""
        snapshots.asked.remove(asked)
        snapshots.gap = snapshots.gap and bool(snapshots.asked)
        snapshots.over(asked.rows)
        self.abandon()
