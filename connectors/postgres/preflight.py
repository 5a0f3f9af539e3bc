"""What `ensign check` says of tables and their publication, each with the statement that mends it.
Changes nothing, and waits for no lock."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.postgres import catalog, discovery
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.publication import (
    addition,
    check_suitable,
    creation,
    find_publication,
)
from connectors.postgres.session import Session, quoted
from connectors.postgres.slot import captured_tables
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def findings(
    session: Session, config: PostgresConfig, pipeline: str, server: catalog.Server
) -> Iterator[Finding]:
    """The findings of one pipeline's tables."""
    listed = discovery.listed(session, config)
    try:
        wanted = captured_tables(listed, config)
    except EnsignError as failed:
        yield _failed(failed)
        return
    yield Finding("pass", "postgres.tables", f"{len(wanted)} tables are captured.")
    for table in wanted:
        if not table.readable and config.snapshot != "never":
            yield _found("select_privilege", user=server.user, table=table.full_name)
        if table.identity == "n" or (table.identity in "di" and not table.keyed):
            yield _found("identity_missing", table=table.full_name)
    name = config.publication_name(pipeline)
    found = find_publication(session, name)
    if found is None:
        statement = creation(config, name, wanted)
        yield from _may_publish(session, wanted, server, name, statement)
        return
    try:
        check_suitable(found, wanted)
    except EnsignError as failed:
        yield _failed(failed)
    lacking = [t for t in wanted if found.member(t) is None]
    if lacking:
        statement = addition(config, name, lacking)
        yield from _may_publish(session, lacking, server, name, statement)
    yield Finding("pass", "postgres.publication", f"Publication {name} is there.")


def _failed(failed: EnsignError) -> Finding:
    return Finding("error", failed.code, failed.sentence, failed.remedy)


def _found(word: str, **facts: object) -> Finding:
    return _failed(error(word, **facts))


_OWNERSHIP = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.oid = ANY($1::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')
"""


def _may_publish(
    session: Session,
    wanted: list[catalog.Table],
    server: catalog.Server,
    name: str,
    statement: str,
) -> Iterator[Finding]:
    """Publishing a table takes its owner, and a publication takes CREATE on the database."""
    oids = "{" + ",".join(str(table.oid) for table in wanted) + "}"
    foreign = {int(str(row[0])) for row in session.rows(_OWNERSHIP, (oids,))}
    if foreign:
        names = ", ".join(table.full_name for table in wanted if table.oid in foreign)
        yield _found(
            "privilege_missing", user=server.user, doing=f"publishing {names}",
            statement=statement,
        )  # fmt: skip
        return
    row = session.rows("SELECT has_database_privilege(current_database(), 'CREATE')")[0]
    if row[0] != "t":
        grant = f"GRANT CREATE ON DATABASE {quoted(server.database)} TO {quoted(server.user)}"
        yield _found(
            "privilege_missing", user=server.user, doing=f"making publication {name}",
            statement=grant,
        )  # fmt: skip
