"""The row layout taken apart in plain Python: what the compiled functions are held against."""

from __future__ import annotations

import struct

from ensign_core.change import BINARY, NULL, TEXT, UNCHANGED, image_end
from ensign_core.rows import damaged


def split(row: bytes) -> tuple[bytes, list[bytes]]:
    """Kinds and raw values of a row: one kind byte and one value (empty for ``n`` and ``u``) per
    column. Raises ``rows.damaged`` where the bytes do not fit the layout."""
    try:
        (columns,) = struct.unpack_from(">H", row)
        kinds = bytearray(columns)
        values: list[bytes] = []
        at = 2
        for i in range(columns):
            kind = kinds[i] = row[at]
            at += 1
            if kind in (TEXT, BINARY):
                end = at + 4 + int.from_bytes(row[at : at + 4], "big")
                values.append(row[at + 4 : end])
                at = end
            elif kind in (NULL, UNCHANGED):
                values.append(b"")
            else:
                raise damaged()
    except (struct.error, IndexError):
        raise damaged() from None
    if at != len(row):
        raise damaged()
    return bytes(kinds), values


def check_body(body: bytes) -> None:
    """Raise ``rows.damaged`` unless ``body`` is a run of well-formed images."""
    at = 0
    seen = bytearray()
    while at < len(body):
        seen.append(body[at])
        try:
            end = image_end(body, at + 1)
        except (struct.error, IndexError):
            raise damaged() from None
        split(body[at + 1 : end])
        at = end
    if bytes(seen) not in {b"", b"N", b"K", b"O", b"KN", b"ON"}:
        raise damaged()
