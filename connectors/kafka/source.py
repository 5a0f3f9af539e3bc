"""The source ``kafka``: records of topics, from positions that are stored with the data.

It assigns itself all partitions of its topics, without a consumer group and without committing
anything at the brokers. What a position says is the offset that comes next in each partition, so it
resumes exactly (I3), in the middle of a batch of the producer's as well as behind control records
and aborted transactions at the end of a partition.

librdkafka fetches ahead on threads of its own into a queue that is bounded in bytes (I8), and
connects anew by itself. That skips nothing, since the offset to fetch is the client's own; but a
cluster that is away must be told (I9), so reports of the client and the answers of a lookout are
looked at whenever there is nothing to read, and every second otherwise.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import OffsetSpec

from connectors.kafka import position, records
from connectors.kafka.config import KafkaSourceConfig, Setting
from connectors.kafka.connection import Reports, client, settings
from connectors.kafka.decoded import decoded
from connectors.kafka.errors import error
from connectors.kafka.gaps import Gap
from connectors.kafka.partitions import Cluster, Found, Lookout, check_listed
from connectors.kafka.position import Place, Places
from ensign_core.change import Batch, BatchBuilder, Op, Position, Schema, record_schema
from ensign_core.formats.decoding import decoder
from ensign_core.plugin import Context

WATCH_S: Final = 1.0
"""Seconds between two looks at reports and lag while there is always something to read."""

DEFAULTS: Final[dict[str, Setting]] = {
    "group.id": "ensign",  # the driver wants one; nothing is ever committed or joined under it
    "check.crcs": True,
    # A broker answers at once when it has anything; what waits meanwhile comes along.
    "fetch.min.bytes": 1,
    "fetch.wait.max.ms": 500,
    "fetch.error.backoff.ms": 100,
    "fetch.queue.backoff.ms": 10,
    "max.partition.fetch.bytes": 4 << 20,
    "queued.min.messages": 1_000_000,  # so that bytes alone are the limit
}

FIXED: Final[dict[str, Setting]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    # A source that is not read for long, since its topic is full, is not given up.
    "max.poll.interval.ms": 86_400_000,
}

_NOT_OURS: Final = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._MAX_POLL_EXCEEDED})
"""What the driver says of the group that it wants a name for, and that does not exist."""

_NOT_THERE: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
    }
)
"""What is said of a topic that is deleted, and of one that a broker does not know of yet: a look
tells which."""


class KafkaSource:
    """Made by the registry, called by the ingest loop's thread (I1)."""

    def __init__(self, config: KafkaSourceConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._reports = Reports(config)
        self._consumer: Consumer | None = None
        self._cluster: Cluster | None = None
        self._lookout: Lookout | None = None
        self._places: Places = {}
        self._nexts: dict[str, dict[int, int]] = {}
        """Of the topics that are read: the offsets that come next, which `records.bodies` moves."""
        self._targets: dict[tuple[str, int], int] = {}
        self._schemas: dict[str, Schema] = {}
        self._decoder = None if config.decode == "none" else decoder(config.decode)
        self._messages: list[Message] = []
        self._at = 0
        self._missed: set[tuple[str, int]] = set()
        """Partitions that a broker did not know: read anew if the next look finds them."""
        self._gaps: list[Gap] = []
        self._moved = False
        self._watched_s = 0.0

    def open(self, resume: Position | None) -> None:
        config = self._config
        self._places = position.decode(resume) if resume else {}
        self._cluster = Cluster(config)
        found = self._cluster.topics(self._wanted())
        check_listed(config, found)
        fetch_kbytes = {"queued.max.messages.kbytes": config.queue_bytes_max >> 10}
        given = settings(config, {**DEFAULTS, **fetch_kbytes}, FIXED)
        self._consumer = client(Consumer, given, self._reports)
        self._adopt(found, resume is None)
        # That there was none of the topics yet is a position too: they are not new to the next one.
        self._moved = self._moved or resume is None
        ends = {
            (name, number): OffsetSpec.latest()
            for name, nexts in self._nexts.items()
            for number in nexts
        }
        self._targets = self._cluster.offsets(ends)
        self._lookout = Lookout(config, self._cluster)

    def read(self, timeout_s: float) -> Batch | None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            if self._at >= len(self._messages):
                left_s = max(0.0, deadline_s - time.monotonic())
                self._fetch(0.0 if self._moved or self._gaps else left_s)
            batch = self._batch()
            now_s = time.monotonic()
            if batch is None or now_s - self._watched_s >= WATCH_S:
                self._watch(now_s)
            if batch is not None or now_s >= deadline_s:
                return batch

    def ack(self, position: Position) -> None:
        """Nothing to do: brokers forget nothing on our word (I4), and librdkafka's threads keep the
        connections alive."""

    def caught_up(self) -> bool:
        # What a partition is gone with, or moved past, is no end to wait for.
        done = not self._moved and all(
            self._nexts.get(name, {}).get(number, target) >= target
            for (name, number), target in self._targets.items()
        )
        if done:
            # Nobody may ask it to read again.
            self._context.progress(position=position.shown(self._places))
        return done

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._lookout = self._cluster = None
        self._messages = []
        if consumer is not None:
            with suppress(KafkaException, RuntimeError):
                consumer.close()

    def _fetch(self, timeout_s: float) -> None:
        """What was fetched ahead, up to a batch; waits for the first record only."""
        assert self._consumer is not None
        most = self._config.batch_events_max
        self._at = 0
        self._messages = self._consumer.consume(most, 0)
        if not self._messages and timeout_s > 0:
            self._messages = self._consumer.consume(1, timeout_s)
            if self._messages and most > 1:
                self._messages += self._consumer.consume(most - 1, 0)

    def _batch(self) -> Batch | None:
        """A batch of what was fetched; one without events where only the position moved."""
        if self._gaps:
            return self._gap_batch()
        start, before = self._at, self._ends()
        topics: list[str] = []
        schema_ids, ends, body = array("H"), array("I"), b""
        if start < len(self._messages):
            self._at, topics, schema_ids, ends, body = records.bodies(
                self._messages, start, self._config.batch_bytes_max, self._nexts
            )
            self._reports.answered()
        if not ends:
            if self._at < len(self._messages):
                message = self._messages[self._at]
                self._at += 1
                self._refused(message)
                if self._gaps:
                    # The position past a gap comes with the message that names it.
                    return self._gap_batch()
            if not self._moved and before == self._ends():
                return None
        self._moved = False
        batch = Batch(
            bytes((Op.EVENT,)) * len(ends), schema_ids, ends, body,
            schemas=list(map(self._schema, topics)), position=position.encode(self._places),
        )  # fmt: skip
        if self._decoder is not None:
            return decoded(batch, self._decoder, self._context.dead_letter)
        return batch

    def _ends(self) -> int:
        """Rises whenever a position moves."""
        return sum(sum(nexts.values()) for nexts in self._nexts.values())

    def _schema(self, topic: str) -> Schema:
        schema = self._schemas.get(topic)
        if schema is None:
            schema = self._schemas[topic] = record_schema(topic)
        return schema

    def _refused(self, message: Message) -> None:
        """A message that is an error, or a record that should not come now."""
        topic, number = message.topic() or "", message.partition() or 0
        failed = message.error()
        if failed is None or failed.code() == KafkaError._PARTITION_EOF:
            after = self._nexts[topic][number]
            last = message.offset()
            raise error("offsets_fell", topic=topic, partition=number, first=after, last=last)
        if failed.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION):
            self._out_of_range(topic, number)
        elif failed.code() in _NOT_THERE:
            assert self._lookout is not None
            self._lookout.hurry()
            self._missed.add((topic, number))
        elif failed.code() not in _NOT_OURS:
            raise self._reports.by_report(
                failed, doing="read", topic=topic, partition=number, offset=message.offset()
            )

    def _out_of_range(self, topic: str, number: int) -> None:
        """There is no record at the offset that comes next: it was removed, or the log was cut."""
        assert self._consumer is not None
        place = Partition(topic, number)
        try:
            first, end = self._consumer.get_watermark_offsets(
                place, timeout=self._config.timeout_s, cached=False
            )
        except KafkaException as failed:
            raise self._reports.by_report(failed.args[0], doing="reading offsets") from None
        at = self._nexts[topic][number]
        if at < first:
            self._meet(Gap("records_removed", topic, number, at, first))
            self._nexts[topic][number] = first
        elif at > end:
            self._meet(Gap("log_truncated", topic, number, at, end))
            self._nexts[topic][number] = end
        self._begin_anew({(topic, number)})

    def _meet(self, gap: Gap) -> None:
        """Stop at what is missing, or name it in the topic and go on."""
        if self._config.on_removed == "stop":
            raise gap.error()
        self._gaps.append(gap)

    def _gap_batch(self) -> Batch:
        builder = BatchBuilder()
        for gap in self._gaps:
            builder.add(Op.MESSAGE, gap.schema(), gap.body())
        self._gaps.clear()
        self._moved = False
        return builder.take(position.encode(self._places))

    def _watch(self, now_s: float) -> None:
        """Look at what the client reported and at what the lookout found, and say how it goes."""
        assert self._lookout is not None
        self._watched_s = now_s
        trouble = self._reports.trouble()
        if trouble is not None:
            raise trouble
        found = self._lookout.topics(self._wanted())
        if found is not None:
            check_listed(self._config, found)
            self._adopt(found, False)
            self._read_anew()
        self._context.progress(
            state="streaming", position=position.shown(self._places), detail=self._detail()
        )

    def _detail(self) -> str:
        """How far the ends of the partitions are ahead, as the last fetches told."""
        assert self._consumer is not None
        behind = 0
        for name, nexts in self._nexts.items():
            for number, after in nexts.items():
                # -1001 (RD_KAFKA_OFFSET_INVALID) before the first answer.
                _, end = self._consumer.get_watermark_offsets(Partition(name, number), cached=True)
                behind += max(0, end - after)
        parts = sum(map(len, self._nexts.values()))
        return f"{parts} partitions, {behind} records behind" if parts else "no topic matches yet"

    def _adopt(self, found: Mapping[str, Found], first: bool) -> None:
        """Read what was found; ``first``: the pipeline begins, where its config says. Partitions
        that a known topic got since are read from their first record, so none of them is missed;
        topics that are new here from the first that is there."""
        begins: dict[tuple[str, int], OffsetSpec] = {}
        new: set[tuple[str, int]] = set()
        for name in self._wanted() - found.keys():
            self._gone(name)
        for name, topic in found.items():
            place = self._places.get(name)
            if place is not None and place.id != topic.id:
                self._gone(name, "topic_recreated")
                place = None
            numbers = set(range(topic.partitions)) - self._nexts.get(name, {}).keys()
            if not numbers:
                continue
            if place is None:
                self._places[name] = place = Place(topic.id)
                begins.update({(name, number): OffsetSpec.earliest() for number in numbers})
            for number in numbers - place.nexts.keys():
                place.nexts[number] = 0
            self._nexts[name] = place.nexts
            new.update((name, number) for number in numbers)
        for (name, number), offset in self._begin(begins, first).items():
            self._places[name].nexts[number] = offset
            self._moved = True
        self._assign(new)

    def _wanted(self) -> set[str]:
        """Topics that there is a position for and that the config asks for: one that is not found
        is gone. The others' positions are kept for when it asks for them again."""
        patterns, listed = self._config.patterns(), self._config.names()
        return {
            name
            for name in self._places
            if name in listed or any(pattern.search(name) for pattern in patterns)
        }

    def _begin(
        self, places: Mapping[tuple[str, int], OffsetSpec], first: bool
    ) -> dict[tuple[str, int], int]:
        """Where partitions begin."""
        assert self._cluster is not None
        start = self._config.start
        if not first or start == "earliest":
            return self._cluster.offsets(places)
        # Asked before the time is: what is written meanwhile is not passed over.
        ends = self._cluster.offsets(dict.fromkeys(places, OffsetSpec.latest()))
        if not isinstance(start, datetime):
            return ends
        moment = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
        at_ms = OffsetSpec.for_timestamp(round(moment.timestamp() * 1000))
        found = self._cluster.offsets(dict.fromkeys(places, at_ms))
        return {place: ends[place] if at < 0 else at for place, at in found.items()}

    def _gone(self, name: str, word: str = "topic_deleted") -> None:
        """A topic was deleted, and perhaps made again, and what was not read of it is lost."""
        assert self._consumer is not None
        again = 0 if word == "topic_recreated" else None
        self._meet(Gap(word, name, -1, 0, again))
        numbers = self._nexts.pop(name, {})
        self._consumer.incremental_unassign([Partition(name, number) for number in numbers])
        del self._places[name]
        self._leave_out({(name, number) for number in numbers})
        self._moved = True

    def _leave_out(self, places: set[tuple[str, int]]) -> None:
        """What was fetched of these partitions and is not handed out."""
        left = self._messages[self._at :]
        self._messages = [m for m in left if (m.topic(), m.partition()) not in places]
        self._at = 0

    def _read_anew(self) -> None:
        assert self._consumer is not None
        there = {place for place in self._missed if place[1] in self._nexts.get(place[0], {})}
        self._missed.clear()
        self._begin_anew(there)

    def _begin_anew(self, places: set[tuple[str, int]]) -> None:
        """Fetch partitions from what comes next there, in place of what was fetched ahead."""
        assert self._consumer is not None
        self._leave_out(places)
        self._consumer.incremental_unassign([Partition(*place) for place in sorted(places)])
        self._assign(places)

    def _assign(self, new: set[tuple[str, int]]) -> None:
        assert self._consumer is not None
        if new:
            self._consumer.incremental_assign(
                [Partition(name, n, self._nexts[name][n]) for name, n in sorted(new)]
            )
