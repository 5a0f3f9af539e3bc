"""Whether retention removed what was not read.

Kinesis says nothing of it: an iterator at a sequence number that has been removed begins at the
oldest record that is left. So a shard is resumed *at* the last record that was taken, not after it:
if that comes first, nothing between is missing. If it does not, it has been removed, and what
counts is the time until which everything had been read, which the position keeps for each shard and
moves on while the stream is quiet: retention removes what is older than its period and nothing
else, so as long as that time lies within the period, nothing unread was removed. Otherwise
something may have been, and that is a gap.
"""

from __future__ import annotations

from typing import Final

from connectors.kinesis.client import Service
from connectors.kinesis.position import Place

GRACE_MS: Final = 60_000
"""Allowed between Kinesis' clocks, and to a reader that begins at the oldest record that there is,
which is about to be removed."""


class Retention:
    """The stream's retention as it was when the source was opened. It is set in hours, and a source
    is opened anew when its worker is."""

    def __init__(self, service: Service, hours: int) -> None:
        self._service = service
        self.hours = hours

    def now_ms(self) -> int:
        """Kinesis' time."""
        return self._service.now_ms()

    def removed(self, place: Place, *, sought: bool) -> bool:
        """Whether something after ``place`` may have been removed. ``sought``: its last record was
        asked for and did not come."""
        oldest_ms = self.now_ms() - self.hours * 3_600_000
        through = place.through_ms
        late = through is not None and through < oldest_ms - GRACE_MS
        if not sought:
            return late
        # Where the rest of an aggregated record is gone, or a record that should be there, there is
        # no doubt: the period was shorter for a while.
        early = place.arrived_ms is not None and place.arrived_ms > oldest_ms + GRACE_MS
        return late or early or place.sub is not None
