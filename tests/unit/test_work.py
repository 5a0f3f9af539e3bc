"""Work groups: events are shared, come again when they were not finished, and keep their keys'
order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Delivery, Event, Received, WorkMember
from tests.unit.conftest import Clock
from tests.unit.test_broker import events, refused


@contextlib.contextmanager
def meanwhile(call: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Call something in another thread, at whatever moment."""
    thread = threading.Thread(target=call, args=arguments)
    thread.start()
    yield
    thread.join()


def texts(deliveries: list[Delivery]) -> list[str]:
    return [one.event.event.data.decode() for one in deliveries if one.event.event]


def keyed(*pairs: str) -> list[Event]:
    """Of ``a1`` the key is a; of ``1`` there is none."""
    return [Event(p.encode(), key=p[:-1].encode() if p[:-1] else None) for p in pairs]


def letters(broker: Broker, group: str = "g") -> list[Received]:
    if not broker.topics([f"{group}.dead-letters"]):
        return []
    with broker.subscribe([f"{group}.dead-letters"]) as subscription:
        return list(iter(subscription.next, None))


def floor(broker: Broker, topic: str = "t") -> int:
    return broker.topic(topic).groups["g"]


def test_members_share_what_there_is(broker: Broker) -> None:
    broker.publish("t", events(*range(10)))
    with broker.work("g", ["t"]) as one, broker.work("g", ["t"]) as other:
        first, second = one.receive(4), other.receive(4)
        assert texts(first) == ["0", "1", "2", "3"]
        assert texts(second) == ["4", "5", "6", "7"]
        assert floor(broker) == 0
        assert other.ack(second) == []
        assert floor(broker) == 0
        assert one.ack(first[1:]) == []
        first[0].ack()
        assert floor(broker) == 8
        assert texts(one.receive()) == ["8", "9"]
        assert other.receive() == []
        assert one.state.in_flight == 2
        assert one.state.members == 2


def test_a_group_goes_on_where_it_was(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "b") as broker:
        broker.publish("t", events(*range(5)))
        member = broker.work("g", ["t"], start=1)
        given = member.receive()
        member.ack([given[0], given[2]])
        assert floor(broker) == 2
        member.close()
        assert member.receive() == []
    with Broker.open(tmp_path / "b") as broker, broker.work("g", ["t"], start="end") as member:
        again = member.receive()
        assert [(*texts([one]), one.attempt) for one in again] == [("2", 1), ("4", 1)]
        member.ack(again)
        assert floor(broker) == 5


def test_what_is_not_finished_in_time_comes_again(broker: Broker, clock: Clock) -> None:
    broker.publish("t", events(1, 2))
    with broker.work("g", ["t"]) as slow, broker.work("g", ["t"]) as other:
        late, extended = slow.receive()
        extended.extend(60)
        clock.step(19)
        assert other.receive() == []
        clock.step(2)
        (again,) = other.receive()
        assert (again.event.offset, again.attempt) == (0, 2)
        for refuse in (late.ack, late.nack):
            assert refused(refuse) == "delivery.expired"
        assert refused(late.extend, 5) == "delivery.expired"
        assert slow.nack([late, extended], delay_s=0) == [late]
        assert other.ack([again]) == []
        assert refused(again.ack) == "delivery.expired"
        (second,) = other.receive()
        second.ack()
        assert floor(broker) == 2


def test_a_lease_that_ended_is_kept_while_nobody_else_took_the_event(
    broker: Broker, clock: Clock
) -> None:
    broker.publish("t", events(1))
    with broker.work("g", ["t"]) as member:
        (one,) = member.receive()
        clock.step(1000)
        one.ack()
        assert member.receive() == []


def test_refused_events_wait_longer_each_time_and_are_set_aside(
    broker: Broker, clock: Clock
) -> None:
    broker.publish("t", [Event(b"poison", b"k", mimetype="text/plain")])
    waits = []
    with broker.work("g", ["t"], attempts_max=4, backoff=(2.0, 5.0)) as member:
        for attempt in range(1, 5):
            (one,) = member.receive()
            assert one.attempt == attempt
            one.nack("UNPROCESSED")
            if attempt < 4:
                waits.append((member._engine.deliveries.due_us(member._work, "x") or 0) / 1e6)
                assert member.receive() == []
                clock.step(waits[-1])
        assert member.state.unfinished == 0
    assert all(low <= wait <= high for wait, (low, high) in zip(
        waits, [(1.5, 2.5), (3, 5), (3.75, 6.25)], strict=True,
    ))  # fmt: skip
    (letter,) = letters(broker)
    assert letter.event is not None
    assert letter.event.metadata == {
        "part": "g", "code": "UNPROCESSED", "topic": "t", "offset": "0", "attempts": "4",
        "op": "event", "schema": "t",
        "error": "The group g did not finish the event in 4 attempts.",
    }  # fmt: skip
    assert letter.event.data == b""
    assert floor(broker) == 1


def test_events_whose_members_died_too_often_are_set_aside(broker: Broker, clock: Clock) -> None:
    broker.publish("t", keyed("a1", "a2", "b1"))
    with broker.work("g", ["t"], attempts_max=2) as member:
        for attempt in (1, 2):
            assert [one.attempt for one in member.receive()] == [attempt, attempt]
            clock.step(21)
        assert texts(member.receive()) == ["a2"]
        assert [one.event and one.event.metadata["offset"] for one in letters(broker)] == ["0", "2"]
        assert [one.event and one.event.metadata["code"] for one in letters(broker)] == [
            "delivery.timeout", "delivery.timeout",
        ]  # fmt: skip
        assert floor(broker) == 1


def test_of_letters_that_are_set_aside_together_lost_ones_stay(
    broker: Broker, clock: Clock
) -> None:
    broker.publish("t", events(1, 2, 3))
    with broker.work("g", ["t"], attempts_max=1) as member:
        given = member.receive()
        given[1].ack()
        assert member.nack(given) == [given[1]]
    assert [one.event and one.event.metadata["offset"] for one in letters(broker)] == ["0", "2"]
    assert floor(broker) == 3


def test_an_event_that_one_does_not_want_goes_to_another(broker: Broker, clock: Clock) -> None:
    broker.publish("t", events(1))
    with broker.work("g", ["t"]) as one, broker.work("g", ["t"]) as other:
        one.receive()[0].nack(delay_s=0, not_me=True)
        assert one.receive() == []
        (given,) = other.receive()
        given.nack("DELIVER_AGAIN_NOT_ME", delay_s=0)
        assert other.receive() == []
        # Who is not heard of is not waited for.
        clock.step(16)
        assert texts(other.receive()) == ["1"]


def test_a_member_that_waits_hears_of_what_others_leave(broker: Broker) -> None:
    broker.publish("t", keyed("a1", "a2"))
    with Broker.open(broker._engine.path) as elsewhere:
        one, other = broker.work("g", ["t"]), elsewhere.work("g", ["t"])
        (a1,) = one.receive()
        with meanwhile(a1.nack, None, 0):
            (again,) = other.receive(timeout_s=30)
        with meanwhile(again.ack):
            (a2,) = one.receive(timeout_s=30)
        assert texts([a1, again, a2]) == ["a1", "a1", "a2"]
        with meanwhile(one.close):
            assert texts(other.receive(timeout_s=30)) == ["a2"]
        other.close()


def test_a_member_is_woken(broker: Broker) -> None:
    broker.create_topic("t")
    with broker.work("g", ["t"]) as member:
        with meanwhile(member.wake):
            assert member.receive(timeout_s=30) == []
        with meanwhile(member.close):
            assert member.receive(timeout_s=30) == []


def test_a_member_holds_no_more_than_it_may(broker: Broker) -> None:
    broker.publish("t", events(*range(5)))
    with broker.work("g", ["t"], in_flight_max=2) as member:
        given = member.receive()
        assert len(given) == 2
        assert member.receive() == []
        with meanwhile(given[0].ack):
            assert texts(member.receive(timeout_s=30)) == ["2"]


def test_a_group_looks_at_no_more_than_it_may_have_unfinished(broker: Broker) -> None:
    broker.publish("t", keyed(*(f"a{n}" for n in range(6)), "b0"))
    with broker.work("g", ["t"], unfinished_max=4) as member:
        (first,) = member.receive()
        assert member.receive() == []
        assert member.state == (1, 0, 3, True, 1)
        first.ack()
        assert not member.state.full
        found = []
        while given := member.receive():
            found += texts(given)
            assert member.state.unfinished <= 4
            member.ack(given)
        assert sorted(found) == ["a1", "a2", "a3", "a4", "a5", "b0"]
        assert found[-1] == "a5"
        assert floor(broker) == 7


@pytest.mark.parametrize("back_s", [5, 3600, 10**9])
def test_a_clock_that_is_set_back_makes_no_lease_longer(
    broker: Broker, clock: Clock, back_s: int
) -> None:
    broker.publish("t", events(1, 2))
    with broker.work("g", ["t"]) as one, broker.work("g", ["t"]) as other:
        held, refused_one = one.receive()
        refused_one.nack(delay_s=30)
        clock.step(-back_s)
        assert other.receive() == []
        clock.step(19)
        assert other.receive() == []
        clock.step(2)
        assert texts(other.receive()) == ["1"]
        clock.step(10)
        assert texts(other.receive()) == ["2"]
        assert refused(held.ack) == "delivery.expired"


def test_an_ordered_group_can_be_shared_from_then_on(broker: Broker) -> None:
    broker.publish("t", events(1, 2, 3))
    broker.commit("g", {"t": 1})
    with broker.work("g", ["t"]) as member:
        assert texts(member.receive(1)) == ["2"]
        assert refused(broker.commit, "g", {"t": 3}) == "group.shared"
        with broker.processor("g", ["t"]) as processor:
            processor.take()
            assert refused(processor.commit) == "group.shared"
        assert floor(broker) == 1


def test_threads_share_a_member_and_members_the_events(broker: Broker) -> None:
    for first in range(0, 400, 20):
        broker.publish("t", keyed(*(f"k{n % 7}-{n}" for n in range(first, first + 20))))
    done: list[str] = []
    lock = threading.Lock()

    def work(member: WorkMember) -> None:
        while True:
            given = member.receive(7, timeout_s=0.2)
            if not given and not member.state.unfinished:
                return
            with lock:
                done.extend(texts(given))
            assert member.ack(given) == []

    members = [broker.work("g", ["t"]) for _ in range(2)]
    threads = [threading.Thread(target=work, args=(members[n % 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done, key=lambda text: int(text.split("-")[1])) == [
        f"k{n % 7}-{n}" for n in range(400)
    ]
    assert floor(broker) == 400
    for member in members:
        member.close()


@pytest.mark.parametrize(("lease_s", "attempts_max"), [(0, 1), (1, 0)])
def test_limits_are_more_than_nothing(broker: Broker, lease_s: int, attempts_max: int) -> None:
    broker.create_topic("t")
    with pytest.raises(ValueError, match="more than 0"):
        broker.work("g", ["t"], lease_s=lease_s, attempts_max=attempts_max)
    assert refused(broker.work, "g", ["nowhere"]) == "topic.unknown"
