"""Reading with a promise: subscriptions of ordered groups, and processors, whose output is a
function of their input wherever they end."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event, Processor, Subscription, delivery, received
from ensign_core.broker.reader import Starts
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.processes import Processes
from tests.unit.test_broker import data_of, drain, events, refused
from tests.unit.test_work import meanwhile


def taken(subscription: Subscription) -> list[str]:
    found = []
    while (one := subscription.next()) is not None:
        assert one.event is not None
        found.append(one.event.data.decode())
    return found


def test_a_subscription_begins_where_it_is_told(broker: Broker) -> None:
    broker.publish("a", events(1, 2, 3))
    broker.publish("b", [Event(b"4", b"k", {"m": "n"}, "text/plain", "t")])
    with broker.subscribe(["b"]) as all_of_b:
        one = all_of_b.next()
    assert one is not None
    assert (one.topic, one.offset, one.change.op) == ("b", 0, Op.EVENT)
    assert one.event == Event(b"4", b"k", {"m": "n"}, "text/plain", "t")
    later = datetime(2100, 1, 1, tzinfo=UTC)
    starts: list[tuple[Starts, list[str]]] = [
        ("start", ["1", "2", "3", "4"]), ("end", []), (2, ["3"]), (later, []),
        ({"a": 1, "b": "end"}, ["2", "3"]), ({"a": "end"}, ["4"]),
    ]  # fmt: skip
    for start, found in starts:
        with broker.subscribe(["a", "b"], start=start) as subscription:
            assert taken(subscription) == found
    assert refused(broker.subscribe, ["nowhere"]) == "topic.unknown"
    assert broker.topic("a").groups == {}


def test_at_least_once_commits_behind_what_was_given_out(broker: Broker) -> None:
    broker.publish("a", events(1, 2, 3))
    with broker.subscribe(["a"], "g") as subscription:
        assert [next(iter(subscription)).offset for _ in range(2)] == [0, 1]
        assert broker.topic("a").groups == {}
        subscription.ack()
        assert broker.topic("a").groups == {"g": 2}
        assert subscription.next() is not None
    with broker.subscribe(["a"], "g") as subscription:
        assert taken(subscription) == ["3"]
        # Looking for the next events said that these are done with.
        assert broker.topic("a").groups == {"g": 3}


def test_at_most_once_commits_before_anything_is_given_out(broker: Broker) -> None:
    broker.publish("a", events(1, 2, 3))
    with broker.subscribe(["a"], "g", delivery="at_most_once") as subscription:
        assert subscription.next() is not None
        assert broker.topic("a").groups == {"g": 3}
        subscription.ack()
        assert broker.topic("a").groups == {"g": 3}
    with broker.subscribe(["a"], "g", "start", "at_most_once") as subscription:
        assert taken(subscription) == []
        broker.publish("a", events(4))
        assert taken(subscription) == ["4"]


def test_a_subscription_that_waits_is_woken_and_goes_on(broker: Broker) -> None:
    broker.create_topic("a")
    with broker.subscribe(["a"], "g") as subscription:
        for data in ("1", "2"):
            with meanwhile(subscription.wake):
                assert list(subscription) == []
            with meanwhile(broker.publish, "a", events(data)):
                assert next(iter(subscription)).event == Event(data.encode())


def summed(processor: Processor) -> Iterator[None]:
    """A step per batch: the running total of each event's number goes into the topic out."""
    while (batch := processor.take()) is not None:
        numbers = [one.event.data for one in received(batch) if one.event]
        processor.produce("out", [Event(b"%d" % (2 * int(number))) for number in numbers])
        yield


def test_what_is_produced_and_what_was_consumed_are_one_commit(broker: Broker) -> None:
    for number in range(5):
        broker.publish("in", events(number))
    with broker.processor("g", ["in"]) as processor:
        assert len(list(itertools.islice(summed(processor), 2))) == 2
        assert broker.topics(["out"]) == []
        assert processor.commit() == {"in": 2}
        next(summed(processor))
        processor.rewind()
        for _ in summed(processor):
            processor.commit()
        assert processor.commit() == {}
    assert broker.topic("in").groups == {"g": 5}
    with broker.reader(["out"]) as reader:
        assert drain(reader) == ["0", "2", "4", "6", "8"]


def test_of_two_processors_of_a_group_one_makes_each_step(broker: Broker) -> None:
    for number in range(3):
        broker.publish("in", events(number))
    with broker.processor("g", ["in"]) as one, broker.processor("g", ["in"]) as other:
        next(summed(one))
        next(summed(other))
        one.commit()
        assert refused(other.commit) == "group.moved"
        next(summed(other))
        assert refused(other.commit) == "group.moved"
        other.rewind()
        for _ in summed(other):
            other.commit()
        next(summed(one), None)
        assert refused(one.commit) == "group.moved"
    with broker.reader(["out"]) as reader:
        assert drain(reader) == ["0", "2", "4"]


def test_a_topic_that_was_deleted_meanwhile_is_no_step(broker: Broker) -> None:
    broker.publish("in", events(1))
    with broker.processor("g", ["in"]) as processor:
        next(summed(processor))
        broker.delete_topic("in")
        broker.publish("in", events(7))
        assert refused(processor.commit) == "group.moved"
        processor.rewind()
        next(summed(processor))
        processor.commit()
    with broker.reader(["out"]) as reader:
        assert drain(reader) == ["14"]


def test_what_is_produced_has_limits(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PRODUCED_BYTES_MAX", 1000)
    broker.publish("in", events(1))
    with broker.processor("g", ["in"]) as processor:
        assert refused(processor.produce, "a b", events(1)) == "topic.name_invalid"
        processor.produce("out", [Event(bytes(600))])
        with pytest.raises(EnsignError) as raised:
            processor.produce("out", [Event(bytes(600))])
        assert raised.value.code == "hand_over.too_large"
        processor.commit()
        processor.produce("out", [Event(bytes(600))])


KILLS = 6
PROCESS = """
import sys
from ensign_core.broker import Broker, Event, received
from ensign_core.errors import EnsignError

broker = Broker.open(sys.argv[1])
processor = broker.processor("g", ["in"])
print("begun", flush=True)
while True:
    batch = processor.take(30)
    assert batch is not None
    for one in received(batch):
        processor.produce(f"out{one.offset % 3}", [Event(b"<" + one.event.data + b">")])
    try:
        processor.commit()
    except EnsignError as error:
        assert error.code == "group.moved", error
        processor.rewind()
    print(batch.next_offset, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_output_is_a_function_of_input_though_processors_are_killed(
    tmp_path: Path, seed: int
) -> None:
    """Two members at once, each killed again and again at some moment of a step."""
    print("seed", seed)
    rng = random.Random(seed)
    enough = threading.Event()
    with Broker.open(tmp_path / "b") as broker, Processes() as processes:
        broker.publish("in", events(0))

        def publish() -> None:
            number = 0
            while not enough.is_set():
                number += 1
                broker.publish("in", events(number))

        publisher = threading.Thread(target=publish)
        members = [processes.start(PROCESS, tmp_path / "b") for _ in range(2)]
        for member in members:
            assert member.line() == "begun"
        publisher.start()
        for _ in range(KILLS):
            place = rng.randrange(2)
            for _ in range(rng.randrange(1, 12)):
                assert members[place].line()
            members[place].kill()
            members[place] = processes.start(PROCESS, tmp_path / "b")
            assert members[place].line() == "begun"
        enough.set()
        publisher.join()
        count = broker.topic("in").next_offset
        while broker.topic("in").groups["g"] < count:
            assert members[0].line() or members[1].line()
        for place in range(3):
            with broker.reader([f"out{place}"]) as reader:
                found = drain(reader)
            assert found == [f"<{number}>" for number in range(place, count, 3)]


def test_reading_in_order_is_the_same_for_all_of_it(broker: Broker) -> None:
    broker.publish("a", events(1))
    with broker.reader(["a"]) as reader:
        batches = reader.fetch()
    assert [one.event for batch in batches for one in received(batch)] == events(1)
    assert data_of(batches) == ["1"]
