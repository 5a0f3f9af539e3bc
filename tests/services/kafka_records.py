"""Records of Kafka as they are in a topic, nothing lost: what the tests write and read back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

Isolation = Literal["read_committed", "read_uncommitted"]
ANSWER_S_MAX = 30.0


class Record(NamedTuple):
    """``headers`` may have a name twice and values of None. What is None or empty when it is
    written is the client's and the broker's to choose: partition, timestamp; the offset is always
    the broker's."""

    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None
    partition: int | None = None
    offset: int | None = None


def record_of(message: Message) -> Record:
    kind, timestamp_ms = message.timestamp()
    headers: Any = message.headers() or ()
    return Record(
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=tuple((name, _bytes(value)) for name, value in headers),
        timestamp_ms=None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
        partition=message.partition(),
        offset=message.offset(),
    )


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def produce(
    client: Mapping[str, Any], topic: str, records: Iterable[Record],
    transaction: Literal["commit", "abort"] | None = None,
) -> list[Record]:  # fmt: skip
    """Write records in their order; as they were written."""
    given: dict[str, Any] = {
        **client,
        "enable.idempotence": bool(transaction),
        "linger.ms": 1,
        "log_level": 0,
    }
    if transaction:
        given["transactional.id"] = f"tests-{uuid.uuid4()}"
    producer = Producer(given)
    written: dict[int, Record] = {}
    if transaction:
        producer.init_transactions(ANSWER_S_MAX)
        producer.begin_transaction()
    count = 0
    for count, record in enumerate(records, 1):
        _send(producer, topic, record, count, written)
    left = producer.flush(ANSWER_S_MAX)
    assert not left, f"{left} records are not written"
    if transaction == "commit":
        producer.commit_transaction(ANSWER_S_MAX)
    elif transaction:
        producer.abort_transaction(ANSWER_S_MAX)
    return [written[number] for number in range(1, count + 1)]


def _send(
    producer: Producer, topic: str, record: Record, number: int, written: dict[int, Record]
) -> None:
    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise KafkaException(error)
        sent = record_of(message)
        # The report does not have the headers.
        written[number] = sent._replace(key=record.key, value=record.value, headers=record.headers)

    place: dict[str, Any] = {}
    if record.partition is not None:
        place["partition"] = record.partition
    if record.timestamp_ms is not None:
        place["timestamp"] = record.timestamp_ms
    while True:
        try:
            producer.produce(
                topic, key=record.key, value=record.value, headers=list(record.headers),
                on_delivery=told, **place,
            )  # fmt: skip
            break
        except BufferError:
            producer.poll(0.1)
    producer.poll(0)


def consume(
    client: Mapping[str, Any], topic: str, partitions: int, isolation: Isolation
) -> list[Record]:
    """All records of a topic up to the ends of its partitions, by partition and offset."""
    given = {
        **client,
        "group.id": f"tests-{uuid.uuid4()}",
        "isolation.level": isolation,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
    }
    consumer = Consumer(given)
    found: list[Record] = []
    unread = set(range(partitions))
    try:
        # Offsets in figures: OFFSET_BEGINNING waits half a second for a leader to be known.
        places = [TopicPartition(topic, n) for n in sorted(unread)]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, ANSWER_S_MAX)[0]
        consumer.assign(places)
        deadline = time.monotonic() + ANSWER_S_MAX
        while unread:
            assert time.monotonic() < deadline, f"partitions {unread} are not read to the end"
            for message in consumer.consume(1000, 0.02):
                error = message.error()
                if error is None:
                    found.append(record_of(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition() or 0)
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition or 0, record.offset or 0))
