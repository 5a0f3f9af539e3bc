"""What `ensign check` says of the slot, of what it keeps, and of standbys and failover. Only looks.

Settings are those of the PostgreSQL documentation, "Replication" in "Server Configuration".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from connectors.postgres import retention, slot
from connectors.postgres.catalog import Server
from connectors.postgres.config import PostgresConfig
from connectors.postgres.connecting import application_name
from connectors.postgres.errors import error
from connectors.postgres.session import Session
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def failed(problem: EnsignError) -> Finding:
    """What has to be mended before the pipeline can run."""
    return Finding("error", problem.code, problem.sentence, problem.remedy)


def warned(word: str, sentence: str, remedy: str) -> Finding:
    """What should be mended."""
    return Finding("warning", f"postgres.{word}", sentence, remedy)


def passed(word: str, sentence: str) -> Finding:
    return Finding("pass", f"postgres.{word}", sentence)


def slot_findings(
    session: Session, config: PostgresConfig, pipeline: str, server: Server
) -> Iterator[Finding]:
    """The slot itself, if it is there; what it keeps; what may take it away."""
    name = config.slot_name(pipeline)
    found = slot.find_slot(session, name)
    if found is None:
        yield passed("slot", f"Replication slot {name} will be made.")
    else:
        yield from _slot(session, found, name, server, application_name(pipeline))
    yield from _limits(session, config, name)
    if config.failover:
        yield from _failover(session, found, name, server)
    if server.standby:
        yield from _standby(session)


def _slot(
    session: Session, found: slot.Slot, name: str, server: Server, application: str
) -> Iterator[Finding]:
    facts = {"slot": name, "other": found.database, "database": server.database}
    if found.plugin != "pgoutput":
        yield failed(error("slot_foreign", **facts))
    elif found.database != server.database:
        yield failed(error("slot_other_database", **facts))
    elif found.invalid:
        yield failed(slot.lost(session, found.invalid))
    elif found.synced:
        yield failed(error("slot_synced.busy", **facts))
    elif found.pid:
        ours = found.walsender and (found.user, found.application) == (server.user, application)
        remedy = "Nothing to do if that is this pipeline; else stop the other reader."
        if ours:
            remedy = (
                "Nothing to do while the pipeline runs; if it does not, the connection is left "
                "over: the server notices within wal_sender_timeout, stale_walsender: terminate "
                "ends it at once."
            )
        sentence = f"Replication slot {name} is in use by {found.holder}."
        yield warned("slot_in_use", sentence, remedy)
    else:
        yield passed("slot", f"Replication slot {name} is there and free.")


_SETTINGS: Final = """
SELECT current_setting('max_slot_wal_keep_size'),
       coalesce((SELECT setting::int FROM pg_catalog.pg_settings
                 WHERE name = 'idle_replication_slot_timeout'), 0)
"""


def _limits(session: Session, config: PostgresConfig, name: str) -> Iterator[Finding]:
    kept = slot.retention(session, name)[1]
    if kept.restart:
        from_bytes = retention.threshold(config.wal_warn_bytes, kept.limit_bytes)
        if retention.endangered(kept):
            found = retention.slot_endangered(name, kept)
            yield Finding("warning", found.code, found.sentence, found.remedy)
        elif kept.kept_bytes >= from_bytes or kept.wal_status == "extended":
            found = retention.wal_kept(name, kept)
            yield Finding("warning", found.code, found.sentence, found.remedy)
    keep, idle = session.rows(_SETTINGS, doing="reading the server's limits")[0]
    if keep == "-1":
        yield warned(
            "wal_unlimited",
            "max_slot_wal_keep_size is unlimited: a pipeline that does not run for long fills the "
            "server's disk with WAL.",
            "ALTER SYSTEM SET max_slot_wal_keep_size to what the disk can spare, and watch lag.",
        )
    if int(str(idle)):
        yield warned(
            "slot_idle_limit",
            f"idle_replication_slot_timeout is {idle} s: a pipeline that does not run for longer "
            "loses its slot.",
            "ALTER SYSTEM SET idle_replication_slot_timeout to more than the longest time that the "
            "pipeline may be stopped, or to 0.",
        )


_STANDBYS: Final = """
SELECT current_setting('synchronized_standby_slots'),
       (SELECT string_agg(slot_name, ', ' ORDER BY slot_name)
        FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical')
"""


def _failover(
    session: Session, found: slot.Slot | None, name: str, server: Server
) -> Iterator[Finding]:
    try:
        slot.check_failover(server)
    except EnsignError as problem:
        yield failed(problem)
        return
    if found is not None and not found.failover:
        yield warned(
            "slot_not_failover",
            f"Replication slot {name} was made without failover.",
            "Nothing to do: the pipeline changes that when it runs next.",
        )
    row = session.rows(_STANDBYS, doing="looking for standbys")[0]
    listed, standbys = str(row[0] or ""), str(row[1] or "")
    if not standbys:
        yield warned(
            "failover_no_standby",
            "No standby has a replication slot here, so that none keeps a copy of the slot.",
            "On the standby set primary_slot_name, hot_standby_feedback = on, "
            "sync_replication_slots = on, and a dbname in primary_conninfo.",
        )
    elif not listed.strip():
        yield warned(
            "failover_ahead",
            "synchronized_standby_slots is empty: the pipeline may have changes that a standby "
            "does not have when it is promoted.",
            f"ALTER SYSTEM SET synchronized_standby_slots = '{standbys}' (only the slots of "
            "standbys that may be promoted), then SELECT pg_reload_conf().",
        )
    else:
        yield passed("failover", f"Standbys that are waited for: {listed}.")


def _standby(session: Session) -> Iterator[Finding]:
    feedback = session.rows("SELECT current_setting('hot_standby_feedback')")[0][0]
    if feedback == "on":
        yield passed("standby", "The server is a standby with hot_standby_feedback.")
        return
    yield warned(
        "standby_feedback",
        "The server is a standby without hot_standby_feedback: a vacuum on the primary may "
        "invalidate the slot.",
        "On the standby: ALTER SYSTEM SET hot_standby_feedback = on, with a primary_slot_name, "
        "then SELECT pg_reload_conf().",
    )
