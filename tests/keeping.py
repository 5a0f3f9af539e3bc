"""Topics made for tests of what is kept: what is put into them, and whether they count right."""

from __future__ import annotations

import time

from ensign_core.broker import Broker, Retention, TopicPolicy
from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx, event_schema
from ensign_core.rows import Value, encode, new_image
from tests.folding import changes

DAY_S = 86_400.0
SCHEMA = Schema(
    "public.orders", (("schema", "public"), ("table", "orders")),
    (Column("id", "bigint", "int", False, True), Column("note", "text", "text")),
)  # fmt: skip


def policy(**kept: object) -> TopicPolicy:
    return TopicPolicy(Retention(**kept))  # type: ignore[arg-type] # as a test gives them


def put(broker: Broker, *values: str, topic: str = "t", days_ago: float = 0.0) -> None:
    """A frame with events that are so old."""
    committed = time.time_ns() // 1000 - int(days_ago * DAY_S * 1e6)
    builder = BatchBuilder().begin(Tx(None, "", committed))
    for value in values:
        builder.add(Op.EVENT, event_schema(topic), new_image([None, value.encode(), *[None] * 3]))
    broker.writer().append([(topic, builder.take(None))])


def update(broker: Broker, note: Value, row: str = "1") -> None:
    builder = BatchBuilder().begin(Tx("1", "0/1", time.time_ns() // 1000))
    builder.add(Op.UPDATE, SCHEMA, b"N" + encode([row, note]))
    broker.writer().append([("t", builder.take(None))])


def offsets(broker: Broker, topic: str = "t") -> list[int]:
    return [change.offset for change in changes(broker, topic)]


def counted(broker: Broker, topic: str = "t") -> bool:
    """Whether the counters of a topic say what is in it."""
    info = broker.topic(topic)
    (found,) = broker._engine.topics([topic])
    frames = broker._engine.frames([found.topic_id], 0, 1 << 30)
    batches = [broker._vault.open_frame(frame, topic) for frame in frames]
    kept = sum(len(batch) - batch.ops.count(Op.REMOVED) for batch in batches)
    size = sum(len(frame.frame) for frame in frames)
    return (info.events, info.bytes) == (kept, size) and (info.content_bytes > 0) == bool(frames)
