"""Access to client-sealed topics taken away: by grants and by keys, while others read and write."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensign_core import frame
from ensign_core.broker import Broker, vault
from ensign_core.engine import StaleWriteError
from ensign_core.errors import EnsignError
from tests.processes import Processes
from tests.sealing import Readers, drained, events, refused, sealed_topic


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    return Readers(tmp_path / "b", ["alice", "bob", "eve"])


@pytest.fixture
def broker(readers: Readers) -> Iterator[Broker]:
    with sealed_topic(readers) as made:
        yield made


def test_a_grant_that_is_taken_while_a_key_is_made_is_seen(
    broker: Broker, readers: Readers
) -> None:
    broker.grants.add("t", "bob", readers.public("bob"))
    keys = broker._vault.client_keys
    add_key = keys._grants.add_key
    stale: list[bool] = []

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(broker._engine.grants, name)

        def add_key(self, key: object, boxes: object) -> None:
            if not stale:
                with Broker.open(readers.folder) as other:
                    other.grants.remove("t", "bob")
                stale.append(True)
                with pytest.raises(StaleWriteError):
                    add_key(key, boxes)  # type: ignore[arg-type]  # passed on as they came
                raise StaleWriteError
            add_key(key, boxes)  # type: ignore[arg-type]  # passed on as they came

    keys._grants = Slow()  # type: ignore[assignment]  # has all that the store has
    broker.publish("t", events(1))
    assert stale
    assert readers.read("alice") == ["1"]
    assert refused(readers.read, "bob").code == "topic.not_granted"


def test_a_removed_reader_reads_nothing_any_more(broker: Broker, readers: Readers) -> None:
    broker.grants.add("t", "bob", readers.public("bob"))
    broker.publish("t", events(1))
    assert readers.read("bob") == ["1"]
    broker.grants.remove("t", "bob")
    error = refused(readers.read, "bob")
    assert (error.code, "offsets 0 to 0" in error.sentence) == ("topic.not_granted", True)
    broker.publish("t", events(2))
    assert readers.read("alice") == ["1", "2"]
    broker.grants.add("t", "bob")
    broker.publish("t", events(3))
    assert "offsets 0 to 1" in refused(readers.read, "bob").sentence
    assert readers.read("bob", start=2) == ["3"]
    assert refused(broker.grants.remove, "t", "eve").code == "grants.unknown"


def test_a_process_that_has_read_forgets_what_was_taken_away(
    broker: Broker, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault, "REVOKED_LOOK_S", 0.0)
    broker.publish("t", events(1))
    with readers.open("alice") as alice:
        with alice.reader(["t"]) as reader:
            assert drained(reader.fetch) == ["1"]
        broker.grants.remove("t", "alice")
        broker.grants.add("t", "alice")
        broker.publish("t", events(2))
        with alice.reader(["t"]) as reader:
            assert refused(reader.fetch).code == "topic.not_granted"
        with alice.reader(["t"], 1) as reader:
            assert drained(reader.fetch) == ["2"]


def test_a_new_key_is_made_where_one_is_rotated_or_revoked(
    broker: Broker, readers: Readers
) -> None:
    broker.publish("t", events(1))
    (first,) = broker.topic("t").key_ids
    broker.keys.rotate("t")
    broker.publish("t", events(2))
    second = next(key for key in broker.topic("t").key_ids if key != first)
    states = {key.key_id: key.state for key in broker.keys.list() if key.topic == "t"}
    assert states == {first: "retired", second: "active"}
    broker.keys.rotate_master()
    broker.publish("t", events(3))
    assert readers.read("alice") == ["1", "2", "3"]
    topic_id = broker._engine.topic_ids(["t"])["t"]
    boxes = broker._engine.grants.boxes(readers.public("alice"), topic_id)
    broker.keys.revoke(second)
    left = broker._engine.grants.boxes(readers.public("alice"), topic_id)
    assert boxes.keys() - left.keys() == {bytes.fromhex(second)}
    destroyed = boxes[bytes.fromhex(second)]
    files = [path for path in readers.folder.iterdir() if path.is_file()]
    assert all(destroyed not in path.read_bytes() for path in files)
    broker.publish("t", events(4))
    assert refused(readers.read, "alice").code == "key.revoked"
    with readers.open("alice") as alice, alice.reader(["t"], skip_revoked=True) as reader:
        assert drained(reader.fetch) == ["1", "4"]
    assert refused(readers.read, None).code == "topic.client_sealed"


def test_what_was_sealed_for_a_removed_reader_is_nowhere(broker: Broker, readers: Readers) -> None:
    broker.grants.add("t", "bob", readers.public("bob"))
    broker.publish("t", events(1))
    topic_id = broker._engine.topic_ids(["t"])["t"]
    (box,) = broker._engine.grants.boxes(readers.public("bob"), topic_id).values()
    keys = readers.folder / "keys.db"
    assert box in keys.read_bytes()
    broker.grants.remove("t", "bob")
    assert all(box not in path.read_bytes() for path in readers.folder.iterdir() if path.is_file())


@pytest.mark.parametrize("events_come", [False, True])
def test_an_open_reader_ends_within_a_second(
    broker: Broker, readers: Readers, events_come: bool
) -> None:
    broker.publish("t", events(1))
    ended: list[tuple[str, float]] = []
    started = threading.Event()

    def follow() -> None:
        with readers.open("alice") as alice, alice.reader(["t"]) as reader:
            assert drained(reader.fetch) == ["1"]
            started.set()
            try:
                while True:
                    reader.fetch(60.0)
            except EnsignError as error:
                ended.append((error.code, time.monotonic()))

    broker.grants.add("t", "bob", readers.public("bob"))
    thread = threading.Thread(target=follow)
    thread.start()
    assert started.wait(30)
    broker.grants.remove("t", "alice")
    removed = time.monotonic()
    while events_come and thread.is_alive():
        broker.publish("t", events("later"))
    thread.join(30)
    ((code, at),) = ended
    assert code == "topic.not_granted"
    print(f"ended after {at - removed:.3f} s")
    assert at - removed < 5


WRITER = """
import select, sys
from ensign_core.broker import Broker, Event
with Broker.open(sys.argv[1]) as broker:
    print(broker.publish("t", [Event(b"x")]), flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        broker.publish("t", [Event(b"x")])
"""


def test_writers_in_other_processes_seal_nothing_that_a_removed_reader_could_open(
    broker: Broker, readers: Readers
) -> None:
    """However the removal falls among the appends of two other processes: with all keys that the
    reader ever had, it opens what was appended before, and nothing after."""
    broker.grants.add("t", "bob", readers.public("bob"))
    broker.create_topic("plain")
    engine = broker._engine
    topic_id = engine.topic_ids(["t"])["t"]
    with Processes() as processes, readers.open("bob") as bob:
        writers = [processes.start(WRITER, readers.folder) for _ in range(2)]
        for writer in writers:
            assert writer.line()
        with bob.reader(["t"]) as reader:
            assert reader.fetch()
        held = engine.grants.boxes(readers.public("bob"), topic_id)
        before = engine.last_sequence()
        broker.grants.remove("t", "bob")
        after = engine.last_sequence()
        with broker.reader(["plain"]) as bell:
            while len({key for _, key in keys_of(broker, after)}) < 2:
                bell.fetch(0.05)
        for writer in writers:
            writer.go()
            assert writer.wait() == 0
    assert len(held) == 2
    assert all(key in held for sequence, key in keys_of(broker, 0) if sequence <= before)
    assert [sequence for sequence, key in keys_of(broker, after) if key in held] == []
    assert len(readers.read("alice")) == len(keys_of(broker, 0))


def keys_of(broker: Broker, after: int) -> list[tuple[int, bytes]]:
    """Sequence and key of each frame behind a sequence."""
    topic_ids = list(broker._engine.topic_ids(["t"]).values())
    found: list[tuple[int, bytes]] = []
    while stored := broker._engine.frames(topic_ids, after, 1 << 30):
        found += [(one.sequence, frame.parse(one.frame)[0].key_id) for one in stored]
        after = stored[-1].sequence
    return found
