"""Where in the server's log the stream stands."""

from __future__ import annotations

from typing import Final

from connectors.mysql import events
from connectors.mysql.position import Place

WRAP: Final = 1 << 32
"""Events tell where they end in 32 bits, and a file may be longer."""


class Cursor:
    """``here`` is the end of the last event; what that says is for the stream to judge."""

    def __init__(self, place: Place) -> None:
        self._file, self._end = place

    @property
    def here(self) -> Place:
        return Place(self._file, self._end)

    def advance(self, event: bytes) -> None:
        """Pass an event. One that the server made for this stream has no place."""
        end = int.from_bytes(event[13:17], "little")
        if not end:
            return
        end |= self._end & -WRAP
        if self._end - end > WRAP >> 1:
            end += WRAP
        # Where a dump begins the server repeats events of the file's start.
        self._end = max(self._end, end)

    def start_of(self, event: bytes) -> Place:
        """Where an event starts that was passed just now."""
        return Place(self._file, self._end - int.from_bytes(event[9:13], "little"))

    def rotate(self, event: bytes) -> None:
        """The log goes on in another file, or the dump begins."""
        found = events.rotate(event)
        if found.file != self._file:
            self._file, self._end = found.file, 0
        self._end = max(self._end, found.offset)

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
