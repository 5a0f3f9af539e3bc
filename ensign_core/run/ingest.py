"""The loop from a source into topics: read, append with the position, synced, ack."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ensign_core.broker import Broker, TopicPolicy, dead_letter_topic
from ensign_core.broker.events import event_batch
from ensign_core.change import SET_ASIDE, Batch, Offset, Op, Position, Schema, Stage
from ensign_core.config.transforms import AnyTransform
from ensign_core.engine import Beside
from ensign_core.errors import EnsignError
from ensign_core.metrics import (
    APPEND_SECONDS,
    BYTES_APPENDED,
    COMMIT_TO_DURABLE,
    EVENTS_APPENDED,
)
from ensign_core.plugin import Connector, ConnectorConfig, Source, State
from ensign_core.run.context import RunContext
from ensign_core.run.letters import SOURCE, Letter
from ensign_core.run.part import Part
from ensign_core.run.patient import PatientWriter, not_read
from ensign_core.run.replay import Replays, bytes_only, joined
from ensign_core.run.retry import classified, waits
from ensign_core.transforms import Chain, remaining

HEARTBEAT_S = 1.0

TOPICS_MAX = 16_384
"""Schemas whose topics are remembered."""

SMALL_BYTES = 1 << 16
SMALL_EVERY_S = 0.003
"""Under a steady stream of small transactions, small batches are read at most this often: a sync
covers more of them, and the server beside us gets the processor. The first is never held up."""

Observer = Callable[[Batch, int], None]
"""Told each batch and the time in µs when it had been synced; for the demo and the benches."""


class Ingest(Part):
    """A pipeline's source thread. Owns the source, and a writer per life of it (I1, I9)."""

    def __init__(
        self,
        broker: Broker,
        pipeline: str,
        connector: Connector[Any],
        config: ConnectorConfig,
        topic_of: Callable[[Schema], str],
        transforms: Sequence[AnyTransform] = (),
        *,
        policy_of: Callable[[str], TopicPolicy | None] = lambda _topic: None,
        until_caught_up: bool = False,
        wait_s: float | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(pipeline, SOURCE, wait_s)
        self._broker = broker
        self._connector = connector
        self._config = config
        self._topic_of = topic_of
        self._until_caught_up = until_caught_up
        self._observer = observer
        self._transforms = transforms
        self._context = RunContext(
            pipeline, self.name, self.progress, broker, topic_of, changed=bool(transforms)
        )
        self._topics: dict[Schema, str] = {}
        self._policy_of = policy_of
        self._made: set[str] = set()
        self._synced: Position | None = None
        self._acked_at = 0.0
        self._state: State = "streaming"
        self.held_up: EnsignError | None = None
        """What to warn of while the source is not read for want of room."""
        self._replays = Replays(broker, pipeline, self.name)
        self._reads = connector.reads(config)

    def give_topics(self) -> None:
        """Give the sinks the topics here that the source stands for."""
        if self._reads:
            self._broker.pipelines.give_topics(self.pipeline, self._reads)

    def live(self, stop: threading.Event) -> None:
        """One life of the source: from the last durable position until stop, end or error."""
        self._context.take_letters()
        self.held_up = None
        chain = Chain(self._transforms, self._context.dead_letter, waits)
        writer = self._broker.writer(self.pipeline)
        source: Source = self._connector.make(self._config, self._context)
        patient = PatientWriter(writer, lambda error: self._wait_for_room(source, stop, error))
        try:
            self._synced = self._broker.pipelines.position(self.pipeline)
            source.open(self._synced)
            self._stream(source, chain, patient, stop)
        finally:
            source.close()

    def _stream(
        self, source: Source, chain: Chain, writer: PatientWriter, stop: threading.Event
    ) -> None:
        self._acked_at = read_at = time.monotonic()
        while not stop.is_set():
            self._replay(chain, writer)
            batch = source.read(0.0 if self._replays.under_way else HEARTBEAT_S)
            self.give_topics()
            if batch is not None:
                self._append(writer, chain(batch))
            self.went_well()
            now = time.monotonic()
            if batch is not None or now - self._acked_at >= HEARTBEAT_S:
                self._ack(source)
            if self._until_caught_up and source.caught_up() and not self._replays.under_way:
                return
            if batch is not None and len(batch.body) < SMALL_BYTES:
                stop.wait(max(0.0, read_at + SMALL_EVERY_S - now))
            read_at = time.monotonic()

    def _ack(self, source: Source) -> None:
        if self._synced is not None:
            source.ack(self._synced)  # I5: after the sync, and nowhere else
        self._acked_at = time.monotonic()

    def _wait_for_room(self, source: Source, stop: threading.Event, error: EnsignError) -> bool:
        """An append had no room: the source is not read meanwhile, and its server hears of us all
        the same (I4, I8). Whether to try again."""
        if self.held_up is None:
            self._state = "snapshot" if self.progress.state == "snapshot" else "streaming"
        self.held_up = not_read(error)
        self.progress.failed("waiting", error)
        waited_s = time.monotonic() - self._well_at
        if self._wait_s is not None and waited_s > self._wait_s:
            return False
        if stop.wait(HEARTBEAT_S):
            return False
        self._ack(source)
        return True

    def went_well(self) -> None:
        if self.held_up is not None:
            self.held_up = None
            self.progress.state = self._state
        super().went_well()

    def _append(self, writer: PatientWriter, batch: Batch) -> None:
        """Make a batch durable, which may be acked then."""
        started = time.monotonic()
        parts = self._route(batch)
        letters = self._context.take_letters()
        if letters:
            topic = dead_letter_topic(self.pipeline)
            parts.append((topic, event_batch(topic, [letter.event for letter in letters])))
        held = batch.stage is Stage.HOLD
        position = None if held else batch.position
        writer.append(parts, position, batch.stage, batch.kept)
        self._observe(batch, time.monotonic() - started)
        if not held:
            self._synced = batch.position

    def _replay(self, chain: Chain, writer: PatientWriter) -> None:
        """Work on dead letters again that operators asked for. What is made of one is appended in
        the commit that is done with it: exactly once."""
        made: dict[Offset, list[tuple[str, Batch]]] = {}
        failed: dict[Offset, EnsignError] = {}
        for letter in self._replays.take():
            try:
                made[letter.offset] = self._made_again(chain, letter)
            except Exception as error:  # noqa: BLE001
                failed[letter.offset] = classified(error)
        self._replays.failed(failed | self._append_again(writer, made))

    def _made_again(self, chain: Chain, letter: Letter) -> list[tuple[str, Batch]]:
        with self._context.apart() as letters:
            batch = self._connector.replay(self._config, letter.again())
            if SET_ASIDE in batch.schemas:
                raise bytes_only(self._connector.name)
            parts = self._route(chain(batch))
        if letters:
            raise letters[0].error
        return parts

    def _append_again(
        self, writer: PatientWriter, made: dict[Offset, list[tuple[str, Batch]]]
    ) -> dict[Offset, EnsignError]:
        """Append what was made of letters; the errors of those that do not go into their topics,
        each of which is found by itself."""
        if not made:
            return {}
        parts = joined(part for parts in made.values() for part in parts)
        try:
            writer.append(parts, beside=Beside(self._replays.replayed(list(made))))
        except EnsignError as error:
            if waits(error) or error.code == "pipeline.fenced":
                raise
            if len(made) == 1:
                return dict.fromkeys(made, error)
            failed: dict[Offset, EnsignError] = {}
            for offset, own in made.items():
                failed |= self._append_again(writer, {offset: own})
            return failed
        EVENTS_APPENDED.labels(self.pipeline).inc(sum(len(batch) for _, batch in parts))
        BYTES_APPENDED.labels(self.pipeline).inc(sum(len(batch.body) for _, batch in parts))
        return {}

    def _route(self, batch: Batch) -> list[tuple[str, Batch]]:
        """The batch by topic: one frame per topic, in one append."""
        routes = batch.routes or [""] * len(batch.schemas)
        topics = [
            route or self._topic(schema)
            for schema, route in zip(batch.schemas, routes, strict=True)
        ]
        if len(set(topics)) == 1 and Op.REMOVED not in batch.ops:
            parts = [(topics[0], batch)]
        else:
            parts = list(remaining(batch, topics).items())
        for topic, part in parts:
            if len(part) and topic not in self._made:
                self._make(topic)
        return parts

    def _make(self, topic: str) -> None:
        """Give a topic that there is not yet the policy of its name."""
        policy = self._policy_of(topic)
        if policy is not None:
            self._broker.create_topic(topic, policy)
        if len(self._made) >= TOPICS_MAX:
            self._made.clear()
        self._made.add(topic)

    def _topic(self, schema: Schema) -> str:
        topic = self._topics.get(schema)
        if topic is None:
            if len(self._topics) >= TOPICS_MAX:
                self._topics.clear()
            topic = self._topics[schema] = self._topic_of(schema)
        return topic

    def _observe(self, batch: Batch, append_s: float) -> None:
        now_us = time.time_ns() // 1000
        if len(batch):
            appended = len(batch) - batch.ops.count(Op.REMOVED)
            EVENTS_APPENDED.labels(self.pipeline).inc(appended)
            BYTES_APPENDED.labels(self.pipeline).inc(len(batch.body))
            APPEND_SECONDS.labels(self.pipeline).observe(append_s)
        if batch.runs:
            oldest, newest = batch.runs[0].tx, batch.runs[-1].tx
            if oldest.committed_at is not None:
                COMMIT_TO_DURABLE.labels(self.pipeline).observe(
                    max(0, now_us - oldest.committed_at) / 1e6
                )
            if newest.committed_at is not None:
                self.progress.committed_us = newest.committed_at
        if self._observer is not None:
            self._observer(batch, now_us)
