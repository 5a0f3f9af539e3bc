"""MariaDB's compressed parts of events (``log_bin_compress``).

Format: MariaDB Knowledge Base, "Compressing Events to Reduce Size of the Binary Log", and
``binlog_buf_compress`` in MariaDB's ``sql/log_event.cc``: a byte with bit 7 set, the algorithm in
bits 4 to 6 (0: zlib) and in bits 0 to 2 how many bytes the length has; the length of what was
compressed, big-endian; and the compressed bytes.
"""

from __future__ import annotations

import zlib

from connectors.mysql.bounds import EVENT_BYTES_MAX, part
from connectors.mysql.damage import DamagedError


def inflated(data: bytes) -> bytes:
    """What was compressed; memory is bounded by the length that is told, `EVENT_BYTES_MAX` at
    most."""
    if not data or data[0] & 0xF8 != 0x80 or not 1 <= data[0] & 7 <= 4:
        raise DamagedError("a compressed part of an unknown form")
    size_bytes = data[0] & 7
    size = int.from_bytes(part(data, 1, size_bytes), "big")
    if size > EVENT_BYTES_MAX:
        raise DamagedError("a compressed part of more than 1 GiB")
    inflating = zlib.decompressobj()
    try:
        # One byte more shows what is longer than it says.
        found = inflating.decompress(memoryview(data)[1 + size_bytes :], size + 1)
    except zlib.error:
        raise DamagedError("a compressed part that cannot be decompressed") from None
    if len(found) != size or not inflating.eof:
        raise DamagedError("a compressed part that is not as long as it says")
    return found
