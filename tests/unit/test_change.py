"""Batches against a naive model that holds every event by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Batch, BatchBuilder, Column, Op, Position, Schema, Stage, Tx
from ensign_core.rows import encode, new_image
from tests.property.test_frame import TXS, Event, bodies, exploded, modelled, schemas

ORDERS = Schema("orders", (("table", "orders"),), (Column("id", "int4", "int", False, True),))
LINES = Schema("lines", (("table", "lines"),), (Column("id", "int4", "int"),))


@given(modelled())
def test_iteration_gives_every_event_with_its_transaction(made: tuple[Batch, list[Event]]) -> None:
    batch, events = made
    assert exploded(batch) == events
    assert len(batch) == len(events)


@given(modelled(), st.data())
def test_part_is_a_slice(made: tuple[Batch, list[Event]], data: st.DataObject) -> None:
    batch, events = made
    batch.topic, batch.offset, batch.position = "orders", 40, Position(b"p")
    start = data.draw(st.integers(0, len(events)))
    stop = data.draw(st.integers(start, len(events)))
    part = batch.part(start, stop)
    assert exploded(part) == events[start:stop]
    assert (part.topic, part.offset, part.next_offset) == ("orders", 40 + start, 40 + stop)
    assert part.position is None
    again = part.part(0, len(part))
    assert exploded(again) == events[start:stop]


@given(modelled(), st.data())
def test_split_keeps_events_ordinals_and_used_schemas(
    made: tuple[Batch, list[Event]], data: st.DataObject
) -> None:
    batch, events = made
    names = [data.draw(st.sampled_from("abc")) for _ in batch.schemas]
    by_schema = dict(zip(batch.schemas, names, strict=True))
    split = batch.split(names)
    for name in "abc":
        chosen = [event for event in events if by_schema[event[1]] == name]
        assert (name in split) == bool(chosen)
        if not chosen:
            continue
        part = split[name]
        assert exploded(part) == chosen
        assert set(part.schemas) == {event[1] for event in chosen}
        assert len(part.schemas) == len(set(part.schemas))
        starts = [run.start for run in part.runs]
        assert starts == sorted(set(starts))


def test_neighbours_that_stay_neighbours_share_a_run() -> None:
    builder = BatchBuilder().begin(Tx("1", "", 1), 10)
    for schema in (ORDERS, ORDERS, LINES, ORDERS, ORDERS, ORDERS):
        builder.add(Op.INSERT, schema, b"")
    split = builder.take(None).split(["orders", "lines"])
    assert [(run.start, run.ordinal) for run in split["orders"].runs] == [(0, 10), (2, 13)]
    assert [(run.start, run.ordinal) for run in split["lines"].runs] == [(0, 12)]


@given(schemas(), st.data())
def test_builder_gives_what_was_added(known: list[Schema], data: st.DataObject) -> None:
    builder = BatchBuilder()
    events: list[Event] = []
    tx: Tx | None = None
    ordinal = 0
    for _ in range(data.draw(st.integers(0, 12))):
        match data.draw(st.sampled_from(["begin", "add", "add", "take"])):
            case "begin":
                tx, ordinal = data.draw(TXS), data.draw(st.integers(0, 9))
                assert builder.begin(tx, ordinal) is builder
            case "add":
                op, schema = data.draw(st.sampled_from(Op)), data.draw(st.sampled_from(known))
                body = data.draw(bodies())
                builder.add(op, schema, body)
                events.append((op, schema, body, tx, ordinal if tx else 0))
                ordinal += 1
            case "take":
                assert builder.bytes == sum(len(event[2]) for event in events)
                assert exploded(builder.take(None)) == events
                events = []
        assert len(builder) == len(events)
    batch = builder.take(Position(b"end"), Stage.HOLD)
    assert exploded(batch) == events
    assert (batch.position, batch.stage) == (b"end", Stage.HOLD)


def test_transactions_without_events_leave_no_run() -> None:
    builder = BatchBuilder().begin(Tx("1", "", 1)).begin(Tx("2", "", 2))
    builder.add(Op.INSERT, ORDERS, new_image(["7"]))
    (run,) = builder.take(None).runs
    assert run.tx.id == "2"


def test_a_transaction_goes_on_in_the_next_batch() -> None:
    builder = BatchBuilder().begin(Tx("742", "0/1", 5))
    for _ in range(2):
        builder.add(Op.INSERT, ORDERS, b"")
    assert [c.ordinal for c in builder.take(None)] == [0, 1]
    builder.add(Op.INSERT, ORDERS, b"")
    (change,) = builder.take(None)
    assert (change.ordinal, change.tx) == (2, Tx("742", "0/1", 5))


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (b"", (None, None, False)),
        (b"N" + encode(["1"]), (None, encode(["1"]), False)),
        (b"K" + encode(["1", None]), (encode(["1", None]), None, True)),
        (b"O" + encode(["1"]), (encode(["1"]), None, False)),
        (b"K" + encode(["1"]) + b"N" + encode([b"2"]), (encode(["1"]), encode([b"2"]), True)),
        (b"O" + encode([None]) + b"N" + encode(["2"]), (encode([None]), encode(["2"]), False)),
    ],
)
def test_images(body: bytes, images: tuple[bytes | None, bytes | None, bool]) -> None:
    builder = BatchBuilder()
    for neighbour in (b"N" + encode(["before"]), body, b"O" + encode(["after"])):
        builder.add(Op.UPDATE, ORDERS, neighbour)
    assert list(builder.take(None))[1].images() == images


def test_a_schema_is_its_structure() -> None:
    same = Schema("orders", (("table", "orders"),), (Column("id", "int4", "int", False, True),))
    assert (same, same.id, hash(same)) == (ORDERS, ORDERS.id, hash(ORDERS))
    assert ORDERS.key == (0,)
    assert LINES.key == ()
    wider = Schema("orders", ORDERS.names, (*ORDERS.columns, Column("note", "text", "text")))
    assert len({ORDERS.id, LINES.id, wider.id}) == 3
    # The id is stored in every frame: it must be the same in every release.
    assert ORDERS.id == 0x64B6489EE4F4B4F5
