"""What a source looks at from time to time while it streams: new tables, the server's log and what
the slot keeps of it, and an idle server that has to be made to speak. On the query connection."""

from __future__ import annotations

from typing import Final, Protocol

from connectors.postgres import discovery, slot
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.position import Partial, Snapshots
from connectors.postgres.retention import Judge, Progress, Retention
from connectors.postgres.snapshot import Asked
from connectors.postgres.start import Started
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

LAG_S: Final = 2.0
"""How often the log's end is asked for while changes come."""

NUDGE_S: Final = 0.2
"""How long a source that waits for the log's end lets an idle server be silent: then it writes a
message of its own, since what is in the log but not flushed is not sent."""

UNPUBLISHED: Final = ("postgres.publication_needed", "postgres.privilege_missing")
"""What stands in the way of a new table, and of no other."""

MESSAGE_PREFIX: Final = "ensign"


class Standing(Protocol):
    """What is asked of a stream: see `connectors.postgres.stream.Stream`."""

    lsn: int

    @property
    def partial(self) -> Partial | None: ...

    @property
    def in_transaction(self) -> bool: ...


class Warnings:
    """What an operator should know now, by code, from wherever in the source. Told when it
    changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[str, EnsignError] = {}

    def warn(self, warning: EnsignError) -> None:
        """It holds, until `clear`; another one of its code is replaced."""
        held = self._held.get(warning.code)
        if held is None or held.args != warning.args:
            self._held[warning.code] = warning
            self._tell()

    def clear(self, code: str) -> None:
        """What was warned of with ``code`` is over, if it ever was."""
        if self._held.pop(code, None) is not None:
            self._tell()

    def _tell(self) -> None:
        self._context.progress(warnings=list(self._held.values()))


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
        self._judge = Judge(started.origin.slot, config.wal_warn_bytes)
        self._judged: set[str] = set()
        self.warnings = Warnings(context)
        context.progress(warnings=())
        self._look_for_attached()

    @property
    def discover_at(self) -> float:
        """When tables made since are looked for next."""
        return self._discover_at

    @property
    def nudge_at(self) -> float:
        """When an idle server may be made to speak next."""
        return self._nudge_at

    def warn(self, warning: EnsignError) -> None:
        """See `Warnings.warn`."""
        self.warnings.warn(warning)

    def clear(self, code: str) -> None:
        """See `Warnings.clear`."""
        self.warnings.clear(code)

    def discover(self, now: float) -> bool:
        """Look for new tables when it is time; whether any were taken up."""
        if now < self._discover_at:
            return False
        self._discover_at = now + self._config.discover_s
        try:
            found = discovery.discover(
                self._query, self._config, self._snapshots, self._publication,
                self._origin.publication,
            )  # fmt: skip
        except EnsignError as failed:
            # New tables that an administrator has to publish: the others go on.
            if failed.code not in UNPUBLISHED:
                raise
            self.warn(failed)
            return False
        for code in UNPUBLISHED:
            self.clear(code)
        self._look_for_attached()
        return found

    def _look_for_attached(self) -> None:
        """Rows of partitions that were attached are read into the topics of their tables."""
        found = discovery.attached(self._query, self._snapshots, self._config)
        self._snapshots.asked += [Asked(root, part=leaf) for root, leaf in found]

    def lag(self, now: float, stream: Standing) -> None:
        """When it is time, tell how far the log's end is ahead of the stream, what the slot keeps,
        and what an operator should do about it."""
        if now < self._lag_at:
            return
        self._lag_at = now + LAG_S
        found = self._retention()
        self._context.progress(
            lag_bytes=max(0, found.end - stream.lsn), kept_bytes=found.kept_bytes,
            detail=self._detail(),
        )  # fmt: skip
        partial = stream.partial
        at = Progress(stream.lsn, partial.rows if partial else 0, stream.in_transaction)
        warnings = self._judge.judge(now, found, at)
        for warning in warnings:
            self.warn(warning)
        held = {warning.code for warning in warnings}
        for code in self._judged - held:
            self.clear(code)
        self._judged = held

    def _detail(self) -> str:
        """What is to be read yet, in a few words."""
        waiting = len(self._snapshots.tables)
        words = [f"{waiting} tables to snapshot"] if waiting else []
        if self._snapshots.paused:
            words.append("snapshots are paused")
        return ", ".join(words)

    def _retention(self) -> Retention:
        standby, found = slot.retention(self._query, self._origin.slot)
        if self._origin.standby and not standby:
            raise error("promotion.restarting")
        return found

    def nudge(self, now: float, *, wanted: bool) -> None:
        """Make an idle server speak, where that is ``wanted``, allowed and it is time: a commit
        flushes the log up to itself, and a logical message is no change."""
        if now < self._nudge_at:
            return
        self._nudge_at = now + NUDGE_S
        if wanted and not self._query.read_only:
            self._query.query(
                "SELECT pg_logical_emit_message(true, $1, '')", (MESSAGE_PREFIX,),
                doing="writing a heartbeat",
            )  # fmt: skip
