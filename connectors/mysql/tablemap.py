"""TABLE_MAP: what the binlog tells of a table in front of its rows.

Format: MySQL Source Code Documentation, "Table_map_event", with its optional metadata; MariaDB
Knowledge Base, "TABLE_MAP_EVENT", and ``Table_map_log_event::init_metadata_fields`` in both
servers' ``sql/log_event_server.cc``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from connectors.mysql.bounds import packed, packed_part, parses, part
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import HEADER_SIZE
from connectors.mysql.wire import Type, string_meta

COLUMNS_MAX: Final = 4096
"""The servers' own limit for a table."""

REMEMBERED_MAX: Final = 256
"""Table maps whose reading is remembered."""

_LONG: Final = 8
"""Length of the post-header whose table id has six bytes; in a shorter one it has four."""

_uint16 = struct.Struct("<H")

_ONE_BYTE: Final = {
    Type.FLOAT, Type.DOUBLE, Type.TINY_BLOB, Type.MEDIUM_BLOB, Type.LONG_BLOB, Type.BLOB,
    Type.BLOB_COMPRESSED, Type.GEOMETRY, Type.JSON, Type.TIMESTAMP2, Type.DATETIME2, Type.TIME2,
    Type.VECTOR,
}  # fmt: skip
_TWO_BYTES: Final = {
    Type.STRING, Type.VAR_STRING, Type.VARCHAR, Type.VARCHAR_COMPRESSED, Type.NEWDECIMAL, Type.BIT,
    Type.ENUM, Type.SET,
}  # fmt: skip
"""How many bytes of metadata a column of a type has; of the others it has none."""

_NUMERIC: Final = {
    Type.TINY, Type.SHORT, Type.INT24, Type.LONG, Type.LONGLONG, Type.FLOAT, Type.DOUBLE,
    Type.NEWDECIMAL, Type.YEAR,
}  # fmt: skip
_CHARACTER: Final = {
    Type.STRING, Type.VAR_STRING, Type.VARCHAR, Type.VARCHAR_COMPRESSED, Type.TINY_BLOB,
    Type.MEDIUM_BLOB, Type.LONG_BLOB, Type.BLOB, Type.BLOB_COMPRESSED,
}  # fmt: skip


class Metadata(NamedTuple):
    """The optional metadata, spread over the columns: each field is None, or has one item for each
    column of the table, in order (the keys: as many items as the key has columns).

    ``collations`` are numbers, of ENUM and SET columns too, 63 of bytes, 0 where a column has none.
    ``labels`` are those of ENUM and SET, as bytes in the column's charset, empty for others.
    ``geometries`` are the types of OpenGIS (0: any) or -1, ``dimensions`` those of a VECTOR or 0.
    ``key`` are indexes of the primary key's columns, ``prefixes`` how many characters of each it
    holds, 0 for all. With ``binlog_row_metadata=MINIMAL`` a server tells ``unsigned``,
    ``collations`` of columns that are no ENUM or SET, and ``geometries`` at most."""

    unsigned: tuple[bool, ...] | None = None
    collations: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    labels: tuple[tuple[bytes, ...], ...] | None = None
    geometries: tuple[int, ...] | None = None
    key: tuple[int, ...] | None = None
    prefixes: tuple[int, ...] | None = None
    visible: tuple[bool, ...] | None = None
    dimensions: tuple[int, ...] | None = None


class TableMap(NamedTuple):
    """``types`` has a code of `wire.Type` for each column: STRING's real type is in its meta.
    ``metas`` are as `wire.WireColumn` has them."""

    table_id: int
    database: str
    table: str
    types: bytes
    metas: tuple[int, ...]
    nullable: tuple[bool, ...]
    metadata: Metadata


def table_map(event: bytes, post_header_length: int, mariadb: bool) -> TableMap:
    """``post_header_length`` is the format description's for TABLE_MAP. The servers differ in which
    columns some of the metadata counts, so ``mariadb`` says which of them wrote it. What a table's
    map says is remembered, since it comes again with every transaction."""
    return _table_map(event[HEADER_SIZE:], post_header_length, mariadb)


@lru_cache(REMEMBERED_MAX)
@parses("a TABLE_MAP")
def _table_map(body: bytes, post_header_length: int, mariadb: bool) -> TableMap:
    id_size = 6 if post_header_length >= _LONG else 4
    table_id = int.from_bytes(part(body, 0, id_size), "little")
    database, at = packed_part(body, post_header_length)
    table, at = packed_part(body, at + 1)
    types, at = packed_part(body, at + 1)
    if len(types) > COLUMNS_MAX:
        raise DamagedError("a TABLE_MAP of more columns than a table can have")
    packed_metas, at = packed_part(body, at)
    metas = _metas(types, packed_metas)
    nulls = part(body, at, (len(types) + 7) // 8)
    nullable = tuple(bool(nulls[i >> 3] >> (i & 7) & 1) for i in range(len(types)))
    at += len(nulls)
    metadata = _Reader(_real_types(types, metas), mariadb).read(body, at)
    return TableMap(table_id, database.decode(), table.decode(), types, metas, nullable, metadata)


def _metas(types: bytes, data: bytes) -> tuple[int, ...]:
    at, metas = 0, []
    for kind in types:
        if kind in _TWO_BYTES:
            metas.append(_uint16.unpack_from(data, at)[0])
            at += 2
        elif kind in _ONE_BYTE:
            metas.append(data[at])
            at += 1
        else:
            metas.append(0)
    if at != len(data):
        raise DamagedError("a TABLE_MAP whose types do not fit their metadata")
    return tuple(metas)


def _real_types(types: bytes, metas: Sequence[int]) -> list[int]:
    return [
        string_meta(meta)[0] if kind == Type.STRING else kind
        for kind, meta in zip(types, metas, strict=True)
    ]


def _bits(data: bytes, count: int) -> Iterator[bool]:
    """The first ``count`` bits, from each byte's upper end."""
    if len(data) < (count + 7) // 8:
        raise DamagedError("a TABLE_MAP whose bits are fewer than its columns")
    return (bool(data[i >> 3] << (i & 7) & 0x80) for i in range(count))


def _numbers(data: bytes) -> list[int]:
    at, found = 0, []
    while at < len(data):
        number, at = packed(data, at)
        found.append(number)
    return found


class _Reader:
    """Reads optional metadata field by field; those of a number that is not known are left out."""

    def __init__(self, types: list[int], mariadb: bool) -> None:
        self.count = len(types)
        self.numeric = [i for i, kind in enumerate(types) if kind in _NUMERIC]
        self.labelled = [i for i, kind in enumerate(types) if kind in (Type.ENUM, Type.SET)]
        with_bytes = _CHARACTER | {Type.GEOMETRY if mariadb else Type.VECTOR}
        self.characters = [i for i, kind in enumerate(types) if kind in with_bytes]
        self.types = types
        self.fields: dict[str, tuple[object, ...]] = {}

    def of_type(self, wanted: int) -> list[int]:
        return [i for i, kind in enumerate(self.types) if kind == wanted]

    def read(self, body: bytes, at: int) -> Metadata:
        readers: dict[int, Callable[[bytes], None]] = {
            1: self._signedness,
            2: lambda data: self._default_collations(self.characters, data),
            3: lambda data: self._collations(self.characters, data),
            4: self._names,
            5: lambda data: self._labels(Type.SET, data),
            6: lambda data: self._labels(Type.ENUM, data),
            7: lambda data: self._spread("geometries", self.of_type(Type.GEOMETRY), data, -1),
            8: self._key,
            9: self._key_with_prefixes,
            10: lambda data: self._default_collations(self.labelled, data),
            11: lambda data: self._collations(self.labelled, data),
            12: self._visibility,
            13: lambda data: self._spread("dimensions", self.of_type(Type.VECTOR), data, 0),
        }
        while at < len(body):
            number = body[at]
            data, at = packed_part(body, at + 1)
            if number in readers:
                readers[number](data)
        return Metadata(**self.fields)  # type: ignore[arg-type]  # Each reader's field has its type.

    def _put(
        self, field: str, columns: Sequence[int], values: Sequence[object], rest: object
    ) -> None:
        """Spread values of some columns over all; what is there of other columns stays."""
        if len(values) != len(columns):
            raise DamagedError(f"a TABLE_MAP whose {field} are not as many as its columns")
        found = list(self.fields.get(field, (rest,) * self.count))
        for column, value in zip(columns, values, strict=True):
            found[column] = value
        self.fields[field] = tuple(found)

    def _spread(self, field: str, columns: list[int], data: bytes, rest: int) -> None:
        self._put(field, columns, _numbers(data), rest)

    def _signedness(self, data: bytes) -> None:
        self._put("unsigned", self.numeric, list(_bits(data, len(self.numeric))), False)

    def _visibility(self, data: bytes) -> None:
        self.fields["visible"] = tuple(_bits(data, self.count))

    def _default_collations(self, columns: list[int], data: bytes) -> None:
        """The most frequent collation, and the columns that have another; their numbers count only
        the columns that the field is about."""
        default, *others = _numbers(data)
        if len(others) % 2:
            raise DamagedError("a TABLE_MAP whose charsets are not pairs")
        found = [default] * len(columns)
        for index, collation in zip(others[::2], others[1::2], strict=True):
            found[index] = collation
        self._put("collations", columns, found, 0)

    def _collations(self, columns: list[int], data: bytes) -> None:
        self._spread("collations", columns, data, 0)

    def _names(self, data: bytes) -> None:
        at, names = 0, []
        while at < len(data):
            name, at = packed_part(data, at)
            names.append(name.decode())
        self._put("names", range(self.count), names, "")

    def _labels(self, kind: int, data: bytes) -> None:
        at, found = 0, []
        while at < len(data):
            count, at = packed(data, at)
            labels = []
            for _ in range(count):
                label, at = packed_part(data, at)
                labels.append(label)
            found.append(tuple(labels))
        self._put("labels", self.of_type(kind), found, ())

    def _key(self, data: bytes) -> None:
        self._checked_key(_numbers(data), None)

    def _key_with_prefixes(self, data: bytes) -> None:
        numbers = _numbers(data)
        self._checked_key(numbers[::2], numbers[1::2])

    def _checked_key(self, columns: list[int], prefixes: list[int] | None) -> None:
        if any(column >= self.count for column in columns):
            raise DamagedError("a TABLE_MAP whose key is of a column that it lacks")
        prefixes = [0] * len(columns) if prefixes is None else prefixes
        if len(prefixes) != len(columns):
            raise DamagedError("a TABLE_MAP whose key's columns are not pairs")
        self.fields["key"], self.fields["prefixes"] = tuple(columns), tuple(prefixes)
