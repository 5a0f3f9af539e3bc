"""The Kafka sink in transactions: each event is visible once, whatever ends a worker."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors.kafka.sink import KafkaSink
from ensign_core.change import Batch, BatchBuilder, Op
from ensign_core.errors import EnsignError
from tests.integration.kafka_sinks import ORDERS, new_sink, placed, rows, values
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record
from tests.services.ready import wait_until

WAIT_S_MAX = 30.0


class Lane:
    """A target and a ledger of a test's own, and the sinks that succeed each other there."""

    def __init__(self, kafka: KafkaServer) -> None:
        self.kafka = kafka
        self.topic = kafka.new_topic(2)
        self.ledger = f"{self.topic}.offsets"

    def sink(self, **options: Any) -> KafkaSink:
        given: dict[str, Any] = {"transactional": True, "ledger": self.ledger, "format": "flat"}
        sink, self.context = new_sink(self.kafka, self.topic, **given | options)
        return sink

    def ids(self) -> list[int]:
        """The keys that are visible, sorted."""
        found = self.kafka.consume(self.topic)
        return sorted(int((record.key or b"")[6:-1]) for record in found)


@pytest.fixture
def lane(kafka: KafkaServer) -> Lane:
    return Lane(kafka)


def write_and_flush(sink: KafkaSink, *batches: Batch) -> None:
    for batch in batches:
        sink.write(batch)
    sink.flush()


def test_a_worker_that_dies_between_produce_and_commit_leaves_nothing(lane: Lane) -> None:
    """It is killed: nobody aborts. Its successor is told where the last commit was, and what was
    delivered since is never visible."""
    first = lane.sink()
    assert first.open() == {}
    write_and_flush(first, rows(range(10)))
    first.write(rows(range(10, 20), offset=10))
    assert first._delivery is not None
    first._delivery.flush()
    assert len(lane.kafka.consume(lane.topic, "read_uncommitted")) == 20
    with closing(lane.sink()) as second:
        assert second.open() == {"shop.orders": 10}
        assert lane.ids() == [*range(10)]
        write_and_flush(second, rows(range(10, 20), offset=10))
    assert lane.ids() == [*range(20)]
    first.close()
    assert lane.ids() == [*range(20)]


def test_a_zombie_is_fenced(lane: Lane) -> None:
    zombie = lane.sink()
    zombie.open()
    write_and_flush(zombie, rows([1]))
    zombie.write(rows([2], offset=1))
    with closing(lane.sink()) as successor:
        assert successor.open() == {"shop.orders": 1}
        with pytest.raises(EnsignError) as caught:
            zombie.flush()
        assert caught.value.code == "kafka.fenced"
        zombie.close()
        write_and_flush(successor, rows([2], offset=1))
    assert lane.ids() == [1, 2]


def test_what_a_sink_gives_up_is_hidden(lane: Lane) -> None:
    with closing(lane.sink()) as sink:
        sink.open()
        sink.write(rows([1]))
    assert lane.ids() == []
    with closing(lane.sink()) as sink:
        assert sink.open() == {}


def test_the_ledger_knows_topics_and_events_without_message(lane: Lane) -> None:
    builder = BatchBuilder()
    for op in (Op.BEGIN, Op.SCHEMA, Op.COMMIT):
        builder.add(op, ORDERS, b"")
    removed = rows([8, 9], topic="b", offset=100)
    removed.ops = bytes([Op.INSERT, Op.REMOVED])
    with closing(lane.sink()) as sink:
        sink.open()
        write_and_flush(sink, placed(builder, "a", 7), removed)
        write_and_flush(sink, rows([5], topic="ü", offset=1))
        sink.write(Batch(topic="a", offset=10))
        sink.flush()
    with closing(lane.sink()) as sink:
        assert sink.open() == {"a": 10, "b": 102, "ü": 2}
    assert lane.ids() == [5, 8]
    with closing(lane.sink(name="other", ledger=lane.ledger)) as other:
        assert other.open() == {}


def test_the_end_of_a_shared_ledger_is_waited_for(lane: Lane) -> None:
    """Another sink's open transaction hides what lies behind it: that is not the end."""
    with closing(lane.sink()) as sink:
        sink.open()
        other = Producer(
            {**lane.kafka.client(), "transactional.id": f"{lane.topic}-late", "log_level": 0}
        )
        other.init_transactions(WAIT_S_MAX)
        other.begin_transaction()
        other.produce(lane.ledger, b'{"offset":5}', b'["p","q","s","t"]', 0)
        other.flush(WAIT_S_MAX)
        write_and_flush(sink, rows([1]))
    # The record of the sink is committed, and hidden behind the other's that is not.
    ending = threading.Timer(0.3, lambda: other.commit_transaction(WAIT_S_MAX))
    with closing(lane.sink()) as successor:
        ending.start()
        assert successor.open() == {"shop.orders": 1}
        ending.join()


def test_a_ledger_that_would_forget_is_refused(lane: Lane) -> None:
    with closing(lane.sink(ledger=lane.kafka.new_topic())) as sink:
        with pytest.raises(EnsignError) as caught:
            sink.open()
        assert caught.value.code == "kafka.ledger_not_compacted"


def test_a_ledger_of_strange_records_is_refused(lane: Lane) -> None:
    ledger = lane.kafka.new_topic(config={"cleanup.policy": "compact"})
    lane.kafka.produce(ledger, [Record(b"strange", b"x")])
    with closing(lane.sink(ledger=ledger)) as sink:
        with pytest.raises(EnsignError) as caught:
            sink.open()
        assert caught.value.code == "kafka.ledger_damaged"


def test_a_smaller_topic_in_mid_transaction_repeats_nothing(lane: Lane) -> None:
    """The producer is replaced by one with smaller batches: what was written before is committed
    with its offsets."""
    small = f"{lane.topic}.small"
    lane.kafka.create_topic(small, config={"max.message.bytes": "2000"})
    options: dict[str, Any] = {"transactional": True, "ledger": lane.ledger}
    sink, _ = new_sink(lane.kafka, "{topic}", **options)
    with closing(sink):
        sink.open()
        sink.write(rows(range(100), topic=lane.topic))
        sink.write(rows(range(100), topic=small))
        sink.flush()
    sink, _ = new_sink(lane.kafka, "{topic}", **options)
    with closing(sink):
        assert sink.open() == {lane.topic: 100, small: 100}
    assert len(values(lane.kafka.consume(lane.topic))) == 100
    assert len(values(lane.kafka.consume(small))) == 100


def test_a_transaction_whose_time_is_over_is_no_second_worker(lane: Lane) -> None:
    """The coordinator fences its producer too; a new one goes on."""
    with closing(lane.sink(delivery_timeout_s=2)) as sink:
        sink.open()
        sink.write(rows([1]))
        assert sink._delivery is not None
        sink._delivery.flush()
        written = sum(lane.kafka.end_offsets(lane.topic))
        # The coordinator's marker of the abort lies in the topic as well.
        wait_until(lambda: sum(lane.kafka.end_offsets(lane.topic)) > written, WAIT_S_MAX)
        with pytest.raises(EnsignError) as caught:
            sink.flush()
        assert caught.value.code == "kafka.timeout"
    with closing(lane.sink()) as sink:
        assert sink.open() == {}
        write_and_flush(sink, rows([1]))
    assert lane.ids() == [1]
