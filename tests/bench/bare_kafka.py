"""What a program does that only moves bytes: ``python -m tests.bench.bare_kafka
produce|consume|fill BOOTSTRAP TOPIC RECORDS``. Prints the seconds of its work, from the making of
its client to its last record, settled.

``fill`` writes made-up records of about 200 bytes, with keys, in no time that anybody measures.
``consume`` looks at each record as one must: its error, key and value. ``produce`` writes the
records of TOPIC, read before, to ``TOPIC.bare``, with the settings of our sink.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

Keep = Callable[[Any], object]
CHUNK = 500
VALUE = (
    '{"id": %d, "number": %d, "title": "title of row %d", "price": "%d.%02d", "paid": %s, '
    '"placed": "2026-11-25T%02d:%02d:%02d.%06dZ", "token": "%032x", "weight": %r, "code": "code%d"}'
)
CONSUMER = {
    "group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed",
    "log_level": 0,
}  # fmt: skip
PRODUCER = {
    "compression.type": "lz4",
    "linger.ms": 5,
    "enable.idempotence": True,
    "acks": "all",
    "log_level": 0,
}


def value(n: int) -> bytes:
    text = VALUE % (
        n, n % 1000, n, n % 1000, n % 100, "true" if n % 2 else "false",
        n // 3600 % 24, n // 60 % 60, n % 60, n * 7919 % 1_000_000,
        n * 0x9E3779B97F4A7C15 * 0xC2B2AE3D27D4EB4F & (1 << 128) - 1, n / 7.0, n % 10_000,
    )  # fmt: skip
    return text.encode()


def fill(bootstrap: str, topic: str, records: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER})
    for n in range(records):
        while True:
            try:
                producer.produce(topic, value(n), b'{"id":%d}' % n)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0


def read(bootstrap: str, topic: str, records: int, keep: Keep) -> None:
    """All records, each given to ``keep``; the clock of `consume` runs over this."""
    consumer = Consumer({"bootstrap.servers": bootstrap, **CONSUMER})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
    count = 0
    while count < records:
        for message in consumer.consume(CHUNK, 0.1):
            if error := message.error():
                raise KafkaException(error)
            keep((message.key(), message.value()))
            count += 1
    consumer.close()


def produce(bootstrap: str, topic: str, found: list[tuple[bytes, bytes]]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER})
    for key, data in found:
        while True:
            try:
                producer.produce(topic, data, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def main() -> None:
    what, bootstrap, topic, records = sys.argv[1:]
    if what == "fill":
        fill(bootstrap, topic, int(records))
        return
    found: list[Any] = []
    began = time.monotonic()
    read(bootstrap, topic, int(records), found.append if what == "produce" else id)
    if what == "produce":
        began = time.monotonic()
        produce(bootstrap, f"{topic}.bare", found)
    print(time.monotonic() - began)


if __name__ == "__main__":
    main()
