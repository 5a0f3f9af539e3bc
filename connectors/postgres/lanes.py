"""The connections that read chunks: opened when there is something to read, closed when there is
not. On the source's thread (I1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from connectors.postgres.session import Session
from ensign_core.errors import EnsignError

NO_ROOM: Final = frozenset({"postgres.too_many_connections"})
"""Refusals of a further connection that the first ones can do without."""


class Lanes:
    """At most ``count`` connections made by ``connect``."""

    def __init__(self, connect: Callable[[], Session], count: int) -> None:
        self._connect = connect
        self._free: list[Session] = []
        self._all: list[Session] = []
        self.count = count

    def take(self) -> Session | None:
        """A connection that reads nothing, None if all do, or the server has no room for more."""
        if self._free:
            return self._free.pop()
        if len(self._all) >= self.count:
            return None
        try:
            lane = self._connect()
        except EnsignError as refused:
            if not self._all or refused.code not in NO_ROOM:
                raise
            self.count = len(self._all)
            return None
        self._all.append(lane)
        return lane

    def give(self, lane: Session) -> None:
        """The connection reads nothing any more."""
        self._free.append(lane)

    def rest(self) -> None:
        """Close those that read nothing: there is nothing to read for now."""
        for lane in self._free:
            self._all.remove(lane)
            lane.close()
        self._free.clear()

    def close(self) -> None:
        """Close all, whatever they read."""
        for lane in self._all:
            lane.close()
        self._all.clear()
        self._free.clear()
