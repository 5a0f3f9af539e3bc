"""Values of PostgreSQL in Debezium's default encodings: pure functions, text in, JSON out.

After "Data type mappings" in the documentation of Debezium's PostgreSQL connector (3.x) with its
defaults: ``decimal.handling.mode=precise``, ``time.precision.mode=adaptive``, ``interval`` in µs,
``binary.handling.mode=bytes``, ``hstore.handling.mode=json``, ``money.fraction.digits=2``.
Beside that stands what the engine itself emits, recorded in ``tests/fixtures/debezium``. What is
different, and why:

- Types that Debezium leaves out (``include.unknown.datatypes=false``) are here: as the database's
  text in a string, as numbers where they are numbers. What type it is says the topic's schema.
- What Debezium cannot express, writes as null or stops at is the database's text in a string:
  ``NaN`` and ``Infinity`` of numeric, timestamps and intervals beyond 64 bits, dates that do not
  exist, arrays of several dimensions, money in currencies without two decimals. So are composites.
- ``date`` infinities are the ends of the int32, in place of an accident of overflow; ``24:00:00Z``
  stays itself.
- A number without declared scale keeps its zeros: ``1.10`` has scale 2, for Debezium 1. A negative
  scale is itself (``numeric(3,-2)``), for Debezium it is a positive one of four digits.
- ``bit(n)`` has all its bytes, as documented; the engine leaves zeros at the end out.
- Elements of arrays are as exact as columns are; Debezium takes days of the Julian calendar, no
  microseconds, and no null in some. Types without an array in Debezium have one.
- The placeholder of an unchanged value is also where Debezium has null for want of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from ensign_core.change import Column, Logical
from ensign_core.formats.arrays import DELIMITERS, elements
from ensign_core.formats.debezium_structures import (
    geometry,
    hstore,
    point,
    sparse_vector,
    vector,
)
from ensign_core.formats.temporal import (
    DAY_US,
    clock_us,
    epoch_days,
    epoch_us,
    iso_moment,
    iso_time,
    span_us,
)
from ensign_core.formats.values import (
    STRUCT,
    Render,
    base64_text,
    binary,
    boolean,
    hex_as_base64,
    number,
    one_line,
    quote,
)

PLACEHOLDER = "__debezium_unavailable_value"
"""Debezium's default ``unavailable.value.placeholder``."""

_DAYS_INFINITE = {"infinity": "2147483647", "-infinity": "-2147483648"}
_US_INFINITE = {"infinity": 9_223_372_036_825_200_000, "-infinity": -9_223_372_036_832_400_000}
"""As the documentation gives them; in columns of milliseconds a thousandth of it."""

_LONGS = range(-(2**63), 2**63)

_INT_DIGITS_MAX = 4000
"""Below Python's limit for reading an integer from text (4,300)."""

_MODIFIER = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")
_ANY_MODIFIER = re.compile(r"\([\w, -]*\)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_MONEY = re.compile(r"[^0-9]*[0-9][^A-Za-z]*[.,][0-9]{2}(?![0-9.,])[^0-9]*", re.ASCII)


def render(column: Column) -> Render:
    """How a column is written. Types that share a logical type, such as bit strings and arrays, are
    told apart by the native name."""
    native = column.native
    if native == STRUCT:
        return one_line
    if native == "bytea" and column.logical == "text":
        # The content of a logical message.
        return text_as_base64
    if native.endswith("[]"):
        return _array_render(native[:-2])
    return _render(native, column.logical)


def _render(native: str, logical: Logical) -> Render:
    base = _base(native)
    if base in ("bit", "bit varying"):
        return partial(or_text, bits(native))
    special = _SPECIAL.get(base)
    if special is None and "." in base:
        # Types of extensions come with the schema that they are in.
        special = _OF_EXTENSIONS.get(base.rpartition(".")[2])
    if special is not None:
        return partial(or_text, special)
    if logical in _TEMPORAL:
        return partial(or_text, _TEMPORAL[logical](native))
    if logical == "decimal":
        return partial(or_text, _decimal(native))
    return _PLAIN.get(logical, quote)


def _base(native: str) -> str:
    """The name of a type without its modifier."""
    return _ANY_MODIFIER.sub("", native, count=1)


def placeholder(column: Column) -> str:
    """What stands for a value that the source left out because it did not change: of the column's
    own type where Debezium has such a one, else the string."""
    if column.native.endswith("[]"):
        return _PLACEHOLDERS_ARRAYS.get(_base(column.native[:-2]), f'["{PLACEHOLDER}"]')
    if column.logical == "bytes":
        return _BYTES_PLACEHOLDER
    if column.native.endswith(".hstore"):
        return quote(f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}')
    return f'"{PLACEHOLDER}"'


def text_as_base64(text: str) -> str:
    return binary(text.encode())


def or_text(convert: Callable[[str], str], text: str) -> str:
    """The text converted, or as a string where the conversion does not know it."""
    try:
        return convert(text)
    except (ValueError, ArithmeticError):
        return quote(text)


def unscaled(text: str, scale: int) -> str:
    """A decimal number as base64 of its digits: the two's complement of ``value * 10**scale``, big
    end first, as short as it can be (Kafka Connect's Decimal, Java's BigInteger)."""
    whole, _, fraction = text.partition(".")
    if len(fraction) == scale and len(text) <= _INT_DIGITS_MAX:
        digits = int(whole + fraction)
    elif _NUMBER.fullmatch(text):
        figures = _scaled(whole.lstrip("-") + fraction, scale - len(fraction))
        digits = -_integer(figures) if text[0] == "-" else _integer(figures)
    else:
        raise ValueError
    bits = (digits + 1 if digits < 0 else digits).bit_length()
    return base64_text(digits.to_bytes(bits // 8 + 1, "big", signed=True))


def _scaled(figures: str, zeros: int) -> str:
    """Figures with so many more zeros at the end, or fewer, as ``numeric(3,-2)`` has."""
    if zeros >= 0:
        return figures + "0" * zeros
    if figures[zeros:].strip("0"):
        raise ValueError
    return figures[:zeros] or "0"


def _integer(figures: str) -> int:
    """Any number of figures, in parts that Python reads in one go; by halves, which is fast."""
    if len(figures) <= _INT_DIGITS_MAX:
        return int(figures)
    middle = len(figures) // 2
    low = figures[middle:]
    power: int = 10 ** len(low)
    return _integer(figures[:middle]) * power + _integer(low)


def _decimal(native: str) -> Callable[[str], str]:
    match = _MODIFIER.search(native)
    if not match:
        return _variable_scale
    scale = int(match[2] or 0)
    return lambda text: f'"{unscaled(text, scale)}"'


def _variable_scale(text: str) -> str:
    scale = len(text.partition(".")[2])
    return f'{{"scale":{scale},"value":"{unscaled(text, scale)}"}}'


def _money(text: str) -> str:
    """Money in any ``lc_monetary`` whose amounts have two decimals: what groups digits never stands
    two from the end. Negative ones have a minus or parentheses."""
    if not _MONEY.fullmatch(text):
        raise ValueError
    digits = "".join(re.findall("[0-9]", text))
    sign = "-" if "-" in text or "(" in text else ""
    return f'"{unscaled(f"{sign}{digits[:-2] or 0}.{digits[-2:]}", 2)}"'


def _long(value: int) -> str:
    if value not in _LONGS:
        raise ValueError
    return str(value)


def _date(_native: str) -> Callable[[str], str]:
    return lambda text: _DAYS_INFINITE.get(text) or str(epoch_days(text))


def _divisor(native: str) -> int:
    """Up to three digits of the fraction are written in ms, more in µs."""
    match = _MODIFIER.search(native)
    return 1000 if match and int(match[1]) <= 3 else 1


def _time(native: str) -> Callable[[str], str]:
    divisor = _divisor(native)
    return lambda text: str(clock_us(text)[0] // divisor)


def _timestamp(native: str) -> Callable[[str], str]:
    divisor = _divisor(native)

    def convert(text: str) -> str:
        us = _US_INFINITE.get(text)
        return _long((epoch_us(text) if us is None else us) // divisor)

    return convert


def _timestamptz(native: str) -> Callable[[str], str]:
    match = _MODIFIER.search(native)
    digits = int(match[1]) if match else 6
    return lambda text: f'"{iso_moment(text, digits)}"'


def _timetz(_native: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        us, offset = clock_us(text)
        # Midnight at the end of the day stays itself where the offset does not move it.
        return f'"{iso_time(us if us == DAY_US and not offset else (us - offset) % DAY_US)}Z"'

    return convert


def _interval(_native: str) -> Callable[[str], str]:
    return lambda text: _long(span_us(text))


def bits(native: str) -> Callable[[str], str]:
    """One bit is a boolean; more are bytes, little end first: as many as ``bit(n)`` has, as many as
    are needed of ``bit varying``."""
    match = _MODIFIER.search(native)
    count = int(match[1]) if match else 0 if "varying" in native else 1
    if count == 1:
        return lambda text: "true" if int(text, 2) else "false"
    if "varying" in native:
        return lambda text: _bytes_of_bits(text, len(text.lstrip("0")))
    return lambda text: _bytes_of_bits(text, count)


def _bytes_of_bits(text: str, bits: int) -> str:
    return f'"{base64_text(int(text or "0", 2).to_bytes((bits + 7) // 8, "little"))}"'


def _array_render(native: str) -> Render:
    """Arrays of one dimension are lists, whatever their lower bound; all others stay text."""
    base = _base(native)
    logical: Logical = "interval" if base.startswith("interval") else _ELEMENTS.get(base, "other")
    item = _render(native, logical) or str
    delimiter = DELIMITERS.get(base.rpartition(".")[2], ",")

    def convert(text: str) -> str:
        found = elements(text, delimiter)
        if found is None:
            return quote(text)
        return f"[{','.join(['null' if i is None else item(i) for i in found])}]"

    return partial(or_text, convert)


_PLAIN: Final[dict[Logical, Render]] = {
    "bool": boolean,
    "int": None,
    "float": number,
    "bytes": hex_as_base64,
}

_TEMPORAL: Final[dict[Logical, Callable[[str], Callable[[str], str]]]] = {
    "date": _date,
    "time": _time,
    "timetz": _timetz,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "interval": _interval,
}

_ELEMENTS: Final[dict[str, Logical]] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "oid", "xid", "xid8", "cid"), "int"),
    **dict.fromkeys(("real", "double precision"), "float"),
    "boolean": "bool",
    "numeric": "decimal",
    "bytea": "bytes",
    "date": "date",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
"""What elements mean whose text is not simply quoted."""

_SPECIAL: Final[dict[str, Callable[[str], str]]] = {"money": _money, "point": point}

_OF_EXTENSIONS: Final[dict[str, Callable[[str], str]]] = {
    "hstore": hstore,
    "geometry": geometry,
    "geography": geometry,
    "vector": vector,
    "halfvec": vector,
    "sparsevec": sparse_vector,
}

_BYTES_PLACEHOLDER: Final = f'"{base64_text(PLACEHOLDER.encode())}"'
_PLACEHOLDERS_ARRAYS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("smallint", "integer", "bigint", "date"),
        f"[{','.join(str(byte) for byte in PLACEHOLDER.encode())}]",
    ),
    "bytea": f"[{_BYTES_PLACEHOLDER}]",
    "uuid": '["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]',
}
"""Numbers are the placeholder's bytes; a UUID is what Java's ``nameUUIDFromBytes`` makes of it."""

UNAVAILABLE: Final[dict[bytes, tuple[str, Logical]]] = {
    PLACEHOLDER.encode(): ("string", "text"),
    base64_text(PLACEHOLDER.encode()).encode(): ("bytes", "bytes"),
    f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}'.encode(): ("public.hstore", "other"),
    f'["{PLACEHOLDER}"]'.encode(): ("text[]", "other"),
    **{text.encode(): (f"{base}[]", "other") for base, text in _PLACEHOLDERS_ARRAYS.items()},
}
"""All placeholders, as a string says them or a list is, and a type that has them."""
