"""The slot: looked at, made, and dropped with the publication when asked.

Order matters: the publication is made before the slot, since changes are decoded with the catalog
of their time, and a slot's start waits for the transactions that run. A slot is never dropped,
recreated or moved here without being asked: a slot that does not continue a position is an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from connectors.postgres.catalog import Server, Table
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_text, lsn_value
from connectors.postgres.position import Origin, Standpoint
from connectors.postgres.publication import find_publication
from connectors.postgres.session import Session, literal, quoted

SLOT_WAIT_S_MAX: Final = 300.0
"""How long the making of a slot waits for transactions that run."""

DROP_WAIT_S_MAX: Final = 5.0
DROP_PAUSE_S: Final = 0.05

VERSION_MIN: Final = 140000
FAILOVER_VERSION_MIN: Final = 170000


class Slot(NamedTuple):
    """A row of pg_replication_slots. ``confirmed`` is an LSN; ``pid`` is 0 when it is free."""

    plugin: str
    database: str
    pid: int
    application: str
    wal_status: str
    confirmed: int
    lag_bytes: int


_SLOT = """
SELECT coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.active_pid, 0),
       coalesce(a.application_name, ''), coalesce(s.wal_status, ''),
       coalesce(s.confirmed_flush_lsn, '0/0'),
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint
FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a
  ON a.pid = s.active_pid
WHERE s.slot_name = $1
"""


def find_slot(session: Session, name: str) -> Slot | None:
    """The slot as the server has it now."""
    rows = session.rows(_SLOT, (name,), doing="looking at the replication slot")
    if not rows:
        return None
    plugin, database, pid, application, status, confirmed, lag = map(str, rows[0])
    return Slot(plugin, database, int(pid), application, status, lsn_value(confirmed), int(lag))


def check_server(server: Server) -> None:
    """Raise where the server cannot serve a source at all."""
    if server.version < VERSION_MIN:
        raise error("version_unsupported", version=server.version // 10000)
    if server.wal_level != "logical":
        raise error("wal_level", level=server.wal_level)
    if server.standby:
        raise error("standby")


def check_slot(slot: Slot, origin: Origin) -> None:
    """Raise unless the slot is one that this source can read now."""
    facts = {"slot": origin.slot, "database": origin.database, "other": slot.database}
    if slot.plugin != "pgoutput":
        raise error("slot_foreign", **facts)
    if slot.database != origin.database:
        raise error("slot_other_database", **facts)
    if slot.wal_status == "lost":
        raise error("slot_lost", **facts)
    if slot.pid:
        raise error("slot_in_use", **facts, pid=slot.pid, application=slot.application or "unnamed")


def check_continuation(
    session: Session, stood: Standpoint, slot: Slot | None, origin: Origin
) -> None:
    """Raise unless ``slot`` continues the position: what is missing is named."""
    was = stood.origin
    if was.system != origin.system:
        raise error("system_changed", system=origin.system, other=was.system)
    if was.database != origin.database:
        raise error("database_changed", database=origin.database, other=was.database)
    if was.slot != origin.slot:
        raise error("slot_changed", slot=origin.slot, other=was.slot)
    end = session.rows("SELECT pg_current_wal_insert_lsn()", doing="reading the log's end")[0][0]
    gap = {"slot": origin.slot, "from_lsn": lsn_text(stood.lsn), "to_lsn": end}
    # What was streamed was flushed: a log that ends before it is one that was put back.
    if stood.lsn > lsn_value(str(end)):
        raise error("server_went_back", **gap)
    if was.timeline != origin.timeline:
        raise error("timeline_changed", **gap, timeline=origin.timeline, other=was.timeline)
    if slot is None:
        raise error("slot_missing", **gap)
    # What is durable is acked afterwards (I5), so a slot ahead of it is not the one that was left.
    if slot.confirmed > stood.lsn:
        raise error("slot_recreated", **{**gap, "to_lsn": lsn_text(slot.confirmed)})


def make_slot(session: Session, name: str, server: Server, *, failover: bool) -> int:
    """Make the slot; the LSN that its stream starts at. Waits for transactions that run."""
    third = ", false, false, true" if failover and server.version >= FAILOVER_VERSION_MIN else ""
    made = session.query(
        f"SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput'{third})",  # noqa: S608
        (name,),
        doing="making the replication slot, which waits for running transactions to end",
        timeout_s=SLOT_WAIT_S_MAX,
        tolerate=("42501", "55000"),
    )
    if made == "42501":
        raise error("replication_privilege", user=server.user)
    if isinstance(made, str):
        raise error("wal_level", level=server.wal_level)
    return lsn_value(str(made[0][0]))


def captured_tables(listed: Iterable[Table], config: PostgresConfig) -> list[Table]:
    """Those of the tables that the config captures. Raises ``postgres.table_missing`` when a name
    in the config without a glob matches none, or nothing matches at all."""
    found = [t for t in listed if config.captures(t.schema, t.name, t.root_names)]
    names = {name for t in found for name in (t.full_name, *t.root_names)}
    plain = [t for t in config.tables if not any(c in t for c in "*?[")]
    missing = [t for t in plain if t not in names]
    if missing or not found:
        raise error("table_missing", tables=", ".join(missing or config.tables))
    return found


def drop(session: Session, slot: str, publication: str) -> list[str]:
    """Drop what the pipeline made on the server; a sentence for each thing. A slot that stays in
    use, longer than a server takes to notice that its reader is gone, is not dropped; nor is a
    publication that another role owns, since an administrator made it."""
    told = []
    found = find_slot(session, slot)
    if found is not None:
        deadline = time.monotonic() + DROP_WAIT_S_MAX
        while found.pid and time.monotonic() < deadline:
            time.sleep(DROP_PAUSE_S)
            found = find_slot(session, slot) or found._replace(pid=0)
        if found.pid:
            application = found.application or "unnamed"
            raise error("slot_in_use", slot=slot, pid=found.pid, application=application)
        session.query(
            "SELECT pg_drop_replication_slot($1)", (slot,), doing="dropping the replication slot",
            statement=f"SELECT pg_drop_replication_slot({literal(slot)})",
        )  # fmt: skip
        told.append(f"The replication slot {slot} was dropped.")
    if find_publication(session, publication) is not None:
        statement = f"DROP PUBLICATION {quoted(publication)}"
        state = session.query(
            statement, doing="dropping the publication", statement=statement, tolerate=("42501",)
        )
        if state == "42501":
            told.append(f"The publication {publication} stays: it belongs to another role.")
        else:
            told.append(f"The publication {publication} was dropped.")
    return told
