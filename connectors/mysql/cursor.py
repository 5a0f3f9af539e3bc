"""Where in the server's log the stream stands."""

from __future__ import annotations

from typing import Final

from connectors.mysql import events
from connectors.mysql.position import Place

WRAP: Final = 1 << 32
"""Events tell where they end in 32 bits, and a file may be longer."""


class Cursor:
    """``here`` is the end of the last event that was passed; what that says is for the stream to
    judge. Events may be passed over; `foresee` is told one of every few megabytes, so that no wrap
    is missed."""

    def __init__(self, place: Place) -> None:
        self._file, self._end = place
        self._near = place.offset

    @property
    def here(self) -> Place:
        return Place(self._file, self._end)

    def _end_of(self, event: bytes) -> int:
        """Where an event ends that is less than 2 GiB away from the last one seen."""
        ahead = (int.from_bytes(event[13:17], "little") - self._near) % WRAP
        return self._near + (ahead if ahead < WRAP >> 1 else ahead - WRAP)

    def foresee(self, event: bytes) -> None:
        """An event has come, and will be passed later."""
        if any(event[13:17]):
            self._near = self._end_of(event)

    def advance(self, event: bytes) -> None:
        """Pass an event. One that the server made for this stream has no place, and where a dump
        begins the server repeats events of the file's start."""
        if any(event[13:17]):
            self._end = max(self._end, self._end_of(event))

    def start_of(self, event: bytes) -> Place:
        """Where an event starts that was passed just now."""
        return Place(self._file, self._end - int.from_bytes(event[9:13], "little"))

    def rotate(self, event: bytes) -> None:
        """The log goes on in another file, or the dump begins."""
        found = events.rotate(event)
        if found.file != self._file:
            self._file, self._end = found.file, 0
        self._end = self._near = max(self._end, found.offset)

    def take(self, event: bytes) -> None:
        """Pass any event."""
        kind = event[events.TYPE_AT]
        if kind == events.ROTATE:
            self.rotate(event)
        elif kind in (events.HEARTBEAT, events.HEARTBEAT_V2):
            self.heartbeat(event)
        else:
            self.advance(event)

    def heartbeat(self, event: bytes) -> None:
        """An idle server says where its log ends."""
        self._file, self._end = events.heartbeat(event)
        self._near = self._end
