"""Whether the server's log goes on where a position stands, and what is done where it does not.

The mend of a gap is asked for with ``ensign snapshot start PIPELINE --reconcile``: the stream goes
on from the log's end, and the signal, which stays pending, has the source compare each table with
its topic and emit what differs. A crash at any moment is safe: as long as no position behind the
gap is durable, the old one still does not fit, and all of this is done again.
"""

from __future__ import annotations

import time
from typing import Final

from connectors.mysql.catalog import Listed
from connectors.mysql.commands import START_OF_FILE
from connectors.mysql.cursor import Cursor
from connectors.mysql.errors import error
from connectors.mysql.events import ANONYMOUS_GTID, FORMAT_DESCRIPTION, TYPE_AT
from connectors.mysql.gtids import GtidPosition, GtidSet
from connectors.mysql.log import Log, refused
from connectors.mysql.position import Place, Snapshots, Standpoint
from connectors.mysql.session import Server, Session, Status
from connectors.mysql.tables import Tables
from connectors.mysql.transactions import Consumed
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

BETWEEN_S_MAX: Final = 60.0
"""How long the log may take between the position and the file in which the stream begins."""

MENDED: Final = frozenset(
    f"mysql.{word}"
    for word in (
        "log_purged", "log_reset", "server_changed", "prepared_lost", "server_behind",
        "log_incident", "stream_damaged", "gtid_mode",
    )
)  # fmt: skip
"""Codes of gaps that a comparison of all tables with their topics closes."""


def check(query: Session, known: Server, stood: Standpoint, end: Status) -> None:
    """Raise where the log does not go on at the position, as far as the server tells that without
    being asked for its log."""
    facts = facts_of(query, stood, end)
    if stood.mode == "file":
        if stood.server != known.identity:
            raise error("server_changed", **facts)
        _check_file(query, stood.place, facts)
    elif _began_anew(known, stood, end):
        # Its GTIDs may be numbered as those before, and would be taken for consumed.
        raise error("log_reset", **facts)
    elif stood.mode == "gtid":
        if not known.gtids:
            raise error("gtid_mode", **facts)
        had, begun = GtidSet.parse(stood.gtids), stood.partials
        rows = query.rows("SELECT @@GLOBAL.gtid_purged", doing="reading purged GTIDs")
        if not had.contains(GtidSet.parse(str(rows[0][0]))):
            raise error("log_purged", **facts)
        had.add_all(GtidSet.parse(",".join(partial.id for partial in begun)))
        if not GtidSet.parse(end.executed).contains(had):
            here = stood.server == known.identity
            if here and stood.place.order <= Place(end.file, end.offset).order:
                raise error("commits.busy", **facts)
            raise _lacking(known, stood, facts)
    elif not known.mariadb:
        raise error("server_changed", **facts)
    else:
        rows = query.rows("SELECT @@GLOBAL.gtid_current_pos, @@GLOBAL.gtid_binlog_pos")
        has = [GtidPosition.parse(str(text or "")) for text in rows[0]]
        had_last = GtidPosition.parse(stood.gtids)
        for partial in stood.partials:
            had_last.advance(*map(int, partial.id.split("-")))
        if not any(each.contains(had_last) for each in has):
            raise _lacking(known, stood, facts)


def facts_of(query: Session, stood: Standpoint, end: Status) -> dict[str, object]:
    """What an error tells of a log that does not go on."""
    return {
        "from_place": stood.gtids or stood.place,
        "to_place": Place(end.file, end.offset),
        **query.facts,
    }


def same_server(known: Server, stood: Standpoint) -> bool:
    """Whether a position's places are in the log of this server, as far as that is told by more
    than a server id where the position may be another one's."""
    told = stood.mode == "file" or not stood.server.startswith("server ")
    return told and stood.server == known.identity


def first_event(log: Log, file: str) -> bytes | None:
    """The format description with which a file of the log begins; None where there is no such
    file."""
    deadline = time.monotonic() + BETWEEN_S_MAX
    try:
        log.start(Consumed("file", ""), Place(file, START_OF_FILE))
        while (found := log.read(deadline)) is not None:
            for event in found:
                if event[TYPE_AT] == FORMAT_DESCRIPTION:
                    return event
        raise error("timeout", doing="looking for the start of the log's file")
    except EnsignError as failed:
        if not refused(failed):
            raise
        return None


def _began_anew(known: Server, stood: Standpoint, end: Status) -> bool:
    """Whether the log of the position's own server, told by more than its server id, does not reach
    to where the position stands in it."""
    return same_server(known, stood) and stood.place.order > Place(end.file, end.offset).order


def _lacking(known: Server, stood: Standpoint, facts: dict[str, object]) -> EnsignError:
    """A server lacks transactions that it has sent itself, or another one has."""
    return error("log_reset" if stood.server == known.identity else "server_behind", **facts)


def place_in(known: Server, stood: Standpoint) -> Place:
    """Where in the log of this server a position stands; the empty place where the position is of
    another one's, whose places, also those of prepared transactions, are none here."""
    if stood.server == known.identity:
        return stood.place
    prepared = stood.snapshots.prepared
    prepared.update({name: list(Place()) for name, where in prepared.items() if where})
    return Place()


def _check_file(query: Session, place: Place, facts: dict[str, object]) -> None:
    rows = query.rows("SHOW BINARY LOGS", doing="listing the binary log")
    sizes = {str(row[0]): int(row[1]) for row in rows}
    if place.file not in sizes:
        newest = max((Place(name).order for name in sizes), default=Place().order)
        raise error("log_reset" if Place(place.file).order > newest else "log_purged", **facts)
    if place.offset > sizes[place.file]:
        raise error("log_reset", **facts)


def anonymous(log: Log, place: Place, end: Place) -> bool:
    """Whether there are transactions without a GTID between two places, which were written while
    gtid_mode was off. Once it is on, a stream by GTIDs passes them by or is refused, and any other
    is refused where they begin."""
    log.start(Consumed("file", ""), place)
    cursor = Cursor(place)
    deadline = time.monotonic() + BETWEEN_S_MAX
    try:
        while cursor.here.order < end.order:
            found = log.read(deadline)
            if found is None:
                raise error("timeout", doing="looking for transactions without a GTID")
            for event in found:
                cursor.take(event)
                if event[TYPE_AT] == ANONYMOUS_GTID and cursor.here.order <= end.order:
                    return True
    except EnsignError as failed:
        if not refused(failed):
            raise
        return True
    return False


def explained(failed: EnsignError, stood: Standpoint, end: Status, pipeline: str) -> EnsignError:
    """What a server means that refuses to send its log from the position on."""
    if not refused(failed):
        return failed
    return error(
        "log_purged", from_place=stood.gtids or stood.place, to_place=Place(end.file, end.offset),
        pipeline=pipeline,
    )  # fmt: skip


def mends(failed: EnsignError, stood: Standpoint, context: Context) -> bool:
    """Whether the operator has asked for a comparison of all tables that closes this gap."""
    return failed.code in MENDED and asks(stood, context)


def asks(stood: Standpoint, context: Context) -> bool:
    """Whether the operator has asked for a comparison of all tables."""
    asked = False
    for signal in context.signals(stood.snapshots.signal):
        if signal.kind == "stop":
            asked = False
        elif signal.kind == "snapshot" and signal.reconcile:
            asked = asked or not (signal.tables or signal.where)
    return asked


def start_over(snapshots: Snapshots, tables: Tables, listed: dict[str, Listed]) -> None:
    """Make the state one for a stream that begins now, with the tables as they are now: those under
    way are read again from their start, those that are done are compared, and those that are not
    there any more become empty."""
    snapshots.gap = True
    snapshots.stopped.clear()
    snapshots.prepared.clear()
    tables.show_all()
    for table in snapshots.tables.values():
        table.void()
    for name in list(tables.structures):
        if name not in listed:
            tables.touch(name)
            snapshots.take_up(name, wipe=True)
            snapshots.tables[name].gone = True
        elif not tables.another(listed[name].structure.place):
            tables.learn(listed[name].structure)
