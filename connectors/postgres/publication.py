"""The publication: looked at, made, and tables added to it.

Its members are read from the catalog's tables, not from pg_publication_tables: since PostgreSQL 18
that view waits for every lock on every member, so that one locked table would hold up all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from connectors.postgres.catalog import Table
from connectors.postgres.errors import error
from connectors.postgres.position import Snapshots
from connectors.postgres.session import Session, quoted

OPERATIONS: Final = ("insert", "update", "delete", "truncate")

SCHEMAS_VERSION_MIN: Final = 150000
"""The first version with FOR TABLES IN SCHEMA."""


@dataclass(frozen=True)
class Publication:
    """``lacking`` are operations that it leaves out. ``members`` are oids of tables with those of
    their rows in pg_publication_rel, which change when a table is taken out and put back;
    ``schemas`` are published as a whole."""

    name: str
    oid: int
    all_tables: bool
    via_root: bool
    lacking: tuple[str, ...]
    members: dict[int, int]
    schemas: frozenset[str]

    def member(self, table: Table) -> int | None:
        """The table's oid in pg_publication_rel, 0 where it is published with its schema or with
        all tables, None where it is not published."""
        if self.all_tables or table.schema in self.schemas:
            return 0
        return self.members.get(table.oid)


_PUBLICATION = """
SELECT oid, puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate
FROM pg_catalog.pg_publication WHERE pubname = $1
"""
_MEMBERS = "SELECT prrelid, oid FROM pg_catalog.pg_publication_rel WHERE prpubid = $1::oid"
_SCHEMAS = """
SELECT n.nspname FROM pg_catalog.pg_publication_namespace p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pnnspid WHERE p.pnpubid = $1::oid
"""


def find_publication(session: Session, name: str) -> Publication | None:
    """The publication as it is now. Waits for no lock on its tables."""
    doing = "looking at the publication"
    rows = session.rows(_PUBLICATION, (name,), doing=doing)
    if not rows:
        return None
    oid, *values = rows[0]
    flags = [value == "t" for value in values]
    members = session.rows(_MEMBERS, (oid,), doing=doing)
    schemas = []
    if session.conn.server_version >= SCHEMAS_VERSION_MIN:
        schemas = session.rows(_SCHEMAS, (oid,), doing=doing)
    return Publication(
        name, int(str(oid)), flags[0], flags[1],
        tuple(op for op, there in zip(OPERATIONS, flags[2:], strict=True) if not there),
        {int(str(table)): int(str(row)) for table, row in members},
        frozenset(str(schema) for (schema,) in schemas),
    )  # fmt: skip


def check_suitable(found: Publication, wanted: Iterable[Table]) -> None:
    """Raise ``postgres.publication_unsuitable`` where changes of ``wanted`` would not come, or not
    under the tables' names."""
    if found.lacking:
        raise error(
            "publication_unsuitable", publication=found.name,
            lack=f"does not publish {', '.join(found.lacking)}",
            setting=f"publish = '{', '.join(OPERATIONS)}'",
        )  # fmt: skip
    partitioned = next((t for t in wanted if t.partitioned), None)
    if partitioned is not None and not found.via_root:
        raise error(
            "publication_unsuitable", publication=found.name,
            lack="has publish_via_partition_root off, and "
            f"{partitioned.full_name} is partitioned",
            setting="publish_via_partition_root = true",
        )  # fmt: skip


_STILL = """
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid AND n.nspname = $2 AND c.relname = $3 AND NOT c.relispartition
"""


def check_publication(
    session: Session, name: str, oid: int, known: Iterable[Table], snapshots: Snapshots
) -> None:
    """Raise unless the publication is the one with ``oid`` and has had all of ``known`` since they
    were taken up: changes made while it was not there, or a table was not in it, are in no stream,
    and newer servers skip them without an error."""
    listed = list(known)
    found = find_publication(session, name)
    if found is None:
        raise error("publication_missing", **session.facts)
    if found.oid != oid:
        raise error("publication_recreated", **session.facts)
    for table in listed:
        now, before = found.member(table), snapshots.members.get(table.oid)
        if now is not None and before in (None, now):
            continue
        # Dropped or renamed since the tables were listed: not taken out by anybody.
        facts = str(table.oid), table.schema, table.name
        if session.rows(_STILL, facts, doing="looking for a table"):
            raise error("table_unpublished", **session.facts, table=table.full_name)
    check_suitable(found, listed)


def ensure_publication(
    session: Session, name: str, wanted: Iterable[Table], *, patient: bool
) -> Publication:
    """Make the publication, or add what it lacks; how it is then. Raises
    ``postgres.privilege_missing`` with the statement to run where the user may not. Tables that are
    gone meanwhile are left out; so are locked ones, unless ``patient``, which raises
    ``postgres.timeout``. Where the session is read-only nothing is changed, and
    ``postgres.publication_needed`` is raised where any of ``wanted`` is not published: all, unless
    ``patient``."""
    listed = list(wanted)
    found = find_publication(session, name)
    if session.read_only:
        return _as_it_is(found, name, listed, patient=patient)
    if found is None:
        made = f"CREATE PUBLICATION {quoted(name)}{{}} WITH (publish_via_partition_root = true)"
        if not _change(session, made.format(f" FOR TABLE {_names(listed)}"), "42P01"):
            _change(session, made.format(""))
        found = _found(session, name)
    check_suitable(found, listed)
    lacking = [t for t in listed if found.member(t) is None]
    if lacking:
        later = ("42P01",) if patient else ("42P01", "55P03")
        adding = f"ALTER PUBLICATION {quoted(name)} ADD TABLE {{}}"
        if not _change(session, adding.format(_names(lacking)), *later):
            for table in lacking:
                _change(session, adding.format(_names([table])), *later)
        found = _found(session, name)
    return found


def creation(name: str, tables: Iterable[Table]) -> str:
    """The statement that makes the publication."""
    return (
        f"CREATE PUBLICATION {quoted(name)} FOR TABLE {_names(list(tables))} "
        "WITH (publish_via_partition_root = true)"
    )


def addition(name: str, tables: Iterable[Table]) -> str:
    """The statement that adds tables to it."""
    return f"ALTER PUBLICATION {quoted(name)} ADD TABLE {_names(list(tables))}"


def _as_it_is(
    found: Publication | None, name: str, wanted: list[Table], *, patient: bool
) -> Publication:
    if found is None:
        raise error(
            "publication_needed", publication=name, lack="is not there",
            statement=creation(name, wanted),
        )  # fmt: skip
    check_suitable(found, wanted)
    lacking = [t for t in wanted if found.member(t) is None]
    if lacking and (patient or len(lacking) == len(wanted)):
        raise error(
            "publication_needed", publication=name,
            lack=f"lacks {', '.join(table.full_name for table in lacking)}",
            statement=addition(name, lacking),
        )  # fmt: skip
    return found


def _found(session: Session, name: str) -> Publication:
    found = find_publication(session, name)
    if found is None:
        raise error("publication_missing", publication=name)
    return found


def _names(listed: list[Table]) -> str:
    # A partitioned table is published with its partitions, ONLY or not.
    return ", ".join(f"ONLY {quoted(t.schema)}.{quoted(t.name)}" for t in listed)


def _change(session: Session, statement: str, *later: str) -> bool:
    """Run it; False where it failed with a SQLSTATE in ``later``."""
    state = session.query(
        statement,
        doing="publishing tables",
        statement=statement,
        tolerate=("42710", *later),  # duplicate_object: somebody else added it meanwhile
    )
    return not isinstance(state, str) or state not in later
