"""What lies on the disk changed in every way: always told, and never a wrong event."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw
import pytest

from ensign_core.broker import Broker, Event
from ensign_core.change import Batch, BatchBuilder, Column, Op, Position, Schema, Stage, Tx
from ensign_core.errors import EnsignError
from ensign_core.frame import HEADER_BYTES
from ensign_core.rows import new_image

ORDERS = Schema("orders", (("table", "orders"),), (Column("id", "int4", "int", key=True),))
LINES = Schema(
    "lines", (("table", "lines"),), (Column("n", "int8", "int"), Column("t", "text", "text"))
)
TOLD = {"frame.tampered", "frame.damaged", "frame.version_unknown"}
HELD = [("HOLD", 1), ("NONE", 2), ("HOLD", 3), ("NONE", 4), ("RELEASE", 5)]


def rows(*values: int, schemas: tuple[Schema, ...] = (ORDERS,), per_tx: int = 1) -> Batch:
    """A batch of rows with these values, in transactions of so many."""
    builder = BatchBuilder()
    for place, value in enumerate(values):
        if place % per_tx == 0:
            builder.begin(Tx(str(place), f"0/{place}", 1_000_000 + place))
        schema = schemas[place % len(schemas)]
        builder.add(Op.INSERT, schema, new_image([str(value)] * len(schema.columns)))
    return builder.take(None)


@pytest.fixture
def filled(broker: Broker) -> Broker:
    """Frames of many kinds: a small one, many events, several schemas, transactions."""
    broker.publish("small", [Event(b"1")])
    broker.publish("many", [Event(b"%d" % n, b"k", {"a": "b"}) for n in range(300)])
    writer = broker.writer("p")
    writer.append([("schemas", rows(*range(7), schemas=(ORDERS, LINES)))], Position(b"1"))
    writer.append([("txs", rows(*range(40), per_tx=3))], Position(b"2"), kept={"x": b"1"})
    broker.pipelines.set_status("p", {"state": "streaming"})
    return broker


def database(broker: Broker) -> apsw.Connection:
    return broker._engine.database.connection()


@contextmanager
def changed(broker: Broker, sql: str, *values: object) -> Iterator[None]:
    """The database with a change, which is taken back."""
    db = database(broker)
    db.execute("BEGIN")
    try:
        db.execute(sql, values)
        assert db.changes() > 0, sql
        yield
    finally:
        db.execute("ROLLBACK")


def read(broker: Broker, topic: str) -> list[tuple[int, bytes]]:
    """Offsets and bodies of a topic, by a broker that has opened nothing yet."""
    with broker.reader([topic]) as reader:
        batches = list(itertools.chain.from_iterable(iter(reader.fetch, [])))
    return [(change.offset, change.body) for batch in batches for change in batch]


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(EnsignError) as raised:
        call(*arguments)
    assert raised.value.sentence
    assert raised.value.remedy
    return raised.value.code


def problems(broker: Broker, *topics: str) -> set[tuple[str, str | None]]:
    found = broker.verify(topics or None)
    assert found.problems_left_out == 0
    return {(problem.code, problem.topic) for problem in found.problems}


TOPICS = ["small", "many", "schemas", "txs"]


@pytest.mark.parametrize("topic", TOPICS)
def test_every_flipped_byte_of_a_frame_is_told(filled: Broker, topic: str) -> None:
    ((body, data),) = database(filled).execute(
        "SELECT bodies.id, data FROM frames JOIN topics ON topics.id = topic "
        "JOIN bodies ON bodies.id = body WHERE name = ?",
        (topic,),
    )
    as_it_was = read(filled, topic)
    assert problems(filled) == set()
    for place in range(len(data)):
        for bit in range(8) if place < HEADER_BYTES else (place % 8,):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            with changed(filled, "UPDATE bodies SET data = ? WHERE id = ?", bytes(flipped), body):
                assert refusal(read, filled, topic) in TOLD, place
    for other in (b"", data[:-1], data[: HEADER_BYTES + 1], data + b"\0", data * 2, data[1:]):
        with changed(filled, "UPDATE bodies SET data = ? WHERE id = ?", other, body):
            assert refusal(read, filled, topic) in TOLD
            assert {code for code, _ in problems(filled, topic)} & TOLD
    assert read(filled, topic) == as_it_was


def bodies(broker: Broker, topic: str) -> list[tuple[int, bytes]]:
    return list(
        database(broker).execute(
            "SELECT body, data FROM frames JOIN bodies ON bodies.id = body "
            "WHERE topic = (SELECT id FROM topics WHERE name = ?) ORDER BY base",
            (topic,),
        )
    )


SWAPS = [
    "UPDATE bodies SET data = iif(id = ?1, ?4, ?2) WHERE id IN (?1, ?3)",
    "UPDATE frames SET body = iif(body = ?1, ?3, ?1) WHERE body IN (?1, ?3) AND ?2 <> ?4",
]


@pytest.mark.parametrize("swap", SWAPS)
def test_frames_of_a_writer_that_change_places_are_told(broker: Broker, swap: str) -> None:
    """Equal in all that their headers say but the counter."""
    writer = broker.writer()
    for value in range(4):
        writer.append([("t", rows(value, value)), ("u", rows(value, value))])
    found = bodies(broker, "t")
    for one, other in itertools.combinations(found, 2):
        with changed(broker, swap, *one, *other):
            assert problems(broker) == {("frame.tampered", "t")}
            with broker.reader(["t"]) as reader:
                told = refusal(lambda: list(iter(reader.fetch, [])))
                # And it does not get over it by trying again.
                assert (told, refusal(reader.fetch)) == ("frame.tampered",) * 2
    with changed(broker, swap, *found[1], *bodies(broker, "u")[1]):
        assert problems(broker) >= {("frame.damaged", "t"), ("frame.damaged", "u")}
    assert problems(broker) == set()


@pytest.mark.parametrize("swap", SWAPS)
def test_frames_of_two_writers_that_change_places_are_told(broker: Broker, swap: str) -> None:
    for writer in (broker.writer(), broker.writer()):
        for value in range(3):
            writer.append([("t", rows(value))])
    found = bodies(broker, "t")
    for one, other in itertools.product(found[:3], found[3:]):
        with changed(broker, swap, *one, *other):
            assert problems(broker) == {("frame.tampered", "t")}


def test_what_was_held_lies_behind_what_was_sealed_later(broker: Broker) -> None:
    """Which is how it was written, and so no reason to refuse it."""
    writer = broker.writer("p")
    for _ in range(2):
        for stage, value in HELD:
            writer.append([("t", rows(value))], Position(b"1"), Stage[stage])
    assert [body[-1:] for _, body in read(broker, "t")] == [b"2", b"4", b"1", b"3", b"5"] * 2
    assert problems(broker) == set()
    found = bodies(broker, "t")
    for one, other in ((2, 3), (7, 8), (2, 7), (3, 8), (0, 1)):
        with changed(broker, SWAPS[0], *found[one], *found[other]):
            assert problems(broker) == {("frame.tampered", "t")}


def test_appends_that_fail_leave_the_order_as_it_is(broker: Broker) -> None:
    db = database(broker)
    writer = broker.writer("p")
    writer.append([("t", rows(1))])
    ((pages,),) = db.execute("PRAGMA page_count")
    large = BatchBuilder().begin(Tx("1", "0/1", 1))
    large.add(Op.INSERT, ORDERS, new_image([random.Random(1).randbytes(300_000)]))
    refused_batch = large.take(None)
    for stage in (Stage.NONE, Stage.HOLD, Stage.RELEASE):
        db.execute(f"PRAGMA max_page_count = {pages}")
        for _ in range(3):
            batches = [("t", rows(2)), ("t", refused_batch)]
            assert refusal(writer.append, batches, Position(b"1"), stage) == "engine.disk_full"
        db.execute("PRAGMA max_page_count = 1000000")
        writer.append([("t", rows(3)), ("t", rows(4))], Position(b"1"), stage)
    assert [body[-1:] for _, body in read(broker, "t")] == [
        b"1",
        b"3",
        b"4",
        b"3",
        b"4",
        b"3",
        b"4",
    ]
    assert problems(broker) == set()


def test_writers_at_once_are_in_order(broker: Broker) -> None:
    def write() -> None:
        writer = broker.writer()
        for number in range(20):
            writer.append([("t", rows(number))])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(broker, "t")) == 80
    assert problems(broker) == set()


def test_every_change_of_a_key_is_told(filled: Broker) -> None:
    found = list(database(filled).execute("SELECT rowid, id, topic, wrapped FROM keys.data_keys"))
    expected = {
        "id": {"key.missing", "key.damaged"},
        "topic": {"key.missing", "key.damaged"},
        "wrapped": {"key.damaged"},
    }
    as_they_were = {topic: read(filled, topic) for topic in TOPICS}
    with Broker.open(filled._engine.path) as other:
        names = {info.id: info.name for info in other.topics()}
    for row, *columns in found:
        for column, value in zip(expected, columns, strict=True):
            for place in range(len(value)):
                flipped = bytearray(value)
                flipped[place] ^= 1 << place % 8
                sql = f"UPDATE keys.data_keys SET {column} = ? WHERE rowid = ?"
                with changed(filled, sql, bytes(flipped), row):
                    told = {code for code, _ in problems(filled)}
                    assert told
                    assert told <= expected[column], column
    with changed(filled, "UPDATE keys.data_keys SET state = 'bctive'"):
        assert problems(filled) == {("key.damaged", None)}
    assert {topic: read(filled, topic) for topic in names.values()} == as_they_were
