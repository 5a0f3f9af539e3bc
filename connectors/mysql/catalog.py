"""What the server's catalog (``information_schema``) says of tables, as a `Structure`."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from typing import Final, NamedTuple

from connectors.mysql.config import SYSTEM_DATABASES, MysqlConfig
from connectors.mysql.declared import UNORDERED, ordering_of, wire
from connectors.mysql.errors import error
from connectors.mysql.session import Row, Session, literal
from connectors.mysql.structures import Structure

_TABLES: Final = """
SELECT table_schema, table_name, engine, table_rows, table_collation, table_type
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {where}
"""
_COLUMNS: Final = """
SELECT table_schema, table_name, column_name, column_type, is_nullable, character_set_name,
       collation_name, generation_expression
FROM information_schema.columns WHERE {where}
ORDER BY table_schema, table_name, ordinal_position
"""
_KEYS: Final = """
SELECT table_schema, table_name, column_name, sub_part FROM information_schema.statistics
WHERE index_name = 'PRIMARY' AND {where}
ORDER BY table_schema, table_name, seq_in_index
"""
_CHECKS: Final = """
SELECT constraint_schema, table_name, check_clause FROM information_schema.check_constraints
WHERE level = 'Column' AND {where}
"""

_DOTTED: Final = """
SELECT table_schema, table_name FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN ({system})
  AND (table_schema LIKE '%.%' OR table_name LIKE '%.%')
"""
_BODIES: Final = (
    """
SELECT table_schema, table_name, view_definition FROM information_schema.views
WHERE table_schema NOT IN ({system})
""",
    """
SELECT event_object_schema, event_object_table, action_statement FROM information_schema.triggers
WHERE event_object_schema NOT IN ({system})
""",
    """
SELECT routine_schema, routine_name, routine_definition FROM information_schema.routines
WHERE routine_schema NOT IN ({system})
""",
)

READS_MAX: Final = 20
"""How often the catalog is read again where tables are altered just then."""

TRANSACTIONAL: Final = frozenset(("innodb", "tokudb", "rocksdb", "ndbcluster"))
"""Engines whose rows a consistent snapshot shows."""

VERSIONED: Final = "SYSTEM VERSIONED"
_PERIOD: Final = ("ROW START", "ROW END")
"""Expressions of the columns that say since when and until when a row is the current one."""

_UNNAMED_PERIOD: Final = tuple(
    (name, "timestamp(6)", "NO", None, None, expression)
    for name, expression in zip(("row_start", "row_end"), _PERIOD, strict=True)
)
"""Columns of a table with system versioning (MariaDB) that has not named them itself: they are in
its row images and nowhere in the catalog; the second is a part of its primary key."""
_SYSTEM: Final = ", ".join(f"'{name}'" for name in SYSTEM_DATABASES)

_VALID: Final = re.compile(r"json_valid\(`((?:[^`]|``)*)`\)", re.IGNORECASE)


class Listed(NamedTuple):
    """A table of the catalog: its `Structure`, and about how many rows it has."""

    structure: Structure
    rows: int | None


class Body(NamedTuple):
    """What leads from a name to other tables: a view, a trigger, which has the name of its table,
    or a routine. ``definition`` is its statement, empty where the user may not see it."""

    database: str
    name: str
    definition: str


Place = tuple[str, str]
"""Database and table."""


class Catalog:
    """Asks through a session. On the source's thread (I1)."""

    def __init__(self, session: Session, *, mariadb: bool) -> None:
        self._session = session
        self._mariadb = mariadb

    def tables(self, config: MysqlConfig) -> dict[str, Listed]:
        """All captured tables there are, by name."""
        return self._read(f"table_schema NOT IN ({_SYSTEM})", config)

    def doubled(self, config: MysqlConfig) -> list[Place]:
        """Captured tables whose names, joined by a dot, are those of others before them."""
        rows = self._session.rows(_DOTTED.format(system=_SYSTEM))
        places = sorted((str(row[0]), str(row[1])) for row in rows if config.captures(*row))
        names = [".".join(place) for place in places]
        return [place for at, place in enumerate(places) if names[at] in names[:at]]

    def bodies(self) -> list[Body]:
        """All views, triggers and routines that the user may see."""
        return [
            Body(database, name, str(text or ""))
            for query in _BODIES
            for database, name, text in self._session.rows(query.format(system=_SYSTEM))
        ]

    def table(self, database: str, name: str) -> Structure | None:
        """One table, captured or not; None where there is none of that name."""
        where = f"table_schema = {literal(database)} AND table_name = {literal(name)}"
        return next((each.structure for each in self._read(where, None).values()), None)

    def _read(self, where: str, config: MysqlConfig | None) -> dict[str, Listed]:
        """What there is, once it is the same before and behind: statements alter it meanwhile, and
        no transaction covers the catalog."""
        for _ in range(READS_MAX):
            listed = {
                (row[0], row[1]): row
                for row in self._session.rows(_TABLES.format(where=where))
                if config is None or config.captures(row[0], row[1])
            }
            columns = self._by_table(_COLUMNS, where, listed)
            keys = self._by_table(_KEYS, where, listed)
            documents = self._documents(where) if self._mariadb else frozenset[str]()
            same = columns == self._by_table(_COLUMNS, where, listed)
            if same and _consistent(columns, keys):
                # One without columns was dropped just now, or its columns are hidden from the user.
                seen = {place: row for place, row in listed.items() if columns[place]}
                return self._listed(seen, columns, keys, documents)
        raise error("catalog.busy")

    def _listed(
        self,
        listed: dict[Place, Row],
        columns: dict[Place, list[Row]],
        keys: dict[Place, list[Row]],
        documents: frozenset[str],
    ) -> dict[str, Listed]:
        found = {}
        for place, (_, _, engine, rows, collation, kind) in sorted(listed.items()):
            if ".".join(place) in found:
                continue
            if kind == VERSIONED:
                _add_period(columns[place], keys[place])
            structure = self._structure(place, columns[place], keys[place], documents)
            structure = replace(
                structure,
                transactional=str(engine).lower() in TRANSACTIONAL,
                charset=str(collation or "").partition("_")[0].replace("binary", ""),
                versioned=kind == VERSIONED,
            )
            found[structure.name] = Listed(structure, None if rows is None else int(rows))
        return found

    def _by_table(self, query: str, where: str, wanted: dict[Place, Row]) -> dict[Place, list[Row]]:
        found: dict[Place, list[Row]] = defaultdict(list)
        for row in self._session.rows(query.format(where=where)):
            if (row[0], row[1]) in wanted:
                found[row[0], row[1]].append(row[2:])
        return found

    def _documents(self, where: str) -> frozenset[str]:
        """MariaDB's JSON columns, as ``database.table.column``: text with a check that it is
        JSON."""
        found = []
        checks = _CHECKS.format(where=where.replace("table_schema", "constraint_schema"))
        for database, name, clause in self._session.rows(checks):
            # A check has the name that its column had when it was made.
            valid = _VALID.fullmatch(str(clause).strip())
            if valid:
                found.append(f"{database}.{name}.{valid[1].replace('``', '`')}")
        return frozenset(found)

    def _structure(
        self, place: Place, columns: list[Row], keys: list[Row], documents: frozenset[str]
    ) -> Structure:
        database, name = place
        wires = [
            wire(
                column, kind, charset, nullable=nullable == "YES", mariadb=self._mariadb,
                document=f"{database}.{name}.{column}" in documents,
            )._replace(generated=self._mariadb and _left_out(expression))
            for column, kind, nullable, charset, _, expression in columns
        ]  # fmt: skip
        places = {column.name: index for index, column in enumerate(wires)}
        key = tuple(places[row[0]] for row in keys if row[0] in places)
        ordering = tuple(
            # A prefix of a value does not tell values apart in the index's order.
            UNORDERED
            if row[1]
            else ordering_of(wires[at], str(columns[at][4] or ""), mariadb=self._mariadb)
            for row, at in zip(keys, key, strict=True)
        )
        return Structure(database, name, tuple(wires), key, ordering)


def _consistent(columns: dict[Place, list[Row]], keys: dict[Place, list[Row]]) -> bool:
    """Whether the columns of all keys are there."""
    return all(
        {row[0] for row in found} <= {row[0] for row in columns[place]}
        for place, found in keys.items()
        if columns.get(place)
    )


def _add_period(columns: list[Row], keys: list[Row]) -> None:
    if any(row[5] == _PERIOD[1] for row in columns):
        return
    columns += _UNNAMED_PERIOD
    if keys:
        keys.append((_UNNAMED_PERIOD[1][0], None))


def _left_out(expression: str | None) -> bool:
    """Whether MariaDB leaves a column of this expression out of the images of updates: from some
    version on it does so with all that are computed, whatever ``binlog_row_image`` says."""
    return bool(expression) and expression not in _PERIOD
