"""Makes records as the Kinesis Producer Library aggregates them: the counterpart of
`connectors.kinesis.aggregated`, which only reads."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5

MAGIC = b"\xf3\x89\x9a\xc2"


def varint(value: int) -> bytes:
    """An unsigned number of protocol buffers."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | bytes) -> bytes:
    """A field: a number as a varint, bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(records: Iterable[tuple[str, bytes, int | None]]) -> bytes:
    """An AggregatedRecord of partition keys, data, and explicit hash keys. Tables before records,
    keys once each, as the KPL writes them."""
    keys: dict[str, int] = {}
    hashes: dict[int, int] = {}
    parts = []
    for key, data, explicit in records:
        part = field(1, keys.setdefault(key, len(keys)))
        if explicit is not None:
            part += field(2, hashes.setdefault(explicit, len(hashes)))
        parts.append(field(3, part + field(3, data)))
    tables = [field(1, key.encode()) for key in keys]
    tables += [field(2, str(explicit).encode()) for explicit in hashes]
    return b"".join((*tables, *parts))


def sealed(body: bytes) -> bytes:
    """A message between the magic number and its checksum."""
    return MAGIC + body + md5(body).digest()


def aggregate(records: Iterable[tuple[str, bytes, int | None]]) -> bytes:
    """The data of one record of Kinesis that holds these."""
    return sealed(message(records))
