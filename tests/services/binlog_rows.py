"""Rows of one table ``(id INT, doc JSON)``, taken from the files of a server's binary log.

Only as much of the format as that takes (MySQL Internals, "Rows_event"; MySQL documentation,
"Partial Updates of JSON Values"), so that bytes to test with do not come through the code that is
tested.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WRITE_ROWS, UPDATE_ROWS, PARTIAL_UPDATE_ROWS = 30, 31, 39

EVENT_HEAD_BYTES = 19
CHECKSUM_BYTES = 4
ROWS_HEAD_BYTES = 8


class Written(NamedTuple):
    """A row's document after a change; after a partial update of ``old`` its changes."""

    id: int
    doc: bytes | None
    old: bytes | None = None
    is_partial: bool = False


def written(folder: Path, file: str, start: int) -> list[Written]:
    """The rows of all inserts and updates from an offset of a file on."""
    data = (folder / file).read_bytes()
    rows: list[Written] = []
    while start < len(data):
        code = data[start + 4]
        (size,) = struct.unpack_from("<I", data, start + 9)
        if code in (WRITE_ROWS, UPDATE_ROWS, PARTIAL_UPDATE_ROWS):
            event = data[start + EVENT_HEAD_BYTES : start + size - CHECKSUM_BYTES]
            rows += _rows(code, event)
        start += size
    return rows


def _rows(code: int, event: bytes) -> Iterator[Written]:
    (extra,) = struct.unpack_from("<H", event, ROWS_HEAD_BYTES)
    # The number of columns, and a bitmap of those there are, or two.
    at = ROWS_HEAD_BYTES + extra + (2 if code == WRITE_ROWS else 3)
    while at < len(event):
        old = None
        is_partial = False
        if code != WRITE_ROWS:
            _, old, at = _image(event, at)
        if code == PARTIAL_UPDATE_ROWS:
            options, at = event[at], at + 1
            if options & 1:
                # A bit for each column of JSON.
                is_partial, at = bool(event[at] & 1), at + 1
        number, doc, at = _image(event, at)
        yield Written(number, doc, old, is_partial)


def _image(event: bytes, at: int) -> tuple[int, bytes | None, int]:
    nulls, number = struct.unpack_from("<Bi", event, at)
    at += 5
    if nulls & 2:
        return number, None, at
    (size,) = struct.unpack_from("<I", event, at)
    return number, event[at + 4 : at + 4 + size], at + 4 + size
