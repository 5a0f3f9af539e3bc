"""Sessions: a retry is stored once, whenever and wherever it comes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ensign_core.broker import Acked, Broker, Event, commits
from ensign_core.engine import publishing
from tests.processes import Processes
from tests.published import stored
from tests.unit.test_broker import refused


def offsets(acks: list[Acked]) -> list[tuple[int, bool]]:
    return [(ack.offset, ack.duplicate) for ack in acks]


def test_a_retry_is_acked_with_what_it_repeats(broker: Broker) -> None:
    publisher = broker.publisher("s")
    events = [Event(b"%d" % n) for n in range(5)]
    assert offsets(publisher.publish_many("t", events, 10)) == [(n, False) for n in range(5)]
    broker.publish("t", [Event(b"other")])
    for _ in range(2):
        assert publisher.publish("t", events[3], 13)[::2] == (3, True)
    again = publisher.publish_many("t", [*events[2:], Event(b"new")], 12)
    assert offsets(again) == [(2, True), (3, True), (4, True), (6, False)]
    assert publisher.newest_sequence("t") == 15
    assert list(stored(broker, "t").values()) == [b"0", b"1", b"2", b"3", b"4", b"other", b"new"]
    assert broker.topic("t").duplicates == 0  # of its policy


def test_sessions_and_topics_number_by_themselves(broker: Broker) -> None:
    for session in (b"a", "b", b"\xff"):
        for topic in "tu":
            publisher = broker.publisher(session)
            assert publisher.newest_sequence(topic) == -1
            assert not publisher.publish(topic, Event(b"x"), 7).duplicate
    assert broker.publisher("a").publish("t", Event(b"x"), 7).duplicate  # text is its UTF-8
    assert broker.publisher("a").newest_sequence("t") == 7


def test_sequences_are_assigned_behind_the_newest(broker: Broker) -> None:
    publisher = broker.publisher("s")
    receipts = [publisher.send("t", Event(b"%d" % n)) for n in range(3)]
    assert [receipt.result().offset for receipt in receipts] == [0, 1, 2]
    assert [receipt.sequence for receipt in receipts] == [0, 1, 2]
    publisher.publish("t", Event(b"x"), 40)
    last = publisher.send("t", Event(b"y"))
    assert (last.result().offset, last.sequence) == (4, 41)
    assert publisher.publish("t", Event(b"y"), 41)[::2] == (4, True)


def test_sequences_assigned_by_two_are_all_stored(tmp_path: Path) -> None:
    """What has no sequence given is no retry, whoever else uses the session."""
    with Broker.open(tmp_path / "b") as one, Broker.open(tmp_path / "b") as other:
        publishers = [one.publisher("s"), other.publisher("s")]
        acks = [publishers[n % 2].publish("t", Event(b"%d" % n)) for n in range(20)]
        assert offsets(acks) == [(n, False) for n in range(20)]


def test_gaps_may_be_filled_later(broker: Broker) -> None:
    publisher = broker.publisher("s")
    for sequence in (5, 3, 9, 4):
        assert not publisher.publish("t", Event(b"%d" % sequence), sequence).duplicate
    assert offsets(publisher.publish_many("t", [Event(b"")] * 7, 3)) == [
        (1, True), (3, True), (0, True), (4, False), (5, False), (6, False), (2, True),
    ]  # fmt: skip


def test_a_repeat_within_one_commit_is_stored_once(broker: Broker) -> None:
    publisher = broker.publisher("s")
    taken = [publisher._receipt("t", [Event(b"%d" % n)], n) for n in (1, 2, 1, 2, 3)]
    commits.Commits(broker._vault).commit(taken)
    assert offsets([receipt.result() for receipt in taken]) == [
        (0, False), (1, False), (0, True), (1, True), (2, False),
    ]  # fmt: skip


def test_a_sequence_that_is_forgotten_is_refused(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "RUNS_MAX", 8)
    monkeypatch.setattr(publishing, "RUNS_KEPT_MIN", 6)
    publisher = broker.publisher("s")
    for sequence in range(30):
        publisher.publish("t", Event(b"%d" % sequence), sequence)
        broker.publish("t", [Event(b"between")])
    for again in (publisher, broker.publisher("s")):
        assert refused(again.publish, "t", Event(b"0"), 0) == "publish.sequence_forgotten"
        assert refused(again.publish_many, "t", [Event(b"")] * 30, 0) == (
            "publish.sequence_forgotten"
        )
        assert again.publish("t", Event(b"29"), 29)[::2] == (58, True)
    rows = broker._engine.database.rows("SELECT count(*) FROM sequences")
    assert 6 <= rows[0][0] <= 8
    assert len(stored(broker, "t")) == 60
    assert publisher.publish("t", Event(b"30"), 30).offset == 60


def test_old_sessions_are_forgotten(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "SESSIONS_MAX", 3)
    for name in "abcd":
        broker.publisher(name).publish("t", Event(b"x"), 1)
    newest = {name: broker.publisher(name).newest_sequence("t") for name in "abcd"}
    assert newest == {"a": -1, "b": 1, "c": 1, "d": 1}
    monkeypatch.setattr(publishing, "SESSION_AGE_US_MAX", -1)
    broker.publisher("e").publish("t", Event(b"x"), 1)
    assert broker._engine.database.rows("SELECT count(*) FROM producers")[0][0] == 1
    assert broker._engine.database.rows("SELECT count(*) FROM sequences")[0][0] == 1


def test_a_topics_sessions_go_with_it(broker: Broker) -> None:
    publisher = broker.publisher("s")
    publisher.publish("t", Event(b"x"), 5)
    broker.delete_topic("t")
    assert broker._engine.database.rows("SELECT count(*) FROM sequences")[0][0] == 0
    assert publisher.publish("t", Event(b"y"), 5)[::2] == (0, False)


@pytest.mark.parametrize("sequence", [-1, 1 << 63])
def test_sequences_that_may_not_be(broker: Broker, sequence: int) -> None:
    publish = broker.publisher("s").publish
    assert refused(publish, "t", Event(b"x"), sequence) == "publish.sequence_invalid"
    assert refused(broker.publisher().publish, "t", Event(b"x"), 1) == "publish.sequence_invalid"


def test_killed_between_commit_and_ack(tmp_path: Path) -> None:
    """It cannot know whether its event was stored, and publishes it again."""
    script = (
        "import os, sys\nfrom ensign_core.broker import Broker, Event, Receipt\n"
        "broker = Broker.open(sys.argv[1])\npublisher = broker.publisher('s')\n"
        "def acked(receipt, *_): os.kill(os.getpid(), 9)\n"
        "if sys.argv[2] == 'dies': Receipt.acked = acked\n"
        "ack = publisher.publish('t', Event(b'x'), 7)\n"
        "print(ack.offset, ack.duplicate, flush=True)\n"
        "broker.close()\n"
    )
    with Processes() as processes:
        assert processes.start(script, tmp_path / "b", "dies").wait() == -9
        again = processes.start(script, tmp_path / "b", "lives")
        assert (again.line(), again.wait()) == ("0 True", 0)
    with Broker.open(tmp_path / "b") as broker:
        assert stored(broker, "t") == {0: b"x"}


def test_processes_publish_the_same_sequences(tmp_path: Path) -> None:
    """Each event is stored once, and all are told where."""
    script = (
        "import json, random, sys\nfrom ensign_core.broker import Broker, Event\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "broker = Broker.open(sys.argv[1])\nrandom.seed(int(sys.argv[2]))\n"
        "publisher = broker.publisher('s')\n"
        "print('up', flush=True)\nsys.stdin.readline()\n"
        "order = sorted(range(300), key=lambda n: n // 20 + random.random() * 2)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    acks = list(pool.map(lambda n: publisher.publish('t', Event(b'%d' % n), n), order))\n"
        "print(json.dumps([[n, a.offset, a.duplicate] for n, a in zip(order, acks)]))\n"
        "broker.close()\n"
    )
    with Processes() as processes:
        told = processes.together(script, tmp_path / "b", 3)
    with Broker.open(tmp_path / "b") as broker:
        found = stored(broker, "t")
    assert sorted(found.values(), key=int) == [b"%d" % n for n in range(300)]
    for mine in told:
        assert all(found[offset] == b"%d" % n for n, offset, _ in mine)
    assert sum(not duplicate for mine in told for *_, duplicate in mine) == 300


def test_a_session_goes_on_behind_what_threads_sent(broker: Broker) -> None:
    publisher = broker.publisher("s")
    with ThreadPoolExecutor(8) as pool:
        acks = list(pool.map(lambda n: publisher.publish("t", Event(b"%d" % n)), range(100)))
    assert sorted(ack.offset for ack in acks) == list(range(100))
    assert publisher.newest_sequence("t") == 99
