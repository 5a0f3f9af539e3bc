"""Dead letters worked on again: what operators ask of one part of a pipeline, and what comes of it.

Letters are taken in groups of bounded size, between what the part does otherwise. What was asked
lies in the broker, so that it does not matter whether the pipeline runs when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from ensign_core.broker import Broker, Lookup
from ensign_core.change import Batch, BatchBuilder, Offset
from ensign_core.engine import Replayed
from ensign_core.errors import EnsignError
from ensign_core.run.letters import Letter, Place, read_letter
from ensign_core.run.retry import waits

LOOK_EVERY_S = 1.0
"""A part looks at most this often for what operators ask of it."""

LETTERS_MAX = 500
LETTERS_BYTES_MAX = 4 << 20
"""Letters, and bytes of them, that end a group."""


class Replays:
    """What one part of a pipeline, the source or a sink, is to replay. Belongs to its thread."""

    def __init__(self, broker: Broker, pipeline: str, part: str) -> None:
        self._letters = broker.pipelines.letters(pipeline)
        self._lookup = broker.lookup
        self._part = part
        self._looked_at = 0.0
        self.under_way = True
        """Whether there is more to do now, as far as is known."""

    def take(self, count_max: int | None = None) -> list[Letter]:
        """The next letters to work on; none if nobody asked, or it is not time to look again. Those
        that cannot be read have failed."""
        now = time.monotonic()
        if not self.under_way and now - self._looked_at < LOOK_EVERY_S:
            return []
        self._looked_at = now
        offsets = self._letters.asked(self._part, count_max or LETTERS_MAX)
        self.under_way = bool(offsets)
        lookup = self._lookup()
        taken: list[Letter] = []
        failed: dict[Offset, EnsignError] = {}
        size = 0
        for offset in offsets:
            try:
                batch = _found(lookup, (self._letters.topic, offset))
            except EnsignError as error:
                failed[offset] = _final(error)
                continue
            taken += map(read_letter, batch)
            size += len(batch.body)
            if size >= LETTERS_BYTES_MAX:
                break
        self.failed(failed)
        return taken

    def events(self, letters: Iterable[Letter]) -> dict[Place, tuple[Batch, list[Offset]]]:
        """What a sink set aside: each event as its topic has it, as a batch of one, with the
        letters that name it. Those whose event cannot be read have failed."""
        lookup = self._lookup()
        found: dict[Place, tuple[Batch, list[Offset]]] = {}
        failed: dict[Offset, EnsignError] = {}
        for letter in letters:
            try:
                place = _place(letter)
                if place not in found:
                    batch = _found(lookup, place, letter.time_us)
                    batch.replayed = True
                    found[place] = batch, []
            except EnsignError as error:
                failed[letter.offset] = _final(error)
            else:
                found[place][1].append(letter.offset)
        self.failed(failed)
        return found

    def replayed(self, offsets: Sequence[Offset]) -> Replayed:
        """For the append that these letters come to: they are done with in the same commit."""
        return self._letters.replayed(offsets)

    def done(self, offsets: Sequence[Offset]) -> None:
        """These were delivered."""
        if offsets:
            self._letters.drop(offsets)

    def failed(self, errors: Mapping[Offset, EnsignError]) -> None:
        """These stay, each with its newer error."""
        if errors:
            self._letters.failed(errors)


def joined(parts: Iterable[tuple[str, Batch]]) -> list[tuple[str, Batch]]:
    """Small batches with their topics as fewer ones, in the order of each topic's events."""
    whole: list[tuple[str, Batch]] = []
    builders: dict[str, BatchBuilder] = {}
    for topic, batch in parts:
        for change in batch:
            builder = builders.setdefault(topic, BatchBuilder())
            if change.tx is not None:
                builder.begin(change.tx, change.ordinal)
            elif builder.in_tx:
                # Events without a transaction come first in a batch.
                whole.append((topic, builder.take(None)))
                builder = builders[topic] = BatchBuilder()
            builder.add(change.op, change.schema, change.body)
    return whole + [(topic, builder.take(None)) for topic, builder in builders.items()]


def bytes_only(source: str) -> EnsignError:
    """The error for bytes that a source can make nothing of, apart from where they came from."""
    return EnsignError(
        "dead_letter.bytes_only",
        f"The source {source} makes no event of bytes that were set aside.",
        "Read what they were part of again, with `ensign snapshot start` for a table, and drop "
        "the letter.",
    )


def _place(letter: Letter) -> Place:
    if letter.place is None:
        raise EnsignError(
            "dead_letter.no_event",
            f"The sink {letter.part} set aside bytes that do not say which event they are of.",
            "Look at them with `ensign dead-letters list --data`, then drop the letter.",
        )
    return letter.place


def _found(lookup: Lookup, place: Place, known_us: int | None = None) -> Batch:
    batch = lookup.event(*place, known_us)
    if batch is None:
        raise _gone(place)
    return batch


def _gone(place: Place) -> EnsignError:
    topic, offset = place
    return EnsignError(
        "dead_letter.event_gone",
        f"The topic {topic} no longer has the event at offset {offset} that was set aside.",
        "Its bytes are among those of `ensign dead-letters list --data`; then drop the letter.",
    )


def _final(error: EnsignError) -> EnsignError:
    """The error as one of the letter's own; raised if it is one to wait for."""
    if waits(error):
        raise error
    return error
