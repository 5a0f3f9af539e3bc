"""COPY's text format to the row layout; pure.

A line of ``COPY ... TO STDOUT`` (PostgreSQL documentation, COPY, "Text Format") has the columns'
texts between tabs, ``\\N`` for null, and backslash escapes for what would be mistaken. The texts
come from the types' output functions, as pgoutput's do; casts to text do not (boolean, char(n)).
"""

from __future__ import annotations

import re
import struct
from typing import Final

_escape = re.compile(rb"\\(.)", re.DOTALL)

ESCAPED: Final = {
    b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
}  # fmt: skip

_length = struct.Struct(">cI").pack
SHORT_MAX: Final = 1024
_short: Final = [_length(b"t", n) for n in range(SHORT_MAX)]


def head(columns: int) -> bytes:
    """What starts the body of each row of ``columns`` columns: a new image and the count."""
    return b"N" + struct.pack(">H", columns)


def body(start: bytes, line: bytes) -> bytes:
    """The body of a snapshot row from a line with its newline; ``start`` is `head` of its table."""
    if start == EMPTY:
        return start
    parts = [start]
    append = parts.append
    for value in line[:-1].split(b"\t"):
        if b"\\" in value:
            if value == b"\\N":
                append(b"n")
                continue
            value = unescaped(value)  # noqa: PLW2901
        size = len(value)
        append(_short[size] if size < SHORT_MAX else _length(b"t", size))
        append(value)
    return b"".join(parts)


EMPTY: Final = head(0)


def unescaped(value: bytes) -> bytes:
    """The text of a column that has backslashes."""
    return _escape.sub(_character, value)


def _character(match: re.Match[bytes]) -> bytes:
    return ESCAPED.get(match[1], match[1])
