"""Members of a work group in several processes, killed at any moment."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event
from tests.processes import Processes
from tests.unit.test_broker import drain

MEMBERS, KEYS, KILLS = 3, 29, 6
MEMBER = """
import random, sys
from ensign_core.broker import Broker, Event

path, seed = sys.argv[1:]
rng = random.Random(seed)
broker = Broker.open(path)
member = broker.work("g", ["t"], lease_s=1.0, attempts_max=100, backoff=(0.01, 0.1))
while True:
    given = member.receive(rng.randrange(1, 20), timeout_s=30)
    broker.publish("seen", [Event(one.event.event.data) for one in given])
    some = [one for one in given if rng.random() < 0.9]
    late = member.ack(some) + member.nack([one for one in given if one not in some])
    broker.publish("acked", [Event(one.event.event.data) for one in some if one not in late])
    print(len(given), flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_and_keys_keep_their_order(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    enough = threading.Event()
    with Broker.open(tmp_path / "b") as broker, Processes() as processes:
        broker.create_topic("t")

        def publish() -> None:
            for n in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
                key = n % KEYS
                broker.publish("t", [Event(b"%d-%d" % (key, n), b"%d" % key if key else None)])

        members = [processes.start(MEMBER, tmp_path / "b", 10 * seed + n) for n in range(MEMBERS)]
        publisher = threading.Thread(target=publish)
        publisher.start()
        for kill in range(KILLS):
            place = rng.randrange(MEMBERS)
            for _ in range(rng.randrange(1, 4)):
                assert members[place].line()
            members[place].kill()
            members[place] = processes.start(MEMBER, tmp_path / "b", 100 * seed + kill)
        enough.set()
        publisher.join()
        count = broker.topic("t").next_offset
        with broker.subscribe(["acked"], start="start") as watched:
            while broker.topic("t").groups["g"] < count:
                watched.next(1)
        with broker.reader(["seen"]) as reader:
            seen = drain(reader)
        with broker.reader(["acked"]) as reader:
            acked = drain(reader)
    assert {int(text.split("-")[1]) for text in seen} == set(range(count))
    # Between an ack and its note a member may have been killed, but no event is acked twice.
    assert max(Counter(acked).values()) == 1
    for key in range(1, KEYS):
        # Whose lease has ended may see an event late, but only once another has seen it.
        order = dict.fromkeys(
            int(text.split("-")[1]) for text in seen if text.startswith(f"{key}-")
        )
        assert list(order) == sorted(order)
