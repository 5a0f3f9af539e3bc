"""From a record of Kinesis to the rows of its events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.kinesis import aggregated
from ensign_core.change import EVENT_COLUMNS, Column, Schema
from ensign_core.rows import new_image

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import RecordTypeDef

COLUMNS: Final = (
    *EVENT_COLUMNS,
    Column("headers", "json", "headers"),
    Column("partition", "text", "text"),
    Column("source_offset", "text", "text"),
    Column("timestamp_ms", "bigint", "int"),
    Column("sub_offset", "int", "int"),
)
"""The key is the partition key, the partition the shard's name, the source offset the sequence
number, the timestamp that of the arrival, and the sub-offset the index in an aggregated record,
null where the record was none. Headers are null: Kinesis has none."""

GAP_PREFIX: Final = "ensign.gap"
_GAP_COLUMNS: Final = (Column("prefix", "text", "text", False), Column("content", "json", "text"))


class Entry(NamedTuple):
    """A step of the position: ``sequence`` and ``sub`` as in `Place`. ``body`` is the event's, None
    where there is none."""

    sequence: str
    sub: int | None
    arrived_ms: int
    body: bytes | None


def stream_schema(stream: str) -> Schema:
    """The schema of a stream's records."""
    return Schema(stream, (("topic", stream),), COLUMNS)


def gap_schema(stream: str) -> Schema:
    """The schema of the messages that say what is missing."""
    return Schema(f"{stream}.gap", (("topic", stream),), _GAP_COLUMNS)


def gap_body(**facts: object) -> bytes:
    """The body of such a message: its content is a JSON object of ``facts``."""
    return new_image((GAP_PREFIX, json.dumps(facts)))


def arrived_ms(record: RecordTypeDef) -> int:
    """When a record arrived, in ms since the Unix epoch; 0 where Kinesis does not say."""
    arrived = record.get("ApproximateArrivalTimestamp")
    return round(arrived.timestamp() * 1000) if arrived is not None else 0


def entries(
    record: RecordTypeDef, shard: str, hashes: tuple[int, int] | None, behind: int | None
) -> Iterator[Entry]:
    """The events of one record of ``shard``; those behind the sub-offset ``behind``, if one is
    given. ``hashes`` is the shard's range, None where records are not to be split.

    A user record whose hash is outside of that range is passed over: its aggregate was made for
    another shard, before a split or merge, and the KPL sends it again to the right one.
    """
    sequence, arrived = record["SequenceNumber"], arrived_ms(record)
    found = aggregated.split(record["Data"]) if hashes is not None else None
    if found is None or hashes is None:
        if behind is None:
            yield Entry(sequence, None, arrived, _body(record["PartitionKey"], record["Data"],
                                                       shard, sequence, arrived, None))  # fmt: skip
        return
    first, last = hashes
    ours = [i for i, user in enumerate(found) if first <= user.hash <= last]
    if behind is not None:
        ours = [i for i in ours if i > behind]
    for i in ours:
        body = _body(found[i].partition_key, found[i].data, shard, sequence, arrived, i)
        yield Entry(sequence, None if i == ours[-1] else i, arrived, body)
    if not ours:
        yield Entry(sequence, None, arrived, None)


def _body(key: str, data: bytes, shard: str, sequence: str, arrived: int, sub: int | None) -> bytes:
    return new_image(
        (
            key.encode("utf-8", "surrogatepass"), data, None, None, None, None, shard, sequence,
            str(arrived) if arrived else None, None if sub is None else str(sub),
        )
    )  # fmt: skip
