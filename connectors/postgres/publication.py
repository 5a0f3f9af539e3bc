"""The publication: looked at, made, and tables added to it.

Its members are read from the catalog's tables, not from pg_publication_tables: since PostgreSQL 18
that view waits for every lock on every member, so that one locked table would hold up all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from connectors.postgres.catalog import Root, Table
from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.position import Snapshots
from connectors.postgres.published import LISTS_VERSION_MIN, filter_mark
from connectors.postgres.session import Session, quoted
from ensign_core.errors import EnsignError

OPERATIONS: Final = ("insert", "update", "delete", "truncate")


@dataclass(frozen=True)
class Publication:
    """``lacking`` are operations that it leaves out. ``members`` are oids of tables with those of
    their rows in pg_publication_rel, which change when a table is taken out and put back;
    ``filters`` has for those that have a column list or a row filter the `filter_mark`;
    ``schemas`` are published as a whole."""

    name: str
    oid: int
    all_tables: bool
    via_root: bool
    lacking: tuple[str, ...]
    members: dict[int, int]
    filters: dict[int, int]
    schemas: frozenset[str]

    def member(self, table: Table) -> int | None:
        """The table's oid in pg_publication_rel, or that of a root of which it is a partition; 0
        where it is published with a schema or with all tables, None where it is not published."""
        among: list[Table | Root] = [table, *reversed(table.roots)]
        if self.all_tables or any(each.schema in self.schemas for each in among):
            return 0
        return next((self.members[each.oid] for each in among if each.oid in self.members), None)

    def filter(self, table: Table) -> int:
        """The `filter_mark` of the table, 0 where the publication leaves nothing of it out."""
        if self.all_tables or table.schema in self.schemas:
            return 0
        return self.filters.get(table.oid, 0)


_PUBLICATION = """
SELECT oid, puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate
FROM pg_catalog.pg_publication WHERE pubname = $1
"""
_MEMBERS = """
SELECT prrelid, oid, to_jsonb(r) ->> 'prattrs', to_jsonb(r) ->> 'prqual'
FROM pg_catalog.pg_publication_rel r WHERE prpubid = $1::oid
"""

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
    if session.conn.server_version >= LISTS_VERSION_MIN:
        schemas = session.rows(_SCHEMAS, (oid,), doing=doing)
    return Publication(
        name, int(str(oid)), flags[0], flags[1],
        tuple(op for op, there in zip(OPERATIONS, flags[2:], strict=True) if not there),
        {int(str(table)): int(str(row)) for table, row, _, _ in members},
        {int(str(t)): filter_mark(attrs, qual) for t, _, attrs, qual in members if attrs or qual},
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
    for table in wanted:
        if table.partitioned if not found.via_root else table.roots:
            raise via_root_unsuitable(found.name, table.full_name, wanted=not found.via_root)


def via_root_unsuitable(name: str, table: str, *, wanted: bool) -> EnsignError:
    """The error for a publication whose changes of partitions come under the wrong names."""
    now, whose = ("off", "its root's name") if wanted else ("on", "the names of the leaves")
    return error(
        "publication_unsuitable", publication=name,
        lack=f"has publish_via_partition_root {now}, and {table} is captured under {whose}",
        setting=f"publish_via_partition_root = {str(wanted).lower()}",
    )  # fmt: skip


_STILL = """
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid AND n.nspname = $2 AND c.relname = $3 AND c.relispartition = $4::bool
"""


def check_publication(
    session: Session, name: str, oid: int, known: Iterable[Table], snapshots: Snapshots
) -> None:
    """Raise unless the publication is the one with ``oid`` and has had all of ``known`` since they
    were taken up: changes made while it was not there, or a table was not in it, are in no stream,
    and newer servers skip them without an error.

    Tables of which it publishes other columns or rows now than then, and those that were published
    with a root that they are detached from, are left, so that they are taken up and read anew."""
    listed = list(known)
    found = find_publication(session, name)
    if found is None:
        raise error("publication_missing", **session.facts)
    if found.oid != oid:
        raise error("publication_recreated", **session.facts)
    for table in listed:
        now, before = found.member(table), snapshots.members.get(table.oid)
        changed = found.filter(table) != snapshots.filters.get(table.oid, 0)
        if now is not None and (changed or before in (None, now, found.members.get(table.oid))):
            if changed:
                snapshots.leave(table.oid)
            continue
        if now is None and before in found.members.values():
            snapshots.leave(table.oid)
            continue
        # Dropped or renamed since the tables were listed: not taken out by anybody.
        facts = str(table.oid), table.schema, table.name, "t" if table.roots else "f"
        if session.rows(_STILL, facts, doing="looking for a table"):
            raise error("table_unpublished", **session.facts, table=table.full_name)
    check_suitable(found, listed)


def ensure_publication(
    session: Session,
    config: PostgresConfig,
    name: str,
    wanted: Iterable[Table],
    *,
    patient: bool,
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
        return _as_it_is(found, config, name, listed, patient=patient)
    if found is None:
        if not _change(session, creation(config, name, listed), "42P01"):
            _change(session, creation(config, name, ()))
        found = _found(session, name)
    check_suitable(found, listed)
    lacking = [t for t in listed if found.member(t) is None]
    if lacking:
        later = ("42P01",) if patient else ("42P01", "55P03")
        if not _change(session, addition(config, name, lacking), *later):
            for table in lacking:
                _change(session, addition(config, name, [table]), *later)
        found = _found(session, name)
    return found


def _as_it_is(
    found: Publication | None,
    config: PostgresConfig,
    name: str,
    wanted: list[Table],
    *,
    patient: bool,
) -> Publication:
    if found is None:
        raise error(
            "publication_needed", publication=name, lack="is not there",
            statement=creation(config, name, wanted),
        )  # fmt: skip
    check_suitable(found, wanted)
    lacking = [t for t in wanted if found.member(t) is None]
    if lacking and (patient or len(lacking) == len(wanted)):
        raise error(
            "publication_needed", publication=name,
            lack=f"lacks {', '.join(table.full_name for table in lacking)}",
            statement=addition(config, name, lacking),
        )  # fmt: skip
    return found


def _found(session: Session, name: str) -> Publication:
    found = find_publication(session, name)
    if found is None:
        raise error("publication_missing", publication=name)
    return found


def creation(config: PostgresConfig, name: str, wanted: Iterable[Table]) -> str:
    """The statement that makes the publication."""
    names = _names(config, wanted)
    via_root = str(config.partitions == "root").lower()
    return (
        f"CREATE PUBLICATION {quoted(name)}{' FOR TABLE ' if names else ''}{names} "
        f"WITH (publish_via_partition_root = {via_root})"
    )


def addition(config: PostgresConfig, name: str, wanted: Iterable[Table]) -> str:
    """The statement that adds tables to the publication."""
    return f"ALTER PUBLICATION {quoted(name)} ADD TABLE {_names(config, wanted)}"


def _names(config: PostgresConfig, listed: Iterable[Table]) -> str:
    """What is published for these tables. For leaves it is the topmost of their roots that the
    config names, so that partitions made later are published from their first row on."""
    targets: dict[int, Table | Root] = {}
    for table in listed:
        roots = (r for r in table.roots if config.captures(r.schema, r.name))
        target = next(roots, table)
        targets[target.oid] = target
    # A partitioned table is published with its partitions, ONLY or not.
    return ", ".join(f"ONLY {spelled(t.schema)}.{spelled(t.name)}" for t in targets.values())


def spelled(name: str) -> str:
    """An SQL identifier that can be shown: on one line, whatever characters it has."""
    if name.isprintable():
        return quoted(name)
    parts = [
        c.replace("\\", "\\\\") if c.isprintable() else f"\\+{ord(c):06X}" for c in name
    ]  # fmt: skip
    return f"U&{quoted(''.join(parts))}"


def _change(session: Session, statement: str, *later: str) -> bool:
    """Run it; False where it failed with a SQLSTATE in ``later``."""
    state = session.query(
        statement,
        doing="publishing tables",
        statement=statement,
        tolerate=("42710", *later),  # duplicate_object: somebody else added it meanwhile
    )
    return not isinstance(state, str) or state not in later
