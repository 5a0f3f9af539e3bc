"""What a source looks at from time to time while it streams: new tables, how far the server's log
is ahead, and an idle server that has to be made to speak. On the query connection."""

from __future__ import annotations

from typing import Final

from connectors.postgres import discovery
from connectors.postgres.config import PostgresConfig
from connectors.postgres.pgoutput import lsn_value
from connectors.postgres.position import Snapshots
from connectors.postgres.start import Started
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

LAG_S: Final = 2.0
"""How often the log's end is asked for while changes come."""

NUDGE_S: Final = 0.2
"""How long a source that waits for the log's end lets an idle server be silent: then it writes a
message of its own, since what is in the log but not flushed is not sent."""

MESSAGE_PREFIX: Final = "ensign"


class Watch:
    """One per source. The times are of `time.monotonic`."""

    def __init__(
        self, started: Started, config: PostgresConfig, context: Context, publication: str,
        now: float,
    ) -> None:  # fmt: skip
        self._query = started.query
        self._origin = started.origin
        self._snapshots: Snapshots = started.snapshots
        self._config = config
        self._context = context
        self._publication = publication
        self._discover_at = now + config.discover_s
        self._nudge_at = now + NUDGE_S
        self._lag_at = 0.0
        self._warnings: dict[str, EnsignError] = {}

    @property
    def discover_at(self) -> float:
        """When tables made since are looked for next."""
        return self._discover_at

    @property
    def nudge_at(self) -> float:
        """When an idle server may be made to speak next."""
        return self._nudge_at

    def warn(self, warning: EnsignError) -> None:
        """Show a warning to the operator; a later one with the same code takes its place."""
        self._warnings[warning.code] = warning
        self._context.progress(warnings=tuple(self._warnings.values()))

    def discover(self, now: float) -> bool:
        """Look for new tables when it is time; whether any were taken up."""
        if now < self._discover_at:
            return False
        self._discover_at = now + self._config.discover_s
        return discovery.discover(
            self._query, self._config, self._snapshots, self._publication,
            self._origin.publication,
        )  # fmt: skip

    def lag(self, now: float, lsn: int) -> None:
        """Tell how far the log's end is ahead of ``lsn`` when it is time."""
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_S
        rows = self._query.rows("SELECT pg_current_wal_lsn()", doing="reading the log's end")
        lag_bytes = max(0, lsn_value(str(rows[0][0])) - lsn)
        waiting = len(self._snapshots.tables)
        detail = f"{waiting} tables to snapshot" if waiting else ""
        self._context.progress(lag_bytes=lag_bytes, detail=detail)

    def nudge(self, now: float, *, wanted: bool) -> None:
        """Make an idle server speak, where that is ``wanted`` and it is time: a commit flushes the
        log up to itself, and a logical message is no change."""
        if now < self._nudge_at:
            return
        self._nudge_at = now + NUDGE_S
        if wanted:
            self._query.query(
                "SELECT pg_logical_emit_message(true, $1, '')", (MESSAGE_PREFIX,),
                doing="writing a heartbeat",
            )  # fmt: skip
