"""What `ensign check` says of the captured tables. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from connectors.mysql import rowimage
from connectors.mysql.catalog import Catalog
from connectors.mysql.config import SYSTEM_DATABASES, MysqlConfig
from connectors.mysql.errors import error, name_facts
from connectors.mysql.findings import found, passed, warned
from connectors.mysql.lane import LOCK_DENIED
from connectors.mysql.retention import variables
from connectors.mysql.session import Server, Session, quoted
from connectors.mysql.structures import Structure
from ensign_core.plugin import Finding

NAMED_MAX: Final = 10
"""Tables that one sentence names."""

DENIED: Final = (1044, 1142, 1143)
"""Access denied to a database, a table, a column."""
NO_TABLE: Final = 1146
BUSY: Final = 1205

NOBODYS: Final = "ensign check"
"""A table that nobody has: whether a user may lock it is told without locking anything."""

Structures = Mapping[str, Structure]
"""The captured tables by name."""


class Filters(NamedTuple):
    """binlog_do_db and binlog_ignore_db, which nobody else tells."""

    only: Sequence[str]
    never: Sequence[str]


def findings(
    session: Session, config: MysqlConfig, known: Server, filters: Filters
) -> Iterator[Finding]:
    """The findings of one pipeline's tables."""
    catalog = Catalog(session, mariadb=known.mariadb)
    listed = catalog.tables(config)
    structures = {name: each.structure for name, each in listed.items()}
    if structures:
        yield passed("tables", f"Tables that are captured: {len(structures)}.")
    else:
        yield found("tables_unmatched", **session.facts)
    for place in catalog.doubled(config):
        yield warned("name_taken", **name_facts(place))
    yield from _globs(session, config, structures)
    yield from _filtered(structures, filters)
    yield from _readable(session, config, structures)
    yield from _cascades(session, structures)
    yield from tables(structures)


_OTHERS: Final = """
SELECT table_schema, table_name, table_type FROM information_schema.tables
WHERE table_type NOT IN ('BASE TABLE', 'SYSTEM VERSIONED')
"""


def _globs(session: Session, config: MysqlConfig, structures: Structures) -> Iterator[Finding]:
    """Globs of the config that match nothing: a letter is wrong, or a privilege is missing."""
    unmatched = [
        ("databases", glob)
        for glob in config.databases or ()
        if not any(fnmatchcase(s.database, glob) for s in structures.values())
    ]
    unmatched += [
        ("tables", glob)
        for glob in config.tables or ()
        if not any(fnmatchcase(name, glob) for name in structures)
    ]
    others = session.rows(_OTHERS) if unmatched else []
    for option, glob in unmatched:
        what = _what(option, glob, others, config)
        yield warned("glob_unmatched", option=option, glob=glob, what=what)
    if config.columns is None:
        return
    columns = [f"{name}.{c.name}" for name, s in structures.items() for c in s.columns]
    for glob in config.columns.include or config.columns.exclude or ():
        if not any(fnmatchcase(name, glob) for name in columns):
            yield warned("glob_unmatched", option="columns", glob=glob, what="no captured column")


def _what(option: str, glob: str, others: Iterable[Sequence[object]], config: MysqlConfig) -> str:
    """What a glob matches that matches no table."""
    if option == "databases":
        system = any(fnmatchcase(name, glob) for name in SYSTEM_DATABASES)
        return "system databases only, which are not captured" if system else "no database"
    for database, table, kind in others:
        if fnmatchcase(f"{database}.{table}", glob):
            return f"a {str(kind).lower()}, of which the binary log has no rows"
    if any(fnmatchcase(name, glob.partition(".")[0]) for name in SYSTEM_DATABASES):
        return "no table outside of the system's databases"
    return "no table that is not excluded" if config.exclude else "no table"


def _filtered(structures: Structures, filters: Filters) -> Iterator[Finding]:
    """Databases that the server keeps out of its log."""
    databases = sorted({s.database for s in structures.values()})
    name = "binlog_do_db" if filters.only else "binlog_ignore_db"
    lost = [
        database
        for database in databases
        if (filters.only and database not in filters.only)
        or (not filters.only and database in filters.never)
    ]
    for database in lost:
        yield found("log_filtered", filter=name, database=database)
    if (filters.only or filters.never) and not lost:
        yield warned("log_filters", filter=name)


def _readable(session: Session, config: MysqlConfig, structures: Structures) -> Iterator[Finding]:
    """Whether the user may read all columns, and lock what has to be locked for that."""
    account = session.facts["to"]
    for name, structure in structures.items():
        table = _quoted(structure)
        answer = session.query(
            f"SELECT * FROM {table} LIMIT 0",  # noqa: S608
            tolerate=(*DENIED, NO_TABLE, BUSY), doing=f"looking at table {name}",
        )  # fmt: skip
        if answer in DENIED:
            sentence = error("select_privilege", table=name, **session.facts).sentence
            remedy = f"GRANT SELECT ON {table} TO {account}."
            yield Finding("error", "mysql.select_privilege", sentence, remedy)
    if config.snapshot == "never":
        return
    locked = {s.database for s in structures.values() if not s.transactional}
    denied = {database for database in locked if _lock_denied(session, database)}
    for name, structure in structures.items():
        if not structure.transactional and structure.database in denied:
            sentence = error("lock_privilege", table=name, **session.facts).sentence
            remedy = f"GRANT LOCK TABLES ON {quoted(structure.database)}.* TO {account}."
            yield Finding("error", "mysql.lock_privilege", sentence, remedy)


def _lock_denied(session: Session, database: str) -> bool:
    """The privilege is a database's, and is asked for before the table is looked for."""
    answer = session.query(
        f"LOCK TABLES {quoted(database)}.{quoted(NOBODYS)} READ", tolerate=(*DENIED, NO_TABLE),
        doing="looking at privileges",
    )  # fmt: skip
    if isinstance(answer, list):
        session.query("UNLOCK TABLES")
    return answer == LOCK_DENIED


_CASCADE: Final = re.compile(
    r"^ *CONSTRAINT `((?:[^`]|``)+)` FOREIGN KEY .* ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL)",
    re.MULTILINE,
)
"""As SHOW CREATE TABLE writes it; information_schema tells it only to who may change the table."""


def _cascades(session: Session, structures: Structures) -> Iterator[Finding]:
    """Foreign keys by which rows change that the log does not tell. A MySQL that can say which
    layer follows them (9.6 and later) logs them where that is not the storage engine."""
    told = variables(session, ("innodb_native_foreign_keys",)).values()
    if [value.upper() for value in told] == ["OFF"]:
        return
    for name, structure in structures.items():
        rows = session.query(
            f"SHOW CREATE TABLE {_quoted(structure)}", tolerate=(*DENIED, NO_TABLE, BUSY),
            doing=f"looking at table {name}",
        )  # fmt: skip
        for row in rows if isinstance(rows, list) else ():
            for key in _CASCADE.findall(str(row[1])):
                yield warned("cascades", table=name, key=key, **session.facts)


def tables(structures: Structures) -> Iterator[Finding]:
    """What can be said of tables by their structures."""
    unordered = []
    for name, structure in structures.items():
        facts = {"table": name, "quoted": _quoted(structure)}
        try:
            rowimage.RowDecoder(structure.columns, structure.key, None)
        except LookupError as unknown:
            yield found("charset_unknown", what=str(unknown.args[0]), **facts)
        if not structure.transactional:
            yield warned("engine", **facts)
        if not structure.key:
            yield warned("key_missing", **facts)
        elif not all(structure.ordering):
            unordered.append(name)
    if unordered:
        more = f" and {len(unordered) - NAMED_MAX} more" if len(unordered) > NAMED_MAX else ""
        yield passed(
            "one_chunk",
            f"The key of {', '.join(unordered[:NAMED_MAX])}{more} sorts in a way that only the "
            "server knows: such a table is read as one chunk.",
        )


def _quoted(structure: Structure) -> str:
    return f"{quoted(structure.database)}.{quoted(structure.table)}"
