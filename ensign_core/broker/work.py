"""Work groups: many members, in threads and processes, share the events of topics, finish each by
itself, and get again what nobody finished.

What a group remembers lies in the engine: how far it has looked at each topic, and of the events
before that those that are not done with. A claim looks at as many events as the member has room
for, outside of any transaction, and takes them in one.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from ensign_core.broker.access import Access
from ensign_core.broker.events import Event, Received, event_batch
from ensign_core.broker.letters import dead_letter_topic
from ensign_core.broker.reader import LOOK_AGAIN_S_MAX
from ensign_core.broker.unfinished import Unfinished
from ensign_core.broker.vault import Vault
from ensign_core.broker.writer import Writer
from ensign_core.change import Offset
from ensign_core.engine import Beside
from ensign_core.engine.work import Claimed, Finished, Front, Leased, WorkState
from ensign_core.errors import EnsignError
from ensign_core.metrics import DEAD_LETTERS, GROUP_UNFINISHED

BEAT_S = 5.0
"""A member that has nothing to do says that it is there this often."""

NOT_ME = "DELIVER_AGAIN_NOT_ME"
"""The code of the protocol that asks for another member."""

WAIT_DOUBLINGS_MAX = 30


@dataclass(frozen=True)
class WorkOptions:
    """As `Broker.work` takes them."""

    lease_s: float
    attempts_max: int
    backoff_first_s: float
    backoff_s_max: float
    in_flight_max: int
    unfinished_max: int
    key_order: bool

    def __post_init__(self) -> None:
        if min(self.lease_s, self.attempts_max, self.in_flight_max, self.unfinished_max) <= 0:
            raise ValueError("lease_s and the limits of a work group are more than 0")

    def backoff_s(self, attempt: int) -> float:
        """How long an event waits after its attempt, with jitter, so that not all come at once."""
        doubled = self.backoff_first_s * 2.0 ** min(attempt - 1, WAIT_DOUBLINGS_MAX)
        return min(doubled, self.backoff_s_max) * random.uniform(0.75, 1.25)  # noqa: S311


class Delivery:
    """An event that a member holds until it says what became of it, or its lease ends. ``attempt``
    counts how often it was given out, from 1."""

    __slots__ = ("_member", "attempt", "event", "held", "until_s")

    def __init__(
        self, member: WorkMember, held: Leased, attempt: int, event: Received, until_s: float
    ) -> None:
        self._member = member
        self.held = held
        self.attempt = attempt
        self.event = event
        self.until_s = until_s

    def ack(self) -> None:
        """It is done with. Raises ``delivery.expired``, as the others do, if it was delivered again
        meanwhile or is done with already: then nothing changes."""
        _raise(self._member.ack([self]))

    def nack(
        self, code: str | None = None, delay_s: float | None = None, *, not_me: bool = False
    ) -> None:
        """It is to be delivered again, after ``delay_s`` or a wait that doubles with each attempt;
        if ``not_me``, to another member where there is one. After the last attempt it is set aside,
        with ``code`` as the reason."""
        _raise(self._member.nack([self], code, delay_s, not_me=not_me))

    def extend(self, lease_s: float) -> None:
        """Hold it for so long from now."""
        _raise(self._member.extend([self], lease_s))


def _raise(lost: Sequence[Delivery]) -> None:
    if lost:
        raise EnsignError(
            "delivery.expired",
            f"The event at offset {lost[0].event.offset} of {lost[0].event.topic} was delivered "
            "again when its lease had ended, or is done with already; nothing was changed.",
            "Give the group a longer lease_s, or extend() deliveries while you work on them.",
        )


class WorkMember:
    """A member of a work group. Made by `Broker.work`. Its methods, and those of its deliveries,
    may be called from any thread, but `receive` by one at a time."""

    def __init__(
        self, vault: Vault, writer: Callable[[], Writer], group: str, member: str | None,
        topics: Mapping[bytes, str], starts: Mapping[bytes, Offset], access: Access,
        options: WorkOptions,
    ) -> None:  # fmt: skip
        self.group = group
        self.name = member or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
        self._engine = vault.engine
        self._options = options
        self._work = vault.engine.deliveries.join(group, self.name, starts)
        self._unfinished = Unfinished(vault, self._work, topics, access, in_order=options.key_order)
        self._writer = writer()
        self._writing = threading.Lock()
        self._receiving = threading.Lock()
        self._lock = threading.Lock()
        self._out: dict[Leased, Delivery] = {}
        self._beat_at = time.monotonic() + BEAT_S
        self._woken = False
        self._closed = False
        self._bell = vault.engine.bell()

    @property
    def state(self) -> WorkState:
        """What the group, not the member alone, has under way."""
        return self._engine.deliveries.state(self._work)

    def receive(self, count_max: int = 100, timeout_s: float = 0.0) -> list[Delivery]:
        """At most ``count_max`` events, and no more than the member may hold; none if there were
        none within ``timeout_s``, or at `wake`. Where a frame does not open it raises when all else
        was given out; but events whose key was revoked are set aside. Raises
        ``topic.not_granted`` when a grant was taken away."""
        deadline = time.monotonic() + timeout_s
        with self._receiving:
            while not self._closed:
                count = min(count_max, self._room())
                found = self._claim(count) if count > 0 else []
                remaining = deadline - time.monotonic()
                if found or remaining <= 0 or self._woken:
                    self._woken = False
                    return found
                self._bell.wait(min(remaining, self._due_s()))
        return []

    def _due_s(self) -> float:
        due_us = self._engine.deliveries.due_us(self._work, self.name)
        if due_us is None or not self._room():
            return LOOK_AGAIN_S_MAX
        return max(0.001, min(due_us / 1e6, LOOK_AGAIN_S_MAX))

    def _room(self) -> int:
        """How many more the member may hold; those whose lease ended are others' to hold."""
        now = time.monotonic()
        with self._lock:
            if len(self._out) >= self._options.in_flight_max:
                for held in [held for held, one in self._out.items() if one.until_s <= now]:
                    del self._out[held]
            return self._options.in_flight_max - len(self._out)

    def _claim(self, count: int) -> list[Delivery]:
        store, options = self._engine.deliveries, self._options
        while True:
            self._beat()
            due_us = store.due_us(self._work, self.name)
            fronts = self._unfinished.fronts()
            looked = self._unfinished.look(fronts, count)
            if looked.revoked is not None and not looked.scans:
                self._set_aside_unseen(*looked.revoked)
                continue
            if not looked.scans and (due_us is None or due_us > 0):
                if looked.error is not None:
                    raise looked.error
                return []
            until_s = time.monotonic() + options.lease_s
            claims = store.claim(
                self._work, self.name, looked.scans, count, options.unfinished_max,
                int(options.lease_s * 1e6),
            )  # fmt: skip
            given = self._deliver(claims.again, until_s) + [
                Delivery(self, one.held, one.attempt, event, until_s)
                for one, event in self._unfinished.fresh(claims.fresh)
            ]
            with self._lock:
                self._out.update((delivery.held, delivery) for delivery in given)
            if claims.full:
                GROUP_UNFINISHED.labels(self.group).set(self.state.unfinished)
            if given or claims.full:
                return given

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + BEAT_S
            self._engine.deliveries.beat(self._work, self.name)
            GROUP_UNFINISHED.labels(self.group).set(self.state.unfinished)

    def _deliver(self, claimed: Sequence[Claimed], until_s: float) -> list[Delivery]:
        """Events that come again, but those that have come too often or cannot come any more."""
        given: list[Delivery] = []
        gone: list[Leased] = []
        worn: list[tuple[Leased, Event]] = []
        for one, event in self._unfinished.again(claimed):
            if event is None:
                gone.append(one.held)
            elif isinstance(event, EnsignError):
                place = {"topic": self._unfinished.name(one.held.topic_id),
                         "offset": str(one.held.offset)}  # fmt: skip
                worn.append((one.held, self._letter(event.code, event.sentence, place)))
            elif one.attempt > self._options.attempts_max:
                worn.append((one.held, self._letter_of(event, one.attempt - 1, "delivery.timeout")))
            else:
                given.append(Delivery(self, one.held, one.attempt, event, until_s))
        if gone:
            self._engine.deliveries.ack(self._work, gone)
        self._set_aside(worn)
        return given

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """These are done with, in one commit. Returns those that were delivered again meanwhile, or
        are done with already: of them nothing changes."""
        lost = self._engine.deliveries.ack(self._work, [one.held for one in deliveries])
        return self._let_go(deliveries, lost)

    def nack(
        self, deliveries: Sequence[Delivery], code: str | None = None,
        delay_s: float | None = None, *, not_me: bool = False,
    ) -> list[Delivery]:  # fmt: skip
        """These are to be delivered again, as `Delivery.nack` says, in one commit, or two if some
        are set aside. Returns those that were delivered again already, or are done with."""
        again: dict[Leased, int] = {}
        worn: list[tuple[Leased, Event]] = []
        for one in deliveries:
            if one.attempt >= self._options.attempts_max:
                worn.append((one.held, self._letter_of(one.event, one.attempt, code)))
                continue
            wait_s = self._options.backoff_s(one.attempt) if delay_s is None else delay_s
            again[one.held] = int(max(0.0, wait_s) * 1e6)
        avoid = self.name if not_me or code == NOT_ME else None
        lost = self._engine.deliveries.nack(self._work, again, avoid) if again else set()
        return self._let_go(deliveries, lost | self._set_aside(worn))

    def extend(self, deliveries: Sequence[Delivery], lease_s: float) -> list[Delivery]:
        """Hold these for ``lease_s`` from now, in one commit; returns those that were lost."""
        until_s = time.monotonic() + lease_s
        lost = self._engine.deliveries.extend(
            self._work, [one.held for one in deliveries], int(lease_s * 1e6)
        )
        for one in deliveries:
            if one.held not in lost:
                one.until_s = until_s
        return [one for one in deliveries if one.held in lost]

    def _let_go(self, deliveries: Sequence[Delivery], lost: set[Leased]) -> list[Delivery]:
        with self._lock:
            was_full = len(self._out) >= self._options.in_flight_max
            for one in deliveries:
                self._out.pop(one.held, None)
        if was_full:
            self._bell.wake()
        return [one for one in deliveries if one.held in lost]

    def _letter_of(self, event: Received, attempts: int, code: str | None) -> Event:
        change = event.change
        place = {
            "topic": event.topic, "offset": str(event.offset), "attempts": str(attempts),
            "op": change.op.name.lower(), "schema": change.schema.name,
        }  # fmt: skip
        sentence = f"The group {self.group} did not finish the event in {attempts} attempts."
        return self._letter(code or "delivery.refused", sentence, place)

    def _letter(self, code: str, sentence: str, place: dict[str, str]) -> Event:
        """What says of an event, which stays where it is, that the group set it aside. A copy would
        outlive its key, its topic's retention and its readers' grants."""
        why = {"part": self.group, "code": code, "error": sentence}
        return Event(b"", metadata=why | place, mimetype="application/octet-stream")

    def _set_aside(self, letters: Sequence[tuple[Leased, Event]]) -> set[Leased]:
        """Append dead letters and be done with their events, all at once; those of which the lease
        was lost stay as they are and are returned."""
        if not letters:
            return set()
        held = [one for one, _ in letters]
        try:
            self._append([event for _, event in letters], Finished(self._work, held))
        except EnsignError as error:
            if error.code != "delivery.expired":
                raise
            if len(letters) == 1:
                return set(held)
            return set().union(*(self._set_aside([letter]) for letter in letters))
        return set()

    def _set_aside_unseen(self, front: Front, stop: Offset, error: EnsignError) -> None:
        """Pass by events that nobody can read any more, with one letter that names them all."""
        place = {"topic": front.name, "offset": str(front.offset), "last_offset": str(stop - 1)}
        letter = self._letter(error.code, error.sentence, place)
        passed = Finished(self._work, passed={front.topic_id: (front.offset, stop)})
        try:
            self._append([letter], passed)
        except EnsignError as moved:
            # Another member did it first.
            if moved.code != "delivery.expired":
                raise

    def _append(self, letters: Iterable[Event], finished: Finished) -> None:
        topic = dead_letter_topic(self.group)
        batch = event_batch(topic, letters)
        with self._writing:
            self._writer.append([(topic, batch)], beside=Beside(finished=finished))
        DEAD_LETTERS.labels(self.group).inc(len(batch))

    def wake(self) -> None:
        """Let `receive` in another thread return early, with nothing."""
        self._woken = True
        self._bell.wake()

    def close(self) -> None:
        """Leave: others get what the member holds at once, and it does not count as an attempt."""
        if self._closed:
            return
        self._closed = True
        self._bell.wake()
        with self._receiving:
            with self._lock:
                held = list(self._out)
                self._out.clear()
            try:
                self._engine.deliveries.leave(self._work, self.name, held)
            finally:
                self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
