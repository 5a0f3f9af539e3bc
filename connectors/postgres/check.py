"""The preflight: what `ensign check` says of a server, and `ensign drop`. Changes nothing but what
`drop` is asked to drop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.postgres import catalog, slot
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.publication import (
    check_suitable,
    ensure_publication,
    find_publication,
)
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
    yield from _tables(session, config, pipeline, server)


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


def _tables(
    session: Session, config: PostgresConfig, pipeline: str, server: catalog.Server
) -> Iterator[Finding]:
    try:
        wanted = slot.captured_tables(catalog.tables(session), config)
    except EnsignError as problem:
        yield failed(problem)
        return
    yield passed("tables", f"{len(wanted)} tables are captured.")
    for table in wanted:
        if not table.readable and config.snapshot != "never":
            yield _found("select_privilege", user=server.user, table=table.full_name)
        if table.identity == "n" or (table.identity == "d" and not table.keyed):
            yield _found("identity_missing", table=table.full_name)
    name = config.publication_name(pipeline)
    found = find_publication(session, name)
    if session.read_only:
        yield from _published(session, wanted, name)
        return
    if found is None:
        yield from _may_publish(session, wanted, server.user, name)
        return
    try:
        check_suitable(found, wanted)
    except EnsignError as problem:
        yield failed(problem)
    lacking = [t for t in wanted if found.member(t) is None]
    if lacking:
        yield from _may_publish(session, lacking, server.user, name)
    yield passed("publication", f"Publication {name} is there.")


def _published(session: Session, wanted: list[catalog.Table], name: str) -> Iterator[Finding]:
    """Where nothing is written, all must be there."""
    try:
        ensure_publication(session, name, wanted, patient=True)
    except EnsignError as problem:
        yield failed(problem)
    else:
        yield passed("publication", f"Publication {name} is there; nothing is written here.")


_OWNERSHIP = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.oid = ANY($1::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')
"""


def _may_publish(
    session: Session, wanted: list[catalog.Table], user: str, name: str
) -> Iterator[Finding]:
    """Publishing a table takes its owner, and a publication takes CREATE on the database."""
    oids = "{" + ",".join(str(table.oid) for table in wanted) + "}"
    foreign = {int(str(row[0])) for row in session.rows(_OWNERSHIP, (oids,))}
    if foreign:
        names = ", ".join(table.full_name for table in wanted if table.oid in foreign)
        yield _found(
            "privilege_missing", user=user, doing=f"publishing {names}",
            statement=f"CREATE PUBLICATION {name} FOR TABLE {names} "
            "WITH (publish_via_partition_root = true)",
        )  # fmt: skip
        return
    row = session.rows("SELECT has_database_privilege(current_database(), 'CREATE')")[0]
    if row[0] != "t":
        yield _found(
            "privilege_missing", user=user, doing=f"making publication {name}",
            statement=f'GRANT CREATE ON DATABASE (the database) TO "{user}"',
        )  # fmt: skip
