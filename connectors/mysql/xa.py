"""XA transactions that are prepared: their rows are in the log where they were prepared, and are
events where they are committed. They are read again then, from where the position remembers that
they start, so that nothing has to be held meanwhile, however long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from connectors.mysql.errors import error
from connectors.mysql.events import TABLE_MAP, TRANSACTION_PAYLOAD, TYPE_AT, XA_PREPARE, Xa
from connectors.mysql.log import Log, refused
from connectors.mysql.payload import inner_events
from connectors.mysql.position import Place, Snapshots
from connectors.mysql.rowevents import DELETES, INSERTS, PLAIN_OF_COMPRESSED, UPDATES
from connectors.mysql.transactions import Consumed
from ensign_core.errors import EnsignError

ANSWER_S_MAX: Final = 30.0
"""How long the server may be silent while a prepared transaction is read again."""


WANTED: Final = {TABLE_MAP, *INSERTS, *UPDATES, *DELETES, *PLAIN_OF_COMPRESSED}


class Prepared:
    """One per stream. ``connect`` opens a further dump."""

    def __init__(self, snapshots: Snapshots, connect: Callable[[], Log], pipeline: str) -> None:
        self._places = snapshots.prepared
        self._connect = connect
        self._pipeline = pipeline

    def note(self, xa: Xa, start: Place) -> None:
        """It is prepared, and has captured rows."""
        self._places[_key(xa)] = list(start)

    def start(self, xa: Xa) -> Place | None:
        """Where it starts; None if it has no captured rows."""
        found = self._places.get(_key(xa))
        return None if found is None else Place(*found)

    def over(self, xa: Xa) -> None:
        """It was rolled back, or all its rows have come."""
        self._places.pop(_key(xa), None)

    def events(self, start: Place) -> Iterator[bytes]:
        """Its table maps and rows, read again."""
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
                    if event[TYPE_AT] in WANTED:
                        yield event
                if found or log.receive():
                    deadline = time.monotonic() + ANSWER_S_MAX
                elif not log.wait(deadline - time.monotonic()):
                    raise error("connection_lost")


def _opened(found: list[bytes]) -> Iterator[bytes]:
    for event in found:
        if event[TYPE_AT] == TRANSACTION_PAYLOAD:
            yield from inner_events(event)
        else:
            yield event


def _key(xa: Xa) -> str:
    return f"{xa.format_id}:{xa.gtrid.hex()}:{xa.bqual.hex()}"
