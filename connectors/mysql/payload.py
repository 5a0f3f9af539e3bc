"""TRANSACTION_PAYLOAD: all events of a transaction under ``binlog_transaction_compression``.

Format: MySQL Source Code Documentation, "Transaction_payload_event"; it is compressed by zstd.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import zstandard

from connectors.mysql.bounds import EVENT_BYTES_MAX, packed, parses, part
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import HEADER_SIZE

ZSTD, NONE = 0, 255

_END, _SIZE, _ALGORITHM, _UNCOMPRESSED_SIZE = 0, 1, 2, 3
_STEP: Final = 1 << 20
_size = struct.Struct("<9xI")


def inner_events(event: bytes) -> Iterator[bytes]:
    """The events of a TRANSACTION_PAYLOAD, each its header and body, as `framing.Framer` gives
    them: no inner event has a checksum. They are decompressed as they are asked for, so that memory
    holds about 1 MiB besides the event that is given out."""
    fields, at = _fields(event)
    data = memoryview(event)[at:]
    if len(data) != fields.get(_SIZE, len(data)):
        raise DamagedError("a TRANSACTION_PAYLOAD that is not as long as it says")
    algorithm = fields.get(_ALGORITHM, NONE)
    if algorithm == ZSTD:
        blocks = _decompressed(data, fields.get(_UNCOMPRESSED_SIZE))
    elif algorithm == NONE:
        blocks = (bytes(data[at : at + _STEP]) for at in range(0, len(data), _STEP))
    else:
        raise DamagedError(f"a TRANSACTION_PAYLOAD of an unknown compression: {algorithm}")
    return _split(blocks)


@parses("a TRANSACTION_PAYLOAD")
def _fields(event: bytes) -> tuple[dict[int, int], int]:
    """The numbers in front of the payload, by field, and where it begins."""
    at = HEADER_SIZE
    found: dict[int, int] = {}
    while True:
        field, at = packed(event, at)
        if field == _END:
            return found, at
        size, at = packed(event, at)
        value = part(event, at, size)
        at += size
        if field in (_SIZE, _ALGORITHM, _UNCOMPRESSED_SIZE):
            found[field], _ = packed(value, 0)


def _decompressed(data: memoryview, size: int | None) -> Iterator[bytes]:
    found = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            while block := reader.read(_STEP):
                found += len(block)
                yield block
    except zstandard.ZstdError:
        raise DamagedError("a TRANSACTION_PAYLOAD that cannot be decompressed") from None
    if size is not None and found != size:
        raise DamagedError("a TRANSACTION_PAYLOAD that is not as long as it says when decompressed")


def _split(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The events in blocks that end anywhere."""
    parts: list[bytes] = []
    have, need = 0, HEADER_SIZE
    for block in blocks:
        parts.append(block)
        have += len(block)
        if have < need:
            continue
        data, at = b"".join(parts), 0
        while True:
            need = HEADER_SIZE
            if have - at >= HEADER_SIZE:
                need = _size.unpack_from(data, at)[0]
                if not HEADER_SIZE <= need <= EVENT_BYTES_MAX:
                    raise DamagedError("an event in a TRANSACTION_PAYLOAD of an impossible length")
            if have - at < need:
                break
            yield data[at : at + need]
            at += need
        parts, have = [data[at:]], have - at
    if have:
        raise DamagedError("a TRANSACTION_PAYLOAD that ends inside an event")
