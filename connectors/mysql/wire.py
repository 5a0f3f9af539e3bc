"""What the binlog tells of a table: the constants of its types, and a column as it is decoded.

Types and their metadata are those of the table map event (MySQL Internals, "Table_map_event";
MariaDB Knowledge Base, "TABLE_MAP_EVENT"), charsets those of ``SHOW CHARACTER SET``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Type(IntEnum):
    """The type codes of columns, as in a table map."""

    DECIMAL = 0
    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    NULL = 6
    TIMESTAMP = 7
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    TIME = 11
    DATETIME = 12
    YEAR = 13
    NEWDATE = 14
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    TYPED_ARRAY = 20
    BLOB_COMPRESSED = 140
    VARCHAR_COMPRESSED = 141
    VECTOR = 242
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


class WireColumn(NamedTuple):
    """A column as a row image or a row of a text result is decoded.

    ``type`` is the code of the table map, and ``meta`` its metadata: one byte, or two as ``first |
    second << 8``; `string_meta` takes that of STRING apart, which ENUM, SET and CHAR share.
    ``charset`` is the server's name of the column's charset, empty for bytes. ``labels`` are those
    of ENUM and SET. ``special`` is what the binlog does not tell, where it matters: ``json``
    (MariaDB, text), ``uuid``, ``inet4``, ``inet6``, ``vector`` (MariaDB, bytes), ``boolean`` (a
    TINY of width 1), else empty. ``generated``: its values are computed, and this server leaves
    them out of row images.
    """

    name: str
    type: int
    meta: int = 0
    nullable: bool = True
    unsigned: bool = False
    charset: str = ""
    labels: tuple[str, ...] = ()
    special: str = ""
    generated: bool = False


def string_meta(meta: int) -> tuple[int, int]:
    """The real type of a STRING column and its length in bytes (of ENUM and SET: of the number).
    A length of 256 and more has its upper bits in the type's byte, inverted."""
    first, second = meta & 0xFF, meta >> 8
    if first and first & 0x30 != 0x30:
        return first | 0x30, second | ((first & 0x30) ^ 0x30) << 4
    return first or Type.STRING, second
