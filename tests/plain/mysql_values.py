"""Values of MySQL and MariaDB in plain Python, from row images and from text results: what the
compiled codec is held against. Slow, and each type by itself."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from connectors.mysql import binaryjson, charsets
from connectors.mysql.wire import Type, WireColumn, string_meta
from ensign_core.rows import Value

COPIED: Final = {"utf8mb4", "utf8mb3", "utf8", "ascii"}
INTEGERS: Final = {Type.TINY: 1, Type.SHORT: 2, Type.INT24: 3, Type.LONG: 4, Type.LONGLONG: 8}
LENGTHS: Final = {
    Type.TINY_BLOB: 1, Type.BLOB: 2, Type.MEDIUM_BLOB: 3, Type.LONG_BLOB: 4, Type.JSON: 4,
    Type.GEOMETRY: 4, Type.VECTOR: 4, Type.BLOB_COMPRESSED: 2,
}  # fmt: skip
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PlainDamageError(Exception):
    """Bytes that are no value of the column."""


def real_type(column: WireColumn) -> tuple[int, int]:
    """What a STRING really is, and its size; of other types the code and the metadata."""
    if column.type == Type.STRING:
        return string_meta(column.meta)
    if column.type in (Type.ENUM, Type.SET):
        return column.type, column.meta >> 8
    return column.type, column.meta


def prefix(column: WireColumn) -> int:
    """Bytes of the length before a value; 0 where the size is fixed."""
    code, size = real_type(column)
    if code in LENGTHS:
        return column.meta & 0xFF or LENGTHS[Type(code)]
    if code in (Type.STRING, Type.VARCHAR, Type.VAR_STRING, Type.VARCHAR_COMPRESSED):
        return 1 if size < 256 else 2
    return 0


def fixed_size(column: WireColumn) -> int:
    """Bytes of a value of a type without length."""
    code, meta = real_type(column)
    if code in INTEGERS:
        return INTEGERS[Type(code)]
    if code == Type.NEWDECIMAL:
        return sum(size for size, _ in decimal_groups(meta & 0xFF, meta >> 8))
    if code in (Type.TIME2, Type.DATETIME2, Type.TIMESTAMP2):
        return {Type.TIME2: 3, Type.DATETIME2: 5, Type.TIMESTAMP2: 4}[Type(code)] + (meta + 1) // 2
    if code == Type.BIT:
        return (bits_of(meta) + 7) // 8
    if code in (Type.ENUM, Type.SET, Type.DECIMAL):
        return meta
    return {
        Type.FLOAT: 4, Type.DOUBLE: 8, Type.YEAR: 1, Type.DATE: 3, Type.NEWDATE: 3, Type.TIME: 3,
        Type.DATETIME: 8, Type.TIMESTAMP: 4,
    }[Type(code)]  # fmt: skip


def bits_of(meta: int) -> int:
    return 8 * (meta >> 8) + (meta & 0xFF)


def decimal_groups(digits: int, scale: int) -> list[tuple[int, int]]:
    """Bytes and digits of each group, in order."""
    size = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    whole = digits - scale
    groups = [(size[whole % 9], whole % 9)] if whole % 9 else []
    groups += [(4, 9)] * (whole // 9 + scale // 9)
    return groups + ([(size[scale % 9], scale % 9)] if scale % 9 else [])


def decimal_text(digits: int, scale: int, data: bytes) -> str:
    negative = not data[0] & 0x80
    bits = bytes((data[0] ^ 0x80,)) + data[1:]
    if negative:
        bits = bytes(byte ^ 0xFF for byte in bits)
    text = ""
    at = 0
    for size, width in decimal_groups(digits, scale):
        group = str(int.from_bytes(bits[at : at + size], "big")).rjust(width, "0")
        if len(group) > width:
            raise PlainDamageError
        text += group
        at += size
    whole, fraction = text[: digits - scale], text[digits - scale :]
    point = "." if scale else ""
    return ("-" if negative else "") + (whole.lstrip("0") or "0") + point + fraction


def double_text(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value).removesuffix(".0")


def float_text(value: float) -> str:
    """``value`` is a float of 32 bits."""
    if value != value or value in (float("inf"), float("-inf")):
        return double_text(value)
    for digits in range(9):
        nearest = Decimal(f"{value:.{digits}e}")
        step = Decimal((0, (1,), int(nearest.as_tuple().exponent)))
        # Below a power of two floats are closer than above it: the nearest decimal may be another's
        # where the next one is not.
        for found in (nearest, nearest + step, nearest - step):
            if reads_back(float(found), value):
                return double_text(float(found))
    raise AssertionError("nine digits tell all floats apart")


def reads_back(found: float, value: float) -> bool:
    try:
        return struct.pack("<f", found) == struct.pack("<f", value)
    except OverflowError:
        return False


def date_text(year: int, month: int, day: int) -> str:
    if year > 9999:
        raise PlainDamageError
    return f"{year:04}-{month:02}-{day:02}"


def clock_text(hour: int, minute: int, second: int) -> str:
    return f"{hour:02}:{minute:02}:{second:02}"


def fraction_text(fraction: int, digits: int) -> str:
    """``fraction`` as stored: with an even number of digits."""
    if not digits:
        return ""
    text = f"{fraction:0{digits + digits % 2}}"
    if len(text) > digits + digits % 2:
        raise PlainDamageError
    return "." + text[:digits]


def time_text(data: bytes, digits: int) -> str:
    size = len(data) - 3
    packed = int.from_bytes(data, "big") - (0x800000 << 8 * size)
    clock, fraction = divmod(abs(packed), 256**size)
    text = clock_text(clock >> 12, clock >> 6 & 63, clock & 63)
    if clock >> 12 > 999:
        raise PlainDamageError
    return ("-" if packed < 0 else "") + text + fraction_text(fraction, digits)


def datetime_text(data: bytes, digits: int) -> str:
    packed = int.from_bytes(data[:5], "big")
    if not packed >> 39:
        raise PlainDamageError
    months, day = packed >> 22 & 0x1FFFF, packed >> 17 & 31
    clock = clock_text(packed >> 12 & 31, packed >> 6 & 63, packed & 63)
    fraction = fraction_text(int.from_bytes(data[5:], "big"), digits)
    return f"{date_text(months // 13, months % 13, day)} {clock}{fraction}"


def timestamp_text(second: int, fraction: int, digits: int) -> str:
    moment = EPOCH + timedelta(seconds=second)
    text = f"{moment:%Y-%m-%d %H:%M:%S}" if second or fraction else "0000-00-00 00:00:00"
    return text + fraction_text(fraction, digits)


def old_datetime_text(number: int) -> str:
    digits = f"{number:014}"
    if len(digits) > 14:
        raise PlainDamageError
    return "{}{}{}{}-{}{}-{}{} {}{}:{}{}:{}{}".format(*digits)


def old_time_text(data: bytes) -> str:
    number = int.from_bytes(data, "little", signed=True)
    clock = abs(number)
    text = clock_text(clock // 10000, clock // 100 % 100, clock % 100)
    return ("-" if number < 0 else "") + text


def text_value(charset: str, data: bytes) -> Value:
    if charset in COPIED:
        return data.decode("utf-8", "surrogateescape")
    try:
        return charsets.decode(charset, data).decode()
    except ValueError:
        return data


def vector_value(data: bytes) -> Value:
    if len(data) % 4:
        return data
    return f"[{','.join(float_text(value) for (value,) in struct.iter_unpack('<f', data))}]"


def inflated(data: bytes) -> bytes:
    if not data or not data[0]:
        return data[1:]
    width = data[0] & 7
    if data[0] & 0xF0 != 0x80 or not 1 <= width <= 4 or len(data) <= width:
        raise PlainDamageError
    length = int.from_bytes(data[1 : 1 + width], "big")
    inflating = zlib.decompressobj(-15 if data[0] & 8 else 15)
    try:
        found = inflating.decompress(data[1 + width :], length + 1)
    except zlib.error:
        raise PlainDamageError from None
    if len(found) != length:
        raise PlainDamageError
    return found


def uuid_text(data: bytes) -> str:
    digits = data.ljust(16, b"\0").hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def inet4_text(data: bytes) -> str:
    return ".".join(map(str, data.ljust(4, b"\0")))


def inet6_text(data: bytes) -> str:
    """The longest run of zeros, if there is one, is left out; the first of equal ones."""
    data = data.ljust(16, b"\0")
    words = [f"{word:x}" for (word,) in struct.iter_unpack(">H", data)]
    if "0" not in words:
        return ":".join(words)
    size, start = max(
        (next((n for n in range(1, 9 - at) if set(words[at : at + n]) != {"0"}), 9 - at) - 1, -at)
        for at in range(8)
    )
    start = -start
    if start == 0 and (size == 6 or (size == 5 and words[5] == "ffff")):
        return "::" + "ffff:" * (size == 5) + inet4_text(data[12:])
    return ":".join(words[:start]) + "::" + ":".join(words[start + size :])


SPECIAL: Final[dict[str, tuple[int, Callable[[bytes], str]]]] = {
    "uuid": (16, uuid_text), "inet4": (4, inet4_text), "inet6": (16, inet6_text),
}  # fmt: skip


def bytes_or_text(column: WireColumn, data: bytes) -> Value:
    if column.special == "vector":
        return vector_value(data)
    if column.charset in ("", "binary"):
        return data
    return text_value(column.charset, data)


def string_value(column: WireColumn, size: int, data: bytes) -> Value:
    if column.special in SPECIAL:
        length, text = SPECIAL[column.special]
        if len(data) > length:
            raise PlainDamageError
        return text(data)
    found = bytes_or_text(column, data)
    is_binary = column.charset in ("", "binary")
    return found.ljust(size, b"\0") if isinstance(found, bytes) and is_binary else found


def moment_text(code: int, digits: int, data: bytes) -> str:
    number = int.from_bytes(data, "little")
    if code == Type.TIME2:
        return time_text(data, digits)
    if code == Type.DATETIME2:
        return datetime_text(data, digits)
    if code == Type.TIMESTAMP2:
        second = int.from_bytes(data[:4], "big")
        return timestamp_text(second, int.from_bytes(data[4:], "big"), digits)
    if code == Type.TIME:
        return old_time_text(data)
    if code == Type.DATETIME:
        return old_datetime_text(number)
    if code == Type.TIMESTAMP:
        return timestamp_text(number, 0, 0)
    return date_text(number >> 9, number >> 5 & 15, number & 31)


MOMENTS: Final = {
    Type.TIME2, Type.DATETIME2, Type.TIMESTAMP2, Type.TIME, Type.DATETIME, Type.TIMESTAMP,
    Type.DATE, Type.NEWDATE,
}  # fmt: skip


class PlainMismatchError(Exception):
    """A value of other labels than the column's."""


def stored_value(column: WireColumn, data: bytes) -> Value:
    """The value of ``data``, which has the right size, in a row image."""
    code, meta = real_type(column)
    number = int.from_bytes(data, "little")
    if code in INTEGERS:
        return str(int.from_bytes(data, "little", signed=not column.unsigned))
    if code == Type.FLOAT:
        return float_text(struct.unpack("<f", data)[0])
    if code == Type.DOUBLE:
        return double_text(struct.unpack("<d", data)[0])
    if code == Type.NEWDECIMAL:
        return decimal_text(meta & 0xFF, meta >> 8, data)
    if code == Type.DECIMAL:
        return data.decode("utf-8", "surrogateescape")
    if code == Type.YEAR:
        return str(1900 + number if number else 0)
    if code in MOMENTS:
        return moment_text(code, meta, data)
    if code == Type.BIT:
        return f"{int.from_bytes(data, 'big') & 2 ** bits_of(meta) - 1:0{bits_of(meta)}b}"
    if code == Type.ENUM:
        if number > len(column.labels):
            raise PlainMismatchError
        return ("", *column.labels)[number]
    if code == Type.SET:
        if number >> len(column.labels):
            raise PlainMismatchError
        return ",".join(label for i, label in enumerate(column.labels) if number >> i & 1)
    return sized_value(column, code, meta, data)


def sized_value(column: WireColumn, code: int, meta: int, data: bytes) -> Value:
    """Of the types that have a length."""
    if code == Type.JSON:
        try:
            return binaryjson.json_text(data).decode("utf-8", "surrogateescape")
        except ValueError:
            raise PlainDamageError from None
    if code == Type.VECTOR:
        return vector_value(data)
    if code == Type.GEOMETRY:
        return data
    if code in (Type.BLOB_COMPRESSED, Type.VARCHAR_COMPRESSED):
        return bytes_or_text(column, inflated(data))
    if code == Type.STRING:
        return string_value(column, meta, data)
    return bytes_or_text(column, data)
