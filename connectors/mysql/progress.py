"""How far the snapshots are, for `ensign status`. On the source's thread."""

from __future__ import annotations

from typing import Final

from connectors.mysql.catalog import Catalog
from connectors.mysql.config import MysqlConfig
from connectors.mysql.position import Snapshots
from ensign_core.plugin import Context, SnapshotProgress

TELL_S: Final = 0.5
"""How often it is told."""

ESTIMATE_S: Final = 30.0
"""How often the server is asked for its estimates again."""


class ProgressTeller:
    """One per source. Rows are counted in the position, so that they go on after a restart."""

    def __init__(self, catalog: Catalog, config: MysqlConfig, context: Context) -> None:
        self._catalog = catalog
        self._config = config
        self._context = context
        self._tell_at = 0.0
        self._estimate_at = 0.0
        self._expected: dict[str, int | None] = {}
        self._told = False
        self._paused = False

    def tell(self, snapshots: Snapshots, now: float) -> None:
        """Tell when it is time, and once more when the last table is read."""
        if snapshots.paused != self._paused:
            self._paused = snapshots.paused
            self._context.progress(detail="snapshots are paused" if self._paused else "")
        pending = snapshots.tables.keys() | {asked.name for asked in snapshots.asked}
        if not pending:
            if self._told:
                self._told = False
                done = snapshots.tables_read
                self._context.progress(snapshot=SnapshotProgress(done, done, 0, None))
            return
        if now < self._tell_at:
            return
        self._tell_at = now + TELL_S
        if now >= self._estimate_at:
            self._estimate_at = now + ESTIMATE_S
            found = self._catalog.tables(self._config)
            self._expected = {name: listed.rows for name, listed in found.items()}
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
        read = {table.name: table.rows for table in snapshots.tables.values()}
        total = snapshots.rows_read
        for asked in snapshots.asked:
            if asked.where is not None:
                return None
            read[asked.name] = asked.rows
        for name, rows in read.items():
            expected = self._expected.get(name)
            if expected is None:
                return None
            total += max(rows, expected)
        return total
