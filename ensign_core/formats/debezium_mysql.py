"""Values of MySQL and MariaDB in Debezium's default encodings: pure functions, text in, JSON out.

After "Data type mappings" in the documentation of Debezium's connectors for MySQL and MariaDB (3.x)
with their defaults: ``time.precision.mode=adaptive_time_microseconds``,
``decimal.handling.mode=precise``, ``bigint.unsigned.handling.mode=long``,
``binary.handling.mode=bytes``. Beside that stands what the engines themselves emit, recorded in
``tests/fixtures/debezium``; where their snapshot and their stream write one value in two ways, ours
is one of both. A zero date is null, or the epoch in a column that may not be null, as documented.
What is different, and why:

- ``bigint unsigned`` beyond 63 bits is itself: Debezium's ``long`` overflows to a negative number.
- Partial dates (``2015-05-00``), those of the year 0 and days that a month has not are the
  database's text in a string: Debezium writes them like a zero date, its snapshot takes ``0000``
  for 2000.
- Years before 100 are themselves: Debezium takes 18 for 2018 (``enable.time.adjuster``). The
  ``year`` 0 is 0, in Debezium 1900 or 2000.
- A ``float`` is the shortest text that reads back as the same 32 bits. Debezium writes
  ``float(M,D)`` as the 64-bit number that it is, and its snapshot only six digits of a plain one.
- ``timestamp`` has the column's digits of the fraction; Debezium's snapshot leaves zeros at the end
  out.
- A label of an ``enum`` is itself: Debezium's stream puts backslashes before commas.
- A point has its coordinates in a column of any spatial type, in Debezium in one of ``point`` only.
- JSON is the server's own text, white space included; Debezium's stream leaves that out.
- ``inet4`` and ``inet6`` are text; at such columns, at the year 0 of MariaDB and at its compressed
  columns Debezium stops.
- What a row image leaves out (``binlog_row_image`` other than FULL) is the placeholder: of bytes in
  base64, else the string. Debezium stops at such a row.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

from ensign_core.change import Column, Logical
from ensign_core.formats.debezium_structures import vector
from ensign_core.formats.debezium_values import PLACEHOLDER, bits, or_text, unscaled
from ensign_core.formats.temporal import DAY_US, span_us
from ensign_core.formats.values import (
    STRUCT,
    Render,
    base64_text,
    binary,
    boolean,
    number,
    one_line,
    quote,
)

_EPOCH = datetime(1970, 1, 1)
_ARGUMENTS = re.compile(r"\((\d+)(?:,(\d+))?\)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)

_SPATIAL: Final = frozenset({
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection", "geomcollection",
})  # fmt: skip

_SRID_BYTES: Final = 4
"""A spatial value is its SRID, little end first, and its WKB (MySQL documentation, "Internal
Geometry Storage Format")."""
_POINT: Final = struct.Struct("<BIdd")
_POINT_BEGINS: Final = (1, 1)
"""Of a point's WKB: the order of bytes, which both servers write little end first, and the type."""
_WKB_BYTES_MIN: Final = 9


def render(column: Column) -> Render:
    """How a column's text is written. Types that share a logical type are told apart by the native
    name, such as ``bit(8)``."""
    base = _base(column.native)
    if base == STRUCT:
        return one_line
    if base == "bit":
        return partial(or_text, bits(column.native))
    if base == "vector":
        return partial(or_text, vector)
    convert = _CONVERTED.get(column.logical)
    if convert is not None:
        return partial(or_text, convert(column))
    return _PLAIN.get(column.logical, quote)


def bytes_render(column: Column) -> Callable[[bytes], str] | None:
    """How a column's raw bytes are written where it is not base64."""
    return _geometry if _base(column.native) in _SPATIAL else None


def placeholder(column: Column) -> str:
    """What stands for a value that the source left out because it did not change."""
    if column.logical == "bytes" and _base(column.native) not in _SPATIAL:
        return _BYTES_PLACEHOLDER
    return f'"{PLACEHOLDER}"'


def _base(native: str) -> str:
    """The name of a type without what is in parentheses or behind a space."""
    return native.partition("(")[0].partition(" ")[0]


def _argument(native: str, place: int) -> int:
    """A number in the parentheses of a type; 0 where there is none."""
    match = _ARGUMENTS.search(native)
    return int(match[place] or 0) if match else 0


def _decimal(column: Column) -> Callable[[str], str]:
    scale = _argument(column.native, 2)
    return lambda text: f'"{unscaled(text, scale)}"'


def _is_zero(text: str) -> bool:
    """Whether it is the date that is none, ``0000-00-00``, with any clock of zeros."""
    return not text.strip("0-: .")


def _since_epoch_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError
    since = moment - _EPOCH
    return since.days * DAY_US + since.seconds * 1_000_000 + since.microseconds


def _in_units(column: Column, unit_us: int) -> Callable[[str], str]:
    """A date or datetime as a count of units since the epoch."""
    zero = "null" if column.nullable else "0"
    return lambda text: zero if _is_zero(text) else str(_since_epoch_us(text) // unit_us)


def _date(column: Column) -> Callable[[str], str]:
    return _in_units(column, DAY_US)


def _datetime(column: Column) -> Callable[[str], str]:
    """Up to three digits of the fraction are written in ms, more in µs."""
    return _in_units(column, 1000 if _argument(column.native, 1) <= 3 else 1)


def _time(_column: Column) -> Callable[[str], str]:
    return lambda text: str(span_us(text))


def _timestamp(column: Column) -> Callable[[str], str]:
    zero = "null" if column.nullable else '"1970-01-01T00:00:00Z"'

    def convert(text: str) -> str:
        if _is_zero(text):
            return zero
        if not _MOMENT.fullmatch(text):
            raise ValueError
        return f'"{text[:10]}T{text[11:]}Z"'

    return convert


def _geometry(value: bytes) -> str:
    """An object with WKB and SRID, null for 0, and the coordinates of a point."""
    wkb = value[_SRID_BYTES:]
    if len(wkb) < _WKB_BYTES_MIN:
        return binary(value)
    srid = int.from_bytes(value[:_SRID_BYTES], "little") or "null"
    found = f'"wkb":"{base64_text(wkb)}","srid":{srid}}}'
    if len(wkb) != _POINT.size:
        return f"{{{found}"
    order, kind, x, y = _POINT.unpack(wkb)
    if (order, kind) != _POINT_BEGINS:
        return f"{{{found}"
    return f'{{"x":{number(repr(x))},"y":{number(repr(y))},{found}'


_CONVERTED: Final[dict[Logical, Callable[[Column], Callable[[str], str]]]] = {
    "decimal": _decimal,
    "date": _date,
    "time": _time,
    "timestamp": _datetime,
    "timestamptz": _timestamp,
}
_PLAIN: Final[dict[Logical, Render]] = {"bool": boolean, "int": None, "float": number}
_BYTES_PLACEHOLDER: Final = f'"{base64_text(PLACEHOLDER.encode())}"'
