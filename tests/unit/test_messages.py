"""Messages of brokers by example: keys, values, and what is marked as gone."""

from __future__ import annotations

import json

import pytest

from ensign_core.change import Batch, BatchBuilder, Column, Op, Schema, Tx, event_schema
from ensign_core.errors import EnsignError
from ensign_core.formats import FORMATS, formatter
from ensign_core.formats.lines import Messages
from ensign_core.rows import ABSENT, encode, messages, new_image

NAMES = (("database", "shop"), ("schema", "public"), ("table", "orders"))
ORDERS = Schema(
    "public.orders",
    NAMES,
    (
        Column("id", "bigint", "int", nullable=False, key=True),
        Column("note", "text", "text"),
        Column("day", "date", "date", nullable=False, key=True),
    ),
)
LOG = Schema("public.log", NAMES, (Column("line", "text", "text"),))
DAY = "1970-01-02"
OLD = b"K" + encode(["7", None, DAY])
FULL = b"O" + encode(["7", "a", DAY])
ROW_FORMATS = [name for name in FORMATS if name != "raw"]


def batch_of(*events: tuple[Op, bytes], schema: Schema = ORDERS) -> Batch:
    builder = BatchBuilder().begin(Tx("742", "0/16B3748", 1_795_439_430_661_374))
    for op, body in events:
        builder.add(op, schema, body)
    batch = builder.take(None)
    batch.topic, batch.offset = "shop.public.orders", 41
    return batch


def sent(name: str, *events: tuple[Op, bytes], schema: Schema = ORDERS) -> Messages:
    return formatter(name).messages(batch_of(*events, schema=schema))


def key_of(name: str, number: int = 7) -> bytes:
    day = "1" if name == "debezium" else f'"{DAY}"'
    return f'{{"id":{number},"day":{day}}}'.encode()


@pytest.mark.parametrize("name", ROW_FORMATS)
def test_keys_are_the_rows_key_columns(name: str) -> None:
    row = new_image(["7", "a", DAY])
    events = [(Op.SNAPSHOT, row), (Op.INSERT, row), (Op.UPDATE, FULL + row), (Op.DELETE, OLD)]
    found = sent(name, *events)
    assert found.keys == [key_of(name)] * 4
    assert list(found.indexes) == [0, 1, 2, 3]
    assert found.deletes == bytes([0, 0, 0, 1])


@pytest.mark.parametrize("name", ROW_FORMATS)
def test_a_key_column_that_did_not_change_is_that_of_the_old_row(name: str) -> None:
    body = FULL + new_image([ABSENT, "b", ABSENT])
    found = sent(name, (Op.UPDATE, body))
    assert (found.keys, found.deletes) == ([key_of(name)], b"\0")


@pytest.mark.parametrize("name", ROW_FORMATS)
@pytest.mark.parametrize("old", [OLD, FULL])
def test_a_changed_key_leaves_nothing_under_the_old_one(name: str, old: bytes) -> None:
    found = sent(name, (Op.UPDATE, old + new_image(["8", "a", DAY])))
    assert found.keys == [key_of(name), key_of(name, 8)]
    assert list(found.indexes) == [0, 0]
    assert found.deletes == bytes([1, 0])
    if name == "debezium":
        assert [json.loads(value or b"")["op"] for value in found.values] == ["d", "c"]
    else:
        assert found.values[0] is None
        assert found.values[1] is not None


@pytest.mark.parametrize("name", ROW_FORMATS)
def test_without_key_there_is_none_and_nothing_is_gone(name: str) -> None:
    gone = (Op.DELETE, b"O" + encode(["a"]))
    found = sent(name, (Op.INSERT, new_image(["a"])), gone, schema=LOG)
    assert (found.keys, found.deletes) == ([None, None], bytes(2))
    found = sent(name, (Op.TRUNCATE, b""))
    assert (found.keys, found.deletes) == ([None], b"\0")


@pytest.mark.parametrize("name", ["json", "flat"])
def test_values_are_the_lines(name: str) -> None:
    row = new_image(["7", "a", DAY])
    batch = batch_of((Op.INSERT, row), (Op.COMMIT, b""), (Op.DELETE, OLD), (Op.TRUNCATE, b""))
    lines, found = formatter(name).lines(batch), formatter(name).messages(batch)
    assert found.values == list(lines.texts)
    assert list(found.indexes) == list(lines.indexes) == [0, 2, 3]


EVENTS = [
    (b"k\xff", b"data"),
    (None, b"\xff"),
    (b"", b""),
    (b"k", None),
]


@pytest.mark.parametrize("name", ["json", "flat", "raw"])
def test_events_have_their_own_key(name: str) -> None:
    bodies = [new_image([key, data, None, None, None]) for key, data in EVENTS]
    batch = batch_of(*[(Op.EVENT, body) for body in bodies], schema=event_schema("t"))
    found = formatter(name).messages(batch)
    assert found.keys == [key for key, _ in EVENTS]
    if name == "raw":
        assert found.values == [data for _, data in EVENTS]
        assert found.deletes == bytes(4)
    else:
        assert found.values == list(formatter(name).lines(batch).texts)
        assert found.deletes == bytes([0, 0, 0, 1])


def test_raw_of_rows_is_refused() -> None:
    with pytest.raises(EnsignError, match=r"format\.raw_needs_events"):
        sent("raw", (Op.INSERT, new_image(["7", "a", DAY])))


def test_columns_are_picked_by_schema() -> None:
    builder = BatchBuilder()
    builder.add(Op.INSERT, ORDERS, new_image(["7", None, DAY]))
    builder.add(Op.DELETE, ORDERS, OLD)
    builder.add(Op.INSERT, LOG, new_image([b"\xff"]))
    batch = builder.take(None)
    places = [(2, 1, -1, -1, -1), (-1, -1, 0, -1, -1)]
    keys, values, indexes, headers, *_ = messages.records(batch, Op.INSERT, places)
    assert headers is not None
    found = list(zip(keys, values, headers, strict=True))
    assert found == [(DAY.encode(), None, None), (None, None, b"\xff")]
    assert indexes == [0, 2]


@pytest.mark.parametrize("harm", [slice(0, -1), slice(1, None), slice(0, 3), slice(0, 0)])
def test_columns_of_damaged_rows_are_refused(harm: slice) -> None:
    batch = batch_of((Op.INSERT, new_image(["7", "a", DAY])[harm]))
    with pytest.raises(EnsignError, match=r"rows\.damaged"):
        messages.records(batch, Op.INSERT, [(0, 2, -1, -1, -1)])
