"""The sqlite engine: databases of an earlier Ensign, appends of many topics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ensign_core.change import Stage
from ensign_core.crypto import DataKey
from ensign_core.engine import StaleWriteError, Write
from ensign_core.engine.sqlite import SqliteEngine

TOPIC, KEY = b"t" * 16, b"k" * 16


def write(events: int) -> Write:
    return Write(TOPIC, "t", KEY, events, 0, b"frame")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "b"


@pytest.fixture
def engine(folder: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(folder)
    made.keys.add([DataKey(KEY, TOPIC, b"wrapped", 0, "active")])
    yield made
    made.close()


def offsets(engine: SqliteEngine) -> list[tuple[int, int]]:
    return [(s.offset, s.events) for s in engine.frames([TOPIC], 0, 1 << 30)]


def test_a_database_that_an_earlier_ensign_made_is_brought_up_to_date(
    folder: Path, engine: SqliteEngine
) -> None:
    epoch = engine.pipelines.claim("p")
    engine.append([write(2)], {}, epoch, b"first")
    db = engine.database.connection()
    for statement in (
        "ALTER TABLE held DROP COLUMN content_bytes",
        "ALTER TABLE topics DROP COLUMN policy",
        "ALTER TABLE held ADD COLUMN first_us INTEGER NOT NULL DEFAULT 0",
        "INSERT INTO bodies VALUES (77, x'00')",
        "INSERT INTO held VALUES (77, 'p', 1, 3, 5, x'00', 1, 0)",
        "DROP TABLE signals",
        "DROP TABLE dropped",
        "DROP TABLE replays",
        "DROP TABLE kept",
        "PRAGMA user_version = 0",
    ):
        db.execute(statement)
    engine.close()
    for _ in range(2):
        again = SqliteEngine(folder)
        assert again.pipelines.position("p") == b"first"
        assert again.pipelines.signals("p") == []
        assert again.pipelines.kept("p") == {}
        again.close()
    again = SqliteEngine(folder)
    assert again.append([], {}, epoch, b"second", Stage.RELEASE) == []
    assert offsets(again) == [(0, 2), (2, 3)]
    again.append([write(1)], {}, epoch, b"third", Stage.HOLD)
    again.append([], {}, epoch, b"fourth", Stage.RELEASE, {"x": b"1"})
    assert again.pipelines.kept("p") == {"x": b"1"}
    assert offsets(again) == [(0, 2), (2, 3), (5, 1)]
    assert again.pipelines.add_signal("p", b"x") == 1
    again.letters.ask(TOPIC, "p", "source", [3])
    assert again.letters.asked(TOPIC, "source", 9) == [3]
    again.close()


def test_an_append_of_many_topics_takes_a_fixed_number_of_statements(engine: SqliteEngine) -> None:
    names = [f"t{number}" for number in range(200)]
    keys = [DataKey(n.encode() * 8, n.encode() * 6, b"wrapped", 0, "active") for n in names]
    assert engine.keys.add(keys) == keys
    writes = [
        Write(key.topic_id, name, key.key_id, 1, 0, b"x")
        for name, key in zip(names, keys, strict=True)
    ]
    assert engine.append(writes, {}, engine.pipelines.claim("p")) == [0] * 200
    seen: list[str] = []

    def trace(_cursor: object, sql: str, _values: object) -> bool:
        seen.append(sql)
        return True

    engine.database.connection().set_exec_trace(trace)
    assert engine.append([*writes, writes[7]], {}, engine.pipelines.claim("p")) == [1] * 200 + [2]
    engine.database.connection().set_exec_trace(None)
    assert len([sql for sql in seen if sql.startswith("SELECT")]) < 10
    assert engine.topics(["t7"])[0].next_offset == 3
    assert len(engine.pipelines.topics("p")) == 200


def test_two_topics_of_one_name_in_one_append_are_refused(engine: SqliteEngine) -> None:
    other = Write(b"u" * 16, "t", KEY, 1, 0, b"x")
    for writes in ([other, write(1)], [write(1), other]):
        with pytest.raises(StaleWriteError):
            engine.append(writes, {})
    assert engine.topics() == []


def test_reading_sorts_nothing(engine: SqliteEngine) -> None:
    """Or each fetch would read all frames that are left."""
    for _ in range(3):
        engine.append([write(2)], {})
    db, asked = engine.database.connection(), list[tuple[str, Any]]()

    def trace(_: object, sql: str, values: Any) -> bool:
        asked.append((sql, values))
        return True

    db.exec_trace = trace
    assert [stored.offset for stored in engine.frames([TOPIC, KEY], 1, 1 << 20)] == [2, 4]
    assert (engine.sequence_at(TOPIC, 3), engine.offset_at(TOPIC, 0)) == (2, 0)
    db.exec_trace = None
    plans = [
        str(row[3])
        for sql, values in asked
        for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", values)
    ]
    assert len(asked) == 3
    assert [step for step in plans if "TEMP B-TREE" in step] == []
