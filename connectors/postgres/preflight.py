"""What `ensign check` says of tables and their publication, each with the statement that mends it.
Changes nothing, and waits for no lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from connectors.postgres import catalog, discovery, identities
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.publication import (
    addition,
    check_suitable,
    creation,
    ensure_publication,
    find_publication,
    spelled,
)
from connectors.postgres.relations import excluded_key
from connectors.postgres.session import Session
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
        yield from _unsuitable(session, config)
        return
    yield Finding("pass", "postgres.tables", f"{len(wanted)} tables are captured.")
    if config.snapshot != "never":
        yield from _readable(session, wanted, server.user)
    yield from _children(session, wanted)
    yield from _columns(session, config, wanted)
    name = config.publication_name(pipeline)
    found, made = find_publication(session, name), creation(config, name, wanted)
    yield from identities.findings(session, wanted, found, made)
    if session.read_only:
        yield from _published(session, config, wanted, name)
        return
    if found is None:
        yield from _may_publish(session, wanted, server, name, made)
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


def _published(
    session: Session, config: PostgresConfig, wanted: list[catalog.Table], name: str
) -> Iterator[Finding]:
    """Where nothing is written, all must be there."""
    try:
        ensure_publication(session, config, name, wanted, patient=True)
    except EnsignError as failed:
        yield _failed(failed)
    else:
        sentence = f"Publication {name} is there; nothing is written here."
        yield Finding("pass", "postgres.publication", sentence)


def _failed(failed: EnsignError) -> Finding:
    return Finding("error", failed.code, failed.sentence, failed.remedy)


def _found(word: str, **facts: object) -> Finding:
    return _failed(error(word, **facts))


_KIND = """
SELECT CASE WHEN c.relispartition THEN 'a partition' WHEN c.relkind = 'v' THEN 'a view'
            WHEN c.relkind = 'm' THEN 'a materialized view'
            WHEN c.relkind = 'f' THEN 'a foreign table'
            WHEN c.relkind = 'p' THEN 'a partitioned table'
            WHEN c.relpersistence = 'u' THEN 'an unlogged table'
            WHEN c.relpersistence = 't' THEN 'a temporary table'
            WHEN c.relkind = 'S' THEN 'a sequence' ELSE 'no table' END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = $1
"""

_MENDS: Final = {
    "a partition": "Name the table that it is a partition of, or set partitions: leaf",
    "a view": "Capture the tables that it reads",
    "a materialized view": "Capture the tables that it reads",
    "a foreign table": "Capture it on the server that has it",
    "a partitioned table": "Make a partition that is an ordinary table",
    "an unlogged table": "ALTER TABLE {table} SET LOGGED",
}


def _unsuitable(session: Session, config: PostgresConfig) -> Iterator[Finding]:
    """What the names are that no table was found for."""
    for name in config.tables:
        schema, _, table = name.partition(".")
        if config.captures(schema, table):
            for (kind,) in session.rows(_KIND, (name,), doing="looking for a table"):
                mend = _MENDS.get(str(kind), "Name a table")
                statement = mend.format(table=f"{spelled(schema)}.{spelled(table)}")
                if kind != "no table":
                    yield _found("table_unsuitable", table=name, kind=kind, mend=statement)


_SECURED = "SELECT o FROM unnest($1::oid[]) o WHERE row_security_active(o)"


def _readable(session: Session, wanted: list[catalog.Table], user: str) -> Iterator[Finding]:
    """Whether a snapshot may read the tables, and all of their rows."""
    for table in wanted:
        if not table.readable:
            failed = error("select_privilege", user=user, table=table.full_name)
            schema, role = spelled(table.schema), spelled(user)
            grants = (
                f"GRANT USAGE ON SCHEMA {schema} TO {role}; "
                f"GRANT SELECT ON {schema}.{spelled(table.name)} TO {role}."
            )
            yield Finding("error", failed.code, failed.sentence, grants)
    rows = session.rows(_SECURED, (_oids(wanted),), doing="looking at row security")
    secured = {int(str(oid)) for (oid,) in rows}
    statement = f"ALTER ROLE {spelled(user)} BYPASSRLS"
    for table in wanted:
        if table.oid in secured:
            yield _found("row_security", table=table.full_name, user=user, statement=statement)


_CHILDREN = """
SELECT i.inhparent::bigint, i.inhrelid::bigint, n.nspname || '.' || c.relname
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = ANY($1::oid[]) AND NOT c.relispartition
"""


def _children(session: Session, wanted: list[catalog.Table]) -> Iterator[Finding]:
    """Tables that inherit from captured ones and are not captured themselves."""
    captured = {table.oid: table.full_name for table in wanted}
    for parent, oid, child in session.rows(_CHILDREN, (_oids(wanted),)):
        if int(str(oid)) not in captured:
            table = captured[int(str(parent))]
            failed = error("children_missing", child=child, table=table)
            yield Finding("warning", failed.code, failed.sentence, failed.remedy)


def _columns(
    session: Session, config: PostgresConfig, wanted: list[catalog.Table]
) -> Iterator[Finding]:
    """Columns of keys that the config leaves out."""
    if config.columns is None:
        return
    for table in wanted:
        description = catalog.describe(session, table.oid)
        lost = excluded_key(config, description) if description is not None else None
        if lost is not None:
            yield _found("column_key_excluded", column=lost)


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
    foreign = {int(str(row[0])) for row in session.rows(_OWNERSHIP, (_oids(wanted),))}
    if foreign:
        names = ", ".join(table.full_name for table in wanted if table.oid in foreign)
        yield _found(
            "privilege_missing", user=server.user, doing=f"publishing {names}",
            statement=statement,
        )  # fmt: skip
        return
    row = session.rows("SELECT has_database_privilege(current_database(), 'CREATE')")[0]
    if row[0] != "t":
        grant = f"GRANT CREATE ON DATABASE {spelled(server.database)} TO {spelled(server.user)}"
        yield _found(
            "privilege_missing", user=server.user, doing=f"making publication {name}",
            statement=grant,
        )  # fmt: skip


def _oids(tables: list[catalog.Table]) -> str:
    return "{" + ",".join(str(table.oid) for table in tables) + "}"
