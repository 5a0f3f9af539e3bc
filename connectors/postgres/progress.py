"""How far the snapshots are, for `ensign status`. On the source's thread."""

from __future__ import annotations

from typing import Final

from connectors.postgres import catalog
from connectors.postgres.position import Snapshots
from connectors.postgres.session import Session
from ensign_core.plugin import Context, SnapshotProgress

TELL_S: Final = 0.5
"""How often it is told."""

ESTIMATE_S: Final = 30.0
"""How often the server is asked for its estimates again."""


class ProgressTeller:
    """One per source. Rows are counted in the position, so that they go on after a restart."""

    def __init__(self, query: Session, context: Context) -> None:
        self._query = query
        self._context = context
        self._tell_at = 0.0
        self._estimate_at = 0.0
        self._expected: dict[int, int | None] = {}
        self._told = False

    def tell(self, snapshots: Snapshots, now: float) -> None:
        """Tell when it is time, and once more when the last table is read."""
        pending = snapshots.tables.keys() | {asked.part or asked.oid for asked in snapshots.asked}
        if not pending:
            if self._told:
                self._told = False
                done = snapshots.tables_read
                self._context.progress(snapshot=SnapshotProgress(done, done, 0, None))
            return
        if now < self._tell_at:
            return
        self._tell_at = now + TELL_S
        if now >= self._estimate_at or not pending <= self._expected.keys():
            self._estimate_at = now + ESTIMATE_S
            self._expected = catalog.row_estimates(self._query, pending)
        self._told = True
        rows = sum(table.rows for table in snapshots.tables.values())
        rows += sum(asked.rows for asked in snapshots.asked)
        self._context.progress(
            snapshot=SnapshotProgress(
                snapshots.tables_read,
                snapshots.tables_read + len(snapshots.tables) + len(snapshots.asked),
                snapshots.rows_read + rows,
                self._total(snapshots),
            )
        )

    def _total(self, snapshots: Snapshots) -> int | None:
        """The rows that will have been read, as far as the server can tell."""
        read = {table.oid: table.rows for table in snapshots.tables.values()}
        total = snapshots.rows_read
        for asked in snapshots.asked:
            if asked.where is not None:
                return None
            read[asked.part or asked.oid] = asked.rows
        for oid, rows in read.items():
            expected = self._expected.get(oid)
            if expected is None:
                return None
            total += max(rows, expected)
        return total
