"""Reading in order with a promise: at most once, at least once, and exactly once where what is made
of the events stays in the broker."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, Self

from ensign_core.broker.events import (
    Event,
    Received,
    event_batch,
    received,
)
from ensign_core.broker.names import check_topic_name
from ensign_core.broker.reader import Reader
from ensign_core.broker.writer import Writer
from ensign_core.change import Batch, Offset
from ensign_core.engine import Beside, Consumed
from ensign_core.errors import EnsignError

Promise = Literal["at_most_once", "at_least_once"]
"""What a group is promised when its reader ends at any moment: no event comes twice, or none is
missed."""

AHEAD_BYTES_MAX = 1 << 20
"""Sealed bytes that a subscription fetches at once, and so commits at once."""

PRODUCED_BYTES_MAX = 64 << 20
"""What a processor may produce between two commits, which go to the disk as one."""


class Subscription:
    """Events of topics in append order. Made by `Broker.subscribe`; belongs to one thread, but for
    `wake`. At most once, a fetch (`AHEAD_BYTES_MAX`) is committed before its first event is given
    out; at least once, when all of them were and the next one begins, or by `ack`. A group is one
    reader: whichever commits last says where the next one begins."""

    def __init__(self, reader: Reader, group: str | None, promise: Promise) -> None:
        self._reader = reader
        self._group = group
        self._before = promise == "at_most_once"
        self._events: Iterator[Received] = iter(())
        self._given: dict[str, Offset] = {}
        self._fetched = False

    def __iter__(self) -> Iterator[Received]:
        """Events as they come, until `wake`; then iterating again goes on."""
        while (event := self.next(math.inf)) is not None:
            yield event

    def next(self, timeout_s: float = 0.0) -> Received | None:
        """The next event; None if none came within ``timeout_s``, or at `wake`. Raises what a frame
        that does not open raises, when all before it were given out."""
        while (event := next(self._events, None)) is None:
            if self._fetched:
                self._commit_fetched(after=True)
                self._fetched = False
            batches = self._reader.fetch(timeout_s, AHEAD_BYTES_MAX)
            if not batches:
                return None
            self._fetched = True
            self._commit_fetched(after=False)
            self._events = _each(batches)
        self._given[event.topic] = event.offset + 1
        return event

    def _commit_fetched(self, *, after: bool) -> None:
        if self._group is not None and self._before != after:
            self._reader.commit(self._group)

    def ack(self) -> None:
        """All events that were given out are done with: the group does not get them again."""
        if self._group is not None and not self._before:
            self._reader.commit(self._group, self._given)

    def wake(self) -> None:
        """Let a wait in another thread end, with nothing."""
        self._reader.wake()

    def close(self) -> None:
        """Acks nothing."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _each(batches: Iterable[Batch]) -> Iterator[Received]:
    left = deque(batches)
    while left:
        yield from received(left.popleft())


class Processor:
    """Consumes, produces and commits in one transaction: what is in the topics that it produces to
    is made of each event exactly once, wherever it is interrupted. Made by `Broker.processor`;
    belongs to one thread, but for `wake`.

        with broker.processor("totals", ["orders"]) as processor:
            for batch in processor:
                processor.produce("totals", map(total, received(batch)))
                processor.commit()

    Of several processors of one group, the first to commit a step makes it; the others get
    ``group.moved`` for the same step, of which nothing is written, and may `rewind`.
    """

    def __init__(
        self, writer: Writer, group: str, begin: Callable[[], tuple[Reader, dict[bytes, Offset]]]
    ) -> None:
        self._writer = writer
        self._group = group
        self._begin = begin
        self._reader, self._stands = begin()
        self._forget()

    def _forget(self) -> None:
        self._batches: deque[Batch] = deque()
        self._done()

    def _done(self) -> None:
        self._taken: dict[str, Offset] = {}
        self._produced: list[tuple[str, Batch]] = []
        self._bytes = 0

    def __iter__(self) -> Iterator[Batch]:
        """Batches as they come, until `wake`."""
        while (batch := self.take(math.inf)) is not None:
            yield batch

    def take(self, timeout_s: float = 0.0) -> Batch | None:
        """The next batch to make something of; None if none came within ``timeout_s``, or at
        `wake`. `commit` commits all that were taken."""
        if not self._batches:
            self._batches.extend(self._reader.fetch(timeout_s, AHEAD_BYTES_MAX))
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self._taken[batch.topic] = batch.next_offset
        return batch

    def produce(self, topic: str, events: Batch | Iterable[Event]) -> None:
        """Append events to a topic with the next `commit`; ``hand_over.too_large`` when they are
        too many for one."""
        check_topic_name(topic)
        batch = events if isinstance(events, Batch) else event_batch(topic, events)
        if self._bytes + len(batch.body) > PRODUCED_BYTES_MAX:
            raise EnsignError(
                "hand_over.too_large",
                f"More than {PRODUCED_BYTES_MAX >> 20} MiB were produced without a commit.",
                "Commit after fewer batches.",
            )
        self._bytes += len(batch.body)
        self._produced.append((topic, batch))

    def commit(self) -> Mapping[str, Offset]:
        """Append what was produced and move the group behind what was taken, all or nothing;
        returns where it stands now in the topics concerned, once that is on the disk. Raises
        ``group.moved`` and what an append raises: then nothing was written."""
        taken = self._reader.by_id(self._taken)
        steps = {key: (self._stands.get(key), offset) for key, offset in taken.items()}
        self._writer.append(self._produced, beside=Beside(consumed=Consumed(self._group, steps)))
        self._stands |= taken
        offsets = self._taken
        self._done()
        return offsets

    def rewind(self) -> None:
        """Forget what was taken and produced since the last commit, and go on where the group
        stands now."""
        self._reader.close()
        self._reader, self._stands = self._begin()
        self._forget()

    def wake(self) -> None:
        """Let a wait in another thread end, with nothing."""
        self._reader.wake()

    def close(self) -> None:
        """Commits nothing."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
