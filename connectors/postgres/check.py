"""The preflight: what `ensign check` says of a server, and `ensign drop`. Changes nothing but what
`drop` is asked to drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.postgres import catalog, preflight, slot
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.session import Session
from connectors.postgres.slot_check import failed, passed, slot_findings
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def check(config: PostgresConfig, pipeline: str) -> Sequence[Finding]:
    """Connect, look, disconnect. What fails is a finding, not an exception."""
    try:
        session = Session(config, pipeline)
    except EnsignError as problem:
        return [failed(problem)]
    try:
        return list(_findings(session, config, pipeline))
    except EnsignError as problem:
        return [failed(problem)]
    finally:
        session.close()


def drop(config: PostgresConfig, pipeline: str) -> Sequence[str]:
    """Drop slot and publication; says what was dropped. Raises ``postgres.slot_in_use`` while the
    pipeline runs."""
    session = Session(config, pipeline)
    try:
        session.read_only = session.read_only or catalog.server(session).standby
        return slot.drop(session, config.slot_name(pipeline), config.publication_name(pipeline))
    finally:
        session.close()


def _found(word: str, **facts: object) -> Finding:
    return failed(error(word, **facts))


def _findings(session: Session, config: PostgresConfig, pipeline: str) -> Iterator[Finding]:
    server = catalog.server(session)
    session.read_only = session.read_only or server.standby
    session.facts |= {"pipeline": pipeline, "slot": config.slot_name(pipeline)}
    version = f"{server.version // 10000}.{server.version % 10000}"
    try:
        slot.check_server(server)
    except EnsignError as problem:
        yield failed(problem)
    else:
        yield passed("server", f"PostgreSQL {version} with wal_level logical.")
    if server.replication:
        yield passed("replication", f"User {server.user} may replicate.")
    else:
        yield from _replication(config, pipeline, server.user)
    yield from _pooler(session)
    yield from slot_findings(session, config, pipeline, server)
    needs_slot = slot.find_slot(session, config.slot_name(pipeline)) is None
    yield from _capacity(session, needs_slot=needs_slot)
    yield from preflight.findings(session, config, pipeline, server)


def _pooler(session: Session) -> Iterator[Finding]:
    """A pooler gives its clients process ids of its own."""
    pid = session.rows("SELECT pg_backend_pid()")[0][0]
    if pid != str(session.conn.backend_pid):
        yield _as_warning(error("pooler", **session.facts))


def _as_warning(problem: EnsignError) -> Finding:
    return Finding("warning", problem.code, problem.sentence, problem.remedy)


def _replication(config: PostgresConfig, pipeline: str, user: str) -> Iterator[Finding]:
    """Some hosted servers grant replication by membership of a role: ask by trying."""
    try:
        Session(config, pipeline, replication=True).close()
    except EnsignError as problem:
        if problem.code == "postgres.privilege_missing":
            yield _found("replication_privilege", user=user)
        else:
            yield failed(problem)
    else:
        yield passed("replication", f"User {user} may replicate.")


_CAPACITY = """
SELECT current_setting('max_replication_slots')::int
         - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       current_setting('max_wal_senders')::int
         - (SELECT count(*) FROM pg_catalog.pg_stat_replication)
"""


def _capacity(session: Session, *, needs_slot: bool) -> Iterator[Finding]:
    slots, senders = session.rows(_CAPACITY, doing="reading the server's limits")[0]
    if needs_slot and int(slots or 0) <= 0:
        yield _found("no_free_slot")
    if int(senders or 0) <= 0:
        yield _found("too_many_connections")
