"""The ledger: where transactional sinks keep the offsets of what they delivered (I7).

A compacted topic of one partition. A record's key is ``["PROJECT","PIPELINE","SINK","TOPIC"]``, its
value ``{"offset":N}`` with the next offset of that topic. It is written in the transaction of the
messages that it covers, so both are there or neither is.
"""

from __future__ import annotations

import json
import time
from typing import Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from connectors.kafka.config import Setting
from connectors.kafka.connection import Reports, client, settings
from connectors.kafka.errors import error
from connectors.kafka.sink_config import CreateTopic, KafkaSinkConfig
from connectors.kafka.topics import Topics
from ensign_core.change import Offset
from ensign_core.errors import EnsignError
from ensign_core.plugin import Context

PARTITION: Final = 0
POLL_S_MAX: Final = 0.2

_MADE: Final = CreateTopic(
    partitions=1,
    # Small segments and early compaction: the whole of it is read at each start.
    config={
        "cleanup.policy": "compact",
        "segment.bytes": 16 << 20,
        "min.cleanable.dirty.ratio": "0.1",
    },
)


class Ledger:
    """The offsets of one sink. Belongs to its thread."""

    def __init__(self, config: KafkaSinkConfig, context: Context) -> None:
        self._config = config
        self._owner = [context.project, context.pipeline, context.name]
        self.topic = config.ledger

    def record(self, topic: str, offset: Offset) -> tuple[bytes, bytes]:
        """Key and value that say where a topic goes on."""
        key = json.dumps([*self._owner, topic], separators=(",", ":"), ensure_ascii=False)
        return key.encode(), b'{"offset":%d}' % offset

    def read(self, topics: Topics) -> dict[str, Offset]:
        """The next offset of each topic; the ledger is made if it does not exist. Called behind
        ``init_transactions``, which ended what an earlier producer of this sink had begun. Other
        sinks' transactions may be open: nothing behind them is visible, so all is waited for that
        was written until now."""
        if not topics.facts(self.topic, _MADE).compacted:
            raise error("ledger_not_compacted", topic=self.topic)
        place = TopicPartition(self.topic, PARTITION)
        asked = topics.client.list_offsets(
            {place: OffsetSpec.latest()},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._config.timeout_s,
        )
        end = topics.answer(asked[place], topic=self.topic, doing="reading the ledger").offset
        return self._read_to(end)

    def _read_to(self, end: int) -> dict[str, Offset]:
        reports = Reports(self._config)
        reading: dict[str, Setting] = {
            "group.id": "ensign-ledger",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
        consumer = client(Consumer, settings(self._config, {}, reading), reports)
        try:
            consumer.assign([TopicPartition(self.topic, PARTITION, 0)])
            return self._collected(consumer, end, reports)
        finally:
            consumer.close()

    def _collected(self, consumer: Consumer, end: int, reports: Reports) -> dict[str, Offset]:
        found: dict[str, Offset] = {}
        reached = 0
        # Another sink's transaction may hold the end back for as long as it may live.
        deadline_s = time.monotonic() + self._config.delivery_timeout_s
        while reached < end:
            message = consumer.poll(POLL_S_MAX)
            if message is not None:
                reached = self._reached(message, found, reports)
            trouble = reports.trouble()
            if trouble is not None:
                raise trouble
            if time.monotonic() >= deadline_s:
                raise error("timeout", doing="reading the ledger", **reports.facts)
        return found

    def _reached(self, message: Message, found: dict[str, Offset], reports: Reports) -> int:
        """Takes one record in, or the news of an end; where reading goes on."""
        offset = message.offset() or 0
        failed = message.error()
        if failed is not None:
            if failed.code() == KafkaError._PARTITION_EOF:
                return offset
            raise reports.by_report(failed, topic=self.topic, doing="read")
        key, value = message.key(), message.value()
        try:
            *owner, topic = json.loads(key or b"")
            if owner == self._owner:
                found[topic] = int(json.loads(value or b"")["offset"])
        except (ValueError, TypeError, KeyError):
            raise self._damaged() from None
        return offset + 1

    def _damaged(self) -> EnsignError:
        return error("ledger_damaged", topic=self.topic)
