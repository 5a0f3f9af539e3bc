"""What is known of the structure of captured tables: at every position, as far as it was told.

A `Structure` comes from the server's catalog (`connectors.mysql.catalog`), from a statement that
changed it (`connectors.mysql.ddl`), or from a table map with full metadata. It is kept with the
source's position (`Batch.kept`), a piece for each table, since row images name no columns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Final

from connectors.mysql import charsets
from connectors.mysql.collations import charset_of
from connectors.mysql.config import ColumnsConfig
from connectors.mysql.declared import UNORDERED
from connectors.mysql.tablemap import Metadata, TableMap
from connectors.mysql.types import logical, native
from connectors.mysql.wire import Type, WireColumn
from ensign_core.change import Column, Schema

PIECE: Final = "structure "
"""What the name of a kept piece begins with; the table's name follows."""

_ALIKE: Final[dict[int, int]] = {
    Type.TIME: Type.TIME2,
    Type.DATETIME: Type.DATETIME2,
    Type.TIMESTAMP: Type.TIMESTAMP2,
    Type.NEWDATE: Type.DATE,
    Type.VAR_STRING: Type.VARCHAR,
}
"""Types whose older form a table may still have."""


@dataclass(frozen=True)
class Structure:
    """A table's columns in the order of row images, and the indexes of its key's columns, in the
    key's order. ``transactional``: whether a consistent snapshot shows its rows; ``ordering``: how
    each of the key's columns sorts (see `connectors.mysql.snapshot.comparable`); ``charset``: that
    of text columns that are added without one; ``versioned``: rows that were changed or deleted
    stay in it as rows of their own (MariaDB's system versioning); ``sure``: it is the one where the
    stream stands; one that is not must be told by a table map before it is used."""

    database: str
    table: str
    columns: tuple[WireColumn, ...]
    key: tuple[int, ...] = ()
    ordering: tuple[str, ...] = ()
    transactional: bool = True
    charset: str = ""
    versioned: bool = False
    sure: bool = True

    @property
    def name(self) -> str:
        """``database.table``."""
        return f"{self.database}.{self.table}"

    @property
    def place(self) -> tuple[str, str]:
        """Database and table."""
        return self.database, self.table

    def renamed(self, database: str, table: str) -> Structure:
        return replace(self, database=database, table=table)

    def keep(self, columns: ColumnsConfig | None) -> tuple[int, ...] | None:
        """The indexes of the captured columns; None where that is all of them."""
        kept = tuple(
            index
            for index, column in enumerate(self.columns)
            if index in self.key
            or not (column.generated or (columns and not columns.captures(self.name, column.name)))
        )
        return None if len(kept) == len(self.columns) else kept

    def schema(self, columns: ColumnsConfig | None) -> Schema:
        """The schema of its captured rows."""
        kept = self.keep(columns)
        indexes = range(len(self.columns)) if kept is None else kept
        return Schema(
            self.name,
            (("database", self.database), ("table", self.table)),
            tuple(
                Column(column.name, native(column), logical(column), column.nullable, i in self.key)
                for i, column in ((i, self.columns[i]) for i in indexes)
            ),
        )

    def encode(self) -> bytes:
        """As a kept piece."""
        found: dict[str, Any] = {
            "database": self.database,
            "table": self.table,
            "columns": [[*column] for column in self.columns],
            "key": self.key,
            "ordering": self.ordering,
        }
        if not self.transactional:
            found["transactional"] = False
        if not self.sure:
            found["sure"] = False
        if self.charset:
            found["charset"] = self.charset
        if self.versioned:
            found["versioned"] = True
        return json.dumps(found, separators=(",", ":")).encode()


def decode(piece: bytes) -> Structure:
    """What `Structure.encode` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    found = json.loads(piece)
    columns = []
    for name, kind, meta, nullable, unsigned, charset, labels, *rest in found["columns"]:
        columns.append(
            WireColumn(name, kind, meta, nullable, unsigned, charset, tuple(labels), *rest)
        )
    return Structure(
        found["database"], found["table"], tuple(columns), tuple(found["key"]),
        tuple(found["ordering"]), found.get("transactional", True), found.get("charset", ""),
        found.get("versioned", False),
        found.get("sure", True),
    )  # fmt: skip


def structure_of(found: TableMap, known: Structure | None) -> Structure:
    """The structure behind a table map, with what it does not tell taken from what is known and
    fits. Raises LookupError for a charset that nobody knows."""
    told = found.metadata
    if told.names is None:
        assert known is not None
        columns = tuple(map(_told, known.columns, range(len(known.columns)), repeat(found)))
        return replace(known, columns=columns)
    if known is not None:
        known = replace(known, sure=True)
    by_name = {} if known is None else {column.name: column for column in known.columns}
    columns = tuple(
        _told(_specially(name, by_name.get(name), found, i), i, found)
        for i, name in enumerate(told.names)
    )
    key = _key(told, known)
    same = known is not None and [columns[i].name for i in key] == [
        known.columns[i].name for i in known.key
    ]
    ordering = known.ordering if known is not None and same else (UNORDERED,) * len(key)
    if known is None:
        return Structure(found.database, found.table, columns, key, ordering)
    return replace(known, columns=columns, key=key, ordering=ordering)


def _key(told: Metadata, known: Structure | None) -> tuple[int, ...]:
    """The primary key. Where there is none the servers tell a unique index without nulls
    (``TABLE_SHARE::primary_key``), so what is known of it goes first."""
    key, names = told.key or (), told.names or ()
    if known is None or (known.key and [c.name for c in known.columns] != list(names)):
        return key
    primary = [known.columns[i].name for i in known.key]
    return tuple(map(names.index, primary)) if set(primary) <= set(names) else key


def _specially(name: str, known: WireColumn | None, found: TableMap, index: int) -> WireColumn:
    """A column by its name, with what only the catalog tells of it."""
    if known is not None and alike(known, found.types[index], found.metas[index]):
        return known
    return WireColumn(name, found.types[index], found.metas[index])


def _told(column: WireColumn, index: int, found: TableMap) -> WireColumn:
    """A column with all that a table map tells of it."""
    told = found.metadata
    changes: dict[str, Any] = {
        "type": found.types[index],
        "meta": found.metas[index],
        "nullable": found.nullable[index],
    }
    if told.unsigned is not None:
        changes["unsigned"] = told.unsigned[index]
    if told.collations is not None and told.collations[index]:
        changes["charset"] = charset_of(told.collations[index])
    if told.labels is not None and told.labels[index]:
        charset = changes.get("charset", column.charset)
        changes["labels"] = tuple(_label(charset, label) for label in told.labels[index])
    return column._replace(**changes)


def _label(charset: str, label: bytes) -> str:
    try:
        return charsets.decode(charset or "utf8mb4", label).decode()
    except ValueError:
        return label.decode("utf-8", "replace")


def alike(known: WireColumn, kind: int, meta: int) -> bool:
    """Whether a table map's type and metadata are what is known of a column."""
    if kind != known.type and _ALIKE.get(kind, kind) != known.type:
        return False
    # An older form of a type with fractions has no metadata.
    return meta == known.meta or kind in _ALIKE


_MEANINGS: Final = ("json", "boolean")
"""What is special of a column and changes nothing of how its values are decoded."""


def agree(one: Structure, other: Structure) -> bool:
    """Whether both are the same, but for what only the catalog tells: how a key sorts, and what a
    type means beyond its values."""
    return _decoding(one) == _decoding(other)


def _decoding(structure: Structure) -> tuple[list[WireColumn], list[str]]:
    columns = structure.columns
    return [*map(bare, columns)], [columns[i].name for i in structure.key]


def bare(column: WireColumn) -> WireColumn:
    """A column without what only the catalog tells of it."""
    special = "" if column.special in _MEANINGS else column.special
    kind = _ALIKE.get(column.type, column.type)
    return column._replace(type=kind, special=special)


def fits(structure: Structure, found: TableMap) -> bool:
    """Whether a table map may be one of this structure."""
    return len(found.types) == len(structure.columns) and all(
        map(alike, structure.columns, found.types, found.metas)
    )


_SEQUENCE: Final = {
    "next_not_cached_value": Type.LONGLONG,
    "minimum_value": Type.LONGLONG,
    "maximum_value": Type.LONGLONG,
    "start_value": Type.LONGLONG,
    "increment": Type.LONGLONG,
    "cache_size": Type.LONGLONG,
    "cycle_option": Type.TINY,
    "cycle_count": Type.LONGLONG,
}
"""The columns of a sequence in the log (MariaDB Knowledge Base, "CREATE SEQUENCE")."""


def sequence(found: TableMap) -> bool:
    """Whether a table map may be that of one of MariaDB's sequences, for sure where it tells
    names."""
    told = found.metadata.names
    same = told is None or told == tuple(_SEQUENCE)
    return same and found.types == bytes(_SEQUENCE.values()) and not any(found.nullable)
