"""What a source looks at from time to time while it streams: how far the server's log is ahead, and
what an operator should know. On the source's thread."""

from __future__ import annotations

from typing import Final, Protocol

from connectors.mysql.errors import error
from connectors.mysql.position import Place
from connectors.mysql.retention import RETENTION_NAMES, retention_s, variables
from connectors.mysql.session import Row, Server, Session, status
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

LAG_S: Final = 2.0
"""How often the log's end is asked for."""

NEARLY: Final = 0.75
"""The part of the time for which a server keeps its log that may be over before it is told."""


class Standing(Protocol):
    """What is asked of a stream: see `connectors.mysql.stream.Stream`."""

    place: Place
    committed_at_us: int


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

    def clear(self, code: str = "") -> None:
        """All that was warned of, with ``code`` if it is given, is over."""
        left = {key: held for key, held in self._held.items() if code and key[0] != code}
        if len(left) < len(self._held):
            self._held = left
            self._tell()

    def _tell(self) -> None:
        self._context.progress(warnings=list(self._held.values()))


class Watch:
    """How many bytes of the log are still to come, and whether the server is about to delete the
    file that they are in. The times are of `time.monotonic`."""

    def __init__(
        self, session: Session, server: Server, context: Context, warnings: Warnings
    ) -> None:
        self._session = session
        self._server = server
        self._context = context
        self._warnings = warnings
        self._look_at = 0.0

    def look(self, stream: Standing, now: float) -> None:
        """Look when it is time."""
        place = stream.place
        if now < self._look_at or not place.file:
            return
        self._look_at = now + LAG_S
        end = status(self._session, self._server)
        if end is None:
            return
        if Place(end.file, end.offset).order < place.order:
            # The log began anew under us, and the dump waits in a file that is no more. What that
            # means is found out when the source is opened again.
            raise error("connection_lost")
        lag = end.offset - place.offset
        endangered = False
        if end.file != place.file:
            files = self._session.rows("SHOW BINARY LOGS", doing="listing the log")
            between = _between(files, place, Place(end.file, end.offset))
            if between is None:
                return
            lag = between
            endangered = str(files[0][0]) == place.file
        self._context.progress(lag_bytes=max(0, lag))
        if not (endangered and self._endangered(stream)):
            self._warnings.clear("mysql.log_endangered")

    def _endangered(self, stream: Standing) -> bool:
        """Whether most of the time is over for which the server keeps its oldest file, in which the
        stream stands; it counts from the file's last change."""
        kept_s = retention_s(variables(self._session, RETENTION_NAMES))
        at_us = stream.committed_at_us
        if kept_s is None or not at_us:
            return False
        age_s = float(self._session.rows("SELECT UNIX_TIMESTAMP()")[0][0]) - at_us / 1_000_000
        if age_s < kept_s * NEARLY:
            return False
        warning = error(
            "log_endangered", place=stream.place.file, hours=round(kept_s / 3600, 1),
            pipeline=self._context.pipeline,
        )  # fmt: skip
        self._warnings.warn(warning)
        return True


def _between(files: list[Row], place: Place, end: Place) -> int | None:
    """The bytes between two places in different files; None where the first is not there."""
    total = 0
    for name, size, *_ in files:
        here = Place(str(name), 0).order[0]
        if place.order[0] <= here < end.order[0]:
            total += int(size)
    return total - place.offset + end.offset if total else None
