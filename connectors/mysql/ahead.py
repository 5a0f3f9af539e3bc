"""Whether the catalog's structure of a table, which is that of now, is the one where the stream
stands: it is where no statement between there and the log's end is about that table.

The log from where the stream stands to its end is read on a connection of its own, for statements
only and not twice, and only where a statement was not understood or the catalog differs from what
it says. On the source's thread (I1); no call waits for long (I2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from connectors.mysql import ddl, events
from connectors.mysql.catalog import Catalog
from connectors.mysql.cursor import Cursor
from connectors.mysql.events import TYPE_AT
from connectors.mysql.log import Log
from connectors.mysql.payload import inner_events
from connectors.mysql.position import Place
from connectors.mysql.session import Server, Session, quoted, status
from connectors.mysql.statements import Statement, begins_transaction, query
from connectors.mysql.structures import Structure
from connectors.mysql.transactions import Consumed

SCAN_S: Final = 0.05
"""How long the log is read at a time."""

IN_THE_WAY: Final = (1030, 1142, 1143, 1146, 1205, 1227, 1347, 1356, 1412, 1814)
"""Errors of a look at a table that say nothing of its structure: there is none, or not for us, or
it is locked for longer."""


class NotYetError(Exception):
    """The log is not read to its end yet: ask again."""


class Read(NamedTuple):
    """What the catalog says of a table, and the end of the log behind that."""

    structure: Structure | None
    end: Place


class Ahead:
    """One per source. ``here`` is where the stream stands, once there is one."""

    def __init__(
        self, query: Session, known: Server, catalog: Catalog, connect: Callable[[], Log]
    ) -> None:
        self._query = query
        self._known = known
        self._catalog = catalog
        self._connect = connect
        self.here: Callable[[], Place] = Place
        self._last: tuple[str, str, Place] | None = None
        self._read = Read(None, Place())
        self._log: Log | None = None
        self._cursor = Cursor(Place())
        self._from = Place()
        self._found: list[tuple[Place, ddl.Statement]] = []

    def read(self, database: str, table: str) -> Read:
        """What the catalog says of a table; the same as long as the stream does not move."""
        asked = database, table, self.here()
        if asked != self._last:
            # A server sends a statement before it is done with it; its locks last until then.
            self._query.query(
                f"SELECT 1 FROM {quoted(database)}.{quoted(table)} LIMIT 0",  # noqa: S608
                tolerate=IN_THE_WAY,
            )
            structure = self._catalog.table(database, table)
            end = status(self._query, self._known)
            place = Place(end.file, end.offset) if end is not None else Place()
            self._last, self._read = asked, Read(structure, place)
        return self._read

    def untouched(self, database: str, table: str) -> bool:
        """Whether what `read` said of a table holds where the stream stands. Raises `NotYetError`
        until the log is read."""
        here, end = self.here(), self.read(database, table).end
        self._scan(here, end)
        return not any(
            here.order < place.order <= end.order and _about(found, database, table)
            for place, found in self._found
        )

    def _scan(self, here: Place, end: Place) -> None:
        """Read the log between two places, but for what is read already."""
        if self._from.order > here.order or self._cursor.here.order < here.order:
            self._end()
            self._from, self._cursor, self._found = here, Cursor(here), []
        self._found = [each for each in self._found if each[0].order > here.order]
        if self._cursor.here.order >= end.order:
            return
        if self._log is None:
            self._log = log = self._connect()
            log.start(Consumed("file", ""), self._cursor.here)
        self._take_in(self._log, end)
        self._end()

    def _take_in(self, log: Log, end: Place) -> None:
        deadline = time.monotonic() + SCAN_S
        while True:
            found = log.events()
            for event in found:
                self._cursor.take(event)
                self._statements(event)
            if self._cursor.here.order >= end.order:
                return
            if time.monotonic() >= deadline:
                raise NotYetError
            if not found and not log.receive():
                log.wait(deadline - time.monotonic())

    def _statements(self, event: bytes) -> None:
        for inner in _opened(event):
            if inner[TYPE_AT] == events.QUERY and begins_transaction(inner):
                continue
            found = self.understood(query(inner))
            if not isinstance(found, ddl.Nothing | ddl.Written | ddl.Temporary):
                self._found.append((self._cursor.here, found))

    def understood(self, said: Statement) -> ddl.Statement:
        """A statement's meaning."""
        return ddl.read(
            said.text, said.database, said.sql_mode or 0, mariadb=self._known.mariadb
        )  # fmt: skip

    def _end(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def close(self) -> None:
        """Close its connection."""
        self._end()


def _opened(event: bytes) -> Iterator[bytes]:
    """An event that is a statement, or those within an event."""
    kind = event[TYPE_AT]
    if kind in (events.QUERY, events.QUERY_COMPRESSED):
        yield event
    elif kind == events.TRANSACTION_PAYLOAD:
        yield from (each for each in inner_events(event) if each[TYPE_AT] == events.QUERY)


def _about(found: ddl.Statement, database: str, table: str) -> bool:
    """Whether a statement may be about a table, whose name's case counts or not."""
    full, databases, names = ddl.concerned(found)
    database, table = database.lower(), table.lower()
    return (
        any((d.lower(), t.lower()) == (database, table) for d, t in full)
        or any(d.lower() == database for d in databases)
        or table in names
    )
