"""Reading topics: frames in append order, opened, from where the reader stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Self

from ensign_core.broker.access import LOOK_AGAIN_S, Access
from ensign_core.broker.vault import Vault
from ensign_core.change import Batch, Offset
from ensign_core.engine import Bell, Stored
from ensign_core.errors import EnsignError
from ensign_core.frame import Order

Start = Literal["start", "end"] | Offset | datetime
"""Where to read from: an end of the topic, an offset (included), or a time."""

Starts = Start | Mapping[str, Start]
"""The same for all topics, or for each by name; topics that are left out start at their start."""

FETCH_BYTES_MAX = 4 << 20
OPEN_BYTES_MAX = 16 << 20
"""Opened bytes that end a fetch: frames may have been compressed a hundred times."""

LOOK_AGAIN_S_MAX = 1.0
"""A reader looks for itself this often, should a bell not have rung."""


class Reader:
    """Yields batches of several topics. Belongs to one thread, but for `wake`.

    ``topics`` says which topics to read, as topic id to name, and is asked again when new frames
    arrive and now and then, so that topics made later are read too; ``start`` gives the offset of
    a topic's first event to read. With ``skip_revoked`` it goes on behind frames whose key was
    revoked, and ``skipped`` counts the events passed over. Making one and `fetch` raise what
    ``access`` does.
    """

    def __init__(
        self,
        vault: Vault,
        topics: Callable[[], Mapping[bytes, str]],
        start: Callable[[bytes], Offset],
        access: Access | None = None,
        *,
        skip_revoked: bool = False,
    ) -> None:
        self._vault = vault
        self._access = access or Access(vault)
        self._skip_revoked = skip_revoked
        self.skipped = 0
        self._list = topics
        self._start = start
        self._names: dict[bytes, str] = {}
        self._next: dict[bytes, Offset] = {}
        self._committed: dict[bytes, Offset] = {}
        self._order = Order()
        self._after = 0
        self._looked = -1
        self._list_again_at = 0.0
        self._woken = False
        self._settled = -1
        self.trimmed = 0
        """Events that had been trimmed when this reader came to them."""
        self._bell: Bell = vault.engine.bell()
        self._look()
        self._access.check(self._names)

    def _look(self) -> bool:
        """Take up topics that have come since; the first frames of one may lie before what was
        just fetched, so True says to fetch again."""
        last = self._vault.engine.last_sequence()
        now = time.monotonic()
        if last == self._looked and now < self._list_again_at:
            return False
        self._list_again_at = now + LOOK_AGAIN_S_MAX
        found = dict(self._list())
        fresh = found.keys() - self._names.keys()
        if not fresh:
            self._looked = last
            return False
        after = self._after if self._names else last
        for topic_id in fresh:
            offset = self._next[topic_id] = self._start(topic_id)
            sequence = self._vault.engine.sequence_at(topic_id, offset)
            if sequence is not None:
                after = min(after, sequence - 1)
        self._after = after
        self._names.update(found)
        self._looked = last
        return True

    @property
    def offsets(self) -> dict[str, Offset]:
        """The next offset of each topic: what to commit when everything so far is done."""
        return {self._names[topic_id]: offset for topic_id, offset in self._next.items()}

    def fetch(self, timeout_s: float = 0.0, bytes_max: int = FETCH_BYTES_MAX) -> list[Batch]:
        """The next batches, at most about ``bytes_max`` of sealed bytes but at least one if there
        is one; an empty list if nothing came within ``timeout_s``. A frame that does not open
        raises when all before it have been returned, and again until the reader is closed."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._access.check(self._names)
            looked = self._looked
            stored = self._vault.engine.frames(self._names, self._after, bytes_max)
            if self._look():
                continue
            batches = self._open_all(stored)
            if batches:
                return batches
            remaining = deadline - time.monotonic()
            if not stored and (self._settled == looked or self._settle(looked)):
                # Others' frames up to there need not be passed over again at every look.
                self._after = max(self._after, looked)
                if remaining <= 0 or self._woken:
                    self._woken = False
                    return []
                again_s = LOOK_AGAIN_S if self._access.limited else LOOK_AGAIN_S_MAX
                self._bell.wait(min(remaining, again_s))

    def _settle(self, looked: int) -> bool:
        """Behind the last frame: pass over what was trimmed or compacted away up to the topics'
        ends. False if there is a frame by now."""
        bounds = self._vault.engine.keeping.bounds(self._names)
        if self._vault.engine.frames(self._names, self._after, 0):
            return False
        for topic_id, (trimmed, end) in bounds.items():
            self.trimmed += max(0, trimmed - self._next[topic_id])
            self._next[topic_id] = max(self._next[topic_id], end)
        self._settled = looked
        return True

    def _open_all(self, stored: Sequence[Stored]) -> list[Batch]:
        batches: list[Batch] = []
        opened = 0
        for frame in stored:
            if opened >= OPEN_BYTES_MAX:
                break
            try:
                batch = self._open(frame)
            except EnsignError:
                if batches:
                    break
                raise
            if batch is not None:
                batches.append(batch)
                opened += len(batch.body)
        return batches

    def _open(self, stored: Stored) -> Batch | None:
        wanted = self._next[stored.topic_id]
        end = stored.offset + stored.events
        batch = None
        if end > wanted:
            try:
                batch = self._vault.open_frame(stored, self._names[stored.topic_id], self._order)
            except EnsignError as error:
                if not self._skip_revoked or error.code != "key.revoked":
                    raise
                self.skipped += end - max(wanted, stored.offset)
            if batch is not None and wanted > stored.offset:
                batch = batch.part(wanted - stored.offset, stored.events)
            elif wanted < stored.offset:
                # Compaction leaves gaps too, of which nothing is missing.
                bounds = self._vault.engine.keeping.bounds([stored.topic_id])
                trimmed = bounds.get(stored.topic_id, (0, 0))[0]
                self.trimmed += max(0, min(trimmed, stored.offset) - wanted)
            self._next[stored.topic_id] = end
        self._after = stored.sequence
        return batch

    def by_id(self, offsets: Mapping[str, Offset]) -> dict[bytes, Offset]:
        """Offsets by the topics themselves, not by their names, which another topic may have been
        given since."""
        return {key: offsets[name] for key, name in self._names.items() if name in offsets}

    def commit(self, group: str, offsets: Mapping[str, Offset] | None = None) -> None:
        """Remember `offsets`, or those given, as where ``group`` goes on. ``group.shared`` if that
        is a work group."""
        moved = {
            topic_id: offset
            for topic_id, offset in (self._next if offsets is None else self.by_id(offsets)).items()
            if self._committed.get(topic_id) != offset
        }
        if moved:
            self._vault.engine.groups.commit(group, moved)
            self._committed.update(moved)

    def wake(self) -> None:
        """Make a `fetch` in another thread return early, with nothing."""
        self._woken = True
        self._bell.wake()

    def close(self) -> None:
        self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def within(topic: str, known: Offset, reached: Offset) -> Offset:
    """Events that come to lie before an offset that a target has would never reach it:
    ``sink.ahead``."""
    if known > reached:
        raise EnsignError(
            "sink.ahead",
            f"The sink's target has topic {topic} up to offset {known}, which is not of the topic "
            "as it is here: it was restored from an older backup, or made anew.",
            "Give the sink another name to deliver the topic as it is now from its start, and "
            "expect there again what the target has already.",
        )
    return known
