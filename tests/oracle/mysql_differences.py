"""Where mysql-replication 1.0.17 gives another value than a row image has, and how its values are
compared with ours where it gives the same."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from connectors.mysql.wire import Type, WireColumn, string_meta

DIFFERENCES: Final = {
    "zero or partial date": "None for a date with a zero in it; ours is the server's text",
    "zero timestamp": "1970-01-01 for the zero timestamp; ours is 0000-00-00 00:00:00",
    "timestamp after 2038": "MariaDB's seconds from 2038 on, which are unsigned, read as signed",
    "negative fraction": "the fraction of a negative TIME2 is not complemented as its whole is",
    "negative old time": "a negative TIME of before MySQL 5.6 read as unsigned",
    "year zero": "1900 for the year 0; ours is 0",
    "empty set": "None for a SET without labels, as for null; ours is empty text",
    "zero bytes": "BINARY(n) without the zero bytes at its end; ours has n bytes",
    "utf16": "UTF-16 without a mark read as little-endian; the server's is big-endian",
    "bytes of ucs2": "bytes for a charset that Python knows by another name; ours is text",
    "null or absent": "None for both; ours tells them apart",
}
"""The differences that are explained, by name. In each the oracle is the one that is wrong, or says
less."""

Check = Callable[[Any, bytes], str]
"""Whether the oracle's value and ours are the same: nothing, the name of a difference that is
explained, or ``!``."""

WRONG: Final = "!"


def _equal(same: bool) -> str:
    return "" if same else WRONG


def _integer(value: Any, text: bytes) -> str:
    return _equal(str(value).encode() == text)


def _float(value: float, text: bytes) -> str:
    found = float(text)
    same = struct.pack("<f", found) == struct.pack("<f", value)
    # A shorter text would be that of fewer digits.
    digits = len(text.split(b"e")[0].strip(b"-0.").replace(b".", b"").rstrip(b"0"))
    shorter = float(f"{value:.{max(digits - 2, 0)}e}") if digits > 1 else math.nan
    try:
        return _equal(same and struct.pack("<f", shorter) != struct.pack("<f", value))
    except OverflowError:
        return _equal(same)


def _double(value: float, text: bytes) -> str:
    return _equal(repr(value).removesuffix(".0").encode() == text)


def _decimal(scale: int) -> Check:
    def check(value: Decimal, text: bytes) -> str:
        found = text.decode()
        return _equal(Decimal(found) == value and len(found.partition(".")[2]) == scale)

    return check


def _year(value: int, text: bytes) -> str:
    if text == b"0" and value == 1900:
        return "year zero"
    return _integer(value, text)


def _partial(text: bytes) -> bool:
    day = text[:10].split(b"-")
    return not all(map(int, day))


def _date(value: date | None, text: bytes) -> str:
    if value is None:
        return "zero or partial date" if _partial(text) else WRONG
    return _equal(f"{value.year:04}-{value.month:02}-{value.day:02}".encode() == text)


def _moment(value: datetime, digits: int) -> bytes:
    text = (
        f"{value.year:04}-{value.month:02}-{value.day:02} "
        f"{value.hour:02}:{value.minute:02}:{value.second:02}"
    )
    return f"{text}.{value.microsecond:06}"[: 20 + digits if digits else 19].encode()


def _datetime(digits: int) -> Check:
    def check(value: datetime | None, text: bytes) -> str:
        if value is None:
            return "zero or partial date" if _partial(text) else WRONG
        return _equal(_moment(value, digits) == text)

    return check


def _timestamp(digits: int) -> Check:
    def check(value: datetime, text: bytes) -> str:
        if text.startswith(b"0000"):
            return "zero timestamp" if value == datetime(1970, 1, 1) else WRONG
        if value.year < 1970:
            moment = value + timedelta(seconds=1 << 32)
            return "timestamp after 2038" if _moment(moment, digits) == text else WRONG
        return _equal(_moment(value, digits) == text)

    return check


def _clock(value: timedelta, digits: int) -> bytes:
    seconds, fraction = divmod(abs(value), timedelta(seconds=1))
    sign = "-" if value < timedelta() else ""
    hours, rest = divmod(seconds, 3600)
    text = f"{sign}{hours:02}:{rest // 60:02}:{rest % 60:02}.{fraction.microseconds:06}"
    return text[: len(text) - (6 - digits if digits else 7)].encode()


def _time(digits: int) -> Check:
    def check(value: timedelta, text: bytes) -> str:
        if _clock(value, digits) == text:
            return ""
        return "negative fraction" if value == _misread(text, digits) else WRONG

    return check


def _parts(text: bytes) -> tuple[int, ...]:
    """Hours, minutes and seconds of a negative time, and its fraction."""
    clock, _, fraction = text.removeprefix(b"-").partition(b".")
    return (*map(int, clock.split(b":")), int(fraction or b"0"))


def _misread(text: bytes, digits: int) -> timedelta:
    """What the oracle makes of the stored form of a negative time with a fraction."""
    hours, minutes, seconds, fraction = _parts(text)
    size = (digits + 1) // 2
    stored = (hours << 12 | minutes << 6 | seconds) << 8 * size
    stored |= fraction * (10 if digits % 2 else 1)
    data = ((0x800000 << 8 * size) - stored).to_bytes(3 + size, "big")
    whole = -int.from_bytes(data[:3], "big")
    rest = int.from_bytes(data[3:], "big", signed=True)
    rest = int(rest / 10) if digits % 2 else rest
    return -timedelta(
        hours=whole >> 12 & 0x3FF, minutes=whole >> 6 & 63, seconds=whole & 63,
        microseconds=rest * 10 ** (6 - digits),
    )  # fmt: skip


def _old_time(value: timedelta, text: bytes) -> str:
    if text.startswith(b"-"):
        hours, minutes, seconds, _ = _parts(text)
        number = (1 << 24) - (hours * 10000 + minutes * 100 + seconds)
        misread = timedelta(
            hours=number // 10000, minutes=number % 10000 // 100, seconds=number % 100
        )
        return "negative old time" if value == misread else WRONG
    return _equal(_clock(value, 0) == text)


def _text(column: WireColumn) -> Check:
    name = column.charset

    def check(value: Any, found: bytes) -> str:
        if name == "utf16" and found:
            data = value.encode("utf-16-le")
            return "utf16" if data.decode("utf-16-be").encode() == found else WRONG
        if name == "ucs2":
            text = value and value.decode("utf-16-be")
            return "bytes of ucs2" if text.encode() == found else WRONG
        return _equal((value if isinstance(value, bytes) else value.encode()) == found)

    return check


def _padded(size: int) -> Check:
    def check(value: bytes | str, found: bytes) -> str:
        # No bytes at all come as text.
        data = value if isinstance(value, bytes) else value.encode()
        if len(data) < size:
            return "zero bytes" if data.ljust(size, b"\0") == found else WRONG
        return _equal(data == found)

    return check


def _set(labels: tuple[str, ...]) -> Check:
    def check(value: set[str] | None, text: bytes) -> str:
        if value is None:
            return "empty set" if not text else WRONG
        return _equal(",".join(label for label in labels if label in value).encode() == text)

    return check


def _json(value: Any, text: bytes) -> str:
    return _equal(_plain(value) == json.loads(text))


def _plain(value: Any) -> Any:
    """A document as Python's own reader of JSON has it."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


def check_of(column: WireColumn) -> Check:
    """The comparison of a column's values that are not null."""
    code, meta = column.type, column.meta
    if code == Type.STRING:
        code, meta = string_meta(meta)
    if code == Type.STRING and not column.charset:
        return _padded(meta)
    checks: dict[int, Check] = {
        Type.FLOAT: _float, Type.DOUBLE: _double, Type.NEWDECIMAL: _decimal(meta >> 8),
        Type.YEAR: _year, Type.DATE: _date, Type.DATETIME: _datetime(0),
        Type.DATETIME2: _datetime(meta), Type.TIMESTAMP: _timestamp(0),
        Type.TIMESTAMP2: _timestamp(meta), Type.TIME: _old_time, Type.TIME2: _time(meta),
        Type.SET: _set(column.labels), Type.JSON: _json, Type.VARCHAR: _text(column),
        Type.STRING: _text(column), Type.BLOB: _text(column), Type.GEOMETRY: _text(column),
    }  # fmt: skip
    return checks.get(code, _integer)
