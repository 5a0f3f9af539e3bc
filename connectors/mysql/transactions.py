"""Which transactions of the log were consumed, as the three modes of a position keep them.

``gtid``: MySQL's set of GTIDs. ``mariadb``: the last GTID of each domain. ``file``: nothing but the
place in the log of one server. A transaction's id is its GTID wherever it has one, so that it can
be told again after a restart.
"""

from __future__ import annotations

from typing import NamedTuple

from connectors.mysql.errors import error
from connectors.mysql.events import MARIADB_GTID, TYPE_AT
from connectors.mysql.gtid_events import (
    PREPARED_XA,
    ROLLBACK_ALTER,
    STANDALONE,
    START_ALTER,
    Gtid,
    MariadbGtid,
    gtid,
    mariadb_gtid,
)
from connectors.mysql.gtids import GtidPosition, GtidSet
from connectors.mysql.position import Mode


class Begun(NamedTuple):
    """A transaction that begins. ``id`` is empty where it has none; ``committed_at`` is in µs since
    1970, None where the event does not tell; ``grouped``: it goes on to a COMMIT whatever comes
    next. ``prepared``: it ends with the first of two phases. ``undone``: the statement in it has no
    effect, or not yet, as the first part of an ALTER TABLE that MariaDB logs in two."""

    id: str
    committed_at: int | None
    grouped: bool = False
    prepared: bool = False
    undone: bool = False


class Consumed:
    """One per stream."""

    def __init__(self, mode: Mode, text: str) -> None:
        self.mode = mode
        self._set = GtidSet.parse(text if mode == "gtid" else "")
        self._domains = GtidPosition.parse(text if mode == "mariadb" else "")
        self._begun: Gtid | MariadbGtid | None = None
        self._text: str | None = None

    def begin(self, event: bytes) -> Begun:
        """Of a GTID event of either server."""
        if event[TYPE_AT] == MARIADB_GTID:
            found = mariadb_gtid(event)
            self._begun = found
            name = f"{found.domain}-{found.server_id}-{found.sequence}"
            grouped, prepared = not found.flags & STANDALONE, bool(found.flags & PREPARED_XA)
            undone = bool(found.more & (START_ALTER | ROLLBACK_ALTER))
            return Begun(name, None, grouped, prepared, undone)
        mine = gtid(event)
        self._begun = mine
        if not mine.number:
            if self.mode == "gtid":
                raise error("gtid_mode")
            return Begun("", mine.committed_at_us)
        tag = f":{mine.tag}" if mine.tag else ""
        return Begun(f"{mine.sid}{tag}:{mine.number}", mine.committed_at_us)

    @property
    def begun(self) -> Gtid | None:
        """MySQL's GTID of the transaction that is under way; None where it has none."""
        return self._begun if isinstance(self._begun, Gtid) and self._begun.number else None

    def end(self) -> None:
        """The transaction that began is consumed."""
        begun, self._begun = self._begun, None
        if isinstance(begun, Gtid):
            if self.mode == "gtid":
                self._set.add(begun.sid, begun.tag, begun.number)
                self._text = None
        elif begun is not None and self.mode == "mariadb":
            self._domains.advance(begun.domain, begun.server_id, begun.sequence)
            self._text = None

    @property
    def text(self) -> str:
        """As a position has it."""
        if self._text is None:
            self._text = str(self._set if self.mode == "gtid" else self._domains)
        return self._text

    @property
    def gtids(self) -> GtidSet:
        return self._set

    @property
    def domains(self) -> GtidPosition:
        return self._domains

    def within(self, executed: GtidSet) -> bool:
        """Whether a server that tells these executed GTIDs shows all that was consumed to whoever
        reads its tables; True where that is not told by GTIDs."""
        return self.mode != "gtid" or executed.contains(self._set)
