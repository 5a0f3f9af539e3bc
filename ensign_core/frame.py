"""The frame: a sealed batch of one topic, the unit on disk and on the wire. A pure codec.

A frame is a clear header and a sealed body. The header is the authenticated data of the seal:

    0   4  magic "ENSF"          32  8  last commit time     all integers little-endian,
    4   1  version, 1            40 16  key id               times in µs since the Unix epoch
    5   1  1 if in order         56 16  session
    6   2  zero                  72  8  counter
    8  16  topic id (ULID)       80  4  count of events
    24  8  first commit time

A session that is *in order* seals each frame with a counter that is greater than that of its last
one in the topic, and not greater than the offset that the frame will get: where its writer knew the
topic to end. A frame that was moved before what its writer had seen gives itself away (`Order`).

The body is `pack`'s columns, compressed with zstd and then sealed with AES-256-GCM
(`ensign_core.crypto`). Nothing of a row and no name of a column is outside the seal.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
from array import array
from itertools import accumulate, chain
from operator import sub
from typing import NamedTuple

import zstandard

from ensign_core.change import Batch, Run, Schema, Tx
from ensign_core.errors import EnsignError

VERSION = 1
BODY_BYTES_MAX = 1 << 30
"""The largest body that `unpack` accepts: guards against a damaged or hostile length."""

SESSIONS_MAX = 65_536
"""Sessions that `Order` remembers, those met last."""

_MAGIC = b"ENSF"
_header = struct.Struct("<4sB?2x16sqq16s16sQI")
_counts = struct.Struct("<IHIII")
_json = json.JSONEncoder(separators=(",", ":")).encode
_NO_TIME = -(1 << 63)
_LEVEL = 1
HEADER_BYTES = _header.size


class _Compressors(threading.local):
    """A compressor per thread: one that two threads share crashes the process."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(_LEVEL, write_content_size=True).compress


_compressors = _Compressors()


class Header(NamedTuple):
    """The clear part of a frame, all of it known before the append."""

    topic_id: bytes
    first_us: int
    last_us: int
    key_id: bytes
    session: bytes
    counter: int
    events: int
    in_order: bool = False

    def encode(self) -> bytes:
        topic_id, first, last, key_id, session, counter, events, in_order = self
        return _header.pack(
            _MAGIC, VERSION, in_order, topic_id, first, last, key_id, session, counter, events
        )


class Order:
    """Sees that frames of sessions that are in order lie where they can. Belongs to one reader, who
    meets the frames of a topic by rising offsets."""

    def __init__(self) -> None:
        self._counters: dict[bytes, int] = {}

    def check(self, header: Header, offset: int) -> None:
        """Note a frame whose seal holds, with the offset of its first event. Raises
        ``frame.tampered`` if it cannot be the next one, or not there."""
        if not header.in_order:
            return
        if not self._counters.get(header.session, -1) < header.counter <= offset:
            raise EnsignError(
                "frame.tampered",
                "A frame does not lie where it was written: frames have changed places.",
                "Restore the broker's folder from a backup; what comes before can still be read.",
            )
        self._counters.pop(header.session, None)
        if len(self._counters) >= SESSIONS_MAX:
            del self._counters[next(iter(self._counters))]
        self._counters[header.session] = header.counter


def parse(frame: bytes) -> tuple[Header, bytes, bytes]:
    """The header, its bytes as authenticated, and the sealed body. Raises ``frame.damaged`` and,
    for a frame of a later Ensign, ``frame.version_unknown``."""
    if len(frame) < HEADER_BYTES:
        raise damaged("is too short")
    magic, version, in_order, topic_id, first, last, key_id, session, counter, count = (
        _header.unpack_from(frame)
    )
    if magic != _MAGIC:
        raise damaged("does not begin as a frame does")
    if version != VERSION:
        raise EnsignError(
            "frame.version_unknown",
            f"A frame has the version {version}; this Ensign reads version {VERSION}.",
            "Read it with the Ensign that wrote it, or a later one.",
        )
    header = Header(topic_id, first, last, key_id, session, counter, count, in_order)
    return header, frame[:HEADER_BYTES], frame[HEADER_BYTES:]


def pack(batch: Batch) -> bytes:
    """The batch's columns, compressed: what a writer seals. Schemas go in by their ids only; the
    engine keeps each schema once. ``frame.too_large`` for what `unpack` would refuse."""
    starts, ordinals, txs = zip(*batch.runs, strict=True) if batch.runs else ((), (), ())
    numbers = list(map(id, txs))
    distinct = dict(zip(numbers, txs, strict=True))
    run_txs = array("I", bytes(4 * len(numbers)))
    if len(distinct) > 1:
        places = {number: place for place, number in enumerate(distinct)}
        run_txs = array("I", map(places.__getitem__, numbers))
    ends = batch.ends
    sizes = array("I", map(sub, ends, chain((0,), ends)))
    times = array(
        "q", [_NO_TIME if t.committed_at is None else t.committed_at for t in distinct.values()]
    )
    text = _json([(t.id, t.position) for t in distinct.values()]).encode()
    counts = _counts.pack(
        len(batch.ops), len(batch.schemas), len(batch.runs), len(distinct), len(text)
    )
    columns: list[bytes | bytearray] = [
        counts,
        _little(array("Q", [schema.id for schema in batch.schemas])),
        batch.ops,
        _little(batch.schema_ids),
        _little(sizes),
        _little(array("I", starts)),
        _little(array("I", ordinals)),
        _little(run_txs),
        _little(times),
        text,
        batch.body,
    ]
    body = b"".join(columns)
    if len(body) > BODY_BYTES_MAX:
        raise EnsignError(
            "frame.too_large",
            f"A batch has {len(body)} bytes; a frame holds {BODY_BYTES_MAX} at most.",
            "Exclude the column with the large values from the capture, with `columns:`.",
        )
    return _compressors.compress(body)


def schema_ids(packed: bytes) -> list[int]:
    """The ids of the schemas that a packed body refers to."""
    content_bytes(packed)
    with zstandard.ZstdDecompressor().stream_reader(packed) as stream:
        try:
            head = stream.read(_counts.size)
            head += stream.read(_counts.unpack(head)[1] * 8) if len(head) == _counts.size else b""
        except zstandard.ZstdError:
            raise _compression() from None
    return _columns(head)[1].tolist()


def unpack(packed: bytes, schemas: dict[int, Schema], header: Header, offset: int) -> Batch:
    """The batch again, with ``offset`` as that of its first event. ``schemas`` must hold the ids
    that the body names, or KeyError says which is missing; ``frame.damaged`` where it does not
    fit."""
    counts, ids, rest, at = _columns(_decompress(packed))
    events, _, runs, txs, text_bytes = counts
    take = _Cursor(rest, at)
    ops = take.bytes(events)
    index = take.array("H", events)
    sizes = take.array("I", events)
    starts, ordinals, run_txs = (take.array("I", runs) for _ in range(3))
    times = take.array("q", txs)
    text = take.bytes(text_bytes)
    body = rest[take.at :]
    try:
        ends = array("I", accumulate(sizes))
    except OverflowError:
        raise damaged("has columns that do not agree") from None
    if events != header.events or (ends[-1] if events else 0) != len(body):
        raise damaged("has columns that do not agree")
    try:
        distinct = [
            Tx(tx_id, position, None if time == _NO_TIME else time)
            for (tx_id, position), time in zip(json.loads(text), times, strict=True)
        ]
        numbered = [
            Run(start, ordinal, distinct[tx])
            for start, ordinal, tx in zip(starts, ordinals, run_txs, strict=True)
        ]
    except (ValueError, TypeError, IndexError):
        raise damaged("has transactions that do not agree") from None
    found = [schemas[schema] for schema in ids]
    # Mostly there is one schema, and all numbers are 0: seen without a step for each.
    if events and (max(index) if index.tobytes().strip(b"\0") else 0) >= len(found):
        raise damaged("names a schema that it does not list")
    return Batch(ops, index, ends, body, numbered, found, offset=offset)


class _Cursor:
    """Takes columns off a buffer, refusing to read past its end."""

    def __init__(self, buffer: bytes, at: int) -> None:
        self._buffer = buffer
        self.at = at

    def bytes(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self._buffer):
            raise damaged("is cut off")
        return self._buffer[start : self.at]

    def array(self, code: str, items: int) -> array[int]:
        column: array[int] = array(code)
        column.frombytes(self.bytes(items * column.itemsize))
        if sys.byteorder == "big":
            column.byteswap()
        return column


def _columns(data: bytes) -> tuple[tuple[int, int, int, int, int], array[int], bytes, int]:
    take = _Cursor(data, 0)
    counts = _counts.unpack(take.bytes(_counts.size))
    return counts, take.array("Q", counts[1]), data, take.at


def content_bytes(packed: bytes) -> int:
    """How large a packed body was before it was compressed."""
    try:
        size = zstandard.frame_content_size(packed)
    except zstandard.ZstdError:
        raise _compression() from None
    if not 0 <= size <= BODY_BYTES_MAX:
        raise damaged("says it holds more than a frame may")
    return size


def _decompress(packed: bytes) -> bytes:
    content_bytes(packed)
    try:
        return zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError:
        raise _compression() from None


def _compression() -> EnsignError:
    return damaged("does not decompress")


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()


def damaged(how: str) -> EnsignError:
    return EnsignError(
        "frame.damaged",
        f"A frame {how}.",
        "Restore the broker's folder from a backup; the offsets before it can still be read.",
    )
