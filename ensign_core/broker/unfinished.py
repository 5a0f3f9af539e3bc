"""The events of a work group as one of its members looks at them: those that nobody looked at yet,
and those that come again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ensign_core.broker.access import Access
from ensign_core.broker.events import Received, received
from ensign_core.broker.order import KeyOrder
from ensign_core.broker.reader import OPEN_BYTES_MAX
from ensign_core.broker.vault import Vault
from ensign_core.change import Batch, Offset, Op
from ensign_core.engine import Stored
from ensign_core.engine.work import Claimed, Front, Scan
from ensign_core.errors import EnsignError

LOOK_BYTES_MAX = 256 << 10
"""Sealed bytes that are looked at for a claim, but at least a frame."""

LOOK_EVENTS_MIN = 64
"""A member looks at twice as many events as it wants, and at least so many: some are parked, and
some another member takes first."""

OPENED_FRAMES_MAX = 4
"""Frames that stay open for the next claim, as long as no key is revoked."""


class Looked(NamedTuple):
    """What a member found: events, and behind them what it could not open: events whose key was
    ``revoked`` (their front, where they end, and the error), or a frame with another error."""

    scans: list[Scan]
    revoked: tuple[Front, Offset, EnsignError] | None = None
    error: EnsignError | None = None


class _Opened(NamedTuple):
    topic_id: bytes
    batch: Batch

    def has(self, topic_id: bytes, offset: Offset) -> bool:
        return self.topic_id == topic_id and self.batch.offset <= offset < self.batch.next_offset


class Unfinished:
    """Belongs to the thread that receives."""

    def __init__(
        self,
        vault: Vault,
        work: int,
        topics: Mapping[bytes, str],
        access: Access,
        *,
        in_order: bool,
    ) -> None:
        self._vault = vault
        self._work = work
        self._topics = list(topics.values())
        self._access = access
        self._order = KeyOrder(vault.keys.fingerprinter()) if in_order else None
        self._opened: list[_Opened] = []
        self._revocations = vault.revocations()
        self._looked: list[tuple[bytes, Batch]] = []
        self._names = dict(topics)

    def fronts(self) -> list[Front]:
        """Where there are events that nobody looked at, in the order of their appends."""
        found = self._vault.engine.deliveries.fronts(self._work, self._topics)
        self._names.update((front.topic_id, front.name) for front in found)
        self._access.check(self._names)
        return found

    def name(self, topic_id: bytes) -> str:
        """A topic's name; empty if it was deleted."""
        name = self._names.get(topic_id)
        if name is None:
            found = self._vault.engine.topic_ids(self._topics)
            self._names.update((key, name) for name, key in found.items())
            name = self._names.get(topic_id, "")
        return name

    def look(self, fronts: Sequence[Front], count: int) -> Looked:
        """The next events, about twice as many as ``count``."""
        wanted = max(2 * count, LOOK_EVENTS_MIN)
        scans: list[Scan] = []
        self._looked = []
        opened = 0
        at = {front.topic_id: front for front in fronts}
        for stored in self._frames(fronts, wanted):
            if wanted <= 0 or opened >= OPEN_BYTES_MAX:
                break
            front = at[stored.topic_id]
            stop = stored.offset + stored.events
            if stop <= front.offset:
                continue
            try:
                batch = self._open(stored, front.name)
            except EnsignError as error:
                if error.code == "key.revoked":
                    return Looked(scans, revoked=(front, stop, error))
                return Looked(scans, error=error)
            scan = self._scan(batch, front, wanted)
            scans.append(scan)
            self._looked.append((front.topic_id, batch))
            opened += len(batch.body)
            wanted -= len(scan.events)
            at[stored.topic_id] = front._replace(offset=scan.stop)
        return Looked(scans)

    def _frames(self, fronts: Sequence[Front], wanted: int) -> Iterator[Stored]:
        """Frames from the first front on; one that is open and has enough is not read again."""
        if not fronts:
            return
        first = fronts[0]
        opened = self._find(first.topic_id, first.offset)
        if opened is not None and opened.next_offset - first.offset >= wanted:
            yield Stored(first.sequence, first.topic_id, opened.offset, len(opened), b"", b"")
            return
        ids = [front.topic_id for front in fronts]
        yield from self._vault.engine.frames(ids, first.sequence - 1, LOOK_BYTES_MAX)

    def _scan(self, batch: Batch, front: Front, wanted: int) -> Scan:
        start = max(front.offset, batch.offset)
        stop = min(batch.next_offset, start + wanted)
        first, end = start - batch.offset, stop - batch.offset
        keys: Sequence[bytes | None] = [None] * (end - first)
        if self._order is not None:
            keys = self._order.keys(front.topic_id, batch, first, end)
        there = zip(range(start, stop), keys, batch.ops[first:end], strict=True)
        events = [(offset, key) for offset, key, op in there if op != Op.REMOVED]
        return Scan(front.topic_id, front.offset, stop, events)

    def fresh(self, claimed: Sequence[Claimed]) -> Iterator[tuple[Claimed, Received]]:
        """The events that were claimed of those that `look` found, in that order."""
        looked = iter(self._looked)
        topic_id, batch = b"", Batch()
        at = 0
        while at < len(claimed):
            wanted, offset, _ = claimed[at].held
            while wanted != topic_id or not batch.offset <= offset < batch.next_offset:
                topic_id, batch = next(looked)
            count = 1
            # Neighbours share a batch of their own, so that no event keeps its whole frame.
            while claimed[at + count : at + count + 1] and claimed[at + count].held[:2] == (
                topic_id, offset + count,
            ) and offset + count < batch.next_offset:  # fmt: skip
                count += 1
            part = batch.part(offset - batch.offset, offset - batch.offset + count)
            yield from zip(claimed[at : at + count], received(part), strict=True)
            at += count
        self._looked = []

    def again(
        self, claimed: Sequence[Claimed]
    ) -> Iterator[tuple[Claimed, Received | EnsignError | None]]:
        """Events that were claimed again, from where they lie; None for those that the topic has no
        more, and ``key.revoked`` for those that nobody can read any more."""
        for one in sorted(claimed, key=lambda one: one.held):
            topic_id, offset, _ = one.held
            try:
                batch = self._event_frame(topic_id, offset)
            except EnsignError as error:
                if error.code != "key.revoked":
                    raise
                yield one, error
                continue
            event = None
            if batch is not None:
                part = batch.part(offset - batch.offset, offset - batch.offset + 1)
                event = next(received(part), None)
            yield one, event

    def _event_frame(self, topic_id: bytes, offset: Offset) -> Batch | None:
        """The opened frame that has an event; None if there is none."""
        batch = self._find(topic_id, offset)
        if batch is not None:
            return batch
        sequence = self._vault.engine.sequence_at(topic_id, offset)
        if sequence is None:
            return None
        for stored in self._vault.engine.frames([topic_id], sequence - 1, 0):
            if stored.offset <= offset < stored.offset + stored.events:
                return self._open(stored, self.name(topic_id))
        return None

    def _find(self, topic_id: bytes, offset: Offset) -> Batch | None:
        revocations = self._vault.revocations()
        if revocations != self._revocations:
            self._revocations = revocations
            self._opened.clear()
        return next((one.batch for one in self._opened if one.has(topic_id, offset)), None)

    def _open(self, stored: Stored, topic: str) -> Batch:
        batch = self._find(stored.topic_id, stored.offset)
        if batch is None:
            batch = self._vault.open_frame(stored, topic)
            del self._opened[: 1 - OPENED_FRAMES_MAX]
            self._opened.append(_Opened(stored.topic_id, batch))
        return batch
