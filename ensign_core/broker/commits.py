"""One commit of what several publishers want: which events are stored, one frame per topic, one
append, and what each publisher is told."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ensign_core.broker.duplicates import Hasher
from ensign_core.broker.events import body_batch
from ensign_core.broker.names import unknown_topic
from ensign_core.broker.receipts import Acked, Receipt
from ensign_core.broker.vault import Vault, now_us
from ensign_core.broker.writer import Writer
from ensign_core.change import Batch, Offset
from ensign_core.engine import Beside, Topic
from ensign_core.engine.append import archived
from ensign_core.engine.claims import ClaimedError, Claims, Numbers, Window
from ensign_core.errors import EnsignError

CLAIM_TRIES_MAX = 100
"""How often a commit looks again because another process was faster. Each time it leaves out what
the other has stored, so that only a steady stream of the same events from many gets here."""

REMEMBERED_MAX = 10_000
"""Sessions and policies that are remembered between commits."""


SEQUENCE_MAX = (1 << 63) - 1
"""The largest sequence that there is."""


class _Place(NamedTuple):
    """Where an event comes to lie: at an index of the frame or, if that is negative, where one that
    it repeats lies already."""

    at: int
    offset: Offset = 0
    duplicate: bool = False

    def acked(self, base: Offset, at_us: int) -> Acked:
        offset = base + self.at if self.at >= 0 else self.offset
        return Acked(offset, at_us, self.duplicate)


class _Plan:
    """What becomes of the receipts of one topic."""

    def __init__(self, topic: str, known: Topic | None, hasher: Hasher | None) -> None:
        self.topic = topic
        self.known = known
        self.hasher = hasher
        self.latest = hasher is not None and hasher.policy.keep == "latest"
        self.ends = array("I")
        self._bodies: list[bytes] = []
        self._size = 0
        self.plain: list[tuple[Receipt, int]] = []
        self.placed: list[tuple[Receipt, list[_Place]]] = []
        self.numbers: list[Numbers] = []
        self.hashes: list[tuple[bytes, int]] = []
        self.duplicates = 0
        self.windows: dict[bytes, Window] = {}
        self.newest: dict[bytes, int] = {}
        self.originals: dict[bytes, _Place] = {}
        self._sequences: dict[tuple[bytes, int], _Place] = {}

    def add(self, receipt: Receipt, hashes: Sequence[bytes | None]) -> None:
        """Place the events of a receipt. One with a forgotten sequence fails."""
        session = receipt.session
        if session is None and self.hasher is None:
            self.plain.append((receipt, len(self.ends)))
            self._store(receipt.body, receipt.ends)
            return
        first = 0
        if session is not None:
            if receipt.assigned:
                receipt.sequence = self.newest[session] + 1
            first = receipt.sequence or 0
            if first <= self.windows[session].forgotten:
                receipt.failed(_forgotten())
                return
            last = first + receipt.count - 1
            self.newest[session] = max(self.newest[session], last)
        places: list[_Place] = []
        start = 0
        for number, (end, key) in enumerate(zip(receipt.ends, hashes, strict=True), first):
            place = self._repeated(session, number)
            if place is None:
                place = self._place(receipt.body[start:end], key)
                if session is not None:
                    self._number(session, number, place)
            places.append(place)
            start = end
        self.placed.append((receipt, places))

    def _repeated(self, session: bytes | None, number: int) -> _Place | None:
        """Where the event of a sequence lies that was published before."""
        if session is None:
            return None
        earlier = self._sequences.get((session, number))
        if earlier is not None:
            return earlier._replace(duplicate=True)
        runs = self.windows[session].runs
        at = bisect_right(runs, number, key=lambda run: run[0]) - 1
        if at >= 0 and runs[at][1] >= number:
            return _Place(-1, runs[at][2] + number - runs[at][0], True)
        return None

    def _place(self, body: bytes, key: bytes | None) -> _Place:
        if key is not None and not self.latest and key in self.originals:
            self.duplicates += 1
            return self.originals[key]._replace(duplicate=True)
        place = _Place(len(self.ends))
        self._store(body, (len(body),))
        if key is not None:
            self.hashes.append((key, place.at))
            self.originals[key] = place
        return place

    def _store(self, body: bytes, ends: Iterable[int]) -> None:
        size = self._size
        self.ends.extend(ends if not size else (size + end for end in ends))
        self._bodies.append(body)
        self._size = size + len(body)

    def batch(self, committed_us: int) -> Batch:
        """The events to store."""
        return body_batch(self.topic, b"".join(self._bodies), self.ends, committed_us)

    def _number(self, session: bytes, number: int, place: _Place) -> None:
        """Remember a sequence, in the last run if it goes on there."""
        self._sequences[session, number] = place
        if self.numbers and place.at >= 0:
            before = self.numbers[-1]
            if before[:2] == (session, number - before.events) and (
                before.at >= 0 and before.at + before.events == place.at
            ):
                self.numbers[-1] = before._replace(events=before.events + 1)
                return
        self.numbers.append(Numbers(session, number, 1, place.at, place.offset))

    def claims(self, frame: int, at_us: int) -> Claims | None:
        """What the append is to hold to and remember; None where it has nothing to do."""
        if not (self.ends or self.numbers or self.duplicates):
            return None
        topic_id, policy = (
            (self.known.topic_id, self.known.policy) if self.known is not None else (None, None)
        )
        return Claims(
            self.topic, topic_id, policy, at_us, frame if self.ends else -1, self.numbers,
            self.hashes, self.latest, self.duplicates,
        )  # fmt: skip

    def acked(self, base: Offset, at_us: int) -> None:
        """Tell the publishers, the frame's first event being at ``base``."""
        for receipt, start in self.plain:
            receipt.acked(base + start, at_us)
        for receipt, places in self.placed:
            receipt.acked(-1, at_us, [place.acked(base, at_us) for place in places])


class Commits:
    """Commits receipts, one commit at a time."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._writer: Writer | None = None
        self._fingerprint = vault.keys.fingerprinter()
        self._newest: dict[tuple[bytes, bytes], int] = {}
        self._hashers: dict[tuple[bytes, bytes], Hasher | None] = {}

    def commit(self, receipts: Sequence[Receipt]) -> None:
        """Store what the receipts stand for and tell each what became of it. An error that is only
        one topic's fails no other's."""
        topics: dict[str, list[Receipt]] = {}
        for receipt in receipts:
            topics.setdefault(receipt.topic, []).append(receipt)
        self._commit(topics)

    def _commit(self, topics: Mapping[str, Sequence[Receipt]]) -> None:
        try:
            self._append(topics)
        except Exception as error:  # noqa: BLE001
            if len(topics) > 1:
                for topic, receipts in topics.items():
                    self._commit({topic: receipts})
                return
            for receipts in topics.values():
                for receipt in receipts:
                    if not receipt.done:
                        receipt.failed(error)

    def _append(self, topics: Mapping[str, Sequence[Receipt]]) -> None:
        self._writer = self._writer or Writer(self._vault)
        for _ in range(CLAIM_TRIES_MAX):
            at_us = now_us()
            known = {topic.name: topic for topic in self._vault.engine.topics(list(topics))}
            plans = [self._plan(name, known.get(name), mine) for name, mine in topics.items()]
            filled = [plan for plan in plans if plan.ends]
            frames = {plan.topic: place for place, plan in enumerate(filled)}
            claims = [plan.claims(frames.get(plan.topic, -1), at_us) for plan in plans]
            beside = Beside(claims=[claim for claim in claims if claim is not None])
            try:
                offsets = (
                    self._writer.append(
                        [(plan.topic, plan.batch(at_us)) for plan in filled],
                        beside=beside,
                    )
                    if beside.claims
                    else []
                )
            except ClaimedError:
                self._newest.clear()
                continue
            for plan in plans:
                self._remember(plan)
                place = frames.get(plan.topic)
                plan.acked(-1 if place is None else offsets[place], at_us)
            return
        raise EnsignError(
            "engine.busy",
            "Other processes publish the same events again and again.",
            "Publish again: what was stored meanwhile is acked as what it repeats.",
        )

    def _plan(self, topic: str, known: Topic | None, receipts: Sequence[Receipt]) -> _Plan:
        plan = _Plan(topic, known, self._hasher(known))
        left = []
        for receipt in receipts:
            if receipt.done:
                continue
            if known is None and not receipt.create:
                receipt.failed(unknown_topic(topic))
            elif known is not None and known.state != "ready":
                receipt.failed(archived(topic))
            else:
                left.append(receipt)
        self._look_up_sessions(plan, left)
        hashes = self._look_up_hashes(plan, left)
        for receipt, keys in zip(left, hashes, strict=True):
            plan.add(receipt, keys)
        return plan

    def _look_up_sessions(self, plan: _Plan, receipts: Sequence[Receipt]) -> None:
        """What is known of the sessions; not asked for where only newer sequences are given."""
        spans: dict[bytes, tuple[int, int]] = {}
        for receipt in receipts:
            if receipt.session is not None:
                low, high = spans.get(receipt.session, (SEQUENCE_MAX, -1))
                if not receipt.assigned and receipt.sequence is not None:
                    low = min(low, receipt.sequence)
                    high = max(high, receipt.sequence + receipt.count - 1)
                spans[receipt.session] = low, high
        topic_id = plan.known.topic_id if plan.known is not None else None
        for session, (low, high) in spans.items():
            window = Window()
            if topic_id is not None:
                newest = self._newest.get((topic_id, session))
                if newest is not None and newest < low:
                    window = Window(newest)
                else:
                    window = self._vault.engine.publishing.window(topic_id, session, low, high)
            plan.windows[session] = window
            plan.newest[session] = window.newest

    def _remember(self, plan: _Plan) -> None:
        if plan.known is None:
            return
        if len(self._newest) + len(plan.newest) > REMEMBERED_MAX:
            self._newest.clear()
        topic_id = plan.known.topic_id
        self._newest.update(((topic_id, key), value) for key, value in plan.newest.items())

    def _look_up_hashes(
        self, plan: _Plan, receipts: Sequence[Receipt]
    ) -> list[Sequence[bytes | None]]:
        hasher = plan.hasher
        if hasher is None or plan.known is None:
            return [[None] * receipt.count for receipt in receipts]
        hashes = [list(map(hasher, receipt.events)) for receipt in receipts]
        if not plan.latest:
            wanted = [key for keys in hashes for key in keys if key is not None]
            found = self._vault.engine.publishing.duplicates(plan.known.topic_id, wanted)
            plan.originals.update((key, _Place(-1, offset)) for key, offset in found.items())
        return [*hashes]

    def _hasher(self, topic: Topic | None) -> Hasher | None:
        if topic is None or topic.policy is None:
            return None
        key = topic.topic_id, topic.policy
        if key not in self._hashers:
            if len(self._hashers) >= REMEMBERED_MAX:
                self._hashers.clear()
            policy = self._vault.policy(topic).deduplication
            self._hashers[key] = (
                None if policy.strategy == "none"
                else Hasher(self._fingerprint, topic.topic_id, policy)
            )  # fmt: skip
        return self._hashers[key]


def _forgotten() -> EnsignError:
    return EnsignError(
        "publish.sequence_forgotten",
        "A sequence is so much older than its session's newest that nobody knows any more whether "
        "its event was stored; it was not stored now.",
        "Read the topic to see whether the event is there, and publish it in a new session if not.",
    )
