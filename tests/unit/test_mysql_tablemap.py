"""Table maps of recorded binlogs, under each ``binlog_row_metadata``, and such as nobody writes."""

from __future__ import annotations

import pytest

from connectors.mysql.damage import DamagedError
from connectors.mysql.events import TABLE_MAP
from connectors.mysql.tablemap import Metadata, TableMap, table_map
from connectors.mysql.wire import Type, string_meta
from tests.fixtures.mysql import is_mariadb
from tests.fixtures.mysql.reading import said
from tests.plain import binlog

WHOLE = ["mariadb-10", "mariadb-11", "mysql-9"]
NAMES_OF_NUMBERS = tuple("aybcdefghijk")
LATIN1, LATIN2, UCS2, BINARY, UTF8MB4_BIN = 8, 9, 35, 63, 46
UCA1400_UCS2 = 2560
"""MariaDB 11's default collations, numbers of its own."""


def maps(name: str, table: str) -> list[TableMap]:
    found = [m for m in said(name, TABLE_MAP) if isinstance(m, TableMap) and m.table == table]
    assert all(m.database == "d1" for m in found)
    return found


@pytest.mark.parametrize("name", WHOLE)
def test_signs_of_numbers(name: str) -> None:
    """YEAR counts as a number, and is unsigned."""
    found = maps(name, "numbers")
    unsigned = (True, True, False, True, True, True, True, False, False, True, False, False)
    assert found[0].metadata.names == NAMES_OF_NUMBERS
    assert [m.metadata.unsigned for m in found[:2]] == [unsigned] * 2
    assert bytes(found[0].types) == bytes(
        [1, 13, 3, 13, 8, Type.NEWDECIMAL, Type.FLOAT, Type.DOUBLE, Type.BIT, 2, 9, 15]
    )
    assert found[0].metas == (0, 0, 0, 0, 0, 10 | 2 << 8, 4, 8, 1 | 1 << 8, 0, 0, 12)
    assert all(found[0].nullable)


@pytest.mark.parametrize("name", WHOLE)
def test_charsets_and_labels(name: str) -> None:
    full = maps(name, "texts")[0]
    ucs2 = UCA1400_UCS2 if name == "mariadb-11" else UCS2
    collations = full.metadata.collations
    assert collations is not None
    s, g, j = collations[5], collations[3], collations[6]
    assert collations == (
        LATIN1, LATIN1, BINARY, g, ucs2, s, j, UTF8MB4_BIN, UTF8MB4_BIN, BINARY, LATIN2, ucs2, g,
    )  # fmt: skip
    # JSON is text in MariaDB, and geometries are bytes of some charset.
    assert (g, j) == ((BINARY, UTF8MB4_BIN) if is_mariadb(name) else (0, 0))
    labels = full.metadata.labels
    assert labels is not None
    assert labels[1] == (b"\xe9", b"b")
    assert labels[5] == (b"x", "ü'q".encode())
    assert labels[11] == ("ä".encode("utf-16-be"),)
    assert [bool(i) for i in labels].count(True) == 3
    assert full.metadata.geometries == (-1, -1, -1, 0, *[-1] * 8, 1)
    assert [string_meta(full.metas[i]) for i in (1, 2, 5, 8)] == [
        (Type.ENUM, 1), (Type.STRING, 4), (Type.SET, 1), (Type.STRING, 400),
    ]  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_default_charset_counts_only_the_columns_that_have_one(name: str) -> None:
    (found,) = maps(name, "few_charsets")
    texts = (LATIN1, 0, LATIN1, 0, LATIN2, LATIN1)
    assert found.metadata.collations == (0, *texts, LATIN1, LATIN1, LATIN2)
    assert found.metadata.labels == ((), *[()] * 6, (b"x",), (b"y",), (b"z",))


@pytest.mark.parametrize("name", WHOLE)
def test_keys_and_visibility(name: str) -> None:
    (found,) = maps(name, "keyed `one")
    assert found.metadata.names == ("a", "b", "c", "näme")
    assert (found.metadata.key, found.metadata.prefixes) == ((2, 1), (7, 0))
    assert found.nullable == (True, False, False, True)
    (found,) = maps(name, "keyed_simply")
    assert (found.metadata.key, found.metadata.prefixes) == ((2, 0), (0, 0))
    # MariaDB does not tell it.
    visible = None if is_mariadb(name) else (True, False, True)
    assert found.metadata.visible == visible
    assert maps(name, "numbers")[0].metadata.key is None


@pytest.mark.parametrize("name", WHOLE)
def test_geometries_stand_between_texts(name: str) -> None:
    (found,) = maps(name, "shapes")
    shape = BINARY if is_mariadb(name) else 0
    assert found.metadata.collations == (0, shape, LATIN1, shape)
    assert found.metadata.geometries == (-1, 3, -1, 1)


@pytest.mark.parametrize("name", WHOLE)
def test_fractions_of_seconds(name: str) -> None:
    found = maps(name, "times")[0]
    assert found.types == bytes([3, Type.TIMESTAMP2, Type.DATETIME2, Type.TIME2, Type.DATE])
    assert found.metas == (0, 3, 2, 6, 0)


def test_vectors() -> None:
    (found,) = maps("mysql-9", "vectors")
    assert found.types == bytes([3, Type.VECTOR, 15])
    assert found.metadata.dimensions == (0, 3, 0)
    assert found.metadata.collations == (0, BINARY, LATIN1)
    (found,) = maps("mariadb-11", "vectors")
    assert found.types == bytes([3, 15, 15])
    assert found.metas == (0, 12, 7)
    assert found.metadata.collations == (0, BINARY, LATIN1)


@pytest.mark.parametrize("name", ["mariadb-10", "mariadb-11"])
def test_types_of_mariadb(name: str) -> None:
    (found,) = maps(name, "special")
    assert found.types == bytes(
        [254, 15, 254, 254, 15, Type.VARCHAR_COMPRESSED, Type.BLOB_COMPRESSED]
    )
    assert [string_meta(found.metas[i]) for i in (0, 2, 3)] == [(254, 16), (254, 16), (254, 4)]
    bytes_, own = BINARY, LATIN2
    assert found.metadata.collations == (bytes_, LATIN1, bytes_, bytes_, own, LATIN1, own)


def test_columns_of_functional_indexes_are_not_there() -> None:
    (found,) = maps("mysql-9", "indexed")
    assert found.metadata.names == ("id", "j", "n")


@pytest.mark.parametrize("name", WHOLE)
def test_less_metadata(name: str) -> None:
    """MINIMAL has neither names, keys nor labels, and no charset of ENUM and SET; NO_LOG nothing;
    the rest is the same."""
    full, minimal, *none = maps(name, "texts")
    assert (minimal.types, minimal.metas) == (full.types, full.metas)
    collations, geometries = full.metadata.collations, full.metadata.geometries
    assert collations is not None
    without = tuple(0 if i in (1, 5, 11) else c for i, c in enumerate(collations))
    assert minimal.metadata == Metadata(collations=without, geometries=geometries)
    assert [m.metadata for m in none] == [Metadata()] * is_mariadb(name)


def made(types: list[int], metas: bytes = b"", fields: bytes = b"", nulls: bytes = b"\0") -> bytes:
    body = binlog.table_map(0x0102_0304_0506, bytes(types), metas, nulls, fields)
    return binlog.event(TABLE_MAP, body)


def read(event: bytes) -> TableMap:
    return table_map(event, 8, mariadb=False)


def test_fields_that_nobody_knows_are_left_out() -> None:
    fields = binlog.optional(200, b"anything") + binlog.optional(4, b"\1a")
    assert read(made([3], fields=fields)).metadata == Metadata(names=("a",))
    assert read(made([3])).table_id == 0x0102_0304_0506


def test_table_ids_of_four_bytes() -> None:
    """Their post-header has six bytes ("TABLE_MAP_EVENT" of the Internals Manual)."""
    event = made([3])
    old = event[:19] + event[19:23] + event[25:]
    assert table_map(old, 6, mariadb=False) == read(event)._replace(table_id=0x0304_0506)


def test_more_columns_than_a_byte_counts() -> None:
    count = 300
    names = b"".join(binlog.packed_text(f"c{i}".encode()) for i in range(count))
    unsigned = bytes([0b1000_0000]) + bytes(37)
    fields = binlog.optional(1, unsigned) + binlog.optional(4, names)
    found = read(made([3] * count, fields=fields, nulls=b"\2" + bytes(37)))
    assert found.metadata.names == tuple(f"c{i}" for i in range(count))
    assert found.metadata.unsigned == (True, *[False] * (count - 1))
    assert found.nullable == (False, True, *[False] * (count - 2))


@pytest.mark.parametrize(
    "event",
    [
        made([3] * 4097, nulls=bytes(600)),
        made([15], b"\1"),
        made([15], b"\1\0\0"),
        made([3], fields=b"\4\5\1a"),
        made([3, 3], fields=binlog.optional(1, b"")),
        made([3], fields=binlog.optional(4, b"\1a\1b")),
        made([3, 3], fields=binlog.optional(4, b"\1a")),
        made([3], fields=binlog.optional(4, b"\1\xff")),
        made([3], fields=binlog.optional(8, b"\1")),
        made([3], fields=binlog.optional(9, b"\0\0\0")),
        made([15], b"\1\0", fields=binlog.optional(2, b"\x08\0")),
        made([15], b"\1\0", fields=binlog.optional(2, b"\x08\1\x09")),
        made([15], b"\1\0", fields=binlog.optional(2, b"")),
        made([15], b"\1\0", fields=binlog.optional(3, b"\x08\x08")),
        made([254], b"\xf7\1", fields=binlog.optional(6, b"\2\1a")),
        made([254], b"\xf7\1", fields=binlog.optional(5, b"\1\1a")),
        made([3], fields=binlog.optional(12, b"")),
        made([255], b"\4", fields=binlog.optional(7, b"\1\1")),
        made([3], nulls=b""),
        made([3])[:25],
    ],
)
def test_maps_that_contradict_themselves(event: bytes) -> None:
    with pytest.raises(DamagedError):
        read(event)
