"""What policies take out of topics, and what they never take."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ensign_core.broker import (
    Broker,
    Retention,
    TopicPolicy,
    dead_letter_topic,
)
from ensign_core.change import BatchBuilder, Op, Tx
from ensign_core.engine.keeping import KeepingStore
from ensign_core.errors import EnsignError
from ensign_core.rows import new_image
from tests.keeping import DAY_S, SCHEMA, counted, offsets, policy, put


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


def test_a_policy_does_not_change_how_a_topic_is_sealed(broker: Broker) -> None:
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
