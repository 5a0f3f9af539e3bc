"""The slot: looked at, made, and dropped with the publication when asked.

Order matters: the publication is made before the slot, since changes are decoded with the catalog
of their time, and a slot's start waits for the transactions that run. A slot is never dropped,
recreated or moved here without being asked: a slot that does not continue a position is an error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from connectors.postgres import wal
from connectors.postgres.catalog import Server, Table
from connectors.postgres.config import PostgresConfig
from connectors.postgres.connecting import application_name
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import lsn_value
from connectors.postgres.position import Origin
from connectors.postgres.publication import find_publication
from connectors.postgres.retention import Retention
from connectors.postgres.session import Session, literal, quoted
from ensign_core.errors import EnsignError

SLOT_WAIT_S_MAX: Final = 300.0
"""How long the making of a slot waits for transactions that run."""

STANDBY_WAIT_S_MAX: Final = 30.0
"""How long it waits on a standby, whose primary logs every 15 s what runs, unless it is idle."""

RETENTION_S_MAX: Final = 10.0
"""How long the look at what the slot keeps, one row of shared memory, may take: nothing else is
done meanwhile."""

DROP_WAIT_S_MAX: Final = 5.0
DROP_PAUSE_S: Final = 0.05

VERSION_MIN: Final = 140000
STANDBY_VERSION_MIN: Final = 160000
FAILOVER_VERSION_MIN: Final = 170000

INVALID: Final = {
    "wal_removed": (
        "the WAL that it needs is gone",
        "Raise max_slot_wal_keep_size on the server",
    ),
    "rows_removed": (
        "a vacuum on the primary removed rows of the catalog that it needs",
        "On the standby ALTER SYSTEM SET hot_standby_feedback = on",
    ),
    "wal_level_insufficient": (
        "the primary's wal_level is not logical any more",
        "On the primary ALTER SYSTEM SET wal_level = logical, and restart it",
    ),
    "idle_timeout": (
        "it was not used for longer than idle_replication_slot_timeout",
        "Raise idle_replication_slot_timeout on the server",
    ),
    "conflict": (
        "it was in conflict with what the standby replayed of its primary",
        "On the standby ALTER SYSTEM SET hot_standby_feedback = on",
    ),
}
"""By ``pg_replication_slots.invalidation_reason`` (17 and later): why, and what prevents it."""


class Slot(NamedTuple):
    """A row of pg_replication_slots. ``pid`` is 0 when it is free, ``invalid`` a key of `INVALID`
    or empty; ``confirmed`` is an LSN."""

    plugin: str
    database: str
    pid: int
    application: str
    user: str
    client: str
    since: str
    walsender: bool
    invalid: str
    confirmed: int
    synced: bool
    failover: bool

    @property
    def holder(self) -> str:
        """Who reads it, in words."""
        known = [self.application or "unnamed"]
        known += [f"user {self.user}"] if self.user else []
        known += [f"from {self.client}"] if self.client else []
        known += [f"since {self.since}"] if self.since else []
        return f"process {self.pid} ({', '.join(known)})"


_SLOT = """
SELECT coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.active_pid, 0),
       coalesce(a.application_name, ''), coalesce(a.usename, ''), coalesce(host(a.client_addr), ''),
       coalesce(to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SSOF'), ''),
       coalesce(a.backend_type = 'walsender', false),
       coalesce(to_jsonb(s) ->> 'invalidation_reason',
                CASE WHEN to_jsonb(s) ->> 'conflicting' = 'true' AND pg_is_in_recovery()
                     THEN 'conflict'
                     WHEN s.wal_status = 'lost' THEN 'wal_removed' END, ''),
       coalesce(s.confirmed_flush_lsn, '0/0'),
       coalesce(to_jsonb(s) ->> 'synced' = 'true' AND pg_is_in_recovery(), false),
       coalesce(to_jsonb(s) ->> 'failover' = 'true', false)
FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a
  ON a.pid = s.active_pid
WHERE s.slot_name = $1
"""


def find_slot(session: Session, name: str) -> Slot | None:
    """The slot as the server has it now."""
    rows = session.rows(_SLOT, (name,), doing="looking at the replication slot")
    if not rows:
        return None
    plugin, database, pid, application, user, client, since = map(str, rows[0][:7])
    walsender, invalid, confirmed, synced, failover = rows[0][7:]
    return Slot(
        plugin, database, int(pid), application, user, client, since, walsender == "t",
        str(invalid), lsn_value(str(confirmed)), synced == "t", failover == "t",
    )  # fmt: skip


_RETENTION = f"""
SELECT pg_is_in_recovery(), {wal.WRITTEN}, coalesce(s.restart_lsn, '0/0'),
       coalesce(s.confirmed_flush_lsn, '0/0'), coalesce(s.wal_status, ''), s.safe_wal_size,
       (SELECT nullif(setting, '-1')::bigint << 20 FROM pg_catalog.pg_settings
        WHERE name = 'max_slot_wal_keep_size')
FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1
"""  # noqa: S608


def retention(session: Session, name: str) -> tuple[bool, Retention]:
    """Whether the server is a standby now, and what the slot keeps of its log."""
    rows = session.query(
        _RETENTION, (name,), doing="looking at what the slot keeps", timeout_s=RETENTION_S_MAX
    )
    row = rows[0]
    assert not isinstance(row, str)
    end, restart, confirmed = (lsn_value(str(text)) for text in row[1:4])
    safe, limit = (None if text is None else int(text) for text in row[5:])
    return row[0] == "t", Retention(end, restart, confirmed, str(row[4]), safe, limit)


def check_server(server: Server) -> None:
    """Raise where the server cannot serve a source at all."""
    if server.version < VERSION_MIN:
        raise error("version_unsupported", version=server.version // 10000)
    if server.wal_level != "logical":
        raise error("wal_level", level=server.wal_level)
    if server.standby and server.version < STANDBY_VERSION_MIN:
        raise error("standby", version=server.version // 10000)


def check_failover(server: Server) -> None:
    """Raise where ``failover: true`` cannot be had."""
    if server.standby or server.version < FAILOVER_VERSION_MIN:
        kind = "a standby of " if server.standby else ""
        raise error("failover_unsupported", server=f"{kind}version {server.version // 10000}")


def check_ours(slot: Slot, origin: Origin) -> None:
    """Raise unless it is a slot that this source could read, and nobody else does."""
    facts = {"slot": origin.slot, "database": origin.database, "other": slot.database}
    if slot.plugin != "pgoutput":
        raise error("slot_foreign", **facts)
    if slot.database != origin.database:
        raise error("slot_other_database", **facts)
    if slot.synced:
        raise error("slot_synced.busy", **facts)
    if slot.pid:
        raise error("slot_in_use", **facts, pid=slot.pid, holder=slot.holder)


def check_slot(session: Session, slot: Slot, origin: Origin) -> None:
    """Raise unless the slot is one that this source can read now."""
    check_ours(slot, origin)
    if slot.invalid:
        raise lost(session, slot.invalid)


def lost(session: Session, reason: str) -> EnsignError:
    """The error for a slot that the server has invalidated."""
    sentence, prevention = INVALID.get(reason, INVALID["wal_removed"])
    return error("slot_lost", **session.facts, reason=sentence, prevention=prevention)


_TERMINATE = """
SELECT pg_terminate_backend(a.pid) FROM pg_catalog.pg_replication_slots s
JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
WHERE s.slot_name = $1 AND s.database = current_database() AND a.pid = $2::int
  AND a.backend_type = 'walsender' AND a.usename = current_user AND a.application_name = $3
"""


def freed(session: Session, name: str, found: Slot, server: Server, pipeline: str) -> Slot | None:
    """The slot after its walsender was terminated, where that is one left over of this pipeline: of
    the same user and with the pipeline's application name. Nothing else is ever terminated."""
    application = application_name(pipeline)
    if not found.walsender or (found.user, found.application) != (server.user, application):
        return found
    doing = "terminating a walsender of this pipeline that is left over"
    session.rows(_TERMINATE, (name, str(found.pid), application), doing=doing)
    return awaited(session, name, found.pid)


def awaited(session: Session, name: str, pid: int) -> Slot | None:
    """The slot when process ``pid`` has let go of it, or after `DROP_WAIT_S_MAX`."""
    deadline = time.monotonic() + DROP_WAIT_S_MAX
    while (found := find_slot(session, name)) is not None and found.pid == pid:
        if time.monotonic() > deadline:
            break
        time.sleep(DROP_PAUSE_S)
    return found


def make_slot(session: Session, name: str, server: Server, *, failover: bool) -> int:
    """Make the slot; the LSN that its stream starts at. Waits for transactions that run, on a
    standby for its primary to log which do."""
    if failover:
        check_failover(server)
    third = ", false, false, true" if failover else ""
    try:
        made = session.query(
            "SELECT lsn FROM "  # noqa: S608
            f"pg_create_logical_replication_slot($1, 'pgoutput'{third})",
            (name,),
            doing="making the replication slot, which waits for running transactions to end",
            timeout_s=STANDBY_WAIT_S_MAX if server.standby else SLOT_WAIT_S_MAX,
            tolerate=("42501", "55000"),
        )
    except EnsignError as failed:
        if server.standby and failed.code == "postgres.timeout":
            raise error("standby.timeout", slot=name) from None
        raise
    if made == "42501":
        raise error("replication_privilege", user=server.user)
    if isinstance(made, str):
        raise error("wal_level_primary" if server.standby else "wal_level", level=server.wal_level)
    return lsn_value(str(made[0][0]))


def keep_on_standbys(replication: Session, name: str, server: Server) -> None:
    """Have standbys keep a copy of a slot that was made without one."""
    check_failover(server)
    replication.simple(
        f"ALTER_REPLICATION_SLOT {quoted(name)} (FAILOVER true)", doing="changing the slot"
    )


def drop_slot(session: Session, name: str) -> None:
    """Drop it, which nobody reads."""
    session.query(
        "SELECT pg_drop_replication_slot($1)", (name,), doing="dropping the replication slot",
        statement=f"SELECT pg_drop_replication_slot({literal(name)})",
    )  # fmt: skip


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
    publication that another role owns, since an administrator made it, nor anything on a standby
    but the slot."""
    told = []
    found = find_slot(session, slot)
    if found is not None:
        if found.pid:
            found = awaited(session, slot, found.pid) or found._replace(pid=0)
        if found.pid:
            raise error("slot_in_use", slot=slot, pid=found.pid, holder=found.holder)
        drop_slot(session, slot)
        told.append(f"The replication slot {slot} was dropped.")
    if find_publication(session, publication) is not None:
        if session.read_only:
            told.append(f"The publication {publication} stays: nothing is written there.")
            return told
        statement = f"DROP PUBLICATION {quoted(publication)}"
        state = session.query(
            statement, doing="dropping the publication", statement=statement, tolerate=("42501",)
        )
        if state == "42501":
            told.append(f"The publication {publication} stays: it belongs to another role.")
        else:
            told.append(f"The publication {publication} was dropped.")
    return told
