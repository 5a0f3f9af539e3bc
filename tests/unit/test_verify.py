"""What `Broker.verify` finds, of each kind, and what it takes for no problem."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event, TopicPolicy, Verified, verify
from ensign_core.broker.vault import Vault
from ensign_core.change import Position
from ensign_core.engine import Stored
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal

EVENTS = [Event(b"%d" % number) for number in range(10)]


@pytest.fixture
def filled(broker: Broker) -> Broker:
    broker.create_topic("a", TopicPolicy())
    for topic in ("a", "b"):
        for _ in range(5):
            broker.publish(topic, EVENTS)
    broker.writer("p").append([], Position(b"1"), kept={"x": b"1"})
    broker.pipelines.set_status("p", {"state": "streaming"})
    broker.pipelines.signal("p", Signal(0, "pause"))
    letters = broker.pipelines.letters("p")
    broker.publish(letters.topic, EVENTS)
    letters.ask("source", [3])
    letters.failed({3: EnsignError("sink.refused", "It is refused.", "Mend it.")})
    broker.commit("g", {"a": 7})
    return broker


def change(broker: Broker, sql: str) -> None:
    db = broker._engine.database.connection()
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute(sql)
    assert db.changes() > 0, sql


def told(found: Verified) -> list[tuple[str, str | None, int | None, int | None]]:
    return [(one.code, one.topic, one.first_offset, one.last_offset) for one in found.problems]


def test_all_is_counted(filled: Broker) -> None:
    found = filled.verify()
    assert (found.topics, found.frames, found.events, found.keys) == (3, 11, 110, 4)
    assert found.bytes == sum(info.bytes for info in filled.topics())
    assert (found.problems, found.revoked, found.problems_left_out) == ([], [], 0)
    found = filled.verify(["b"])
    assert (found.topics, found.frames, found.events, found.keys) == (1, 5, 50, 1)
    with pytest.raises(EnsignError, match=r"^topic\.unknown"):
        filled.verify(["c"])


A = "(SELECT id FROM topics WHERE name = 'a')"
FRAME = f"topic = {A} AND base = 20"
BODY = f"(SELECT body FROM frames WHERE {FRAME})"
FOUND = {
    f"UPDATE bodies SET data = zeroblob(200) WHERE id = {BODY}": [("frame.damaged", "a", 20, 29)],
    f"DELETE FROM bodies WHERE id = {BODY}": [("frame.missing", "a", 20, 29)],
    f"DELETE FROM frames WHERE {FRAME}": [("frame.misplaced", None, None, None)],
    "INSERT INTO bodies VALUES (99, x'00')": [("frame.misplaced", None, None, None)],
    f"UPDATE frames SET topic = 99 WHERE {FRAME}": [("frame.misplaced", None, None, None)],
    f"UPDATE frames SET base = 15 WHERE {FRAME}": [("frame.misplaced", "a", 15, 24),
                                                   ("frame.tampered", "a", 15, 24)],
    f"UPDATE frames SET base = 70 WHERE {FRAME}": [("frame.misplaced", "a", 70, 79)],
    f"UPDATE frames SET high_us = 0 WHERE {FRAME}": [("frame.misplaced", "a", 0, 0)],
    f"UPDATE frames SET events = 9 WHERE {FRAME}": [("frame.damaged", "a", 20, 28)],
    f"UPDATE frames SET key_id = zeroblob(16) WHERE {FRAME}": [("frame.damaged", "a", 20, 29)],
    f"UPDATE frames SET body = body + 1 WHERE {FRAME}": [("frame.misplaced", None, None, None)],
    "UPDATE topics SET events = 49 WHERE name = 'a'": [("topic.miscounted", "a", None, None)],
    "UPDATE topics SET bytes = 1 WHERE name = 'a'": [("topic.miscounted", "a", None, None)],
    "UPDATE topics SET next_offset = 49 WHERE name = 'a'": [("topic.miscounted", "a", None, None)],
    "UPDATE topics SET policy = x'00' WHERE name = 'a'": [("record.tampered", None, None, None)],
    "UPDATE pipelines SET position = x'00'": [("record.tampered", None, None, None)],
    "UPDATE pipelines SET name = 'q'": [("record.tampered", None, None, None)],
    "UPDATE kept SET value = zeroblob(60)": [("record.tampered", None, None, None)],
    "UPDATE statuses SET status = zeroblob(60)": [("record.tampered", None, None, None)],
    "UPDATE signals SET signal = zeroblob(60)": [("record.tampered", None, None, None)],
    "UPDATE replays SET error = zeroblob(60)": [("record.tampered", None, None, None)],
    "DELETE FROM keys.data_keys WHERE topic = (SELECT ulid FROM topics WHERE name = 'a')": [
        ("key.missing", "a", 0, 49),
    ],
    "UPDATE keys.data_keys SET wrapped = zeroblob(60) "
    "WHERE topic = (SELECT ulid FROM topics WHERE name = 'a')": [
        ("key.damaged", None, None, None), ("key.damaged", "a", 0, 49),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), FOUND.items())
def test_each_kind_of_damage_is_found(
    filled: Broker, sql: str, expected: list[tuple[str, str | None, int | None, int | None]]
) -> None:
    change(filled, sql)
    assert set(expected) <= set(told(filled.verify()))


def test_schemas_that_do_not_open_are_found(filled: Broker) -> None:
    change(filled, "UPDATE schemas SET box = zeroblob(60)")
    found = told(filled.verify())
    assert found[:3] == [("record.tampered", None, None, None)] * 3
    assert set(found[3:]) == {
        ("frame.tampered", name, 0, 9 if name == "p.dead-letters" else 49)
        for name in ("a", "b", "p.dead-letters")
    }


def test_frames_under_a_revoked_key_are_no_damage(filled: Broker) -> None:
    (key_id,) = filled.topic("a").key_ids
    filled.keys.revoke(key_id)
    found = filled.verify()
    assert told(found) == []
    ((code, *where),) = [(p.code, p.topic, p.first_offset, p.last_offset) for p in found.revoked]
    assert (code, where) == ("key.revoked", ["a", 0, 49])
    assert (found.frames, found.events) == (7, 61)


def test_damage_without_end_is_listed_in_bounds(
    filled: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        filled.publish("c", EVENTS)
    change(filled, "UPDATE bodies SET data = zeroblob(id + 200) WHERE id % 2")
    monkeypatch.setattr(verify, "PROBLEMS_MAX", 7)
    found = filled.verify()
    assert len(found.problems) == 7
    assert found.problems_left_out > 5


def test_damaged_pages_are_told(broker: Broker, tmp_path: Path) -> None:
    for _ in range(50):
        broker.publish("t", [Event(bytes(range(256)) * 40)] * 3)
    folder = broker._engine.path
    broker._engine.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = (folder / "ensign.db").stat().st_size
    with (folder / "ensign.db").open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xff" * 8192)
    with Broker.open(folder) as again:
        found = again.verify()
    assert {problem.code for problem in found.problems} == {"engine.damaged"}
    assert all("\n" not in problem.sentence for problem in found.problems)


def test_who_appends_meanwhile_is_not_kept_waiting_and_disturbs_nothing(broker: Broker) -> None:
    """Appends, new and deleted topics between any two steps."""
    for number in range(30):
        broker.publish(f"t{number % 3}", EVENTS * 10)
    steps = []

    def progress(doing: str, done: int, total: int) -> None:
        steps.append(doing)
        broker.publish("t0", EVENTS)
        broker.publish(f"new{len(steps)}", EVENTS)
        if doing == "opening records":
            broker.delete_topic("t1")

    found = broker.verify(progress=progress)
    assert found.problems == []
    assert (found.topics, found.frames) == (3, 20)
    assert set(steps) == {"looking at the tables", "opening records", "opening frames"}


def test_a_topic_that_is_deleted_while_its_frames_are_opened_is_no_damage(
    broker: Broker, tmp_path: Path
) -> None:
    class Deleting(SqliteEngine):
        def frames(self, topics: Iterable[bytes], after: int, bytes_max: int) -> list[Stored]:
            found = super().frames(topics, after, bytes_max)
            self.delete_topic(found[0].topic_id)
            return found

    broker.publish("a", EVENTS)
    broker.publish("b", EVENTS)
    engine = Deleting(tmp_path / "b")
    found = verify.verify(Vault(engine, broker._vault.keys))
    engine.close()
    assert (found.problems, found.frames) == ([], 1)


def test_several_verify_and_append_at_once(broker: Broker) -> None:
    broker.publish("t", EVENTS)
    ended = threading.Event()

    def publish() -> None:
        while not ended.is_set():
            broker.publish("t", EVENTS)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert [broker.verify().problems for _ in range(10)] == [[]] * 10
    finally:
        ended.set()
        thread.join()
