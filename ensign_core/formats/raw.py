"""The format ``raw``: the data of published events, byte for byte, and nothing else.

Rows have no bytes of their own that a stranger could read, so a topic of rows is refused with
``format.raw_needs_events``. An event whose data is null has no line, but a message without value.
Data may hold line breaks: then a file of such lines has more lines than events, which is the
publisher's choice.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ensign_core.change import Batch, Op, Schema
from ensign_core.formats.lines import SILENT, Lines, Messages, inexpressible
from ensign_core.rows import messages as compiled


class Records(NamedTuple):
    """The events of a batch in columns, as `ensign_core.rows.messages.records` tells them."""

    keys: list[bytes | None]
    values: list[bytes | None]
    indexes: list[int]
    headers: list[bytes | None] | None
    partitions: list[int] | None
    timestamps: list[int] | None


class RawFormatter:
    def lines(self, batch: Batch) -> Lines:
        found = records(batch)
        pairs = zip(found.values, found.indexes, strict=True)
        kept = [(data, index) for data, index in pairs if data is not None]
        return Lines([data for data, _ in kept], [index for _, index in kept])

    def messages(self, batch: Batch) -> Messages:
        found = records(batch)
        return Messages(found.keys, found.values, found.indexes, bytes(len(found.indexes)))


def records(batch: Batch) -> Records:
    """What published events and records of other brokers were. Raises
    ``format.raw_needs_events``."""
    if set(batch.ops) - SILENT - {Op.EVENT}:
        raise inexpressible("raw", "events", "Choose the format json, flat or debezium.")
    places = [_places(schema) for schema in batch.schemas]
    return Records(*compiled.records(batch, Op.EVENT, places))


@cache
def _places(schema: Schema) -> tuple[int, int, int, int, int]:
    """Where key, data, headers, partition and timestamp are in a row of the schema, -1 where it
    has none. A partition whose name is no number, such as a shard's, is none."""
    known = {column.name: i for i, column in enumerate(schema.columns)}
    kinds = [column.logical for column in schema.columns]
    partition = known.get("partition", -1)
    if partition >= 0 and kinds[partition] != "int":
        partition = -1
    return (
        known.get("key", -1),
        kinds.index("payload") if "payload" in kinds else -1,
        kinds.index("headers") if "headers" in kinds else -1,
        partition,
        known.get("timestamp_ms", -1),
    )
