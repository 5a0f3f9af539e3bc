"""Whether a server, its timeline and its slot continue a position: what is missing is named.

The format of a timeline's history is that of ``src/backend/access/transam/timeline.c``: a line for
each timeline that was left, with the LSN at which it was.
"""

from __future__ import annotations

from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_text, lsn_value
from connectors.postgres.position import Origin, Snapshots, Standpoint
from connectors.postgres.session import Session
from connectors.postgres.slot import Slot


def check_continuation(
    replication: Session, stood: Standpoint, slot: Slot | None, origin: Origin, end: int
) -> None:
    """Raise unless ``slot`` continues the position on the server of ``origin``, whose log ends at
    ``end``. Chunks of snapshots that the server's history does not have are taken anew."""
    was = stood.origin
    facts = {**replication.facts, "from_lsn": lsn_text(stood.lsn), "to_lsn": lsn_text(end)}
    if was.system != origin.system:
        raise error("system_changed", **facts, system=origin.system, other=was.system)
    if was.database != origin.database:
        raise error("database_changed", database=origin.database, other=was.database)
    if was.slot != origin.slot:
        raise error("slot_changed", slot=origin.slot, other=was.slot)
    # A standby's log is one line through all timelines, and only it has the slot that was made on
    # it: what this slot sent is in the log of its server, promoted or not.
    same_log = was.standby and slot is not None and not slot.synced
    if was.timeline != origin.timeline and not same_log:
        _check_timeline(replication, stood, origin.timeline, facts)
    # What was streamed was flushed: a log that ends before it is one that was put back. A standby
    # that was restarted replays it again.
    if stood.lsn > end:
        raise error("standby.busy" if origin.standby else "server_went_back", **facts)
    if slot is None:
        raise error("slot_missing", **facts)
    # What is durable is acked afterwards (I5), so a slot ahead of it is not the one that was left.
    if slot.confirmed > stood.lsn:
        raise error("slot_recreated", **{**facts, "to_lsn": lsn_text(slot.confirmed)})


def _check_timeline(
    replication: Session, stood: Standpoint, timeline: int, facts: dict[str, object]
) -> None:
    """Raise unless all that was captured of the position's timeline lies before the point at which
    the server's history left it."""
    facts = {**facts, "timeline": timeline, "other": stood.origin.timeline}
    switch = switch_points(replication, timeline).get(stood.origin.timeline)
    if switch is None:
        raise error("timeline_changed", **facts)
    captured = stood.lsn
    if stood.partial is not None:
        # The commit record of a transaction that was begun to be read starts there.
        captured = max(captured, stood.partial.final_lsn + 1)
    if captured > switch:
        facts |= {"from_lsn": lsn_text(captured), "switch_lsn": lsn_text(switch)}
        raise error("timeline_abandoned", **facts)
    _forget_chunks(stood.snapshots, switch)


def switch_points(replication: Session, timeline: int) -> dict[int, int]:
    """The LSN at which each earlier timeline was left on the way to ``timeline``."""
    if timeline == 1:
        return {}
    # Undefined file: a history that was removed says nothing.
    rows = replication.simple(
        f"TIMELINE_HISTORY {timeline}", doing="reading the timeline's history", tolerate=("58P01",)
    )
    if isinstance(rows, str):
        return {}
    return parse_history(str(rows[0][1]))


def parse_history(text: str) -> dict[int, int]:
    """The LSNs of a history file by timeline."""
    found: dict[int, int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) >= 2 and parts[0].isdecimal():
            found[int(parts[0])] = lsn_value(parts[1])
    return found


def _forget_chunks(snapshots: Snapshots, switch: int) -> None:
    """Chunks that were read behind the switch may show rows that the server never had."""
    for table in snapshots.tables.values():
        points = [as_of for as_of in table.points.values() if as_of is not None]
        if any(as_of.lsn > switch for as_of in [*table.chunks, *points]):
            table.wipe = True
            table.restart()
