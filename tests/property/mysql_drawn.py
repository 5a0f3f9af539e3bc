"""Random values of every type of MySQL and MariaDB as row images store them, in bulk.

Those of a column are drawn many at a time, with the least, the greatest and the odd ones among
them; what a server would never write is left to the tests that damage events. Each value has its
length before it where its type has one.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Final

from connectors.mysql.wire import Type, WireColumn
from tests.plain.binaryjson import Json, encode
from tests.plain.mysql_values import bits_of, decimal_groups, prefix

CODECS: Final = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "ascii": "ascii", "latin1": "cp1252",
    "latin2": "iso8859-2", "cp1251": "cp1251", "greek": "iso8859-7", "gbk": "gbk",
    "sjis": "shift_jis", "ucs2": "utf-16-be", "utf16": "utf-16-be",
}  # fmt: skip
"""Charsets, and Python's codecs that agree with them on the letters that are used here."""
LETTERS: Final = {
    "utf8mb4": "aB9 ,'\"\\\n\x00äß€中文😀", "utf8mb3": "aB9 ,'äß€中文", "ascii": "aB9 ,'\"~",
    "latin1": "aB9 äß€ÿ", "latin2": "aB9 äőŁ", "cp1251": "aB9 жЯ№", "greek": "aB9 αΩ",
    "gbk": "aB9 中文", "sjis": "aB9 日本ア", "ucs2": "aB9 äß€中文", "utf16": "aB9 ä€中😀",
}  # fmt: skip
LABEL_LETTERS: Final = "abcäß€ '\"中"


def integers(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    size = {Type.TINY: 1, Type.SHORT: 2, Type.INT24: 3, Type.LONG: 4, Type.LONGLONG: 8}[
        Type(column.type)
    ]
    return sprinkled(
        rng, raw(rng, size, count),
        (bytes(size), b"\xff" * size, b"\xff" * (size - 1) + b"\x7f", bytes(size - 1) + b"\x80"),
    )  # fmt: skip


def raw(rng: Random, size: int, count: int) -> list[bytes]:
    data = rng.randbytes(size * count)
    return [data[at : at + size] for at in range(0, size * count, size)]


def sprinkled(rng: Random, values: list[bytes], edges: Sequence[bytes]) -> list[bytes]:
    for at in range(rng.randrange(4), len(values), 5):
        values[at] = rng.choice(edges)
    return values


def floats(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    """Half of them of any bits, half short decimals; none that a server does not store."""
    size, form = (4, "<f") if column.type == Type.FLOAT else (8, "<d")
    values = [v for v in raw(rng, size, count // 2) if math.isfinite(struct.unpack(form, v)[0])]
    while len(values) < count:
        exponent = rng.randrange(-8, 9)
        value = rng.randrange(-(10**7), 10**7) * 10.0**exponent
        values.append(struct.pack(form, rng.choice((value, round(value, 2), float(int(value))))))
    rng.shuffle(values)
    edges = (0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 123456789.0, 16777216.0, 1e-4, 1e-5, 3.4e38, 1e-45)
    return sprinkled(rng, values, [struct.pack(form, edge) for edge in edges])


def decimals(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    digits, scale = column.meta & 0xFF, column.meta >> 8
    groups = decimal_groups(digits, scale)
    values = []
    for _ in range(count):
        shown = rng.randrange(digits + 1)
        number = rng.choice((rng.randrange(10**shown), 0, 10**digits - 1))
        text, parts, at = f"{number:0{digits}}", b"", 0
        for size, width in groups:
            parts += int(text[at : at + width]).to_bytes(size, "big")
            at += width
        if number and rng.random() < 0.5:
            parts = bytes(byte ^ 0xFF for byte in parts)
        values.append(bytes((parts[0] ^ 0x80,)) + parts[1:])
    return values


def years(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    return raw(rng, 1, count)


def day(rng: Random) -> tuple[int, int, int]:
    """A date as servers store them: whole, partial or zero."""
    kind = rng.randrange(12)
    year, month, of_month = rng.randrange(1, 10000), rng.randrange(1, 13), rng.randrange(1, 29)
    if kind == 0:
        return 0, 0, 0
    if kind == 1:
        return year, month, 0
    if kind == 2:
        return year, 0, 0
    return (0, month, of_month) if kind == 3 else (year, month, of_month)


def dates(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    return [
        (year << 9 | month << 5 | of_month).to_bytes(3, "little")
        for year, month, of_month in (day(rng) for _ in range(count))
    ]


def fraction(rng: Random, digits: int) -> int:
    """As stored: in hundredths and so on, with an even number of digits."""
    whole = 10**digits
    return rng.choice((0, whole - 1, rng.randrange(whole))) * (10 if digits % 2 else 1)


def times(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    size = (column.meta + 1) // 2
    values = []
    for _ in range(count):
        hour = rng.choice((0, rng.randrange(24), rng.randrange(839)))
        clock = hour << 12 | rng.randrange(60) << 6 | rng.randrange(60)
        packed = clock << 8 * size | fraction(rng, column.meta)
        packed = -packed if rng.random() < 0.4 else packed
        values.append((packed + (0x800000 << 8 * size)).to_bytes(3 + size, "big"))
    return values


def datetimes(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    values = []
    for _ in range(count):
        year, month, of_month = day(rng)
        clock = rng.randrange(24) << 12 | rng.randrange(60) << 6 | rng.randrange(60)
        packed = (year * 13 + month) << 22 | of_month << 17 | clock
        stored = fraction(rng, column.meta).to_bytes((column.meta + 1) // 2, "big")
        values.append((packed | 1 << 39).to_bytes(5, "big") + stored)
    return values


def timestamps(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    size = (column.meta + 1) // 2
    return [
        rng.choice((0, 1, 951782400, 0x7FFFFFFF, rng.randrange(1 << 31), rng.randrange(1 << 32)))
        .to_bytes(4, "big") + fraction(rng, column.meta).to_bytes(size, "big")
        for _ in range(count)
    ]  # fmt: skip


def old_times(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    return [
        (rng.choice((1, 1, -1)) * number).to_bytes(3, "little", signed=True)
        for number in (
            rng.randrange(839) * 10000 + rng.randrange(60) * 100 + rng.randrange(60)
            for _ in range(count)
        )
    ]


def old_datetimes(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    values = []
    for _ in range(count):
        year, month, of_month = day(rng)
        number = (year * 100 + month) * 100 + of_month
        for part in (rng.randrange(24), rng.randrange(60), rng.randrange(60)):
            number = number * 100 + part
        values.append(number.to_bytes(8, "little"))
    return values


def old_timestamps(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    return sprinkled(rng, raw(rng, 4, count), (bytes(4),))


def bits(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    width = bits_of(column.meta)
    return [
        rng.choice((rng.getrandbits(width), 0, 2**width - 1)).to_bytes((width + 7) // 8, "big")
        for _ in range(count)
    ]


def enums(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    size, labels = column.meta >> 8, len(column.labels)
    return [rng.randrange(labels + 1).to_bytes(size, "little") for _ in range(count)]


def sets(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    size, labels = column.meta >> 8, len(column.labels)
    return [
        rng.choice((rng.getrandbits(labels), 0, 2**labels - 1)).to_bytes(size, "little")
        for _ in range(count)
    ]


def texts(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    """Text of the column's charset, or bytes; with their length before them."""
    width = prefix(column)
    most = min(column.meta, 400) if column.type == Type.VARCHAR else 60
    values = []
    for _ in range(count):
        size = rng.choice((0, 1, rng.randrange(12), rng.randrange(most + 1)))
        if column.charset:
            letters = rng.choices(LETTERS[column.charset], k=size // 4)
            data = "".join(letters).encode(CODECS[column.charset])
        else:
            data = rng.randbytes(size)
        data = compressed(rng, data) if column.type in COMPRESSED else data
        values.append(len(data).to_bytes(width, "little") + data)
    return values


COMPRESSED: Final = (Type.VARCHAR_COMPRESSED, Type.BLOB_COMPRESSED)


def compressed(rng: Random, data: bytes) -> bytes:
    """As a COMPRESSED column of MariaDB."""
    if not data or rng.random() < 0.3:
        return b"\0" + data if data else b""
    header = rng.random() < 0.5
    deflating = zlib.compressobj(wbits=15 if header else -15)
    width = rng.randrange(1 if len(data) < 256 else 2, 5)
    head = bytes((0x80 | width | (0 if header else 8),)) + len(data).to_bytes(width, "big")
    return head + deflating.compress(data) + deflating.flush()


def binaries(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    """BINARY(n), its zero bytes at the end left out."""
    size = column.meta >> 8
    found = [data[: rng.randrange(size + 1)].rstrip(b"\0") for data in raw(rng, size, count)]
    return [bytes((len(data),)) + data for data in found]


def vectors(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    width = prefix(column)
    found = []
    for _ in range(count):
        data = b"".join(floats(rng, WireColumn("", Type.FLOAT, 4), rng.randrange(4)))
        found.append(len(data).to_bytes(width, "little") + data)
    return found


def documents(rng: Random, column: WireColumn, count: int) -> list[bytes]:
    found = [encode(document(rng, 3)) for _ in range(count)]
    return [len(data).to_bytes(4, "little") + data for data in found]


def document(rng: Random, depth: int) -> Json:
    match rng.randrange(9 if depth else 7):
        case 0:
            return rng.choice((None, True, False))
        case 1 | 2:
            return rng.randrange(-(2 ** rng.randrange(1, 63)), 2 ** rng.randrange(1, 64))
        case 3:
            return rng.randrange(-(10**6), 10**6) / 8
        case 4 | 5 | 6:
            return "".join(rng.choices('abc"\\\n\t\x01ä€😀', k=rng.randrange(8)))
        case 7:
            return [document(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            names = ("".join(rng.choices("abcä", k=rng.randrange(4))) for _ in range(4))
            return {name: document(rng, depth - 1) for name in names}
