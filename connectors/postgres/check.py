"""The preflight: what `ensign check` says of a server, and `ensign drop`. Changes nothing but what
`drop` is asked to drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.postgres import catalog, preflight, slot
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.session import Session
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def check(config: PostgresConfig, pipeline: str) -> Sequence[Finding]:
    """Connect, look, disconnect. What fails is a finding, not an exception."""
    try:
        session = Session(config, pipeline)
    except EnsignError as failed:
        return [_failed(failed)]
    try:
        return list(_findings(session, config, pipeline))
    except EnsignError as failed:
        return [_failed(failed)]
    finally:
        session.close()


def drop(config: PostgresConfig, pipeline: str) -> Sequence[str]:
    """Drop slot and publication; says what was dropped. Raises ``postgres.slot_in_use`` while the
    pipeline runs."""
    session = Session(config, pipeline)
    try:
        return slot.drop(session, config.slot_name(pipeline), config.publication_name(pipeline))
    finally:
        session.close()


def _failed(failed: EnsignError) -> Finding:
    return Finding("error", failed.code, failed.sentence, failed.remedy)


def _found(word: str, **facts: object) -> Finding:
    return _failed(error(word, **facts))


def _passed(word: str, sentence: str) -> Finding:
    return Finding("pass", f"postgres.{word}", sentence)


def _findings(session: Session, config: PostgresConfig, pipeline: str) -> Iterator[Finding]:
    server = catalog.server(session)
    version = f"{server.version // 10000}.{server.version % 10000}"
    try:
        slot.check_server(server)
    except EnsignError as failed:
        yield _failed(failed)
    else:
        yield _passed("server", f"PostgreSQL {version} with wal_level logical.")
    if server.replication:
        yield _passed("replication", f"User {server.user} may replicate.")
    else:
        yield from _replication(config, pipeline, server.user)
    slot_name = config.slot_name(pipeline)
    found = slot.find_slot(session, slot_name)
    yield from _slot(found, slot_name, server.database)
    yield from _capacity(session, needs_slot=found is None)
    yield from preflight.findings(session, config, pipeline, server)


def _replication(config: PostgresConfig, pipeline: str, user: str) -> Iterator[Finding]:
    """Some hosted servers grant replication by membership of a role: ask by trying."""
    try:
        Session(config, pipeline, replication=True).close()
    except EnsignError as failed:
        if failed.code == "postgres.privilege_missing":
            yield _found("replication_privilege", user=user)
        else:
            yield _failed(failed)
    else:
        yield _passed("replication", f"User {user} may replicate.")


def _slot(found: slot.Slot | None, name: str, database: str) -> Iterator[Finding]:
    if found is None:
        yield _passed("slot", f"Replication slot {name} will be made.")
        return
    if found.plugin != "pgoutput":
        yield _found("slot_foreign", slot=name)
    elif found.database != database:
        yield _found("slot_other_database", slot=name, other=found.database, database=database)
    elif found.wal_status == "lost":
        yield _found("slot_lost", slot=name)
    elif found.pid:
        yield Finding(
            "warning", "postgres.slot_in_use",
            f"Replication slot {name} is in use by process {found.pid} "
            f"({found.application or 'unnamed'}).",
            "Nothing to do if that is this pipeline; else stop the other reader.",
        )  # fmt: skip
    elif found.wal_status in ("unreserved", "extended"):
        yield Finding(
            "warning", "postgres.slot_behind",
            f"Replication slot {name} holds {found.lag_bytes} bytes of WAL ({found.wal_status}).",
            "Run the pipeline, and raise max_slot_wal_keep_size before the server drops the WAL.",
        )  # fmt: skip
    else:
        yield _passed("slot", f"Replication slot {name} is there and free.")


_CAPACITY = """
SELECT current_setting('max_replication_slots')::int
         - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       current_setting('max_wal_senders')::int
         - (SELECT count(*) FROM pg_catalog.pg_stat_replication),
       current_setting('max_slot_wal_keep_size')
"""


def _capacity(session: Session, *, needs_slot: bool) -> Iterator[Finding]:
    slots, senders, keep = session.rows(_CAPACITY, doing="reading the server's limits")[0]
    if needs_slot and int(slots or 0) <= 0:
        yield _found("no_free_slot")
    if int(senders or 0) <= 0:
        yield _found("too_many_connections")
    if keep == "-1":
        yield Finding(
            "warning", "postgres.wal_unlimited",
            "max_slot_wal_keep_size is unlimited: a pipeline that does not run for long fills the "
            "server's disk with WAL.",
            "ALTER SYSTEM SET max_slot_wal_keep_size to what the disk can spare, and watch lag.",
        )  # fmt: skip
