"""What the tests of the Kafka sink share: sinks with a context that they can look at, and batches
as a reader gives them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connectors.kafka.sink import KafkaSink
from connectors.kafka.sink_config import KafkaSinkConfig
from ensign_core.change import Batch, BatchBuilder, Column, Op, Schema, Tx, record_schema
from ensign_core.formats.headers import headers_text
from ensign_core.rows import new_image
from tests.conformance.driver import RecordingContext
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record

ORDERS = Schema(
    "public.orders",
    (("database", "shop"), ("schema", "public"), ("table", "orders")),
    (Column("id", "bigint", "int", nullable=False, key=True), Column("note", "text", "text")),
)


class SinkContext(RecordingContext):
    """A context that remembers what was said, too."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.said: list[dict[str, object]] = []

    def progress(self, **facts: object) -> None:
        self.said.append(facts)


def new_sink(
    kafka: KafkaServer, topic: str, *, name: str = "bus", **options: Any
) -> tuple[KafkaSink, SinkContext]:
    """A sink that writes to ``topic`` in the format json, unless the options say otherwise."""
    given = {"type": "kafka", "bootstrap": kafka.bootstrap, "topic": topic, "format": "json"}
    context = SinkContext(name)
    return KafkaSink(KafkaSinkConfig.model_validate(given | options), context), context


def rows(
    ids: Iterable[int], *, op: Op = Op.INSERT, offset: int = 0, topic: str = "shop.orders",
    note: str = "tea", schema: Schema = ORDERS,
) -> Batch:  # fmt: skip
    """Events of one transaction, a row each."""
    builder = BatchBuilder().begin(Tx("7", "0/1", 1_700_000_000_000_000))
    for number in ids:
        row = new_image([str(number), note])
        builder.add(op, schema, b"O" + row[1:] if op is Op.DELETE else row)
    return placed(builder, topic, offset)


def records(found: Iterable[Record], *, offset: int = 0, topic: str = "shop.orders") -> Batch:
    """Records as a Kafka source gives them."""
    builder, schema = BatchBuilder(), record_schema(topic)
    for record in found:
        values: list[str | bytes | None] = [
            record.key, record.value, None, None, None,
            headers_text(record.headers) if record.headers else None,
            None if record.partition is None else str(record.partition), "1",
            None if record.timestamp_ms is None else str(record.timestamp_ms),
        ]  # fmt: skip
        builder.add(Op.EVENT, schema, new_image(values))
    return placed(builder, topic, offset)


def placed(builder: BatchBuilder, topic: str, offset: int) -> Batch:
    batch = builder.take(None)
    batch.topic, batch.offset = topic, offset
    return batch


def values(found: Iterable[Record]) -> list[bytes | None]:
    return [record.value for record in found]
