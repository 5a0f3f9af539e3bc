"""Work groups against a model: whatever members do and suffer, no event is lost, none comes again
once it was acked, keys keep their order, and nobody holds more than he may."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ensign_core.broker import Broker, Delivery, Event, WorkMember
from ensign_core.change import Offset
from ensign_core.engine import deliveries as store

TOPICS = ["a", "b"]
LEASE_S, ATTEMPTS_MAX, IN_FLIGHT_MAX, UNFINISHED_MAX = 20.0, 3, 3, 6
NEVER = 10.0**9
PLACE = st.integers(0, 20)
Place = tuple[str, Offset]


class Work(RuleBasedStateMachine):
    """``holder`` says who was given an event last, and until when nobody else may get it, in
    seconds that went by; None once it was given back."""

    @initialize()
    def begin(self) -> None:
        self.clock_us = 1_700_000_000_000_000
        self.passed_s = 0.0
        self.patched = mock.patch.object(store, "_now_us", self.now_us)
        self.patched.start()
        self.folder = tempfile.TemporaryDirectory()
        self.broker = Broker.open(Path(self.folder.name) / "b")
        self.members: list[WorkMember] = []
        self.published: dict[Place, str | None] = {}
        self.holder: dict[Place, tuple[Delivery, float] | None] = {}
        self.given: list[tuple[WorkMember, Delivery]] = []
        self.attempts: Counter[Place] = Counter()
        self.done: set[Place] = set()
        self.letters = 0
        for topic in TOPICS:
            self.broker.create_topic(topic)

    def now_us(self) -> int:
        self.clock_us += 1
        return self.clock_us

    @rule(topic=st.sampled_from(TOPICS), keys=st.lists(st.sampled_from([None, "x", "y"]),
                                                       min_size=1, max_size=5))  # fmt: skip
    def publish(self, topic: str, keys: list[str | None]) -> None:
        events = [Event(b"data", key=key.encode() if key else None) for key in keys]
        last = self.broker.publish(topic, events)
        for place, key in enumerate(keys):
            self.published[topic, last - len(keys) + 1 + place] = key

    @precondition(lambda self: len(self.members) < 4)
    @rule()
    def join(self) -> None:
        self.members.append(self.broker.work(
            "g", TOPICS, lease_s=LEASE_S, attempts_max=ATTEMPTS_MAX, backoff=(1.0, 4.0),
            in_flight_max=IN_FLIGHT_MAX, unfinished_max=UNFINISHED_MAX,
        ))  # fmt: skip

    @precondition(lambda self: self.members)
    @rule(who=PLACE, count=st.integers(1, 5))
    def receive(self, who: int, count: int) -> None:
        member = self.members[who % len(self.members)]
        found = member.receive(count)
        self.read_letters()
        assert len(found) <= count
        for one in found:
            self.take(member, one)
        live = Counter(id(owner) for owner, one in self.given if self.holds(one, place_of(one)))
        assert all(count <= IN_FLIGHT_MAX for count in live.values())

    def take(self, member: WorkMember, one: Delivery) -> None:
        place = place_of(one)
        assert place in self.published
        assert place not in self.done
        held = self.holder.get(place)
        assert held is None or self.passed_s >= held[1]
        self.attempts[place] += 1
        assert self.attempts[place] == one.attempt <= ATTEMPTS_MAX
        key = self.published[place]
        topic, offset = place
        assert key is None or all(
            earlier in self.done
            for earlier, its in self.published.items()
            if earlier[0] == topic and earlier[1] < offset and its == key
        )
        self.holder[place] = one, self.passed_s + LEASE_S
        self.given.append((member, one))

    def holds(self, one: Delivery, place: Place) -> bool:
        held = self.holder.get(place)
        return place not in self.done and held is not None and held[0] is one

    def chosen(self, which: list[int]) -> tuple[WorkMember, list[Delivery]]:
        """Some of the deliveries of a member that is there, old ones too."""
        there = [pair for pair in self.given if pair[0] in self.members]
        member = there[which[0] % len(there)][0]
        own = [one for owner, one in there if owner is member]
        return member, list({id(own[n % len(own)]): own[n % len(own)] for n in which}.values())

    @precondition(lambda self: any(owner in self.members for owner, _ in self.given))
    @rule(which=st.lists(PLACE, min_size=1, max_size=4))
    def ack(self, which: list[int]) -> None:
        member, ones = self.chosen(which)
        lost = member.ack(ones)
        for one in ones:
            assert (one not in lost) == self.holds(one, place_of(one))
        self.done |= {place_of(one) for one in ones if one not in lost}

    @precondition(lambda self: any(owner in self.members for owner, _ in self.given))
    @rule(which=st.lists(PLACE, min_size=1, max_size=4), not_me=st.booleans(),
          delay_s=st.sampled_from([None, 0.0, 7.0]))  # fmt: skip
    def nack(self, which: list[int], not_me: bool, delay_s: float | None) -> None:
        member, ones = self.chosen(which)
        lost = member.nack(ones, "UNPROCESSED", delay_s, not_me=not_me)
        for one in ones:
            assert (one not in lost) == self.holds(one, place_of(one))
            if one not in lost and one.attempt < ATTEMPTS_MAX:
                self.holder[place_of(one)] = None
        self.read_letters()

    @precondition(lambda self: any(owner in self.members for owner, _ in self.given))
    @rule(which=st.lists(PLACE, min_size=1, max_size=3), lease_s=st.sampled_from([5.0, 100.0]))
    def extend(self, which: list[int], lease_s: float) -> None:
        member, ones = self.chosen(which)
        lost = member.extend(ones, lease_s)
        for one in ones:
            assert (one not in lost) == self.holds(one, place_of(one))
            if one not in lost:
                self.holder[place_of(one)] = one, self.passed_s + lease_s

    @precondition(lambda self: self.members)
    @rule(who=PLACE)
    def crash(self, who: int) -> None:
        self.members.pop(who % len(self.members))._bell.close()

    @precondition(lambda self: self.members)
    @rule(who=PLACE)
    def leave(self, who: int) -> None:
        member = self.members.pop(who % len(self.members))
        held = set(member._out)
        member.close()
        for _, one in self.given:
            if one.held in held and self.holds(one, place_of(one)):
                self.holder[place_of(one)] = None
                self.attempts[place_of(one)] -= 1

    @rule(seconds=st.sampled_from([-100_000.0, -30.0, -1.0, 1.0, 8.0, 21.0]))
    def step_clock(self, seconds: float) -> None:
        self.clock_us += int(seconds * 1e6)
        self.passed_s += max(0.0, seconds) + 0.001

    @precondition(lambda self: self.members)
    @rule(who=PLACE)
    def lose(self, who: int) -> None:
        """All leases end, and one member gets what it can."""
        self.step_clock(101.0)
        self.receive(who, IN_FLIGHT_MAX)

    @rule()
    def restart(self) -> None:
        for member in self.members:
            member._bell.close()
        self.members.clear()
        self.broker.close()
        self.broker = Broker.open(Path(self.folder.name) / "b")

    def read_letters(self) -> None:
        if not self.broker.topics(["g.dead-letters"]):
            return
        with self.broker.subscribe(["g.dead-letters"], start=self.letters) as subscription:
            while (letter := subscription.next()) is not None:
                assert letter.event is not None
                place = letter.event.metadata["topic"], int(letter.event.metadata["offset"])
                assert place not in self.done
                assert self.attempts[place] == ATTEMPTS_MAX
                self.done.add(place)
                self.letters = letter.offset + 1

    @invariant()
    def floors_are_below_what_is_not_done(self) -> None:
        if not hasattr(self, "broker"):
            return
        for topic in self.broker.topics(TOPICS):
            open_ones = [
                at for name, at in self.published if name == topic.name and (name, at) not in
                self.done
            ]  # fmt: skip
            reached = topic.groups.get("g", 0)
            assert reached <= min(open_ones, default=topic.next_offset)
        if self.members:
            assert self.members[0].state.unfinished <= UNFINISHED_MAX

    def teardown(self) -> None:
        if not hasattr(self, "broker"):
            return
        try:
            self.finish()
        finally:
            self.broker.close()
            self.patched.stop()
            self.folder.cleanup()

    def finish(self) -> None:
        """A member that does its work gets all that is left."""
        self.restart()
        self.join()
        (member,) = self.members
        for _ in range(5 * len(self.published) + 5):
            self.step_clock(101.0)
            while found := member.receive(10):
                self.read_letters()
                for one in found:
                    self.take(member, one)
                assert member.ack(found) == []
                self.done |= set(map(place_of, found))
            self.read_letters()
            if len(self.done) == len(self.published):
                break
        assert self.done == set(self.published)
        assert member.state.unfinished == 0
        for topic in self.broker.topics(TOPICS):
            assert topic.groups["g"] == topic.next_offset


def place_of(one: Delivery) -> Place:
    return one.event.topic, one.event.offset


Work.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWork = Work.TestCase
