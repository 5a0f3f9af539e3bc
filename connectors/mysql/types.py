"""What a column's type is called, and what it means, from what the binlog tells of it.

A name is the server's own in lower case, without display widths and ``zerofill``, and made of the
wire's facts alone: the same column has the same name wherever it is seen, so that the structure of
a table does not seem to change between its snapshot and its changes.
"""

from __future__ import annotations

from typing import Final

from connectors.mysql.wire import Type, WireColumn, string_meta
from ensign_core.change import Logical

_INTEGERS: Final = {
    Type.TINY: "tinyint",
    Type.SHORT: "smallint",
    Type.INT24: "mediumint",
    Type.LONG: "int",
    Type.LONGLONG: "bigint",
}
_FRACTIONAL: Final = {
    Type.TIME: "time",
    Type.TIME2: "time",
    Type.DATETIME: "datetime",
    Type.DATETIME2: "datetime",
    Type.TIMESTAMP: "timestamp",
    Type.TIMESTAMP2: "timestamp",
}
_PLAIN: Final = {
    Type.FLOAT: "float",
    Type.DOUBLE: "double",
    Type.DATE: "date",
    Type.NEWDATE: "date",
    Type.YEAR: "year",
    Type.JSON: "json",
    Type.VECTOR: "vector",
    Type.GEOMETRY: "geometry",
}
_BLOBS: Final = (Type.BLOB, Type.BLOB_COMPRESSED)
_PREFIXES: Final = {1: "tiny", 2: "", 3: "medium", 4: "long"}

_LOGICALS: Final[dict[str, Logical]] = {
    "tinyint": "int", "smallint": "int", "mediumint": "int", "int": "int", "bigint": "int",
    "year": "int", "float": "float", "double": "float", "decimal": "decimal", "date": "date",
    "time": "time", "datetime": "timestamp", "timestamp": "timestamptz", "char": "text",
    "varchar": "text", "tinytext": "text", "text": "text", "mediumtext": "text",
    "longtext": "text", "json": "json", "geometry": "bytes", "uuid": "uuid", "binary": "bytes",
    "varbinary": "bytes", "tinyblob": "bytes", "blob": "bytes", "mediumblob": "bytes",
    "longblob": "bytes", "enum": "text", "set": "text",
}  # fmt: skip

_WIDTHS: Final = {
    "utf8": 3, "utf8mb3": 3, "utf8mb4": 4, "utf16": 4, "utf16le": 4, "utf32": 4, "ucs2": 2,
    "big5": 2, "gbk": 2, "gb2312": 2, "euckr": 2, "sjis": 2, "cp932": 2, "ujis": 3, "eucjpms": 3,
    "gb18030": 4,
}  # fmt: skip
"""Bytes of the longest character of a charset (``maxlen`` of ``SHOW CHARACTER SET``), where that is
not 1."""


def character_bytes_max(charset: str) -> int:
    """The bytes of a charset's longest character."""
    return _WIDTHS.get(charset, 1)


def native(column: WireColumn) -> str:
    """The name of the column's type."""
    if column.special == "boolean":
        return "tinyint(1)"
    if column.special == "json":
        # MariaDB's: text that may be anything where its check was switched off.
        return "longtext"
    if column.special:
        return column.special
    if column.type in _INTEGERS:
        name = _INTEGERS[Type(column.type)]
        return f"{name} unsigned" if column.unsigned else name
    if column.type in _FRACTIONAL:
        name = _FRACTIONAL[Type(column.type)]
        return f"{name}({column.meta})" if column.meta else name
    if column.type in _PLAIN:
        return _PLAIN[Type(column.type)]
    if column.type in (Type.NEWDECIMAL, Type.DECIMAL):
        sign = " unsigned" if column.unsigned else ""
        return f"decimal({column.meta & 0xFF},{column.meta >> 8}){sign}"
    if column.type == Type.BIT:
        return f"bit({(column.meta >> 8) * 8 + (column.meta & 0xFF)})"
    return _of_bytes(column)


def _of_bytes(column: WireColumn) -> str:
    if column.type in _BLOBS:
        kind = "text" if column.charset else "blob"
        return _PREFIXES.get(column.meta & 0xFF, "") + kind
    if column.type in (Type.STRING, Type.ENUM, Type.SET):
        real, length = string_meta(column.meta)
        if column.type != Type.STRING:
            real = column.type
        if real in (Type.ENUM, Type.SET):
            labels = ",".join("'" + label.replace("'", "''") + "'" for label in column.labels)
            return f"{'enum' if real == Type.ENUM else 'set'}({labels})"
        if not column.charset:
            return f"binary({length})"
        return f"char({length // character_bytes_max(column.charset)})"
    if not column.charset:
        return f"varbinary({column.meta})"
    return f"varchar({column.meta // character_bytes_max(column.charset)})"


def logical(column: WireColumn) -> Logical:
    """What the column's values mean."""
    if column.special == "json":
        return "json"
    name = native(column)
    return _LOGICALS.get(name.partition("(")[0].partition(" ")[0], "other")
