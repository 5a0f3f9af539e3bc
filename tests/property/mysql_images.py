"""Random tables and rows events of them, in bulk, of every type of MySQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from connectors.mysql import rowimage
from connectors.mysql.wire import Type, WireColumn
from tests.property.mysql_drawn import (
    CODECS,
    COMPRESSED,
    LABEL_LETTERS,
    binaries,
    bits,
    dates,
    datetimes,
    decimals,
    documents,
    enums,
    floats,
    integers,
    old_datetimes,
    old_times,
    old_timestamps,
    sets,
    texts,
    times,
    timestamps,
    vectors,
    years,
)

UPDATES: Final = (rowimage.UPDATE, rowimage.PARTIAL_UPDATE)

Draw = Callable[[Random, WireColumn, int], list[bytes]]


@dataclass(frozen=True)
class Kind:
    """A kind of column: how one is drawn, and values of it, each with the length before it."""

    column: Callable[[Random], WireColumn]
    values: Draw


def _integer(rng: Random) -> WireColumn:
    codes = (Type.TINY, Type.SHORT, Type.INT24, Type.LONG, Type.LONGLONG)
    return WireColumn("", rng.choice(codes), unsigned=rng.random() < 0.5)


def _decimal(rng: Random) -> WireColumn:
    digits = rng.randrange(1, 66)
    scale = rng.choice((0, min(2, digits), rng.randrange(min(digits, 30) + 1)))
    return WireColumn("", Type.NEWDECIMAL, digits | scale << 8)


def _bit(rng: Random) -> WireColumn:
    width = rng.randrange(1, 65)
    return WireColumn("", Type.BIT, width % 8 | width // 8 << 8)


def _labels(rng: Random, count: int) -> tuple[str, ...]:
    return tuple(
        f"{''.join(rng.choices(LABEL_LETTERS, k=rng.randrange(5)))}{i}" for i in range(count)
    )


def _enum(rng: Random) -> WireColumn:
    count = rng.choice((1, 3, 255, 256, 300))
    size = 1 if count < 256 else 2
    return WireColumn(
        "", Type.STRING, Type.ENUM | size << 8, charset="utf8mb4", labels=_labels(rng, count)
    )


def _set(rng: Random) -> WireColumn:
    count = rng.choice((1, 3, 8, 9, 16, 20, 24, 30, 33, 64))
    size = (count + 7) // 8
    size = 8 if size > 4 else size
    return WireColumn(
        "", Type.STRING, Type.SET | size << 8, charset="utf8mb4", labels=_labels(rng, count)
    )


def _charset(rng: Random) -> str:
    return rng.choice((*CODECS, "utf8mb4", "utf8mb4", "", ""))


def _varchar(rng: Random) -> WireColumn:
    return WireColumn("", Type.VARCHAR, rng.choice((20, 255, 256, 1000)), charset=_charset(rng))


def _char(rng: Random) -> WireColumn:
    size = rng.choice((0, 40, 255, 256, 600, 1020))
    meta = Type.STRING ^ (size >> 8 << 4) | (size & 255) << 8
    return WireColumn("", Type.STRING, meta, charset=rng.choice((*CODECS, "utf8mb4")))


def _blob(rng: Random) -> WireColumn:
    return WireColumn("", Type.BLOB, rng.randrange(1, 5), charset=_charset(rng))


def _compressed(rng: Random) -> WireColumn:
    code = rng.choice(COMPRESSED)
    meta = rng.choice((500, 200)) if code == Type.VARCHAR_COMPRESSED else rng.randrange(1, 5)
    return WireColumn("", code, meta, charset=_charset(rng))


def _fixed(code: Type, meta: int = 0, special: str = "") -> Callable[[Random], WireColumn]:
    return lambda _rng: WireColumn("", code, meta, special=special)


def _fine(code: Type) -> Callable[[Random], WireColumn]:
    return lambda rng: WireColumn("", code, rng.randrange(7))


def _binary(size: int, special: str = "") -> Callable[[Random], WireColumn]:
    return _fixed(Type.STRING, Type.STRING | size << 8, special)


SHARED: Final = (
    Kind(_integer, integers), Kind(_integer, integers), Kind(_fixed(Type.FLOAT, 4), floats),
    Kind(_fixed(Type.DOUBLE, 8), floats), Kind(_decimal, decimals),
    Kind(_fixed(Type.YEAR), years), Kind(_fixed(Type.DATE), dates), Kind(_fine(Type.TIME2), times),
    Kind(_fine(Type.DATETIME2), datetimes), Kind(_fine(Type.TIMESTAMP2), timestamps),
    Kind(_fixed(Type.TIME), old_times), Kind(_fixed(Type.DATETIME), old_datetimes),
    Kind(_fixed(Type.TIMESTAMP), old_timestamps), Kind(_bit, bits), Kind(_enum, enums),
    Kind(_set, sets), Kind(_varchar, texts), Kind(_varchar, texts), Kind(_char, texts),
    Kind(_binary(16), binaries), Kind(_blob, texts), Kind(_fixed(Type.JSON, 4), documents),
    Kind(_fixed(Type.GEOMETRY, 4), texts),
)  # fmt: skip
"""Kinds that mysql-replication decodes too."""
EVERY: Final = (
    *SHARED, Kind(_compressed, texts), Kind(_fixed(Type.VECTOR, 4), vectors),
    Kind(_fixed(Type.VARCHAR, 100, "vector"), vectors), Kind(_binary(16, "uuid"), binaries),
    Kind(_binary(4, "inet4"), binaries), Kind(_binary(16, "inet6"), binaries),
    Kind(_fixed(Type.LONG_BLOB, 4), texts), Kind(_fixed(Type.TINY_BLOB, 1), texts),
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """A rows event of a table, from its number of columns on. ``there`` are the columns present in
    the images, for updates in the old and in the new one."""

    columns: tuple[WireColumn, ...]
    key: tuple[int, ...]
    kind: int
    there: tuple[tuple[int, ...], ...]
    event: bytes
    rows: int

    @property
    def count(self) -> int:
        return self.rows * len(self.there)


def images(
    rng: Random, kinds: Sequence[Kind], rows: int, columns_max: int = 8, *, whole: bool = False
) -> Images:
    """A table of at least one column and an event of so many rows. Rows of partial updates are
    those of other updates here: without changes to a document. With ``whole`` they are inserted
    and have all columns."""
    chosen = rng.choices(kinds, k=rng.randrange(1, columns_max + 1))
    columns = tuple(
        kind.column(rng)._replace(name=f"c{number}") for number, kind in enumerate(chosen)
    )
    key = tuple(sorted(rng.sample(range(len(columns)), rng.randrange(min(3, len(columns) + 1)))))
    kind = rng.choice((rowimage.WRITE, rowimage.UPDATE, rowimage.DELETE, rowimage.PARTIAL_UPDATE))
    there = tuple(_present(rng, len(columns), key) for _ in range(2 if kind in UPDATES else 1))
    if whole:
        kind, there = rowimage.WRITE, (tuple(range(len(columns))),)
    parts = [_image(rng, columns, chosen, found, rows) for found in there]
    if kind == rowimage.PARTIAL_UPDATE:
        parts[1] = [_options(rng, columns) + image for image in parts[1]]
    event = bytes((len(columns),)) + b"".join(_bitmap(len(columns), found) for found in there)
    event += b"".join(b"".join(row) for row in zip(*parts, strict=True))
    return Images(columns, key, kind, there, event, rows)


def _present(rng: Random, columns: int, key: Sequence[int]) -> tuple[int, ...]:
    every = tuple(range(columns))
    match rng.randrange(5):
        case 0:
            return tuple(sorted({*key, *rng.sample(every, rng.randrange(1, columns + 1))}))
        case 1:
            return tuple(key) or every
        case 2:
            return tuple(sorted(rng.sample(every, rng.randrange(1, columns + 1))))
        case _:
            return every


def _bitmap(columns: int, present: Sequence[int]) -> bytes:
    return sum(1 << i for i in present).to_bytes((columns + 7) // 8, "little")


def _options(rng: Random, columns: Sequence[WireColumn]) -> bytes:
    documents = sum(column.type == Type.JSON for column in columns)
    return b"\0" if rng.random() < 0.5 else b"\1" + bytes((documents + 7) // 8)


def _image(
    rng: Random, columns: Sequence[WireColumn], kinds: Sequence[Kind], present: Sequence[int],
    rows: int,
) -> list[bytes]:  # fmt: skip
    """One image for each row. Some of a column's values are null."""
    drawn = [kinds[i].values(rng, columns[i], rows) for i in present]
    size = (len(present) + 7) // 8
    nulls = [0] * rows
    for place, values in enumerate(drawn):
        if rng.random() < 0.7:
            continue
        for row in rng.sample(range(rows), rng.randrange(rows + 1) // 2):
            nulls[row] |= 1 << place
            values[row] = b""
    heads = [null.to_bytes(size, "little") for null in nulls]
    return [b"".join(image) for image in zip(heads, *drawn, strict=True)]
