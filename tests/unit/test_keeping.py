"""What policies take out of topics, and what they never take."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ensign_core.broker import (
    Assembler,
    Broker,
    Chunked,
    Event,
    Retention,
    TopicPolicy,
    dead_letter_topic,
    received,
)
from ensign_core.broker.keeping import Keeping
from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx, event_schema
from ensign_core.engine.keeping import KeepingStore
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, encode, new_image
from tests.folding import Reader, changes, rotate

DAY_S = 86_400.0
SCHEMA = Schema(
    "public.orders", (("schema", "public"), ("table", "orders")),
    (Column("id", "bigint", "int", False, True), Column("note", "text", "text")),
)  # fmt: skip


def policy(**kept: object) -> TopicPolicy:
    return TopicPolicy(Retention(**kept))  # type: ignore[arg-type] # as a test gives them


def put(broker: Broker, *values: str, topic: str = "t", days_ago: float = 0.0) -> None:
    """A frame with events that are so old."""
    committed = time.time_ns() // 1000 - int(days_ago * DAY_S * 1e6)
    builder = BatchBuilder().begin(Tx(None, "", committed))
    for value in values:
        builder.add(Op.EVENT, event_schema(topic), new_image([None, value.encode(), *[None] * 3]))
    broker.writer().append([(topic, builder.take(None))])


def update(broker: Broker, note: object, row: str = "1") -> None:
    builder = BatchBuilder().begin(Tx("1", "0/1", time.time_ns() // 1000))
    builder.add(Op.UPDATE, SCHEMA, b"N" + encode([row, note]))  # type: ignore[list-item] # a value
    broker.writer().append([("t", builder.take(None))])


def offsets(broker: Broker, topic: str = "t") -> list[int]:
    return [change.offset for change in changes(broker, topic)]


def counted(broker: Broker, topic: str = "t") -> bool:
    """Whether the counters of a topic say what is in it."""
    info = broker.topic(topic)
    (found,) = broker._engine.topics([topic])
    frames = broker._engine.frames([found.topic_id], 0, 1 << 30)
    batches = [broker._vault.open_frame(frame, topic) for frame in frames]
    kept = sum(len(batch) - batch.ops.count(Op.REMOVED) for batch in batches)
    size = sum(len(frame.frame) for frame in frames)
    return (info.events, info.bytes) == (kept, size) and (info.content_bytes > 0) == bool(frames)


def test_a_topic_is_kept_for_ever_unless_it_says_otherwise(broker: Broker) -> None:
    put(broker, "a", days_ago=10_000)
    put(broker, "b", topic=dead_letter_topic("shop"), days_ago=10_000)
    assert broker.keep() == []
    assert offsets(broker) == [0]


def test_old_events_go_by_whole_frames(broker: Broker) -> None:
    broker.create_topic("t", policy(age_s=7 * DAY_S))
    put(broker, "a", "b", days_ago=9)
    put(broker, "c", days_ago=8)
    put(broker, "d", "e", days_ago=6)
    (kept,) = broker.keep()
    assert (kept.topic, kept.trimmed, offsets(broker)) == ("t", 3, [3, 4])
    info = broker.topic("t")
    assert (info.first_offset, info.next_offset, counted(broker)) == (3, 5, True)
    assert broker.keep() == []


def test_what_comes_behind_something_younger_is_not_old(broker: Broker) -> None:
    """As where a clock was set back: ages are those of the running maximum."""
    broker.create_topic("t", policy(age_s=7 * DAY_S))
    put(broker, "a", days_ago=8)
    put(broker, "b", days_ago=1)
    put(broker, "c", days_ago=30)
    broker.keep()
    assert offsets(broker) == [1, 2]


def test_the_oldest_events_go_beyond_a_size(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensign_core.engine.keeping.TRIM_FRAMES_MAX", 3)
    broker.create_topic("t")
    for number in range(20):
        put(broker, str(number) * 100)
    each = broker.topic("t").bytes // 20
    broker.set_policy("t", policy(bytes_max=each * 5))
    broker.keep()
    assert 4 <= len(offsets(broker)) <= 5
    assert broker.topic("t").bytes <= each * 5
    assert counted(broker)


def test_all_of_a_topic_may_go(broker: Broker) -> None:
    broker.create_topic("t", policy(age_s=1))
    put(broker, "a", "b", days_ago=1)
    reader = broker.reader(["t"])
    broker.keep()
    info = broker.topic("t")
    assert (info.events, info.bytes, info.content_bytes) == (0, 0, 0)
    assert (info.first_offset, info.next_offset) == (2, 2)
    assert (reader.fetch(), reader.offsets, reader.trimmed) == ([], {"t": 2}, 2)
    put(broker, "c")
    assert [batch.offset for batch in reader.fetch()] == [2]
    assert reader.trimmed == 2


def test_what_a_group_has_not_read_stays(broker: Broker) -> None:
    broker.create_topic("t", policy(age_s=1))
    for value in "abc":
        put(broker, value, days_ago=1)
    broker.commit("slow", {"t": 1})
    broker.commit("fast", {"t": 3})
    broker.keep()
    assert offsets(broker) == [1, 2]
    broker.forget_group("slow")
    broker.keep()
    assert offsets(broker) == []


def test_a_topic_may_let_what_is_unread_go_and_readers_go_on_behind_it(broker: Broker) -> None:
    broker.create_topic("t", policy(age_s=DAY_S, trim_unread=True))
    for days_ago in (4, 3, 2, 0):
        put(broker, "ab", days_ago=days_ago)
    broker.commit("slow", {"t": 1})
    running = broker.reader(["t"], 0)
    broker.keep()
    for reader, missed in ((running, 3), (broker.reader(["t"], group="slow"), 2)):
        assert [batch.offset for batch in reader.fetch()] == [3]
        assert (reader.trimmed, reader.offsets) == (missed, {"t": 4})
    fresh = broker.reader(["t"], group="fresh")
    assert ([batch.offset for batch in fresh.fetch()], fresh.trimmed) == ([3], 0)


def test_what_sinks_have_not_begun_stays(broker: Broker) -> None:
    """A sink whose target was never reached has no offsets yet."""
    pipelines = broker.pipelines
    for topic in ("t", dead_letter_topic("shop")):
        broker.create_topic(topic, policy(age_s=1))
        builder = BatchBuilder().begin(Tx("1", "0/1", 1))
        builder.add(Op.INSERT, SCHEMA, new_image(["1", "a"]))
        broker.writer("shop").append([(topic, builder.take(None))])
    pipelines.give_sinks("shop", ["shop/bus"])
    broker.keep()
    assert offsets(broker) == [0]
    assert offsets(broker, dead_letter_topic("shop")) == []
    broker.commit("shop/bus", {"t": 1})
    broker.keep()
    assert offsets(broker) == []


def test_letters_that_are_trimmed_are_forgotten(broker: Broker) -> None:
    topic = dead_letter_topic("shop")
    for value in "abc":
        put(broker, value, topic=topic, days_ago=1)
    letters = broker.pipelines.letters("shop")
    letters.drop([0, 2])
    letters.ask("bus", [1])
    broker.set_policy(topic, policy(age_s=1))
    broker.keep()
    assert (letters.done(), letters.asked("bus", 9)) == (set(), [])


def test_a_pass_takes_what_is_superseded_and_leaves_offsets(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"1", b"a"), Event(b"2", b"b"), Event(b"3"), Event(b"4", b"a")])
    broker.publish("t", [Event(b"5", b"b"), Event(b"6", b"b")])
    broker.publish("t", [Event(b"7", b"b")])
    (kept,) = broker.keep()
    with broker.reader(["t"]) as reader:
        batches = reader.fetch()
    assert [(batch.offset, len(batch)) for batch in batches] == [(0, 4), (6, 1)]
    found = {r.offset: r.event.data for b in batches for r in received(b) if r.event}
    assert found == {2: b"3", 3: b"4", 6: b"7"}
    assert (kept.compacted, counted(broker), broker.keep()) == (4, True, [])
    assert [broker.lookup().event("t", offset) is None for offset in range(7)] == [
        offset not in found for offset in range(7)
    ]


def test_deletes_stay_for_a_while_and_until_groups_have_read_them(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True, tombstone_s=DAY_S))
    for days_ago, body, op in ((3, b"N" + encode(["1", "a"]), Op.INSERT),
                               (2, b"K" + encode(["1", None]), Op.DELETE)):  # fmt: skip
        builder = BatchBuilder().begin(
            Tx("1", "0/1", time.time_ns() // 1000 - int(days_ago * DAY_S * 1e6))
        )
        builder.add(op, SCHEMA, body)
        broker.writer().append([("t", builder.take(None))])
    broker.commit("g", {"t": 1})
    broker.keep()
    assert offsets(broker) == [1]
    broker.commit("g", {"t": 2})
    broker.keep()
    assert (offsets(broker), counted(broker)) == ([], True)
    with broker.reader(["t"], group="g") as reader:
        assert (reader.fetch(), reader.trimmed, reader.offsets) == ([], 0, {"t": 2})


def test_values_do_not_leave_their_data_key(broker: Broker) -> None:
    """What an update left out lies under an older key, and stays there: with it the value goes."""
    broker.create_topic("t", policy(compact=True))
    update(broker, "secret")
    update(broker, ABSENT)
    rotate(broker, "t")
    update(broker, ABSENT)
    update(broker, ABSENT)
    broker.keep()
    assert offsets(broker) == [1, 3]
    (first, last) = changes(broker, "t")
    assert (b"secret" in first.body, b"secret" in last.body) == (True, False)
    assert Reader().take([first, last]).rows["public.orders"] == {
        ("1",): {"id": "1", "note": "secret"}
    }
    update(broker, "open")
    broker.keep()
    assert offsets(broker) == [4]


def test_rewritten_frames_are_sealed_by_a_session_of_their_own(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"1", b"a"), Event(b"2", b"b")])
    (topic,) = broker._engine.topics(["t"])

    def header() -> tuple[bytes, bytes]:
        (stored,) = broker._engine.frames([topic.topic_id], 0, 0)
        return stored.frame[40:56], stored.frame[56:80]

    key, session = header()
    broker.publish("t", [Event(b"3", b"a")])
    broker.keep()
    assert header()[0] == key
    assert header()[1][:16] != session[:16]


def test_parts_of_large_events_go_with_their_claim(broker: Broker) -> None:
    broker.create_topic("t", policy(compact=True))
    large = Chunked(chunk_bytes=1000)
    first, second = b"1" * 3500, b"2" * 2500
    broker.publish("t", [Event(first, b"model")], large=large)
    broker.publish("t", [Event(second, b"model")], large=large)
    broker.publish("t", [Event(first, b"other")], large=large)
    assert broker.topic("t").events == 5 + 4 + 5
    broker.keep()
    assert broker.topic("t").events == 4 + 5
    assembler: Assembler = broker.assembler()
    with broker.reader(["t"]) as reader:
        whole = [assembler.whole(found) for batch in reader.fetch() for found in received(batch)]
    assert [found.event.data for found in whole if found and found.event] == [second, first]


def test_client_sealed_topics_are_not_compacted(broker: Broker) -> None:
    with pytest.raises(EnsignError, match=r"^topic\.client_sealed"):
        TopicPolicy(Retention(compact=True), sealing="client")
    broker.create_topic("t")
    with pytest.raises(EnsignError, match=r"^topic\.sealing_fixed"):
        broker.set_policy("t", TopicPolicy(sealing="client"))
    with pytest.raises(EnsignError, match=r"^topic\.unknown"):
        broker.set_policy("none", TopicPolicy())


def test_an_archived_topic_takes_events_again_when_it_is_told_so(broker: Broker) -> None:
    put(broker, "a")
    broker.archive_topic("t")
    with pytest.raises(EnsignError, match=r"^topic\.archived"):
        put(broker, "b")
    broker.unarchive_topic("t")
    put(broker, "b")
    assert offsets(broker) == [0, 1]


def test_a_broker_that_writes_keeps_its_topics_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed = threading.Event()
    real = KeepingStore.trim

    def trim(*what: object, **more: object) -> object:
        found = real(*what, **more)  # type: ignore[arg-type] # whatever it was given
        if found.events:
            trimmed.set()
        return found

    monkeypatch.setattr(KeepingStore, "trim", trim)
    with (
        Broker.open(tmp_path / "b", keep_every_s=0.01) as one,
        Broker.open(tmp_path / "b", keep_every_s=0.01) as other,
    ):
        one.create_topic("t", policy(age_s=1))
        put(one, "a", days_ago=1)
        other.writer()
        assert trimmed.wait(30)
        assert offsets(one) == []


def test_one_process_keeps_at_a_time(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensign_core.broker.keeping.HOLD_WAIT_S_MAX", 0.0)
    release = broker._engine.keeping.hold()
    assert release is not None
    with pytest.raises(EnsignError, match=r"^engine\.busy"):
        broker.keep()
    release()
    assert broker.keep() == []


def test_a_topic_is_compacted_again_when_half_of_it_is_new(broker: Broker) -> None:
    keeping = Keeping(broker._vault, broker._vault.policy)
    broker.create_topic("t", policy(compact=True))
    broker.publish("t", [Event(b"", b"%d" % number) for number in range(10)])
    due = [bool(keeping._keep(None, lambda _: False))]
    for _ in range(10):
        broker.publish("t", [Event(b"", b"1")])
        due.append(bool(keeping._keep(None, lambda _: False)))
    assert due.count(True) == 1
    assert due.index(True) >= 9


KILLED = """
import contextlib, os, signal, sys
from ensign_core.broker import Broker
from ensign_core.engine.database import Database

left = int(sys.argv[2])
real = Database.transaction

@contextlib.contextmanager
def transaction(database):
    global left
    with real(database) as db:
        yield db
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with Broker.open(sys.argv[1]) as broker:
    Database.transaction = transaction
    broker.keep()
"""


def test_a_kill_in_any_transaction_leaves_the_same_state(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    with Broker.open(folder) as broker:
        broker.create_topic("t", policy(compact=True, tombstone_s=0))
        broker.create_topic("u", policy(age_s=1))
        for number in range(3):
            put(broker, "a", topic="u", days_ago=1)
            update(broker, f"old {number}", str(number))
            update(broker, ABSENT, str(number))
            update(broker, ABSENT, "0")
        before = Reader().take(changes(broker, "t")).state
    killed = 0
    for nth in range(1, 100):
        command = [sys.executable, "-c", KILLED, str(folder), str(1 + nth % 3)]
        code = subprocess.run(command, timeout=60).returncode
        with Broker.open(folder) as broker:
            assert Reader().take(changes(broker, "t")).state == before
            assert (counted(broker), counted(broker, "u")) == (True, True)
            if code == 0:
                assert (len(offsets(broker)), offsets(broker, "u")) == (3, [])
                break
        assert code == -signal.SIGKILL
        killed += 1
    assert killed > 3
