"""Records of the Kinesis Producer Library (KPL), which packs several user records into one.

The format is that of "KPL Aggregated Record Format" (aggregation-format.md of the KPL):

    F3 89 9A C2 | AggregatedRecord in protocol buffers (proto2) | MD5 of that message

    AggregatedRecord := repeated string partition_key_table = 1
                        repeated string explicit_hash_key_table = 2
                        repeated Record records = 3
    Record := uint64 partition_key_index = 1, optional uint64 explicit_hash_key_index = 2,
              bytes data = 3, repeated Tag tags = 4

Whatever does not fit that to the byte is a plain record, as in the Kinesis Client Library: data
that only happens to begin so is passed on as it is, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Final, NamedTuple

MAGIC: Final = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES: Final = 16
HASH_MAX: Final = (1 << 128) - 1

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types (Protocol Buffers, "Encoding")."""

VARINT_BYTES_MAX: Final = 10


class UserRecord(NamedTuple):
    """One of the records in an aggregated one. ``hash`` is what places it on a shard."""

    partition_key: str
    data: bytes
    hash: int


def split(data: bytes) -> list[UserRecord] | None:
    """The records that ``data`` has aggregated, in order; None if it is a plain record."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + DIGEST_BYTES:
        return None
    message = data[len(MAGIC) : -DIGEST_BYTES]
    # A checksum of the format, not a matter of security.
    if md5(message, usedforsecurity=False).digest() != data[-DIGEST_BYTES:]:
        return None
    try:
        return _records(message)
    except (ValueError, IndexError):
        return None


def key_hash(partition_key: str) -> int:
    """What places a record without a hash key of its own (Kinesis API reference, PutRecords)."""
    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def _records(message: bytes) -> list[UserRecord]:
    """Raises ValueError or IndexError for what is no such message."""
    keys: list[str] = []
    hashes: list[int] = []
    raw: list[tuple[int, int | None, bytes]] = []
    for number, value in _fields(message):
        if number == 1:
            keys.append(_bytes(value).decode())
        elif number == 2:
            hashes.append(_hash(_bytes(value)))
        elif number == 3:
            raw.append(_record(_bytes(value)))
    known = [key_hash(key) for key in keys]
    return [
        UserRecord(keys[key], data, known[key] if explicit is None else hashes[explicit])
        for key, explicit, data in raw
    ]


def _record(message: bytes) -> tuple[int, int | None, bytes]:
    key: int | None = None
    explicit: int | None = None
    data: bytes | None = None
    for number, value in _fields(message):
        if number == 1:
            key = _index(value)
        elif number == 2:
            explicit = _index(value)
        elif number == 3:
            data = _bytes(value)
    if key is None or data is None:
        raise ValueError("a required field is missing")
    return key, explicit, data


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an int of a varint, else the bytes."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        kind = tag & 7
        if not tag >> 3:
            raise ValueError("fields are numbered from 1")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == LENGTH:
            length, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError("no such wire type")
        if length > end - at:
            raise ValueError("a field goes beyond the message")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 7 * VARINT_BYTES_MAX, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise ValueError("a number is too long")


def _index(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("an index is a number")  # noqa: TRY004  # of the data, not of an argument
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field of bytes has a length")  # noqa: TRY004  # as above
    return value


def _hash(text: bytes) -> int:
    """A hash key in decimal digits."""
    if not text.isdigit() or len(text) > 39 or int(text) > HASH_MAX:
        raise ValueError("no hash of 128 bits")
    return int(text)
