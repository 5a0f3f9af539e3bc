"""``filter``: what a condition means, by type, by image, and what it may not be."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.kafka.gaps import Gap
from connectors.kinesis.records import gap_schema
from ensign_core.change import Column, Op, record_schema
from ensign_core.errors import EnsignError
from ensign_core.formats.decoding import decoder
from ensign_core.rows import ABSENT, Value, new_image
from ensign_core.transforms.operations import like
from tests.transforms import (
    ORDERS,
    Event,
    Letters,
    batch_of,
    changed,
    config,
    delete,
    insert,
    key_of,
    order,
    table,
    update,
    values,
)

WIDE = replace(ORDERS, columns=(*ORDERS.columns, Column("opens", "time", "time")))


def kept(where: str, *events: Event, **options: Any) -> list[bool]:
    found = changed(batch_of(*events), {"type": "filter", "where": where, **options})
    return [op != Op.REMOVED for op in found.ops]


def keeps(where: str, **columns: Value) -> bool:
    row = order(7)
    for name, value in columns.items():
        row[[column.name for column in ORDERS.columns].index(name)] = value
    return kept(where, insert(row))[0]


@pytest.mark.parametrize(
    ("where", "columns", "expected"),
    [
        ("amount > 9.99", {"amount": "10.00"}, True),
        ("amount = 10", {"amount": "10.00"}, True),
        ("amount > 9", {"amount": "10"}, True),  # as text it would not be
        ("amount = 0.1 + 0.2", {"amount": "0.3"}, True),
        ("amount > 100000000000000000000000000000.1",
         {"amount": "100000000000000000000000000000.2"}, True),
        ("amount > 1e300", {"amount": "NaN"}, True),
        ("amount = amount", {"amount": "NaN"}, True),
        ("amount < 0", {"amount": "-Infinity"}, True),
        ("id % 2 = 1", {"id": "7"}, True),
        ("id % 2 = -1", {"id": "-7"}, True),
        ("id % 0 = 0", {}, False),
        ("id > 9223372036854775807", {"id": "9223372036854775808"}, True),
        ("-id < -6 AND id - 1 = 6 AND id * amount = 70 AND id + amount > 16.99", {}, True),
        ("amount > 10 AND status <> 'x'", {"amount": "11"}, True),
        ("amount > 10 OR status = 'new'", {}, True),
        ("NOT (status = 'new')", {}, False),
        ("status IN ('a', 'new')", {}, True),
        ("status NOT IN ('a', 'new')", {}, False),
        ("status NOT IN ('a', NULL)", {}, False),
        ("id IN (1, 7.0)", {}, True),
        ("id IN (1, amount)", {"amount": "7.00"}, True),
        ("status IN (note, 'new')", {}, True),
        ("id BETWEEN 1 AND 7", {}, True),
        ("id NOT BETWEEN 1 AND 7", {}, False),
        ("status LIKE 'n%'", {}, True),
        ("status LIKE 'N%'", {}, False),
        ("status ILIKE 'N__'", {}, True),
        ("status LIKE 'n.w'", {}, False),
        ("status NOT LIKE 'n%'", {}, False),
        ("status LIKE 'n\\%w'", {"status": "n%w"}, True),
        ("status LIKE 'n!_w' ESCAPE '!'", {}, False),
        ("status NOT LIKE 'n!_w' ESCAPE '!'", {}, True),
        ("status LIKE 'a%'", {"status": "a\nb"}, True),
        ("note IS NULL", {"note": None}, True),
        ("note IS NOT NULL", {"note": ""}, True),
        ("note = ''", {"note": None}, False),
        ("NOT (note = '')", {"note": None}, False),
        ("note = '' OR id = 7", {"note": None}, True),
        ("note = '' AND id = 8", {"note": None}, False),
        ("note = NULL", {"note": None}, False),
        ("paid", {}, True),
        ("NOT paid", {}, False),
        ("paid = FALSE", {"paid": "f"}, True),
        ("paid IS NOT TRUE", {"paid": None}, True),
        ("paid IS FALSE", {"paid": None}, False),
        ("placed >= '2026-11-23'", {}, True),
        ("placed = '2026-11-23T13:10:30.000Z'", {}, True),
        ("placed > '2026-11-23 13:10'", {}, True),
        ("placed < '2026-11-23 13:10:30.0001'", {}, True),
        ("placed > '2026-01-01'", {"placed": "10000-01-01 00:00:00+00"}, True),
        ("placed > '2026-01-01'", {"placed": "infinity"}, True),
        ("placed < '0001-01-01 BC'", {"placed": "0044-03-15 00:00:00+00 BC"}, True),
        ("placed BETWEEN '2026-11-01' AND '2026-12-01'", {}, True),
        ("_op = 'insert' AND _table = 'orders' AND _schema = 'public'", {}, True),
        ("_database <> 'shop'", {}, False),
        ("_topic IS NULL", {}, True),
        ("status > 'NEW' AND status < 'o'", {}, True),
        ("'x' = status", {}, False),
        ("TRUE", {}, True),
        ("NULL", {}, False),
    ],
)  # fmt: skip
def test_what_a_condition_means(where: str, columns: dict[str, Value], expected: bool) -> None:
    assert keeps(where, **columns) is expected


@pytest.mark.parametrize(
    "where",
    ["", "amount >", "amount > 1; drop table a", "a = 1 GROUP BY b", "f(a) = 1", "(SELECT 1)",
     "a IN (SELECT 1)", "a = ?", "a::int > 1", "'sesame", "x.a = 1", "a / 2 = 1", "a LIKE b",
     "a LIKE 'b' ESCAPE 'xy'", "CASE WHEN a THEN b END", "a IS 3", "a IN ()", "(" * 5000,
     "a IS DISTINCT FROM 1", "a BETWEEN SYMMETRIC 2 AND 1"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_config(where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        config(type="filter", where=where)
    (error,) = caught.value.errors(include_url=False, include_input=False)
    assert error["type"] == "config.condition"
    assert "sesame" not in error["msg"]
    assert error["ctx"]["remedy"]


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("amuont > 1", "transform.unknown_column"),
        ("amount > '1'", "transform.type_mismatch"),
        ("status > 1", "transform.type_mismatch"),
        ("status = amount", "transform.type_mismatch"),
        ("status", "transform.type_mismatch"),
        ("status AND paid", "transform.type_mismatch"),
        ("amount LIKE '1%'", "transform.type_mismatch"),
        ("placed > 'yesterday'", "transform.type_mismatch"),
        ("placed > '2026-11-23 12:00:00+02'", "transform.type_mismatch"),
        ("paid > FALSE", "transform.type_mismatch"),
        ("opens > '08:00'", "transform.type_mismatch"),
        ("status + 1 = 2", "transform.type_mismatch"),
        ("amount IS TRUE", "transform.type_mismatch"),
    ],
)
def test_what_does_not_fit_the_table_stops(where: str, code: str) -> None:
    letters = Letters()
    with pytest.raises(EnsignError) as caught:
        changed(
            batch_of(insert([*order(1), "09:00"], WIDE)),
            {"type": "filter", "where": where},
            letters=letters,
        )
    assert caught.value.code == code
    assert letters == []


def test_which_image_counts() -> None:
    new, old = order(1, status="new"), order(1, status="old")
    events = [insert(new), update(new, old), update(old, new), delete(new), delete(old)]
    assert kept("status = 'new'", *events) == [True, True, False, True, False]
    assert kept("status = 'new'", *events, image="old") == [True, False, True, True, False]
    assert kept("status = 'new'", *events, image="either") == [True, True, True, True, False]


def test_what_is_not_known_takes_no_event_out() -> None:
    unchanged = order(1, note=ABSENT)
    events = [
        update(unchanged, order(1, note="a")), update(unchanged, order(1, note="b")),
        update(unchanged), update(unchanged, key_of(1), marker=b"K"),
        delete(key_of(1), marker=b"K"),
    ]  # fmt: skip
    assert kept("note = 'a'", *events) == [True, False, True, True, True]
    # What is false whatever the value is, is false.
    assert kept("note = 'a' AND id = 2", *events) == [False] * 5
    assert kept("note IS NULL", *events) == [False, False, True, True, True]
    assert kept("note IS NOT NULL", *events) == [True] * 5
    assert kept("note = 'a' OR note IS NULL", insert(order(1, note=None))) == [True]


def test_events_without_a_row() -> None:
    events: list[Event] = [
        (Op.TRUNCATE, ORDERS, b""), (Op.SCHEMA, ORDERS, b""),
        (Op.BEGIN, table("tx"), b""), (Op.COMMIT, table("tx"), b""),
    ]  # fmt: skip
    assert kept("amount > 10", *events) == [True] * 4
    assert kept("_op IN ('insert', 'update')", *events) == [False, True, True, True]


def decoded(*records: tuple[bytes | None, bytes | None]) -> list[Event]:
    rows = decoder("json")
    found = [rows.row("t", key, value) for key, value in records]
    return [(row.op, row.schema, row.body) for row in found if row]


@pytest.mark.parametrize("poison", [b'{"id":1,"amount":null}', b'{"id":1}', b'{"amount":"sesame"}'])
def test_a_record_of_json_that_does_not_fit_is_poison_and_stops_nothing(poison: bytes) -> None:
    events = decoded((None, poison), (None, b'{"id":2,"amount":5}'), (None, b'{"id":3,"amount":1}'))
    letters = Letters()
    where = {"type": "filter", "where": "amount > 1"}
    found = changed(batch_of(*events), where, letters=letters)
    assert list(found.ops) == [Op.REMOVED, Op.INSERT, Op.REMOVED]
    assert [change.index for change, _ in letters] == [0]
    with pytest.raises(EnsignError, match="transform"):
        changed(batch_of(*events), where | {"on_error": "stop"}, letters=Letters())


@pytest.mark.parametrize(
    ("where", "expected"),
    [("amount > 1", True), ("amount IS NOT NULL", True), ("NOT amount IS NULL", True),
     ("note LIKE 'a%' AND id = 7", True), ("amount > 1 AND id = 8", False)],
)  # fmt: skip
def test_a_delete_of_which_only_the_key_is_known_is_not_guessed(where: str, expected: bool) -> None:
    assert kept(where, *decoded((b'{"id":7}', None))) == [expected]


def test_a_message_that_names_a_gap_passes() -> None:
    for gap in (Gap("offset_removed", "t", 0, 1, 2).schema(), gap_schema("t")):
        event: Event = Op.MESSAGE, gap, new_image(["ensign.gap", "{}"])
        assert kept("key = 'k'", event) == kept("key = 'k'", event, tables=["t*"]) == [True]


def test_a_long_text_does_not_stall_like() -> None:
    assert not keeps("note LIKE '%ab%ba%aab%c'", note="ab" * 500_000)
    assert keeps("note LIKE '%ab%ba%a%c'", note="ab" * 500_000 + "c")


def test_like_against_a_slow_reference() -> None:
    def meets(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "%":
            return any(meets(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and pattern[0] in ("_", text[0]) and meets(pattern[1:], text[1:])

    patterns = map("".join, product("ab%_", repeat=4))
    texts = ["".join(text) for size in range(6) for text in product("ab", repeat=size)]
    for pattern in patterns:
        matches = like(pattern, "!", fold=False).fullmatch
        assert [bool(matches(t)) for t in texts] == [meets(pattern, t) for t in texts]


def test_messages_and_events() -> None:
    message = table("message", "prefix", "content", key=())
    message = type(message)("pg_logical.message", message.names, message.columns)
    said: Event = Op.MESSAGE, message, new_image(["p", "c"])
    assert kept("amount > 10", said, insert(order(1))) == [True, False]
    assert kept("prefix = 'q'", said, insert(order(1)), tables=["pg_logical.*"]) == [False, True]
    records = record_schema("clicks")
    event: Event = (
        Op.EVENT, records,
        new_image([b"k1", b'{"a":1}', None, None, None, None, "3", "41", "1795439430661"]),
    )  # fmt: skip
    assert kept("key = 'k1' AND partition = 3 AND _topic = 'clicks'", event) == [True]
    assert kept("source_offset > 41", event) == [False]


def test_tables_and_topics() -> None:
    items = table("items", ("id", "int"))
    batch = batch_of(insert(order(1)), insert(["2"], items), insert(order(3)), topic="t")
    found = changed(batch, {"type": "filter", "where": "id > 1", "tables": ["public.orders"]})
    assert values(found) == ["2", "3"]
    found = changed(batch, {"type": "filter", "where": "_topic = 't' AND id < 3"})
    assert values(found) == ["1", "2"]


def test_a_value_that_is_not_of_its_type_is_poison() -> None:
    batch = batch_of(
        *(insert(order(n, placed="soon" if n == 3 else "2026-01-01")) for n in range(9))
    )
    letters = Letters()
    found = changed(batch, {"type": "filter", "where": "placed > '2025-01-01'"}, letters=letters)
    assert values(found) == [str(n) for n in range(9) if n != 3]
    assert letters.codes == ["transform.filter_failed"]
    assert letters[0][0].body == new_image(order(3, placed="soon"))
    assert "soon" not in str(letters[0][1])
