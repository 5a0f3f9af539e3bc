"""From a batch to the messages of a sink: keys, values, headers, and for records that came from
Kafka their partition and timestamp. Reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final

from connectors.kafka.sink_config import KafkaSinkConfig
from ensign_core.change import Batch
from ensign_core.formats import formatter
from ensign_core.formats.headers import Headers, header_pairs
from ensign_core.formats.raw import records
from ensign_core.rows import messages

ANY_PARTITION: Final = -1
"""Where the key puts it (``RD_KAFKA_PARTITION_UA``)."""

NOW: Final = 0
"""The timestamp that librdkafka takes for the time of the call; -1 is that of a record without one
(`RecordBatch.NO_TIMESTAMP` of Kafka's clients)."""

BATCH_HEAD_BYTES: Final = 61
"""Of a batch of records, magic 2 ("Record Batch" in the description of Kafka's message format)."""

RECORD_HEAD_BYTES_MAX: Final = 36
"""More than a record takes beside its key, value and headers: seven variable-length integers."""

HEADER_HEAD_BYTES_MAX: Final = 10


@dataclass(slots=True)
class Outgoing:
    """Messages of one batch, a column each; ``indexes`` are those of their events, ``deletes`` has
    1 for a message that says that its key is gone. The last three are None where all messages have
    none, are placed by their key, and get the time of the call."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    indexes: Sequence[int]
    deletes: bytes
    headers: Sequence[Headers | None] | None = None
    partitions: Sequence[int] | None = None
    timestamps: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def picked(self, wanted: Sequence[object]) -> Outgoing:
        """Those messages for which ``wanted`` is true."""
        return Outgoing(
            list(compress(self.keys, wanted)), list(compress(self.values, wanted)),
            list(compress(self.indexes, wanted)), bytes(compress(self.deletes, wanted)),
            self.headers and list(compress(self.headers, wanted)),
            self.partitions and list(compress(self.partitions, wanted)),
            self.timestamps and list(compress(self.timestamps, wanted)),
        )  # fmt: skip

    def with_tombstones(self) -> Outgoing:
        """With a message without value behind each that is a delete, has a key, and is not such a
        message itself."""
        columns = zip(self.deletes, self.keys, self.values, strict=True)
        twice = [
            place
            for place, (gone, key, value) in enumerate(columns)
            for _ in range(2 if gone and key is not None and value is not None else 1)
        ]
        values = list(map(self.values.__getitem__, twice))
        for at in range(1, len(twice)):
            if twice[at] == twice[at - 1]:
                values[at] = None
        return Outgoing(
            list(map(self.keys.__getitem__, twice)), values,
            list(map(self.indexes.__getitem__, twice)), bytes(len(twice)),
            self.headers and list(map(self.headers.__getitem__, twice)),
            self.partitions and list(map(self.partitions.__getitem__, twice)),
            self.timestamps and list(map(self.timestamps.__getitem__, twice)),
        )  # fmt: skip

    def without_tombstones(self) -> Outgoing:
        """Without those that only say that a key is gone, such as a changed key's old one."""
        columns = zip(self.deletes, self.values, strict=True)
        return self.picked([value is not None or not gone for gone, value in columns])

    def too_large(self, batch_bytes_max: int) -> list[int]:
        """Places of the messages that alone make a batch larger than that, before compression."""
        bound = messages.largest(self.keys, self.values)
        heads = BATCH_HEAD_BYTES + RECORD_HEAD_BYTES_MAX
        if self.headers is None and bound + heads <= batch_bytes_max:
            return []
        headers = self.headers or [None] * len(self)
        found = zip(self.keys, self.values, headers, strict=True)
        return [
            place
            for place, (key, value, pairs) in enumerate(found)
            if _loose_bytes(key, value, pairs) > batch_bytes_max
            and batch_bytes(key, value, pairs) > batch_bytes_max
        ]


CONTENT_TYPES: Final = {
    "cloudevents": {"content-type": "application/cloudevents+json; charset=UTF-8"}
}
"""Headers by which readers tell what a format is ("Kafka Protocol Binding for CloudEvents")."""


def composer(config: KafkaSinkConfig) -> Callable[[Batch], Outgoing]:
    """What makes the messages of a sink's batches, one after the other."""
    if config.format == "raw":
        return raw_messages
    form = formatter(config.format)
    given = {**CONTENT_TYPES.get(config.format, {}), **config.headers}
    common: Headers = [(name, text.encode()) for name, text in given.items()]

    def composed(batch: Batch) -> Outgoing:
        found = form.messages(batch)
        out = Outgoing(found.keys, found.values, found.indexes, found.deletes)
        if config.key == "none":
            out = out.without_tombstones()
            out.keys, out.deletes = [None] * len(out), bytes(len(out))
        if config.identity_headers:
            topic = batch.topic.encode()
            out.headers = [
                [*common, ("__topic", topic), ("__offset", b"%d" % (batch.offset + index))]
                for index in out.indexes
            ]
        elif common:
            out.headers = [common] * len(out)
        return out

    return composed


def raw_messages(batch: Batch) -> Outgoing:
    """Records and published events as they were. Raises ``format.raw_needs_events``."""
    found = records(batch)
    out = Outgoing(
        found.keys, found.values, found.indexes, bytes(len(found.indexes)), None,
        found.partitions, found.timestamps,
    )  # fmt: skip
    if found.headers is not None:
        out.headers = [None if text is None else header_pairs(text) for text in found.headers]
    return out


def _size(data: bytes | None) -> int:
    return 0 if data is None else len(data)


def _loose_bytes(key: bytes | None, value: bytes | None, headers: Headers | None) -> int:
    heads = BATCH_HEAD_BYTES + RECORD_HEAD_BYTES_MAX
    more = sum(
        4 * len(name) + _size(data) + HEADER_HEAD_BYTES_MAX for name, data in headers or ()
    )  # a character has at most 4 bytes
    return heads + _size(key) + _size(value) + more


def batch_bytes(key: bytes | None, value: bytes | None, headers: Headers | None) -> int:
    """The bytes of a batch that holds one message only, not compressed ("Record" in the
    description of Kafka's message format); timestamp and offset are those of the batch."""
    record = 3 + _varint_bytes(len(headers or ()))
    for data in (key, value):
        record += 1 if data is None else _varint_bytes(len(data)) + len(data)
    for name, data in headers or ():
        size = len(name.encode())
        record += _varint_bytes(size) + size
        record += 1 if data is None else _varint_bytes(len(data)) + len(data)
    return BATCH_HEAD_BYTES + _varint_bytes(record) + record


def _varint_bytes(number: int) -> int:
    """Of a variable-length zig-zag integer that is not negative."""
    return max(1, -(-(2 * number).bit_length() // 7))
