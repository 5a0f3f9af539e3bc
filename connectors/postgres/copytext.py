"""COPY's text format to the row layout; pure.

A line of ``COPY ... TO STDOUT`` (PostgreSQL documentation, COPY, "Text Format") has the columns'
texts between tabs, ``\\N`` for null, and backslash escapes for what would be mistaken. The texts
come from the types' output functions, as pgoutput's do; casts to text do not (boolean, char(n)).
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

_escape = re.compile(rb"\\(.)", re.DOTALL)

ESCAPED: Final = {
    b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
}  # fmt: skip

_length = struct.Struct(">cI").pack
SHORT_MAX: Final = 1024
_short: Final = [_length(b"t", n) for n in range(SHORT_MAX)]


class RowCopier:
    """Makes the bodies of snapshot rows of one table from COPY's lines."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._head = b"N" + struct.pack(">H", columns)
        self._parts = [self._head] + [b""] * (2 * columns)

    def body(self, line: bytes) -> bytes:
        """The body (a new image) of the row in a line with its newline."""
        if b"\\" in line or len(line) > SHORT_MAX or not self._columns:
            return self._careful(line)
        values = line[:-1].split(b"\t")
        parts = self._parts
        parts[1::2] = [_short[len(value)] for value in values]
        parts[2::2] = values
        return b"".join(parts)

    def _careful(self, line: bytes) -> bytes:
        """The same for lines with nulls or escapes, long lines and rows without columns."""
        if not self._columns:
            return self._head
        parts = [self._head]
        for value in line[:-1].split(b"\t"):
            if value == b"\\N":
                parts.append(b"n")
                continue
            text = unescaped(value) if b"\\" in value else value
            parts.append(_length(b"t", len(text)))
            parts.append(text)
        return b"".join(parts)


def unescaped(value: bytes) -> bytes:
    """The text of a column that has backslashes."""
    return _escape.sub(_character, value)


def _character(match: re.Match[bytes]) -> bytes:
    return ESCAPED.get(match[1], match[1])


def bodies(lines: Sequence[bytes], columns: int) -> tuple[bytes, array[int]]:
    """The bodies of the rows in COPY's lines, one behind the other, and their ends."""
    found = list(map(RowCopier(columns).body, lines))
    return b"".join(found), array("I", accumulate(map(len, found)))
