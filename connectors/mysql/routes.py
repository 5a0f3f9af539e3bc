"""Which decoder the rows of a table id go to, and who else wants to see them."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from typing import Final

from connectors.mysql.events import HEADER_SIZE
from connectors.mysql.position import Snapshots
from connectors.mysql.snapshot import Window
from connectors.mysql.tablemap import table_map
from connectors.mysql.tables import Route, Tables
from ensign_core.change import Op

ROUTE_AT: Final = HEADER_SIZE
ROUTE_END: Final = HEADER_SIZE + 6
"""Where a table's id stands in a table map and in a rows event."""

RECENT_S: Final = 2.0
"""A server without GTIDs does not tell which transactions of its log it shows already: those that
came so long before a snapshot are put into its rows as well. A server commits a transaction
milliseconds after it has logged it, unless it waits for a semi-synchronous replica."""

Recent = deque[tuple[float, Op, Route, bytes]]


class Routes:
    """``fast`` are the table ids whose rows need no look, ``all`` those that are known, with None
    for tables that are not captured. ``windows`` are those of chunks under way, by table.
    ``remembers``: what came of tables under a snapshot just now is kept for the next window."""

    def __init__(self, tables: Tables, snapshots: Snapshots, *, remembers: bool) -> None:
        self._tables = tables
        self._snapshots = snapshots
        self.remembers = remembers
        self._maps: dict[bytes, bytes] = {}
        self.all: dict[bytes, Route | None] = {}
        self.fast: dict[bytes, Route | None] = {}
        self.windows: dict[str, list[Window]] = {}
        self._recent: dict[str, Recent] = defaultdict(deque)
        self._since: dict[str, float] = {}

    def map(self, event: bytes, post_header_length: int, *, mariadb: bool) -> None:
        """A table map: what its rows, which follow, go to."""
        key, body = event[ROUTE_AT:ROUTE_END], event[HEADER_SIZE:]
        if self._maps.get(key) == body:
            return
        route = self._tables.route(table_map(event, post_header_length, mariadb))
        self._maps[key] = body
        self.all[key] = route
        self._sort(key, route)

    def _sort(self, key: bytes, route: Route | None) -> None:
        if route is None or not self._looked_at(route.name):
            self.fast[key] = route
        else:
            self.fast.pop(key, None)

    def _looked_at(self, name: str) -> bool:
        return name in self._snapshots.tables or name in self.windows or name in self._since

    def sort(self) -> None:
        """Called when snapshots begin or end, or a table is stopped: no row may pass by that."""
        stopped = self._snapshots.stopped
        for key, route in self.all.items():
            if route is not None and route.name in stopped:
                self.all[key] = None
            self._sort(key, self.all[key])

    def reconsider(self) -> None:
        """Tables of which no rows were taken may be known now: look at their next maps."""
        for key, route in self.all.items():
            if route is None:
                self._maps.pop(key, None)

    def forget(self) -> None:
        """Ids of tables mean something else from here on."""
        self._maps.clear()
        self.all.clear()
        self.fast.clear()

    def unknown_s(self, name: str) -> float:
        """How long it takes until everything is remembered of a table that its server may not show
        yet: what came before is not. Asking begins it."""
        if not self.remembers:
            return 0.0
        now = time.monotonic()
        if name not in self._since:
            asked = (each.name for each in self._snapshots.asked)
            for each in (name, *self._snapshots.tables, *asked):
                self._since.setdefault(each, now)
            self.sort()
        return max(0.0, self._since[name] + RECENT_S - now)

    def rest(self) -> None:
        """Nothing is read now: nothing needs to be remembered."""
        if self._since:
            self._since.clear()
            self._recent.clear()
            self.sort()

    def watch(self, name: str, window: Window) -> None:
        """A chunk of a table is under way: its window gets what comes of the table, and what is
        remembered of it."""
        for _, op, route, body in self._recent.get(name, ()):
            window.add(op, route.schema, body)
        self.windows.setdefault(name, []).append(window)
        # Rows that could not be read yet are to be seen from here on.
        self.reconsider()
        self.sort()

    def unwatch(self, name: str, window: Window) -> None:
        """The chunk is over."""
        left = [each for each in self.windows.get(name, ()) if each is not window]
        if left:
            self.windows[name] = left
        else:
            self.windows.pop(name, None)
        self.sort()

    def remember(self, route: Route, op: Op, body: bytes) -> None:
        """A row came of a table that is looked at."""
        if route.name not in self._since:
            return
        recent, now = self._recent[route.name], time.monotonic()
        recent.append((now, op, route, body))
        while recent[0][0] < now - RECENT_S:
            recent.popleft()
