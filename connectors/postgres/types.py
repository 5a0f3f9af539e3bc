"""What PostgreSQL's types mean to the formats: type oid to logical type.

The oids of built-in types are fixed (``src/include/catalog/pg_type.dat``). Arrays, ranges,
composites and whatever is not listed are ``other``: the text of the type's output function.
"""

from __future__ import annotations

from typing import Final

from ensign_core.change import Logical

LOGICAL: Final[dict[int, Logical]] = {
    16: "bool",
    17: "bytes",
    18: "text",  # "char"
    19: "text",  # name
    20: "int",
    21: "int",
    23: "int",
    25: "text",
    26: "int",  # oid
    28: "int",  # xid
    29: "int",  # cid
    114: "json",
    142: "text",  # xml
    700: "float",
    701: "float",
    1042: "text",  # bpchar
    1043: "text",  # varchar
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1266: "timetz",
    1700: "decimal",
    2950: "uuid",
    3802: "json",  # jsonb
    5069: "int",  # xid8
}

TEXT_LIKE: Final = frozenset({"citext"})
"""Names of extension types whose output is plain text."""

INTEGERS: Final = frozenset({20, 21, 23})
UUID: Final = 2950
TEXTS: Final = frozenset({25, 1043})
"""Types that order as their bytes do, where the collation is C."""


def logical(oid: int, name: str, kind: str) -> Logical:
    """The logical type of a base type (domains resolved): ``kind`` is pg_type.typtype, in which
    ``e`` is an enum, whose labels are text."""
    known = LOGICAL.get(oid)
    if known is not None:
        return known
    return "text" if kind == "e" or name in TEXT_LIKE else "other"
