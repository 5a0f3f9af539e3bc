"""Columns as SQL declares them: the wire's facts of a column from the name of its type. Pure."""

from __future__ import annotations

import re
from typing import Final

from connectors.mysql.types import character_bytes_max
from connectors.mysql.wire import Type, WireColumn, string_meta

_TYPE: Final = re.compile(r"(\w+)\s*(?:\(((?:'(?:[^']|'')*'|[^')])*)\))?(.*)", re.DOTALL)
_LABEL: Final = re.compile(r"'((?:[^']|'')*)'")
_ESCAPE: Final = re.compile(r"''|\\[0nr\\]")
_ESCAPED: Final = {"''": "'", "\\0": "\0", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
"""How labels are written in a type's name (``append_unescaped`` of both servers)."""

_SIMPLE: Final = {
    "tinyint": Type.TINY, "smallint": Type.SHORT, "mediumint": Type.INT24, "int": Type.LONG,
    "integer": Type.LONG, "bigint": Type.LONGLONG, "date": Type.DATE, "year": Type.YEAR,
}  # fmt: skip
_METAS: Final = {
    "float": (Type.FLOAT, 4), "double": (Type.DOUBLE, 8), "real": (Type.DOUBLE, 8),
    "json": (Type.JSON, 4),
    "tinytext": (Type.BLOB, 1), "text": (Type.BLOB, 2), "mediumtext": (Type.BLOB, 3),
    "longtext": (Type.BLOB, 4), "tinyblob": (Type.BLOB, 1), "blob": (Type.BLOB, 2),
    "mediumblob": (Type.BLOB, 3), "longblob": (Type.BLOB, 4),
}  # fmt: skip
_TEMPORAL: Final = {
    "time": Type.TIME2, "datetime": Type.DATETIME2, "timestamp": Type.TIMESTAMP2,
}  # fmt: skip
_SPECIAL_BYTES: Final = {"uuid": 16, "inet6": 16, "inet4": 4}
_GEOMETRIES: Final = frozenset(
    ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
     "multipolygon", "geometrycollection", "geomcollection")
)  # fmt: skip

INHERITED: Final = "?"
"""The charset of a text column that says none: its table's."""

UNORDERED: Final = ""
"""How a column sorts of which nobody outside the server can tell."""


def wire(
    name: str,
    column_type: str,
    charset: str | None,
    *,
    nullable: bool,
    document: bool = False,
    mariadb: bool = False,
) -> WireColumn:
    """A column by its name in SQL (``COLUMN_TYPE``), with the type and metadata that its table map
    has."""
    found = _TYPE.match(column_type)
    assert found is not None
    kind, inner, rest = found[1].lower(), found[2] or "", found[3].lower()
    charset = "" if charset in (None, "binary") else str(charset)
    special = "json" if document and kind == "longtext" else ""
    labels: tuple[str, ...] = ()
    code: int
    if kind in _SIMPLE:
        code, meta = _SIMPLE[kind], 0
        # MySQL 8.0.17 and later give a display width to this type alone; MariaDB to all.
        special = "boolean" if kind == "tinyint" and inner == "1" and "unsigned" not in rest else ""
    elif kind in _METAS:
        code, meta = _METAS[kind]
    elif kind in _TEMPORAL:
        code, meta = _TEMPORAL[kind], int(inner or 0)
    elif kind == "decimal":
        precision, _, scale = inner.partition(",")
        code, meta = Type.NEWDECIMAL, int(precision or 10) | int(scale or 0) << 8
    elif kind == "bit":
        width = int(inner or 1)
        code, meta = Type.BIT, width % 8 | width // 8 << 8
    elif kind in ("enum", "set"):
        labels = tuple(
            _ESCAPE.sub(lambda found: _ESCAPED[found[0]], label) for label in _LABEL.findall(inner)
        )
        code, meta = Type.STRING, _labelled_meta(kind, len(labels))
    else:
        code, meta, special = _of_length(kind, inner, charset, special)
    if kind == "vector" and not mariadb:
        code, meta, special = Type.VECTOR, 4, ""
    if "compressed" in rest:
        code = Type.BLOB_COMPRESSED if code == Type.BLOB else Type.VARCHAR_COMPRESSED
        # The byte before the value that says how it is stored.
        meta += code == Type.VARCHAR_COMPRESSED
    # So table maps have a YEAR.
    unsigned = "unsigned" in rest or kind == "year"
    return WireColumn(name, int(code), meta, nullable, unsigned, charset, labels, special)


def _labelled_meta(kind: str, count: int) -> int:
    if kind == "enum":
        return int(Type.ENUM) | (1 if count < 256 else 2) << 8
    size = (count + 7) // 8
    return int(Type.SET) | (8 if size > 4 else size) << 8


def _of_length(kind: str, inner: str, charset: str, special: str) -> tuple[int, int, str]:
    """Strings, and what is stored as one."""
    if kind in _SPECIAL_BYTES:
        return Type.STRING, Type.STRING | _SPECIAL_BYTES[kind] << 8, kind
    if kind == "vector":
        # A VARBINARY of floats, at MariaDB.
        return Type.VARCHAR, int(inner or 0) * 4, kind
    if kind in _GEOMETRIES:
        return Type.GEOMETRY, 4, special
    length = int(inner or 1) * character_bytes_max(charset)
    if kind in ("char", "binary"):
        return Type.STRING, _string_meta(length), special
    if kind in ("varchar", "varbinary"):
        return Type.VARCHAR, length, special
    # A type of which nobody has told us: its table maps will.
    return Type.NULL, 0, special


def _string_meta(length: int) -> int:
    """See `connectors.mysql.wire.string_meta`."""
    return (Type.STRING ^ (length & 0x300) >> 4) | (length & 0xFF) << 8


def resized(column: WireColumn, charset: str) -> WireColumn:
    """A column that was declared without a charset, in its table's."""
    return recharged(column, charset) if column.charset == INHERITED else column


def recharged(column: WireColumn, charset: str) -> WireColumn:
    """A text column in another charset, with room for as many characters."""
    before, after = character_bytes_max(column.charset), character_bytes_max(charset)
    found = column._replace(charset="" if charset == "binary" else charset)
    if column.type == Type.STRING and not column.labels:
        length = string_meta(column.meta)[1] // before * after
        return found._replace(meta=_string_meta(length))
    if column.type == Type.VARCHAR_COMPRESSED:
        return found._replace(meta=(column.meta - 1) // before * after + 1)
    if column.type == Type.VARCHAR:
        return found._replace(meta=column.meta // before * after)
    return found


def ordering_of(column: WireColumn, collation: str, *, mariadb: bool) -> str:
    """How a key's column sorts: ``int`` by value, ``bytes``, ``padded`` (bytes, with spaces behind
    them up to the column's length), or `UNORDERED`."""
    real, length = (column.type, column.meta)
    if column.special in ("boolean", "") and real in _SIMPLE.values() and real != Type.DATE:
        return "int"
    if column.special:
        return UNORDERED
    if real in (Type.DATE, Type.DATETIME2, Type.TIMESTAMP2):
        return "bytes"
    if real not in (Type.VARCHAR, Type.STRING) or column.labels or length == 0:
        return UNORDERED
    if not column.charset:
        return "bytes"
    if column.charset not in ("utf8mb4", "utf8mb3", "utf8", "ascii"):
        return UNORDERED
    if not collation.endswith("_bin"):
        return UNORDERED
    if "_nopad_" not in collation and collation != "utf8mb4_0900_bin":
        return "padded"
    # MariaDB sorts a CHAR of these with its padding and compares it without.
    return UNORDERED if mariadb and real == Type.STRING else "bytes"
