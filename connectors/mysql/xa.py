"""XA transactions that are prepared: their rows are in the log where they were prepared, and are
events where they are committed. They are read again then, from where the position remembers that
they start, so that nothing has to be held meanwhile, however long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from connectors.mysql.cursor import Cursor
from connectors.mysql.errors import error
from connectors.mysql.events import (
    ANONYMOUS_GTID,
    GTID,
    GTID_TAGGED,
    MARIADB_GTID,
    QUERY,
    QUERY_COMPRESSED,
    TABLE_MAP,
    TRANSACTION_PAYLOAD,
    TYPE_AT,
    XA_PREPARE,
    Xa,
    xa_prepare,
)
from connectors.mysql.log import Log, refused
from connectors.mysql.payload import inner_events
from connectors.mysql.position import Place, Snapshots
from connectors.mysql.rowevents import DELETES, INSERTS, PLAIN_OF_COMPRESSED, UPDATES
from connectors.mysql.session import Session
from connectors.mysql.statements import of_savepoint, query
from connectors.mysql.transactions import Consumed
from ensign_core.errors import EnsignError

ANSWER_S_MAX: Final = 30.0
"""How long the server may be silent while a prepared transaction is read again."""

SOUGHT_S_MAX: Final = 60.0
"""How long the log is searched for one that was prepared before the pipeline began."""

FILE_START: Final = 4
"""Where the first event of each file is."""

BEGINS: Final = (GTID, ANONYMOUS_GTID, GTID_TAGGED, MARIADB_GTID)
WANTED: Final = {TABLE_MAP, *INSERTS, *UPDATES, *DELETES, *PLAIN_OF_COMPRESSED}


class Prepared:
    """One per stream. ``connect`` opens a further dump, ``files`` names the log's files, oldest
    first."""

    def __init__(
        self,
        snapshots: Snapshots,
        connect: Callable[[], Log],
        files: Callable[[], list[str]],
        pipeline: str,
    ) -> None:
        self._places = snapshots.prepared
        self._connect = connect
        self._files = files
        self._pipeline = pipeline

    def note(self, xa: Xa, start: Place | None) -> None:
        """It is prepared; None: without captured rows."""
        self._places[_key(xa)] = [] if start is None else list(start)

    def start(self, xa: Xa, here: Place) -> Place | None:
        """Where one starts that commits ``here``; None if it has no captured rows. Raises
        ``mysql.prepared_lost`` where that is nowhere in the log."""
        key = _key(xa)
        if key not in self._places:
            return self._sought(xa, here)
        found = self._places[key]
        return Place(*found) if found else None

    def _sought(self, xa: Xa, here: Place) -> Place:
        deadline = time.monotonic() + SOUGHT_S_MAX
        for name in reversed(self._files()):
            file = Place(name, FILE_START)
            if file.order < here.order:
                found = self._in_file(xa, file, here, deadline)
                if found is not None:
                    return found
        raise error("prepared_lost", pipeline=self._pipeline)

    def _in_file(self, xa: Xa, file: Place, end: Place, deadline: float) -> Place | None:
        """Where in a file, and before an end, the last transaction of a name starts that was
        prepared."""
        place, start, cursor = None, file, Cursor(file)
        with closing(self._connect()) as log:
            log.start(Consumed("file", ""), file)
            while cursor.here.order[0] == file.order[0] and cursor.here.order < end.order:
                found = log.read(deadline)
                if found is None:
                    raise error("prepared_lost", pipeline=self._pipeline)
                for event in found:
                    cursor.take(event)
                    if event[TYPE_AT] in BEGINS:
                        start = cursor.start_of(event)
                    for inner in _opened([event]):
                        if inner[TYPE_AT] == XA_PREPARE and xa_prepare(inner) == (xa, False):
                            place = start
        return place

    def over(self, xa: Xa) -> None:
        """It was rolled back, or all its rows have come."""
        self._places.pop(_key(xa), None)

    def events(self, start: Place) -> Iterator[bytes]:
        """Its table maps and rows, read again, and its savepoints: MariaDB logs rows that were
        rolled back where temporary tables are in between. Raises ``mysql.prepared_lost`` where
        they are in a part of the log that is gone, or in another server's."""
        if not start.file:
            raise error("prepared_lost", pipeline=self._pipeline)
        with closing(self._connect()) as log:
            log.start(Consumed("file", ""), start)
            deadline = time.monotonic() + ANSWER_S_MAX
            while True:
                try:
                    found = log.events()
                except EnsignError as failed:
                    if refused(failed):
                        raise error("prepared_lost", pipeline=self._pipeline) from None
                    raise
                for event in _opened(found):
                    if event[TYPE_AT] == XA_PREPARE:
                        return
                    if event[TYPE_AT] in WANTED or _of_savepoint(event):
                        yield event
                if found or log.receive():
                    deadline = time.monotonic() + ANSWER_S_MAX
                elif not log.wait(deadline - time.monotonic()):
                    raise error("connection_lost")


def files(session: Session) -> list[str]:
    """Names of the log's files, oldest first."""
    rows = session.rows("SHOW BINARY LOGS", doing="listing the binary log")
    return [str(row[0]) for row in rows]


def _opened(found: list[bytes]) -> Iterator[bytes]:
    for event in found:
        if event[TYPE_AT] == TRANSACTION_PAYLOAD:
            yield from inner_events(event)
        else:
            yield event


def _of_savepoint(event: bytes) -> bool:
    return event[TYPE_AT] in (QUERY, QUERY_COMPRESSED) and of_savepoint(query(event).statement)


def _key(xa: Xa) -> str:
    return f"{xa.format_id}:{xa.gtrid.hex()}:{xa.bqual.hex()}"
