"""What a source looks at from time to time while it streams: how far the server's log is ahead, and
what an operator should know. On the source's thread."""

from __future__ import annotations

from typing import Final

from connectors.mysql.position import Place
from connectors.mysql.session import Server, Session, status
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

LAG_S: Final = 2.0
"""How often the log's end is asked for."""


class Warnings:
    """What an operator should know now, by code and sentence, from wherever in the source. Told
    when it changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[tuple[str, str], EnsignError] = {}

    def warn(self, warning: EnsignError) -> None:
        """It holds, until `clear`."""
        if self._held.setdefault((warning.code, warning.sentence), warning) is warning:
            self._tell()

    def clear(self) -> None:
        """All that was warned of is over."""
        if self._held:
            self._held.clear()
            self._tell()

    def _tell(self) -> None:
        self._context.progress(warnings=list(self._held.values()))


class LagTeller:
    """How many bytes of the log are still to come. The times are of `time.monotonic`."""

    def __init__(self, session: Session, server: Server, context: Context) -> None:
        self._session = session
        self._server = server
        self._context = context
        self._tell_at = 0.0

    def tell(self, place: Place, now: float) -> None:
        """Tell when it is time."""
        if now < self._tell_at or not place.file:
            return
        self._tell_at = now + LAG_S
        end = status(self._session, self._server)
        if end is None:
            return
        lag = end.offset - place.offset
        if end.file != place.file:
            between = self._between(place, Place(end.file, end.offset))
            if between is None:
                return
            lag = between
        self._context.progress(lag_bytes=max(0, lag))

    def _between(self, place: Place, end: Place) -> int | None:
        """The bytes between two places in different files."""
        total = 0
        for name, size, *_ in self._session.rows("SHOW BINARY LOGS", doing="listing the log"):
            here = Place(str(name), 0).order[0]
            if place.order[0] <= here < end.order[0]:
                total += int(size)
        return total - place.offset + end.offset if total else None
