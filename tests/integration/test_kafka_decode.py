"""Records that are decoded into rows, and what cannot be: set aside, and replayed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.kafka import SOURCE
from ensign_core.broker import Broker
from ensign_core.change import Batch, BatchBuilder, Op, record_schema
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image
from ensign_core.run.ingest import Ingest
from tests.conformance.driver import RecordingContext
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record
from tests.services.kafka_source import caught_up, opened


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.open(tmp_path / "broker") as opened:
        yield opened


def ingested(broker: Broker, server: KafkaServer, topic: str, decoding: str) -> None:
    """Run a pipeline's source up to the end of its topic."""
    config = SOURCE.config.model_validate(
        {"type": "kafka", "bootstrap": server.bootstrap, "topics": topic, "decode": decoding}
    )
    ingest = Ingest(
        broker, "shop", SOURCE, config, lambda schema: schema.names[-1][1], until_caught_up=True
    )
    ingest.live(threading.Event())


def rows(broker: Broker, topic: str) -> list[tuple[str, dict[str, object]]]:
    """Op and new image of each event."""
    with broker.reader([topic]) as reader:
        batches = [batch for some in iter(reader.fetch, []) for batch in some]
    found = [change for batch in batches for change in batch]
    return [
        (
            change.op.name,
            {c.name: v for c, v in zip(change.schema.columns, decode(image), strict=True)},
        )
        for change in found
        if (image := change.images()[1]) is not None
    ]


def test_objects_become_rows_and_the_rest_is_set_aside(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(
        topic,
        [
            Record(b'{"id": 7}', b'{"id": 7, "name": "tea"}'),
            Record(b"k", b"{broken"),
            Record(b'{"id": 8}', b'{"id": 8, "name": null}'),
        ],
    )
    with opened(kafka, topics=topic, decode="json") as source:
        batches = caught_up(source)
        context = source._context  # type: ignore[attr-defined]  # what the driver gave it
    found = [change for batch in batches for change in batch]
    assert [decode(change.images()[1] or b"") for change in found] == [["7", "tea"], ["8", None]]
    assert isinstance(context, RecordingContext)
    ((letter, failed),) = context.dead
    assert failed.code == "decode.not_json"
    assert not isinstance(letter, bytes)
    assert letter.schema == record_schema(topic)
    key, data, *_, partition, offset, _ = decode(letter.images()[1] or b"")
    assert (key, data, partition, offset) == (b"k", b"{broken", "0", "1")


def test_what_was_set_aside_is_decoded_when_it_is_replayed() -> None:
    def record(value: bytes) -> Batch:
        builder = BatchBuilder()
        row = [b'{"id":1}', value, None, None, None, None, "0", "5", None]
        builder.add(Op.EVENT, record_schema("orders"), new_image(row))
        return builder.take(None)

    given = {"type": "kafka", "bootstrap": "one:1", "topics": "orders"}
    by_json = SOURCE.config.model_validate(given | {"decode": "json"})
    (change,) = SOURCE.replay(by_json, record(b'{"id": 1, "a": "x"}'))
    assert decode(change.images()[1] or b"") == ["1", "x"]
    with pytest.raises(EnsignError) as caught:
        SOURCE.replay(by_json, record(b"{"))
    assert caught.value.code == "decode.not_json"
    raw = record(b"{")
    assert SOURCE.replay(SOURCE.config.model_validate(given), raw) is raw
    again = SOURCE.replay(by_json, change.batch)
    assert [(c.op, c.schema, c.body) for c in again] == [(change.op, change.schema, change.body)]


def envelope(number: int, name: str, tx: str) -> bytes:
    after = {"id": number, "name": name}
    source = {
        "version": "3.0", "connector": "postgresql", "name": "shop", "ts_ms": 1_700_000_000_000,
        "db": "shop", "schema": "public", "table": "orders", "txId": int(tx), "lsn": 100 + number,
    }  # fmt: skip
    found = {"before": None, "after": after, "source": source, "op": "c", "ts_ms": 1}
    return json.dumps(found).encode()


def test_envelopes_become_rows_exactly_once(kafka: KafkaServer, broker: Broker) -> None:
    """Over two lives of a worker, with a letter in each."""
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b'{"id": 1}', envelope(1, "tea", "7")), Record(None, b"poison")])
    ingested(broker, kafka, topic, "debezium")
    kafka.produce(topic, [Record(None, b"more"), Record(b'{"id": 2}', envelope(2, "cake", "7"))])
    ingested(broker, kafka, topic, "debezium")
    ingested(broker, kafka, topic, "debezium")
    assert [(op, str(row["id"]), row["name"]) for op, row in rows(broker, "orders")] == [
        ("INSERT", "1", "tea"), ("INSERT", "2", "cake"),
    ]  # fmt: skip
    assert broker.topic("shop.dead-letters").events == 2
