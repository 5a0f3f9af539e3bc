"""The loop from topics into a sink: read, write, flush, commit the offset."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ensign_core.broker import Broker, Reader, Writer, dead_letter_topic
from ensign_core.broker.events import event_batch
from ensign_core.change import Batch, Offset, Op
from ensign_core.config.transforms import AnyTransform
from ensign_core.errors import EnsignError
from ensign_core.metrics import EVENTS_DELIVERED
from ensign_core.plugin import Connector, ConnectorConfig, Sink
from ensign_core.run.context import RunContext, SetAside
from ensign_core.run.letters import Place
from ensign_core.run.part import Part
from ensign_core.run.replay import Replays
from ensign_core.run.retry import classified, waits
from ensign_core.transforms import Chain, by_target

FLUSH_BYTES_MAX = 32 << 20
FLUSH_S_MAX = 1.0
"""What is written at most between two flushes: what a crash may deliver again."""
FLUSH_IDLE_S = 0.05
"""How long written events wait for more before they are flushed."""


class _SinkLostError(Exception):
    """The sink is dead (I9) for an event that it was given again: a new one is made, without
    it."""


class Egress(Part):
    """A sink's thread. ``until`` gives the offsets that must be committed before it may end, once
    the source is done; None while it is not."""

    def __init__(
        self,
        broker: Broker,
        pipeline: str,
        sink: str,
        connector: Connector[Any],
        config: ConnectorConfig,
        begin: Literal["start", "end"],
        transforms: Sequence[AnyTransform] = (),
        *,
        skip_revoked: bool = False,
        wait_s: float | None = None,
        until: Callable[[], Mapping[str, Offset] | None] = lambda: None,
    ) -> None:
        super().__init__(pipeline, sink, wait_s)
        self.group = f"{pipeline}/{sink}"
        self._broker = broker
        self._connector = connector
        self._config = config
        self._begin = begin
        self._transforms = transforms
        self._skip_revoked = skip_revoked
        self._until = until
        self._context = RunContext(pipeline, sink, self.progress, broker)
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._replays = Replays(broker, pipeline, sink)
        self._singly = False
        self._uncommitted: set[Place] = set()

    def wake(self) -> None:
        """Called by another thread: look at ``stop`` and ``until`` now."""
        reader = self._reader
        if reader is not None:
            reader.wake()

    def live(self, stop: threading.Event) -> None:
        """Lives of the sink: a dead letter that it refuses by its end, when it is replayed, neither
        stops the pipeline nor holds up the others."""
        while True:
            try:
                self._live(stop)
            except _SinkLostError:
                if not stop.is_set():
                    continue
            return

    def _live(self, stop: threading.Event) -> None:
        """One life of the sink: from the last committed offset on."""
        self._context.take_letters()
        chain = Chain(self._transforms, self._context.dead_letter, waits)
        sink: Sink = self._connector.make(self._config, self._context)
        try:
            known = sink.open()  # I7
            reader = self._broker.pipelines.reader(
                self.pipeline, self.group, self._begin, known, skip_revoked=self._skip_revoked
            )
            self._reader = reader
            try:
                self._deliver(sink, chain, reader, stop)
            finally:
                self._reader = None
                reader.close()
        finally:
            sink.close()

    def _deliver(self, sink: Sink, chain: Chain, reader: Reader, stop: threading.Event) -> None:
        written = delivered = size = 0
        since = 0.0
        while True:
            if not written and not stop.is_set():
                self._replay(sink, chain)
            more = self._replays.under_way
            ending = stop.is_set() or (self._reached(reader) and not more)
            idle_s = 0.0 if more else FLUSH_IDLE_S if written else 1.0
            batches = [] if ending else reader.fetch(idle_s)
            for batch in batches:
                delivered += self._write(sink, chain, batch, self._keep_letters)
            if batches and not written:
                since = time.monotonic()
            written += sum(map(len, batches))
            size += sum(len(batch.body) for batch in batches)
            late = time.monotonic() - since >= FLUSH_S_MAX
            if written and (not batches or late or size >= FLUSH_BYTES_MAX):
                self._flush(sink, reader, delivered)
                written = delivered = size = 0
            elif not written:
                reader.commit(self.group)  # past what was trimmed, compacted away or revoked
                self.went_well()
            if reader.trimmed:
                self.progress.warnings = (_trimmed(self.name, reader.trimmed),)
            if ending:
                return

    def _write(
        self, sink: Sink, chain: Chain, batch: Batch, before: Callable[[], None] = lambda: None
    ) -> int:
        """Give the sink what the transforms make of a batch, target by target, with ``before`` each
        of them; how many events."""
        made = chain(batch)
        for piece in by_target(made):
            before()
            sink.write(piece)
        return len(made) - made.ops.count(Op.REMOVED)

    def _flush(self, sink: Sink, reader: Reader, delivered: int) -> None:
        self._keep_letters()
        sink.flush()
        self._keep_letters()
        reader.commit(self.group)  # I6
        self._uncommitted.clear()
        EVENTS_DELIVERED.labels(self.pipeline, self.name).inc(delivered)
        self.went_well()

    def _keep_letters(self) -> None:
        """Before the target commits offsets of its own that lie behind them, which it may do in the
        midst of a write as well (I7)."""
        self._set_aside(self._context.take_letters())

    def _set_aside(self, letters: list[SetAside]) -> None:
        """Make letters durable; what a sink sets aside again, since it was not committed, once."""
        fresh = [letter for letter in letters if letter.place not in self._uncommitted]
        if fresh:
            # Not published: what a source can capture may be larger than what may be published.
            self._writer = self._writer or self._broker.writer()
            topic = dead_letter_topic(self.pipeline)
            self._writer.append([(topic, event_batch(topic, [one.event for one in fresh]))])
            self._uncommitted.update(letter.place for letter in fresh if letter.place)

    def _replay(self, sink: Sink, chain: Chain) -> None:
        """Give the sink events again that it set aside, if operators asked for it: behind what it
        was given meanwhile, and at least once, since it is noted when they are durable there."""
        again = self._replays.events(self._replays.take(1 if self._singly else None))
        if not again:
            self._singly = self._singly and self._replays.under_way
            return
        try:
            for batch, _ in again.values():
                self._write(sink, chain, batch)
            sink.flush()
        except Exception as error:
            failure = classified(error)
            if waits(failure):
                raise
            # Of several nobody knows which it was: they are tried one by one.
            self._singly = True
            if len(again) == 1:
                ((_, offsets),) = again.values()
                self._replays.failed(dict.fromkeys(offsets, failure))
            raise _SinkLostError from error
        letters = self._context.take_letters()
        errors = {letter.place: letter.error for letter in letters}
        failed: dict[Offset, EnsignError] = {}
        done: list[Offset] = []
        for place, (_, offsets) in again.items():
            if place in errors:
                failed |= dict.fromkeys(offsets, errors[place])
            else:
                done += offsets
        self._set_aside([letter for letter in letters if letter.place not in again])
        self._replays.failed(failed)
        self._replays.done(done)
        EVENTS_DELIVERED.labels(self.pipeline, self.name).inc(len(done))

    def _reached(self, reader: Reader) -> bool:
        """Whether everything is read that the source produced before it was done."""
        ends = self._until()
        if ends is None:
            return False
        offsets = reader.offsets
        return all(offsets.get(topic, 0) >= end for topic, end in ends.items())


def _trimmed(sink: str, events: int) -> EnsignError:
    """The warning of a sink that went on at the first event that was kept."""
    return EnsignError(
        "sink.trimmed",
        f"{events} events were trimmed before the sink {sink} had read them; it went on behind "
        "them.",
        "Keep the topic's events longer, or all that is unread, with `ensign topics set`; to get "
        "rows again that its target lacks, take a snapshot with `ensign snapshot start`.",
    )
