"""Values in Debezium's default encodings: pure functions, text in, JSON out.

After "Data type mappings" in the documentation of Debezium's PostgreSQL connector (3.x) with its
defaults: ``decimal.handling.mode=precise``, ``time.precision.mode=adaptive``, ``interval`` in µs,
``binary.handling.mode=bytes``. What Debezium cannot express or stops at is written as the
database's text in a string: ``NaN`` and ``Infinity`` of numeric, dates that do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Final

from ensign_core.change import Column, Logical
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
    Render,
    base64_text,
    boolean,
    hex_as_base64,
    number,
    quote,
)

PLACEHOLDER = "__debezium_unavailable_value"
"""Debezium's default ``unavailable.value.placeholder``."""

_INFINITIES = {
    "epoch_us": {"infinity": "9223372036825200000", "-infinity": "-9223372036832400000"},
    "epoch_days": {"infinity": "2147483647", "-infinity": "-2147483648"},
}
"""Timestamps as the documentation gives them; dates as the ends of the int32 they are written in,
where Debezium's own value is an accident of overflow."""

_INT_DIGITS_MAX = 4000
"""Below Python's limit for reading an integer from text (4,300); longer ones go by Decimal."""

_PRECISION = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",{}]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def render(column: Column) -> Render:
    """How a column is written. Kinds of types that share a logical type, such as bit strings and
    arrays, are told apart by the native name."""
    native = column.native
    if native.endswith("[]"):
        return _array_render(column)
    if native.startswith("bit"):
        return _bits_render(native)
    if native == "oid":
        return None
    if column.logical in _TEMPORAL:
        return partial(_or_text, _TEMPORAL[column.logical](native))
    if column.logical == "decimal":
        return partial(_or_text, _decimal_render(native))
    return _PLAIN.get(column.logical, quote)


def placeholder(column: Column) -> str:
    """What stands for a value that the source left out because it did not change."""
    if column.logical == "bytes":
        return f'"{base64_text(PLACEHOLDER.encode())}"'
    return f'"{PLACEHOLDER}"'


def _or_text(convert: Callable[[str], str], text: str) -> str:
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
    else:
        sign, figures, exponent = Decimal(text).as_tuple()
        if not isinstance(exponent, int) or exponent + scale < 0:
            digits = _shifted(text, scale)
        else:
            digits = int(Decimal((sign, figures, 0))) * 10 ** (exponent + scale)
    bits = (digits + 1 if digits < 0 else digits).bit_length()
    return base64_text(digits.to_bytes(bits // 8 + 1, "big", signed=True))


def _shifted(text: str, scale: int) -> int:
    """For a negative scale, ``numeric(3,-2)``: the zeros at the end go."""
    value = Decimal(text).scaleb(scale)
    if value != int(value):
        raise ValueError
    return int(value)


def _decimal_render(native: str) -> Callable[[str], str]:
    match = _PRECISION.search(native)
    if not match:
        return _variable_scale
    scale = int(match[2] or 0)
    return lambda text: f'"{unscaled(text, scale)}"'


def _variable_scale(text: str) -> str:
    scale = len(text.partition(".")[2])
    return f'{{"scale":{scale},"value":"{unscaled(text, scale)}"}}'


def _date(_native: str) -> Callable[[str], str]:
    infinities = _INFINITIES["epoch_days"]
    return lambda text: infinities.get(text) or str(epoch_days(text))


def _divisor(native: str) -> int:
    """Up to three digits of the fraction are written in ms, more in µs."""
    match = _PRECISION.search(native)
    return 1000 if match and int(match[1]) <= 3 else 1


def _time(native: str) -> Callable[[str], str]:
    divisor = _divisor(native)
    return lambda text: str(clock_us(text)[0] // divisor)


def _timestamp(native: str) -> Callable[[str], str]:
    divisor = _divisor(native)
    infinities = _INFINITIES["epoch_us"]
    return lambda text: infinities.get(text) or str(epoch_us(text) // divisor)


def _timestamptz(native: str) -> Callable[[str], str]:
    match = _PRECISION.search(native)
    digits = int(match[1]) if match else 6
    return lambda text: f'"{iso_moment(text, digits)}"'


def _timetz(_native: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        us, offset = clock_us(text)
        # Midnight at the end of the day stays itself where the offset does not move it.
        return f'"{iso_time(us if us == DAY_US and not offset else (us - offset) % DAY_US)}Z"'

    return convert


def _interval(_native: str) -> Callable[[str], str]:
    return lambda text: str(span_us(text))


def _bits_render(native: str) -> Render:
    """``bit(1)`` is a boolean; longer ones are bytes, little end first."""
    match = _PRECISION.search(native)
    bits = int(match[1]) if match else 1
    if "varying" in native:
        return lambda text: _bits(text, len(text.lstrip("0")))
    if bits == 1:
        return lambda text: "true" if text == "1" else "false"
    return lambda text: _bits(text, bits)


def _bits(text: str, bits: int) -> str:
    return f'"{base64_text(int(text or "0", 2).to_bytes((bits + 7) // 8, "little"))}"'


def _array_render(column: Column) -> Render:
    """One-dimensional arrays of common types are lists; all others stay text."""
    native = column.native[:-2]
    base = native.partition("(")[0].strip()
    logical = _ELEMENTS.get(base)
    if "time zone" in native:
        logical = "timestamptz" if native.endswith("with time zone") else "timestamp"
    if logical is None:
        return quote
    item = render(Column(column.name, native, logical)) or str

    def convert(text: str) -> str:
        inside = text[1:-1]
        # Bounds come before the brace, a further dimension right behind it.
        if text[:1] != "{" or inside[:1] == "{":
            return quote(text)
        return f"[{','.join(_items(inside, item))}]"

    return convert


def _items(inside: str, item: Callable[[str], str]) -> list[str]:
    """The elements of an array's text (PostgreSQL documentation, "Array Input and Output Syntax"):
    a quoted element has backslashes before quotes and backslashes, a bare NULL is null."""
    return [
        item(bare) if bare and bare != "NULL" else "null" if bare
        else item(_ESCAPED.sub(r"\1", quoted))
        for quoted, bare in _ITEM.findall(inside)
    ]  # fmt: skip


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
    **dict.fromkeys(("smallint", "integer", "bigint", "int2", "int4", "int8", "oid"), "int"),
    **dict.fromkeys(("real", "double precision", "float4", "float8"), "float"),
    **dict.fromkeys(("text", "character varying", "varchar", "character", "bpchar"), "text"),
    **dict.fromkeys(("uuid", "inet", "cidr", "macaddr", "citext", "json", "jsonb"), "text"),
    "boolean": "bool",
    "numeric": "decimal",
    "date": "date",
    "bytea": "bytes",
}
