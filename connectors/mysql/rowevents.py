"""What is in front of the row images in a rows event; MariaDB's compressed ones made plain.

Formats: MySQL Source Code Documentation, "Rows_event"; MariaDB Knowledge Base, "ROWS_EVENT" and
"Compressing Events to Reduce Size of the Binary Log".
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from connectors.mysql.bounds import packed, parses, part
from connectors.mysql.compressed import inflated
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import HEADER_SIZE, PARTIAL_UPDATE_ROWS, TYPE_AT
from connectors.mysql.tablemap import COLUMNS_MAX

WRITE_ROWS_V1, UPDATE_ROWS_V1, DELETE_ROWS_V1 = 23, 24, 25
WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 30, 31, 32

INSERTS: Final = frozenset({WRITE_ROWS_V1, WRITE_ROWS})
UPDATES: Final = frozenset({UPDATE_ROWS_V1, UPDATE_ROWS, PARTIAL_UPDATE_ROWS})
DELETES: Final = frozenset({DELETE_ROWS_V1, DELETE_ROWS})

PLAIN_OF_COMPRESSED: Final = {
    166: WRITE_ROWS_V1,
    167: UPDATE_ROWS_V1,
    168: DELETE_ROWS_V1,
    169: WRITE_ROWS,
    170: UPDATE_ROWS,
    171: DELETE_ROWS,
}
"""MariaDB's types of compressed rows events, and what `decompressed` makes of them."""

STATEMENT_ENDS: Final = 1
"""Flag of a rows event: it is the last of its statement; table ids mean nothing behind it."""

_V2: Final = frozenset({WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS, PARTIAL_UPDATE_ROWS, 169, 170, 171})
_LONG: Final = 8

_uint16 = struct.Struct("<H")
_head = struct.Struct("<IHH")


class RowsHead(NamedTuple):
    """``at`` is where the number of columns stands, packed, with the bitmaps of columns and the row
    images behind it."""

    table_id: int
    flags: int
    at: int


@parses("a rows event")
def rows_head(event: bytes, post_header_length: int) -> RowsHead:
    """Of all types of rows events. ``post_header_length`` is the format description's for the
    event's type."""
    at = HEADER_SIZE + post_header_length
    if post_header_length >= _LONG:
        low, high, flags = _head.unpack_from(event, HEADER_SIZE)
        table_id = low | high << 32
    else:
        table_id = int.from_bytes(part(event, HEADER_SIZE, 4), "little")
        (flags,) = _uint16.unpack_from(event, HEADER_SIZE + 4)
    if event[TYPE_AT] in _V2:
        # Further data: its length counts itself.
        (size,) = _uint16.unpack_from(event, at - 2)
        if size < 2:
            raise DamagedError("a rows event with further data of no length")
        at += size - 2
    if at >= len(event):
        raise DamagedError("a rows event that is cut short")
    return RowsHead(table_id, flags, at)


@parses("a compressed rows event")
def decompressed(event: bytes, post_header_length: int) -> bytes:
    """A compressed rows event as the ordinary one that it would be, size and type in its header
    included. `rows_head` of it takes the same ``post_header_length``."""
    kind = event[TYPE_AT]
    plain = PLAIN_OF_COMPRESSED[kind]
    columns, at = packed(event, rows_head(event, post_header_length).at)
    if columns > COLUMNS_MAX:
        raise DamagedError("a rows event of more columns than a table can have")
    at += (columns + 7) // 8 * (2 if plain in UPDATES else 1)
    rows = inflated(event[at:])
    size = (at + len(rows)).to_bytes(4, "little")
    head = event[:TYPE_AT] + bytes([plain]) + event[TYPE_AT + 1 : 9] + size + event[13:at]
    return head + rows
