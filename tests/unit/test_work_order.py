"""Work groups: what comes one after another, and what happens when topics, events and keys go."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event
from ensign_core.change import BatchBuilder, Column, Op, Schema
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.rows import encode, new_image
from tests.unit.conftest import Clock
from tests.unit.test_broker import events, refused
from tests.unit.test_work import floor, keyed, letters, texts


def test_an_event_waits_for_the_earlier_ones_of_its_key(broker: Broker, clock: Clock) -> None:
    broker.publish("t", keyed("a1", "a2", "b1", "1", "a3", "2"))
    with broker.work("g", ["t"]) as one, broker.work("g", ["t"]) as other:
        given = one.receive(3)
        assert texts(given) == ["a1", "b1", "1"]
        assert texts(other.receive()) == ["2"]
        assert one.state.parked == 2
        given[0].nack(delay_s=5)
        assert other.receive() == []
        clock.step(5)
        (a1,) = other.receive()
        assert (texts([a1]), a1.attempt) == (["a1"], 2)
        a1.ack()
        (a2,) = one.receive()
        assert texts([a2]) == ["a2"]
        assert other.receive() == []
        a2.ack()
        assert texts(other.receive()) == ["a3"]


def test_without_key_order_nothing_is_parked(broker: Broker) -> None:
    broker.publish("t", keyed("a1", "a2"))
    with broker.work("g", ["t"], key_order=False) as member:
        assert texts(member.receive()) == ["a1", "a2"]


def test_rows_have_the_order_of_their_keys_columns(broker: Broker) -> None:
    table = Schema("shop.orders", (), (Column("note", "text", "text"),
                                       Column("id", "int", "int", key=True)))  # fmt: skip
    keyless = Schema("shop.log", (), (Column("note", "text", "text"),))
    builder = BatchBuilder()
    builder.add(Op.INSERT, table, new_image(["x", "1"]))
    builder.add(Op.INSERT, table, new_image(["x", "2"]))
    builder.add(Op.UPDATE, table, b"O" + encode(["x", "1"]) + new_image(["y", "1"]))
    builder.add(Op.DELETE, table, b"K" + encode([None, "2"]))
    builder.add(Op.INSERT, keyless, new_image(["x"]))
    builder.add(Op.INSERT, keyless, new_image(["x"]))
    builder.add(Op.TRUNCATE, table, b"")
    broker.writer().append([("t", builder.take(None))])
    with broker.work("g", ["t"]) as member:
        given = member.receive()
        assert [one.event.offset for one in given] == [0, 1, 4, 5, 6]
        assert given[0].event.event is None
        given[1].ack()
        assert [one.event.offset for one in member.receive()] == [3]
        given[0].ack()
        assert [one.event.offset for one in member.receive()] == [2]


def test_keys_are_not_in_the_database(broker: Broker, tmp_path: Path) -> None:
    broker.publish("t", [Event(b"x", b"Kundennummer 4711")] * 2)
    with broker.work("g", ["t"]) as member:
        member.receive()
        for file in (tmp_path / "b").iterdir():
            assert not file.is_file() or b"4711" not in file.read_bytes()
        rows = SqliteEngine(tmp_path / "b").database.rows("SELECT key FROM deliveries")
    assert [len(key) for (key,) in rows] == [16, 16]
    assert rows[0] == rows[1]


def test_a_deleted_topic_leaves_nothing_and_a_new_one_is_read(broker: Broker) -> None:
    broker.publish("t", keyed("a1", "a2"))
    broker.publish("u", events(1))
    with broker.work("g", ["t", "u"]) as member:
        given = member.receive()
        broker.delete_topic("t")
        assert member.state.unfinished == 1
        assert [one.event.topic for one in member.ack(given)] == ["t"]
        broker.publish("t", events("new"))
        assert texts(member.receive()) == ["new"]
        assert broker.topic("u").groups == {"g": 1}


def test_events_that_were_trimmed_are_done_with(broker: Broker, clock: Clock) -> None:
    for number in range(4):
        broker.publish("t", keyed(f"a{number}", f"{number}"))
    with broker.work("g", ["t"]) as gone, broker.work("g", ["t"]) as member:
        assert texts(gone.receive(3)) == ["a0", "0", "1"]
        with SqliteEngine(broker._engine.path).database.transaction() as db:
            db.execute("DELETE FROM frames WHERE base < 6")
        clock.step(21)
        given = member.receive()
        assert texts(given) == ["3"]
        member.ack(given)
        assert texts(member.receive()) == ["a3"]
        assert floor(broker) == 6
    assert letters(broker) == []


def test_events_under_a_revoked_key_are_set_aside_without_content(
    broker: Broker, clock: Clock
) -> None:
    broker.publish("t", keyed("a1", "a2", "1"))
    broker.publish("t", events("unseen", "unseen"))
    broker.publish("u", events("readable"))
    with broker.work("g", ["t", "u"]) as member:
        assert texts(member.receive(1)) == ["a1"]
        broker.keys.revoke(broker.topic("t").key_ids[0])
        clock.step(21)
        given = member.receive()
        assert texts(given) == ["readable"]
        member.ack(given)
        assert member.receive() == []
        found = [one.event for one in letters(broker) if one.event]
        assert {one.metadata["code"] for one in found} == {"key.revoked"}
        assert {one.data for one in found} == {b""}
        named: set[int] = set()
        for one in found:
            first = int(one.metadata["offset"])
            named |= set(range(first, int(one.metadata.get("last_offset", first)) + 1))
        assert named == {0, 1, 2, 3, 4}
        assert floor(broker) == 5
        assert broker.topic("u").groups == {"g": 1}


def test_a_frame_that_does_not_open_stops_what_comes_behind_it(broker: Broker) -> None:
    broker.publish("t", events(1))
    broker.publish("t", events(2))
    with broker._engine.database.transaction() as db:
        db.execute("UPDATE bodies SET data = CAST(substr(data, 1, length(data) - 1) || x'00' "
                   "AS BLOB) WHERE id = 2")  # fmt: skip
    with broker.work("g", ["t"]) as member:
        assert texts(member.receive()) == ["1"]
        for _ in range(2):
            with pytest.raises(EnsignError) as raised:
                member.receive()
            assert raised.value.code == "frame.tampered"


def test_a_member_gets_what_its_reader_may_read(broker: Broker, clock: Clock) -> None:
    broker.publish("t", events(1, 2))
    broker.grants.add("t", "ann")
    for read in (broker.subscribe, broker.reader):
        assert refused(read, ["t"], as_reader="bob") == "topic.not_granted"
    assert refused(broker.processor, "p", ["t"], as_reader="bob") == "topic.not_granted"
    assert refused(broker.work, "g", ["t"], as_reader="bob") == "topic.not_granted"
    with broker.work("g", ["t"], as_reader="ann") as member:
        (one,) = member.receive(1)
        broker.grants.remove("t", "ann")

        def receive_until_refused() -> None:
            while True:
                clock.step(21)
                member.receive(1)

        assert refused(receive_until_refused) == "topic.not_granted"
        assert member.ack([one]) == [one]


def test_a_group_that_is_forgotten_begins_anew(broker: Broker) -> None:
    broker.publish("t", events(1, 2))
    with broker.work("g", ["t"]) as member:
        member.ack(member.receive(1))
        assert texts(member.receive(1)) == ["2"]
        broker.forget_group("g")
        assert refused(member.receive) == "group.forgotten"
        with broker.work("g", ["t"]) as again:
            assert texts(again.receive()) == ["1", "2"]
