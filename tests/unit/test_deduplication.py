"""Deduplication by policy: over processes and crashes, where events were trimmed, keys revoked."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Deduplication, Event, Retention, TopicPolicy
from ensign_core.broker.compaction import Pass
from ensign_core.broker.duplicates import Hasher
from ensign_core.broker.events import received
from ensign_core.broker.large import Chunked
from ensign_core.change import BatchBuilder, Op, Tx, event_schema
from ensign_core.rows import new_image
from tests.processes import Processes
from tests.published import stored
from tests.unit.test_broker import events, refused

DATAGRAM = TopicPolicy(deduplication=Deduplication("datagram"))
LATEST = TopicPolicy(deduplication=Deduplication("datagram", keep="latest"))


def count(broker: Broker, table: str) -> int:
    ((rows,),) = broker._engine.database.rows(f"SELECT count(*) FROM {table}")
    return int(rows)


def test_the_later_event_is_acked_as_the_earlier(broker: Broker) -> None:
    broker.create_topic("t", DATAGRAM)
    assert broker.publish("t", events("a", "b", "a")) == 0
    ack = broker.publisher().publish("t", Event(b"b", b"key", {"m": "other"}))
    assert (ack.offset, ack.duplicate) == (1, True)
    assert broker.publish("t", events("a", "c")) == 2
    info = broker.topic("t")
    assert (info.events, info.duplicates, info.next_offset) == (3, 3, 3)
    assert stored(broker, "t") == {0: b"a", 1: b"b", 2: b"c"}
    before = broker._engine.last_sequence()
    broker.publish("t", events("a", "b", "c"))
    assert broker._engine.last_sequence() == before
    assert broker.topic("t").duplicates == 6


def test_an_event_takes_the_place_of_the_earlier(broker: Broker) -> None:
    broker.create_topic("t", LATEST)
    broker.create_topic("u")
    broker.publish("u", events("a", "a"))
    acks = broker.publisher().publish_many("t", events("a", "b", "a"))
    assert [(ack.offset, ack.duplicate) for ack in acks] == [(0, False), (1, False), (2, False)]
    with broker.reader(["t"]) as reader:
        (batch,) = reader.fetch()
        assert [(change.op, change.offset) for change in batch] == [
            (Op.REMOVED, 0), (Op.EVENT, 1), (Op.EVENT, 2),
        ]  # fmt: skip
        broker.publish("t", events("b"))
        assert [change.offset for batch in reader.fetch() for change in batch] == [3]
    assert stored(broker, "t") == {2: b"a", 3: b"b"}
    assert stored(broker, "u") == {0: b"a", 1: b"a"}
    assert broker.topic("t").duplicates == 2
    with broker.reader(["t"], 1) as reader:
        assert [c.op.name for b in reader.fetch() for c in b] == ["REMOVED", "EVENT", "EVENT"]


def test_topics_compare_their_own_events(broker: Broker) -> None:
    for topic in "tu":
        broker.create_topic(topic, DATAGRAM)
        assert broker.publish(topic, events("a")) == 0
        assert broker.publish(topic, events("a", "b")) == 1
    assert count(broker, "dedup") == 4
    broker.delete_topic("t")
    assert count(broker, "dedup") == 2
    broker.create_topic("t", LATEST)
    assert not broker.publisher().publish("t", Event(b"a")).duplicate
    broker.publish("t", events("a"))
    broker.delete_topic("t")
    assert (count(broker, "dedup"), count(broker, "superseded")) == (2, 0)


def test_what_was_trimmed_has_no_duplicates(broker: Broker) -> None:
    for policy in (DATAGRAM, LATEST):
        broker.create_topic("t", policy)
        broker.publish("t", events("a", "b"))
        broker.publish("t", events("b"))
        broker.set_policy("t", TopicPolicy(Retention(bytes_max=1), policy.deduplication))
        broker.keep()
        assert (count(broker, "dedup"), count(broker, "superseded")) == (0, 0)
        end = broker.topic("t").next_offset
        assert broker.publish("t", events("a")) == end
        assert stored(broker, "t") == {end: b"a"}
        broker.delete_topic("t")


def test_what_was_compacted_has_no_duplicates(broker: Broker) -> None:
    """A key that has an earlier value again has it: nothing of that value is left to repeat."""
    broker.create_topic("t", TopicPolicy(Retention(compact=True), DATAGRAM.deduplication))
    for value in ("old", "new"):
        broker.publish("t", [Event(value.encode(), b"key"), Event(b"other " + value.encode())])
    broker.keep()
    assert broker.publish("t", [Event(b"old", b"key")]) == 4
    assert broker.publish("t", [Event(b"new", b"key")]) == 2
    broker.keep()
    assert stored(broker, "t") == {1: b"other old", 3: b"other new", 4: b"old"}


def test_a_policy_that_is_set_amid_a_compaction_compares_with_what_is_left(broker: Broker) -> None:
    broker.create_topic("t", TopicPolicy(Retention(compact=True)))
    broker.publish("t", [Event(b"old", b"key"), Event(b"new", b"key")])
    (topic,) = broker._engine.topics(["t"])
    begun = Pass(broker._vault, topic, 0, lambda _took_s: False)
    broker.set_policy("t", TopicPolicy(Retention(compact=True), DATAGRAM.deduplication))
    assert begun.run() == 1
    assert broker.publish("t", [Event(b"new", b"key")]) == 1
    assert broker.publish("t", [Event(b"old", b"key")]) == 2


def test_compaction_and_superseding_go_together(broker: Broker) -> None:
    policy = TopicPolicy(Retention(compact=True), LATEST.deduplication)
    broker.create_topic("t", policy)
    broker.publish("t", [Event(b"a", b"1"), Event(b"b", b"2"), Event(b"a", b"3")])
    broker.publish("t", [Event(b"c", b"2")])
    broker.keep()
    assert stored(broker, "t") == {2: b"a", 3: b"c"}
    broker.publish("t", [Event(b"a", b"4")])
    broker.keep()
    assert stored(broker, "t") == {3: b"c", 4: b"a"}


def test_a_revoked_key_takes_the_hashes_of_its_events(broker: Broker) -> None:
    broker.create_topic("t", DATAGRAM)
    broker.publish("t", events("a", "b"))
    old = broker.topic("t").key_ids[0]
    broker.keys.rotate("t")
    broker.publish("t", events("c"))
    assert broker.publish("t", events("a")) == 0
    broker.keys.revoke(old)
    assert count(broker, "dedup") == 1
    assert broker.publish("t", events("c")) == 2
    assert broker.publish("t", events("a")) == 3
    broker.set_policy("t", TopicPolicy(deduplication=Deduplication("strict")))
    assert broker.publish("t", events("a", "c", "b")) == 4


def test_hashes_that_outlived_their_key_count_for_nothing(broker: Broker) -> None:
    """As a backup may have them, which was taken amid a revocation."""
    broker.create_topic("t", DATAGRAM)
    broker.publish("t", events("a"))
    broker.keys.rotate("t")
    with broker._engine.database.transaction() as db:
        db.execute("UPDATE keys.data_keys SET state = 'revoked', wrapped = x'' "
                   "WHERE state = 'retired'")  # fmt: skip
    assert broker.publish("t", events("a")) == 1
    assert broker.publish("t", events("a")) == 1


def test_another_policy_compares_with_what_there_is(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensign_core.broker.policy_change.SEED_BYTES_MAX", 1)
    monkeypatch.setattr("ensign_core.engine.publishing.FORGET_MAX", 3)
    writer = broker.writer()
    for number in range(8):
        broker.publish("t", events(number, "same"))
        row = BatchBuilder().begin(Tx(None, "", 1))
        row.add(Op.INSERT, event_schema("t"), new_image([b"k", b"same", None, None, None]))
        writer.append([("t", row.take(None))])
    for policy in (DATAGRAM, TopicPolicy(deduplication=Deduplication("strict")), LATEST):
        broker.set_policy("t", policy)
        assert broker.topic("t").policy == policy
        assert count(broker, "dedup") == 9
    broker.set_policy("t", DATAGRAM)
    assert broker.publish("t", events("same")) == 22  # where the last policy had it
    broker.set_policy("t", TopicPolicy(Retention(age_s=5), DATAGRAM.deduplication))
    assert broker.publish("t", events(3)) == 9
    assert broker.topic("t").policy.retention.age_s == 5
    broker.set_policy("t", TopicPolicy())
    assert count(broker, "dedup") == 0
    assert broker.publish("t", events(3)) == 24
    assert refused(broker.set_policy, "none", DATAGRAM) == "topic.unknown"


def test_nothing_comes_between_the_events_that_there_are_and_the_policy(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is published while a policy is set is compared, by the one or the other."""
    hashed, hold = threading.Event(), threading.Event()
    call = Hasher.__call__

    def slow(hasher: Hasher, event: Event) -> bytes | None:
        if threading.current_thread() is setter:
            hashed.set()
            hold.wait()
        return call(hasher, event)

    monkeypatch.setattr(Hasher, "__call__", slow)
    broker.publish("t", events("a"))
    setter = threading.Thread(target=broker.set_policy, args=("t", DATAGRAM))
    setter.start()
    hashed.wait()
    broker.publish("t", events("b"))
    hold.set()
    setter.join()
    assert broker.publish("t", events("a")) == 0
    assert broker.publish("t", events("b")) == 1


def test_a_key_revoked_while_a_policy_is_set_leaves_no_hashes(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Hasher.__call__
    broker.publish("t", events("a"))
    (key,) = broker.topic("t").key_ids
    broker.publish("u", events("a"))

    def revoking(hasher: Hasher, event: Event) -> bytes | None:
        broker.keys.revoke(key)
        return call(hasher, event)

    monkeypatch.setattr(Hasher, "__call__", revoking)
    broker.set_policy("t", DATAGRAM)
    assert count(broker, "dedup") == 0
    monkeypatch.undo()
    broker.set_policy("u", DATAGRAM)
    assert count(broker, "dedup") == 1


@pytest.mark.parametrize("policy", [DATAGRAM, LATEST], ids=["first", "latest"])
def test_parts_of_large_events_are_compared_with_nothing(
    broker: Broker, policy: TopicPolicy
) -> None:
    broker.publish("t", events("a" * 10 + "tail"), Chunked(10))
    broker.set_policy("t", policy)
    assert broker.publish("t", events("tail")) == 3
    with broker.reader(["t"]) as reader:
        found = [one for batch in reader.fetch() for one in received(batch)]
    data = [one.event.data for one in broker.whole(found) if one.event is not None]
    assert data == [b"a" * 10 + b"tail", b"tail"]


def test_policies_that_may_not_be(broker: Broker) -> None:
    for options in (
        {"strategy": "unique_key"}, {"strategy": "unique_field", "keys": ("a",)},
        {"strategy": "strict", "fields": ("a",)}, {"keys": ("a",)},
    ):  # fmt: skip
        assert refused(Deduplication, **options) == "policy.invalid"
    strict = Deduplication("strict")
    assert refused(TopicPolicy, deduplication=strict, sealing="client") == "topic.client_sealed"
    broker.create_topic("t")
    sealed = TopicPolicy(sealing="client")
    assert refused(broker.set_policy, "t", sealed) == "topic.sealing_fixed"


def test_retries_and_duplicates_are_told_apart(broker: Broker) -> None:
    broker.create_topic("t", DATAGRAM)
    publisher = broker.publisher("s")
    first = publisher.publish_many("t", events("a", "b", "a"), 0)
    again = publisher.publish_many("t", events("a", "b", "a"), 0)
    assert [ack.offset for ack in again] == [ack.offset for ack in first] == [0, 1, 0]
    assert [ack.duplicate for ack in again] == [True] * 3
    assert broker.topic("t").duplicates == 1


def test_nothing_of_an_event_is_in_clear_beside_its_frame(broker: Broker, tmp_path: Path) -> None:
    secret = "Zyklame-4711-geheim"
    broker.create_topic("t", TopicPolicy(deduplication=Deduplication("unique_key", (secret,))))
    broker.publisher(secret).publish("t", Event(secret.encode(), metadata={secret: secret}), 4711)
    for path in (tmp_path / "b").iterdir():
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("keep", ["earliest", "latest"])
def test_processes_publish_the_same_events(tmp_path: Path, keep: str) -> None:
    script = (
        "import json, random, sys\nfrom ensign_core.broker import Broker, Event\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "broker = Broker.open(sys.argv[1])\nrandom.seed(int(sys.argv[2]))\n"
        "publisher = broker.publisher()\n"
        "print('up', flush=True)\nsys.stdin.readline()\n"
        "order = [random.randrange(60) for _ in range(200)]\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    acks = list(pool.map(lambda n: publisher.publish('t', Event(b'%d' % n)), order))\n"
        "print(json.dumps([[n, a.offset] for n, a in zip(order, acks)]))\n"
        "broker.close()\n"
    )
    with Broker.open(tmp_path / "b") as broker:
        broker.create_topic("t", DATAGRAM if keep == "earliest" else LATEST)
    with Processes() as processes:
        told = processes.together(script, tmp_path / "b", 3)
    published = {n for mine in told for n, _ in mine}
    with Broker.open(tmp_path / "b") as broker:
        found = stored(broker, "t")
        info = broker.topic("t")
    assert sorted(map(int, found.values())) == sorted(published)
    assert info.duplicates == 600 - len(published)
    if keep == "earliest":
        assert all(found[offset] == b"%d" % n for mine in told for n, offset in mine)
    else:
        assert info.next_offset == 600


def test_killed_amid_a_commit(tmp_path: Path) -> None:
    """Hashes and frame are committed together or not at all."""
    script = (
        "import os, sys\nfrom ensign_core.broker import Broker, Event\n"
        "from ensign_core.engine import publishing\n"
        "broker = Broker.open(sys.argv[1])\nremember = publishing.remember\n"
        "def dies(*args):\n    remember(*args)\n    os.kill(os.getpid(), 9)\n"
        "publishing.remember = dies\n"
        "broker.publish('t', [Event(b'x')])\n"
    )
    with Broker.open(tmp_path / "b") as broker:
        broker.create_topic("t", DATAGRAM)
    with Processes() as processes:
        assert processes.start(script, tmp_path / "b").wait() == -9
    with Broker.open(tmp_path / "b") as broker:
        ack = broker.publisher().publish("t", Event(b"x"))
        assert (ack.offset, ack.duplicate) == (0, False)
        assert stored(broker, "t") == {0: b"x"}
