"""Values of Debezium's envelopes as the text that the database has: pure functions.

What a value means says the field's Kafka Connect schema: its type and its semantic name (Debezium's
documentation, "Data type mappings"; Kafka Connect's ``org.apache.kafka.connect.data``). Text is
that of our own connectors, as far as Debezium tells it. What it does not tell:

- Fractions of a second have no zeros at the end; MySQL's ``datetime`` and ``time`` have three or
  six digits where there is a fraction, and its ``timestamp`` those that it came with.
- An interval that came in µs has hours, minutes and seconds only; money is a decimal number.
- ``bit varying`` is as wide as it may be, or as short as it can be where it has no limit.
- A text array's elements stay what they are where they are of a type without a name.

Readers raise ValueError for a value that its schema does not allow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

from ensign_core.change import BINARY, TEXT, Logical
from ensign_core.formats.arrays import DELIMITERS
from ensign_core.formats.decoded_structures import (
    array,
    data_of,
    double_of,
    integer_of,
    mysql_geometry,
    point,
    postgis,
    sparse_vector,
    struct_of,
    vector,
)
from ensign_core.formats.temporal import DAY_US, civil_from_days, epoch_us, iso_time
from ensign_core.formats.values import STRUCT as STRUCT_TYPE
from ensign_core.formats.values import is_json

Read = Callable[[int, bytes], tuple[int, bytes]]
"""From a value's kind and text (`ensign_core.rows.members`) to those of the row layout."""

_Text = Callable[[int, bytes], str]

_STRING = b"s"[0]
_DAYS_INFINITE: Final = {2147483647: "infinity", -2147483648: "-infinity"}
_US_INFINITE: Final = {
    9_223_372_036_825_200_000: "infinity",
    -9_223_372_036_832_400_000: "-infinity",
}
_UNLIMITED: Final = 2147483647
_SCALES: Final = range(-1_000_000, 1_000_000)
_BITS_MAX: Final = 83_886_080
"""Postgres' longest bit string."""
_MOMENT = re.compile(
    r"([+-]?)(\d{4,9})-(\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII
)
_ZONED_TIME = re.compile(r"(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII)


class FieldType(NamedTuple):
    """A column's type, and how to read its values."""

    native: str
    logical: Logical
    read: Read


def field_type(field: Mapping[str, Any], *, postgres: bool) -> FieldType:
    """The type of a field of a Kafka Connect schema. ``postgres``: as Postgres' connector has it,
    and whatever other has schemas in its tables' names; else as MySQL's."""
    kind, name = field.get("type"), str(field.get("name") or "").rpartition(".")[2]
    parameters = field.get("parameters") or {}
    if name in ("Decimal", "Bits"):
        return _sized(name, parameters)
    found = (_POSTGRES if postgres else _MYSQL).get((kind, name)) or _NAMED.get((kind, name))
    if found is not None:
        return found
    if kind == "array" and postgres and not name:
        items = field.get("items") or {}
        if items.get("type") != "array" or items.get("name"):
            item = field_type(items, postgres=True)
            delimiter = DELIMITERS.get(item.native.rpartition(".")[2], ",")
            return FieldType(f"{item.native}[]", "other", array(item.read, delimiter))
    return (_POSTGRES if postgres else _MYSQL).get((kind, "")) or _PLAIN.get(kind, STRUCT)


def _as_text(convert: _Text) -> Read:
    return lambda kind, text: (TEXT, convert(kind, text).encode())


def _same(kinds: bytes) -> Read:
    """The very text of a value of one of the kinds."""

    def read(kind: int, text: bytes) -> tuple[int, bytes]:
        if kind not in kinds:
            raise ValueError
        return TEXT, text

    return read


def _blob(kind: int, text: bytes) -> tuple[int, bytes]:
    return BINARY, data_of(kind, text)


def _bytea(kind: int, text: bytes) -> str:
    return f"\\x{data_of(kind, text).hex()}"


def _sized(name: str, parameters: Mapping[str, Any]) -> FieldType:
    if name == "Decimal":
        scale = int(parameters.get("scale", 0))
        precision = int(parameters.get("connect.decimal.precision", 0)) or max(38, scale)
        read = _as_text(lambda kind, text: _decimal(data_of(kind, text), scale))
        return FieldType(f"decimal({precision},{scale})", "decimal", read)
    width = int(parameters.get("length", _UNLIMITED))
    if width == _UNLIMITED:
        return FieldType("bit varying", "other", _as_text(lambda k, t: _bits(data_of(k, t), 1)))
    if not 0 < width <= _BITS_MAX:
        raise ValueError
    read = _as_text(lambda kind, text: _bits(data_of(kind, text), width))
    return FieldType(f"bit({width})", "other", read)


def _decimal(data: bytes, scale: int) -> str:
    """The number that a Decimal's bytes stand for, with all its zeros."""
    if scale not in _SCALES:
        raise ValueError
    sign, digits, _ = Decimal(int.from_bytes(data, "big", signed=True)).as_tuple()
    return f"{Decimal((sign, digits, -scale)):f}"


def _variable_scale(kind: int, text: bytes) -> str:
    found = struct_of(kind, text)
    return _decimal(data_of(*found["value"]), integer_of(*found["scale"]))


def _bits(data: bytes, width: int) -> str:
    return f"{int.from_bytes(data, 'little'):0{width}b}"


def _date(kind: int, text: bytes) -> str:
    days = integer_of(kind, text)
    return _DAYS_INFINITE.get(days) or _day(days)[0] + _day(days)[1]


def _mysql_date(kind: int, text: bytes) -> str:
    return _day(integer_of(kind, text))[0]


def _day(days: int) -> tuple[str, str]:
    """A day and what goes behind all of it: `` BC``, or nothing."""
    year, month, day = civil_from_days(days)
    return f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}", "" if year > 0 else " BC"


def _moment(unit_ns: int, digits: int = 0) -> _Text:
    """A timestamp from a count of units since the epoch; ``digits`` of a fraction that is not 0, or
    with 0 as many as it needs."""

    def convert(kind: int, text: bytes) -> str:
        units = integer_of(kind, text)
        if not digits:
            for us, infinite in _US_INFINITE.items():
                if units == us * 1000 // unit_ns and unit_ns <= 1_000_000:
                    return infinite
        days, ns = divmod(units * unit_ns, DAY_US * 1000)
        day, era = _day(days)
        return f"{day} {_clock(ns, digits)}{era}"

    return convert


def _clock(ns: int, digits: int = 0) -> str:
    seconds, fraction = divmod(ns, 1_000_000_000)
    whole = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if not fraction:
        return whole
    shown = f"{fraction:09}"
    return f"{whole}.{shown[:digits] if digits else shown.rstrip('0')}"


def _time(unit_ns: int, digits: int = 0) -> _Text:
    """A time of day, or a span, which has a sign and more than 24 hours."""

    def convert(kind: int, text: bytes) -> str:
        ns = integer_of(kind, text) * unit_ns
        return f"{'-' if ns < 0 else ''}{_clock(abs(ns), digits)}"

    return convert


def _zoned(kind: int, text: bytes) -> str:
    """ISO 8601 as Postgres writes a timestamp in UTC."""
    match = _MOMENT.fullmatch(_string(kind, text))
    if match is None:
        if text in (b"infinity", b"-infinity"):
            return text.decode()
        raise ValueError
    sign, year, day, clock, fraction, offset = match.groups()
    number = int(year) if sign != "-" else -int(year)
    era = "" if number > 0 else " BC"
    date = f"{number if number > 0 else 1 - number:04}-{day}"
    shown = (fraction or "").rstrip("0")
    behind = f".{shown}" if shown else ""
    moment_us = epoch_us(f"{date} {clock}{'+00' if offset == 'Z' else offset}{era}")
    if offset == "Z":
        return f"{date} {clock}{behind}+00{era}"
    # An offset is of whole minutes and leaves the fraction as it is, whatever its digits.
    days, us = divmod(moment_us, DAY_US)
    day, era = _day(days)
    return f"{day} {iso_time(us)}{behind}+00{era}"


def _mysql_zoned(kind: int, text: bytes) -> str:
    """The same as MySQL writes it, with the digits that came."""
    match = _MOMENT.fullmatch(_string(kind, text))
    if match is None or match[1] or match[6] != "Z":
        raise ValueError
    return f"{match[2]}-{match[3]} {match[4]}{'.' + match[5] if match[5] else ''}"


def _zoned_time(kind: int, text: bytes) -> str:
    match = _ZONED_TIME.fullmatch(_string(kind, text))
    if match is None:
        raise ValueError
    shown = (match[2] or "").rstrip("0")
    offset = "+00" if match[3] == "Z" else match[3].removesuffix(":00")
    return f"{match[1]}{'.' + shown if shown else ''}{offset}"


def _string(kind: int, text: bytes) -> str:
    if kind != _STRING:
        raise ValueError
    return text.decode()


def _json(kind: int, text: bytes) -> str:
    """JSON in a string. What is none is refused: our own columns of the type promise it."""
    found = _string(kind, text)
    if not is_json(found):
        raise ValueError
    return found


_STRINGS: Final = _same(b"s")
_INTS: Final = _same(b"i")
STRUCT: Final = FieldType(STRUCT_TYPE, "json", _same(b"{["))
"""Whatever has no other type: JSON as it came."""

_PLAIN: Final[dict[object, FieldType]] = {
    "boolean": FieldType("boolean", "bool", _same(b"b")),
    "int8": FieldType("smallint", "int", _INTS),
    "int16": FieldType("smallint", "int", _INTS),
    "int32": FieldType("integer", "int", _INTS),
    "int64": FieldType("bigint", "int", _INTS),
    "float": FieldType("real", "float", _as_text(double_of)),
    "double": FieldType("double precision", "float", _as_text(double_of)),
    "string": FieldType("text", "text", _STRINGS),
}
_MS, _US = 1_000_000, 1000

_NAMED: Final[dict[tuple[object, str], FieldType]] = {
    ("struct", "VariableScaleDecimal"): FieldType("numeric", "decimal", _as_text(_variable_scale)),
    ("string", "Json"): FieldType("json", "json", _as_text(_json)),
    ("string", "Uuid"): FieldType("uuid", "uuid", _STRINGS),
    ("string", "Xml"): FieldType("xml", "other", _STRINGS),
    ("string", "Enum"): FieldType("enum", "text", _STRINGS),
    ("string", "EnumSet"): FieldType("set", "text", _STRINGS),
    ("int32", "Year"): FieldType("year", "int", _INTS),
}

_TIME_MS = FieldType("time(3) without time zone", "time", _as_text(_time(_MS)))
_TIMESTAMP = "timestamp without time zone"
_TIMESTAMP_MS = FieldType("timestamp(3) without time zone", "timestamp", _as_text(_moment(_MS)))
_VECTOR = FieldType("public.vector", "other", _as_text(vector))
_SPATIAL = FieldType("public.geometry", "other", _as_text(postgis))
_POSTGRES: Final[dict[tuple[object, str], FieldType]] = {
    ("bytes", ""): FieldType("bytea", "bytes", _as_text(_bytea)),
    ("int32", "Date"): FieldType("date", "date", _as_text(_date)),
    ("int32", "Time"): _TIME_MS,
    ("int64", "MicroTime"): FieldType("time without time zone", "time", _as_text(_time(_US))),
    ("int64", "NanoTime"): FieldType("time without time zone", "time", _as_text(_time(1))),
    ("int64", "Timestamp"): _TIMESTAMP_MS,
    ("int64", "MicroTimestamp"): FieldType(_TIMESTAMP, "timestamp", _as_text(_moment(_US))),
    ("int64", "NanoTimestamp"): FieldType(_TIMESTAMP, "timestamp", _as_text(_moment(1))),
    ("string", "ZonedTime"): FieldType("time with time zone", "timetz", _as_text(_zoned_time)),
    ("string", "ZonedTimestamp"): FieldType(
        "timestamp with time zone", "timestamptz", _as_text(_zoned)
    ),
    ("int64", "MicroDuration"): FieldType("interval", "interval", _as_text(_time(_US))),
    ("string", "Ltree"): FieldType("public.ltree", "other", _STRINGS),
    ("string", "Tsvector"): FieldType("tsvector", "other", _STRINGS),
    ("struct", "Point"): FieldType("point", "other", _as_text(point)),
    ("struct", "Geometry"): _SPATIAL,
    ("struct", "Geography"): _SPATIAL._replace(native="public.geography"),
    ("array", "DoubleVector"): _VECTOR,
    ("array", "FloatVector"): _VECTOR,
    ("struct", "SparseDoubleVector"): FieldType(
        "public.sparsevec", "other", _as_text(sparse_vector)
    ),
}

_GEOMETRY = FieldType("geometry", "bytes", lambda kind, text: (BINARY, mysql_geometry(kind, text)))
_MYSQL: Final[dict[tuple[object, str], FieldType]] = {
    ("bytes", ""): FieldType("blob", "bytes", _blob),
    ("int32", "Date"): FieldType("date", "date", _as_text(_mysql_date)),
    ("int32", "Time"): FieldType("time(3)", "time", _as_text(_time(_MS, 3))),
    ("int64", "MicroTime"): FieldType("time(6)", "time", _as_text(_time(_US, 6))),
    ("int64", "NanoTime"): FieldType("time(6)", "time", _as_text(_time(1, 6))),
    ("int64", "Timestamp"): FieldType("datetime(3)", "timestamp", _as_text(_moment(_MS, 3))),
    ("int64", "MicroTimestamp"): FieldType("datetime(6)", "timestamp", _as_text(_moment(_US, 6))),
    ("int64", "NanoTimestamp"): FieldType("datetime(6)", "timestamp", _as_text(_moment(1, 6))),
    ("string", "ZonedTimestamp"): FieldType("timestamp(6)", "timestamptz", _as_text(_mysql_zoned)),
    ("struct", "Geometry"): _GEOMETRY,
    ("struct", "Point"): _GEOMETRY,
    ("array", "FloatVector"): FieldType("vector", "other", _as_text(vector)),
    ("array", "DoubleVector"): FieldType("vector", "other", _as_text(vector)),
}
