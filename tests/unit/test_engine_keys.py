"""Keys in the sqlite engine: rotated, wrapped anew, destroyed without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ensign_core.change import Stage
from ensign_core.crypto import PROJECT, DataKey
from ensign_core.engine import StaleKekError, StaleWriteError, Write
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from tests.files import holders

TOPIC, KEY = b"t" * 16, b"k" * 16
OLD = DataKey(KEY, TOPIC, b"wrapped under old", 0, "active")
NEW = DataKey(b"n" * 16, TOPIC, b"wrapped", 1, "active")


def write(events: int = 1, key_id: bytes = KEY) -> Write:
    return Write(TOPIC, "t", key_id, events, 0, b"frame")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(tmp_path / "b")
    made.keys.add([OLD])
    yield made
    made.close()


def offsets(engine: SqliteEngine) -> list[tuple[int, int]]:
    return [(s.offset, s.events) for s in engine.frames([TOPIC], 0, 1 << 30)]


def test_a_rotated_key_seals_no_more_and_stays(engine: SqliteEngine) -> None:
    engine.append([write(2)], {})
    other = DataKey(b"o" * 16, b"u" * 16, b"wrapped", 0, "active")
    assert engine.keys.rotate([NEW, other]) == [NEW], "a topic without a key has nothing to rotate"
    assert engine.keys.stored() == [replace(OLD, state="retired"), NEW]
    with pytest.raises(StaleWriteError):
        engine.append([write()], {})
    assert engine.append([write(3, NEW.key_id)], {}) == [2]
    assert engine.keys.frames() == {KEY: 1, NEW.key_id: 1}
    assert engine.keys.add([OLD]) == [NEW]


def test_the_projects_own_key_is_not_rotated(engine: SqliteEngine) -> None:
    own = DataKey(b"o" * 16, PROJECT, b"wrapped", 0, "active")
    engine.keys.add([own])
    assert engine.keys.rotate([replace(own, key_id=b"p" * 16)]) == []
    assert engine.keys.stored([PROJECT]) == [own]


def test_the_events_under_a_key_are_told_as_ranges(engine: SqliteEngine) -> None:
    assert engine.keys.ranges(KEY) == []
    epoch = engine.pipelines.claim("p")
    engine.append([write(2)], {})
    engine.append([write(3)], {})
    engine.append([write(4)], {}, epoch, None, Stage.HOLD)
    engine.keys.rotate([NEW])
    engine.append([write(1, NEW.key_id)], {})
    engine.append([], {}, epoch, b"end", Stage.RELEASE)
    engine.append([write(1, NEW.key_id)], {})
    assert engine.keys.ranges(KEY) == [(0, 5), (6, 10)]
    assert engine.keys.ranges(NEW.key_id) == [(5, 6), (10, 11)]


def test_keys_are_wrapped_anew_all_or_none(engine: SqliteEngine) -> None:
    engine.keys.rotate([NEW])
    engine.keys.revoke(NEW.key_id)
    before = engine.keys.stored()

    def wrap(key: DataKey) -> DataKey:
        return replace(key, wrapped=b"anew" if key.wrapped else b"")

    def refuse(key: DataKey) -> DataKey:
        if key.key_id == NEW.key_id:
            raise EnsignError("key.damaged", "It is damaged.", "Restore it.")
        return wrap(key)

    with pytest.raises(EnsignError):
        engine.keys.rewrap(refuse, b"", b"second")
    assert (engine.keys.check(), engine.keys.stored()) == (b"", before)
    assert engine.keys.rewrap(wrap, b"", b"second")
    assert engine.keys.check() == b"second"
    assert [key.wrapped for key in engine.keys.stored()] == [b"anew", b""]
    assert not engine.keys.rewrap(refuse, b"", b"second"), "it is done"
    with pytest.raises(StaleKekError):
        engine.keys.rewrap(wrap, b"", b"third")


def test_nothing_is_added_under_a_kek_that_was_replaced(engine: SqliteEngine) -> None:
    engine.keys.begin(b"first")
    engine.keys.begin(b"another")
    assert engine.keys.check() == b"first"
    assert engine.keys.stored(check=b"first") == [OLD]
    other = DataKey(b"o" * 16, b"u" * 16, b"wrapped", 0, "active")
    for stale in (b"", b"another"):
        with pytest.raises(StaleKekError):
            engine.keys.add([other], stale)
        with pytest.raises(StaleKekError):
            engine.keys.rotate([NEW], stale)
        with pytest.raises(StaleKekError):
            engine.keys.stored([TOPIC], stale)
    assert engine.keys.stored() == [OLD]
    assert engine.keys.add([other], b"first") == [other]


def test_a_revoked_key_is_destroyed_and_seals_no_more(engine: SqliteEngine) -> None:
    engine.append([write(2)], {})
    for count in (1, 2):
        engine.keys.revoke(KEY)
        assert engine.keys.revocations() == count
        assert engine.keys.stored() == [replace(OLD, state="revoked", wrapped=b"")]
        with pytest.raises(StaleWriteError):
            engine.append([write()], {})
    assert holders(engine.path, OLD.wrapped) == []
    assert engine.keys.add([NEW]) == [NEW], "the topic gets another"
    assert offsets(engine) == [(0, 2)]


def test_what_was_held_under_a_revoked_key_is_void_and_not_passed_over(
    engine: SqliteEngine,
) -> None:
    epoch = engine.pipelines.claim("p")
    engine.append([write(2)], {}, epoch, None, Stage.HOLD)
    engine.keys.revoke(KEY)
    engine.keys.add([NEW])
    engine.append([write(3, NEW.key_id)], {}, epoch, None, Stage.HOLD)
    with pytest.raises(EnsignError) as raised:
        engine.append([], {}, epoch, b"end", Stage.RELEASE)
    assert raised.value.code == "pipeline.interrupted"
    assert (engine.topics()[0].events, engine.pipelines.position("p")) == (0, None)
    again = engine.pipelines.claim("p")
    engine.append([write(5, NEW.key_id)], {}, again, b"end", Stage.RELEASE)
    assert offsets(engine) == [(0, 5)]


def test_hashes_of_what_a_revoked_key_sealed_are_gone(engine: SqliteEngine) -> None:
    engine.append([write(3)], {})
    engine.keys.rotate([NEW])
    engine.append([write(2, NEW.key_id)], {})
    db = engine.database.connection()
    db.executemany("INSERT INTO dedup VALUES (?, ?, ?)", [(t, bytes([o]), o) for t in (1, 2)
                                                          for o in range(5)])  # fmt: skip
    engine.keys.revoke(KEY)
    left = [(1, 3), (1, 4), *((2, offset) for offset in range(5))]
    assert sorted(db.execute("SELECT topic, offset FROM dedup")) == left
    engine.delete_topic(TOPIC)
    assert list(db.execute("SELECT DISTINCT topic FROM dedup")) == [(2,)]


@pytest.mark.parametrize("seed", [28, 29, 30])
def test_no_copy_of_a_key_is_left_where_pages_were_split_and_merged(
    tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    engine = SqliteEngine(tmp_path / "b")
    for schema in ("main", "keys"):
        engine.database.connection().execute(f"PRAGMA {schema}.synchronous = OFF")
    live: list[DataKey] = []
    gone: list[DataKey] = []

    def fresh(topic_id: bytes) -> DataKey:
        return DataKey(rng.randbytes(16), topic_id, rng.randbytes(60), 0, "active")

    for _ in range(15):
        live += engine.keys.add([fresh(rng.randbytes(16)) for _ in range(rng.randrange(1, 60))])
        some = rng.sample(live, len(live) // 4)
        live += engine.keys.rotate([fresh(key.topic_id) for key in some])
        for key in rng.sample(live, len(live) // 3):
            live.remove(key)
            gone.append(key)
            engine.keys.revoke(key.key_id)
        for key in rng.sample(live, len(live) // 3):
            engine.delete_topic(key.topic_id)
            gone += [other for other in live if other.topic_id == key.topic_id]
            live = [other for other in live if other.topic_id != key.topic_id]
    engine.keys.rewrap(lambda key: replace(key, wrapped=key.wrapped[::-1]), b"", b"second")
    for key in gone + live:
        for part in (key.wrapped[:20], key.wrapped[-20:]):
            assert holders(engine.path, part) == []
    engine.close()
