"""The loop from topics into a sink: read, write, flush, commit the offset."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ensign_core.broker import Broker, Reader
from ensign_core.change import Batch, Offset, Op
from ensign_core.config.transforms import AnyTransform
from ensign_core.metrics import EVENTS_DELIVERED
from ensign_core.plugin import Connector, ConnectorConfig, Sink
from ensign_core.run.context import RunContext, dead_letter_topic
from ensign_core.run.part import Part
from ensign_core.run.retry import waits
from ensign_core.transforms import Chain, by_target

FLUSH_BYTES_MAX = 8 << 20
FLUSH_S_MAX = 1.0
FLUSH_IDLE_S = 0.05
"""How long written events wait for more before they are flushed."""


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
        self._until = until
        self._context = RunContext(pipeline, sink, self.progress, broker)
        self._reader: Reader | None = None

    def wake(self) -> None:
        """Called by another thread: look at ``stop`` and ``until`` now."""
        reader = self._reader
        if reader is not None:
            reader.wake()

    def live(self, stop: threading.Event) -> None:
        """One life of the sink: from the last committed offset on."""
        self._context.take_letters()
        chain = Chain(self._transforms, self._context.dead_letter, waits)
        sink: Sink = self._connector.make(self._config, self._context)
        try:
            known = sink.open()  # I7
            reader = self._broker.pipeline_reader(self.pipeline, self.group, self._begin, known)
            self._reader = reader
            try:
                self._deliver(sink, chain, reader, stop)
            finally:
                self._reader = None
                reader.close()
        finally:
            sink.close()

    def _deliver(self, sink: Sink, chain: Chain, reader: Reader, stop: threading.Event) -> None:
        written: list[Batch] = []
        since = 0.0
        while True:
            ending = stop.is_set() or self._reached(reader)
            fetched = [] if ending else reader.fetch(FLUSH_IDLE_S if written else 1.0)
            batches = []
            for batch in fetched:
                batches.append(chain(batch))
                for piece in by_target(batches[-1]):
                    sink.write(piece)
            if batches and not written:
                since = time.monotonic()
            written += batches
            size = sum(len(batch.body) for batch in written)
            late = time.monotonic() - since >= FLUSH_S_MAX
            if written and (not batches or late or size >= FLUSH_BYTES_MAX):
                self._flush(sink, reader, written)
                written = []
            elif not written:
                self.went_well()
            if ending:
                return

    def _flush(self, sink: Sink, reader: Reader, written: list[Batch]) -> None:
        sink.flush()
        letters = self._context.take_letters()
        if letters:
            self._broker.publish(dead_letter_topic(self.pipeline), letters)
        reader.commit(self.group)  # I6
        delivered = sum(len(batch) - batch.ops.count(Op.REMOVED) for batch in written)
        EVENTS_DELIVERED.labels(self.pipeline, self.name).inc(delivered)
        self.went_well()

    def _reached(self, reader: Reader) -> bool:
        """Whether everything is read that the source produced before it was done."""
        ends = self._until()
        if ends is None:
            return False
        offsets = reader.offsets
        return all(offsets.get(topic, 0) >= end for topic, end in ends.items())
