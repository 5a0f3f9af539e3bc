"""The mend of a gap between a position and the stream, when an operator asks for it with
``ensign snapshot start PIPELINE --reconcile``: publication and slot are made anew, the stream goes
on from the new slot, and the signal, which stays pending, has the source compare each table with
its topic and emit what differs.

A crash at any moment is safe: as long as no position of the new slot is durable, the old one still
does not fit the slot, the signal is still there, and all of this is done again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from connectors.postgres.catalog import Table
from connectors.postgres.position import Snapshots, Standpoint, mark
from connectors.postgres.snapshot import TableSnapshot
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

MENDED: Final = frozenset(
    f"postgres.{word}"
    for word in (
        "slot_lost", "slot_missing", "slot_recreated", "publication_missing",
        "publication_recreated", "table_unpublished", "server_went_back", "timeline_changed",
        "timeline_abandoned", "system_changed",
    )
)  # fmt: skip
"""Codes of gaps that a comparison of all tables with their topics closes."""


def mends(failed: EnsignError, stood: Standpoint, database: str, context: Context) -> bool:
    """Whether the operator has asked for a comparison of all tables that closes this gap."""
    if failed.code not in MENDED or stood.origin.database != database:
        return False
    asked = False
    for signal in context.signals(stood.snapshots.signal):
        if signal.kind == "stop":
            asked = False
        elif signal.kind == "snapshot" and signal.reconcile:
            asked = asked or not (signal.tables or signal.where)
    return asked


def start_over(snapshots: Snapshots, wanted: Iterable[Table], *, elsewhere: bool) -> None:
    """Make the snapshot state one for a stream that begins now: tables under way are read again
    from their start, tables that are done stay so. ``elsewhere``: on another cluster, where tables
    are known by name, since their oids are others."""
    snapshots.gap = True
    for table in snapshots.tables.values():
        table.wipe = table.wipe or table.begun
        table.restart()
        table.owed.clear()
        table.bound = None
    snapshots.members.clear()
    snapshots.filters.clear()
    # Which partitions were there was asked of transactions that may count anew now.
    snapshots.looked = ""
    if elsewhere:
        _rename(snapshots, wanted)


def _rename(snapshots: Snapshots, wanted: Iterable[Table]) -> None:
    """Put the oids of this cluster in place of the other's, by name. A name whose table is not here
    keeps oid 0, which no table has: should it come back, its rows are read behind a truncate."""
    done, tables, schemas = set(), {}, {}
    names = dict.fromkeys(snapshots.names, 0)
    for table in wanted:
        before = snapshots.names.get(mark(table.full_name))
        if before is None or not snapshots.knows(before):
            continue
        names[mark(table.full_name)] = table.oid
        if before in snapshots.done:
            done.add(table.oid)
        else:
            tables[table.oid] = TableSnapshot(table.oid, wipe=snapshots.tables[before].wipe)
        if before in snapshots.schemas:
            schemas[table.oid] = snapshots.schemas[before]
    snapshots.done, snapshots.tables, snapshots.schemas = done, tables, schemas
    snapshots.names = names
    snapshots.void.clear()
    snapshots.asked.clear()
