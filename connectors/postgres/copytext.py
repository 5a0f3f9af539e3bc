"""COPY's text format to the row layout; pure.

A line of ``COPY ... TO STDOUT`` (PostgreSQL documentation, COPY, "Text Format") has the columns'
texts between tabs, ``\\N`` for null, and backslash escapes for what would be mistaken. The texts
come from the types' output functions, as pgoutput's do; casts to text do not (boolean, char(n)).

Snapshots convert many lines in one go, in compiled code (`bodies`); `RowCopier` is the same for one
line in plain Python.
"""

from __future__ import annotations

import re
import struct
from array import array
from typing import Final

from connectors.postgres import copylines
from connectors.postgres.errors import error

bodies = copylines.bodies


def last_body(body: bytes, ends: array[int]) -> bytes:
    """The last one of what `bodies` returned; empty if there is none."""
    return body[ends[-2] if len(ends) > 1 else 0 :]


_escape = re.compile(rb"\\(.|$)", re.DOTALL)

ESCAPED: Final = {
    b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"\\": b"\\",
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
        """The body (a new image) of the row in a line with its newline. Raises
        ``postgres.protocol_damaged``, as `bodies` does."""
        if line[-1:] != b"\n":
            raise error("protocol_damaged")
        if b"\\" in line or len(line) > SHORT_MAX or not self._columns:
            return self._careful(line)
        values = line[:-1].split(b"\t")
        if len(values) != self._columns:
            raise error("protocol_damaged")
        parts = self._parts
        parts[1::2] = [_short[len(value)] for value in values]
        parts[2::2] = values
        return b"".join(parts)

    def _careful(self, line: bytes) -> bytes:
        """The same for lines with nulls or escapes, long lines and rows without columns."""
        values = line[:-1].split(b"\t") if self._columns or line != b"\n" else []
        if len(values) != self._columns:
            raise error("protocol_damaged")
        parts = [self._head]
        for value in values:
            if value == b"\\N":
                parts.append(b"n")
                continue
            text = unescaped(value) if b"\\" in value else value
            parts.append(_length(b"t", len(text)))
            parts.append(text)
        return b"".join(parts)


def unescaped(value: bytes) -> bytes:
    """The text of a column that has backslashes. Raises ``postgres.protocol_damaged`` for those
    that ``COPY TO`` does not write."""
    return _escape.sub(_character, value)


def _character(match: re.Match[bytes]) -> bytes:
    try:
        return ESCAPED[match[1]]
    except KeyError:
        raise error("protocol_damaged") from None
