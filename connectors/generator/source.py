"""The generator: a whole source in one short class. How to write your own: ../README.md."""

from __future__ import annotations

import time

from connectors.generator.config import GeneratorConfig
from connectors.generator.table import SCHEMA, change, transaction
from ensign_core.change import Batch, BatchBuilder, Position
from ensign_core.plugin import Context


class GeneratorSource:
    """Events numbered from 0. Its position is the number of the next one, 8 bytes big end first."""

    def __init__(self, config: GeneratorConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._next = 0
        self._first = 0
        self._opened_s = 0.0

    def open(self, resume: Position | None) -> None:
        # I3: an event follows from its number, so to resume is to count on from there.
        self._next = self._first = int.from_bytes(resume or b"", "big")
        self._opened_s = time.monotonic()

    def read(self, timeout_s: float) -> Batch | None:
        wait_s = self._due_in_s()
        if wait_s > timeout_s:
            time.sleep(timeout_s)  # I2: it blocks, at most as long as it may.
            return None
        time.sleep(wait_s)
        stop = min(self._due(), self._next + self._config.batch_events_max)
        builder = BatchBuilder()
        for event in range(self._next, stop):
            tx, ordinal = transaction(self._config, event)
            if ordinal == 0 or event == self._next:
                builder.begin(tx, ordinal)
            op, body = change(self._config, event)
            builder.add(op, SCHEMA, body)
        self._next = stop
        self._context.progress(state="streaming", position=str(stop))
        return builder.take(Position(stop.to_bytes(8, "big")))

    def ack(self, position: Position) -> None:
        """Nothing to do: there is no server that could forget anything (I4)."""

    def caught_up(self) -> bool:
        """With a count: all have come. Endless: it has no end that could be reached, so anything
        read since `open` is enough, lest ``--until-caught-up`` never end."""
        count = self._config.count
        return self._next > self._first if count is None else self._next >= count

    def close(self) -> None:
        """Nothing is held."""

    def _due(self) -> int:
        """The number of the first event that is not due yet."""
        count, rate = self._config.count, self._config.rate
        due = self._next + self._config.batch_events_max
        if rate:
            due = self._first + int((time.monotonic() - self._opened_s) * rate) + 1
        return due if count is None else min(due, count)

    def _due_in_s(self) -> float:
        """Seconds until there is an event to give."""
        if self._config.count is not None and self._next >= self._config.count:
            return float("inf")
        if self._due() > self._next:
            return 0.0
        due_s = self._opened_s + (self._next - self._first) / self._config.rate
        return max(0.0, due_s - time.monotonic()) + 0.001
