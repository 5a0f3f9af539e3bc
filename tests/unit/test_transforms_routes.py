"""``route``, ``outbox`` and ``python``, and chains of several: topics, events, poison."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from ensign_core.change import Batch, BatchBuilder, Op, Position, Stage, Tx
from ensign_core.config.topics import topic_name
from ensign_core.errors import EnsignError
from ensign_core.formats import FormatName, formatter
from ensign_core.rows import ABSENT, decode, new_image
from ensign_core.transforms import Chain, by_target, remaining
from tests.transforms import (
    ORDERS,
    TX,
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

OUTBOX = table(
    "outbox", ("id", "uuid"), "aggregatetype", "aggregateid", "type", ("payload", "json"),
    "trace", ("size", "int"),
)  # fmt: skip


def routes(batch: Batch) -> list[str]:
    return [batch.routes[schema_id] if batch.routes else "" for schema_id in batch.schema_ids]


def test_a_route_by_names() -> None:
    found = changed(batch_of(insert(order(1))), {"type": "route", "topic": "a.{schema}.{table}"})
    assert routes(found) == ["a.public.orders"]


def test_a_route_by_values() -> None:
    batch = batch_of(
        insert(order(1, status="a")), insert(order(2, status="b.c/é")),
        update(order(3, status=ABSENT), order(3, status="a")), delete(order(4, status="b.c/é")),
        (Op.TRUNCATE, ORDERS, b""), topic="t", offset=40,
    )  # fmt: skip
    found = changed(batch, {"type": "route", "topic": "s-{column:status}"})
    assert routes(found) == ["s-a", "s-b-2ec-2f-c3-a9", "s-a", "s-b-2ec-2f-c3-a9", ""]
    pieces = by_target(found)
    assert [(piece.target, piece.topic, piece.offset, len(piece)) for piece in pieces] == [
        ("s-a", "t", 40, 1), ("s-b-2ec-2f-c3-a9", "t", 41, 1), ("s-a", "t", 42, 1),
        ("s-b-2ec-2f-c3-a9", "t", 43, 1), ("t", "t", 44, 1),
    ]  # fmt: skip
    assert [change.ordinal for piece in pieces for change in piece] == [0, 1, 2, 3, 4]
    assert b"".join(piece.body for piece in pieces) == found.body


def test_what_is_replayed_stays_so() -> None:
    """Also where a poison has the batch taken apart and joined again."""
    batch = batch_of(insert(order(1, note="a")), insert(order(2, note=None)))
    batch.replayed = True
    found = changed(batch, {"type": "route", "topic": "n.{column:note}"}, letters=Letters())
    assert list(found.ops) == [Op.INSERT, Op.REMOVED]
    assert [piece.replayed for piece in (found, *by_target(found))] == [True, True]


def test_a_value_that_is_not_there() -> None:
    batch = batch_of(
        insert(order(1, note="a")), insert(order(2, note=None)), delete(key_of(3), marker=b"K")
    )
    letters = Letters()
    found = changed(batch, {"type": "route", "topic": "n.{column:note}"}, letters=letters)
    assert list(found.ops) == [Op.INSERT, Op.REMOVED, Op.REMOVED]
    assert letters.codes == ["transform.no_value"] * 2
    otherwise = {"type": "route", "topic": "n.{column:note}", "otherwise": "none.{table}"}
    assert routes(changed(batch, otherwise)) == ["n.a", "none.orders", "none.orders"]


def test_a_topic_that_is_too_long_is_poison() -> None:
    letters = Letters()
    batch = batch_of(insert(order(1, note="é" * 300)))
    changed(batch, {"type": "route", "topic": "n.{column:note}"}, letters=letters)
    assert letters.codes == ["transform.topic_too_long"]


@pytest.mark.parametrize(
    "topic", ["", "{status}", "{column:}", "{column}", "a b", "{table:x}", "{"]
)
def test_a_route_that_is_none_is_refused_with_the_config(topic: str) -> None:
    with pytest.raises(ValidationError):
        config(type="route", topic=topic)
    with pytest.raises(ValidationError):
        config(type="route", topic="a", otherwise="{column:a}")


def test_a_route_that_does_not_fit_stops() -> None:
    for topic, code in (
        ("{column:nope}", "transform.unknown_column"), ("{topic}", "config.topic_template"),
    ):  # fmt: skip
        with pytest.raises(EnsignError) as caught:
            changed(batch_of(insert(order(1))), {"type": "route", "topic": topic})
        assert caught.value.code == code


def test_pieces_of_one_target_take_removed_events_along() -> None:
    batch = batch_of(*(insert(order(n, status="ab"[n // 3 % 2])) for n in range(9)), topic="t")
    found = changed(
        batch,
        {"type": "filter", "where": "id NOT IN (0, 3, 5)"},
        {"type": "route", "topic": "{column:status}"},
    )
    pieces = by_target(found)
    assert [(piece.target, len(piece), values(piece)) for piece in pieces] == [
        ("a", 4, ["1", "2"]), ("b", 2, ["4"]), ("a", 3, ["6", "7", "8"]),
    ]  # fmt: skip
    assert [piece.offset for piece in pieces] == [0, 4, 6]


def test_what_remains_keeps_its_ordinals() -> None:
    batch = batch_of(*(insert(order(n)) for n in range(6)), ordinal=100)
    found = changed(batch, {"type": "filter", "where": "id IN (1, 2, 5)"})
    (only,) = remaining(found, ["t"]).values()
    assert [(change.ordinal, change.tx) for change in only] == [(101, TX), (102, TX), (105, TX)]
    assert values(only) == ["1", "2", "5"]
    assert remaining(changed(batch, {"type": "filter", "where": "FALSE"}), ["t"]) == {}


@pytest.mark.parametrize("name", ["json", "flat", "debezium"])
def test_no_format_writes_what_was_taken_out(name: FormatName) -> None:
    batch = batch_of(
        insert(order(1)), update(order(2), order(2)), delete(order(3)), insert(order(4)), topic="t"
    )
    found = changed(batch, {"type": "filter", "where": "id IN (2, 4)"})
    lines = formatter(name).lines(found)
    assert list(lines.indexes) == [1, 3]
    if name == "json":
        assert [json.loads(line)["offset"] for line in lines.texts] == [1, 3]


def written(number: int, kind: str = "order", payload: str = '{"a": 1}') -> list[Any]:
    return [f"id-{number}", kind, f"key {number}", "placed", payload, None, str(number)]


def test_an_outbox_becomes_events() -> None:
    batch = batch_of(
        insert(order(1)), insert(written(1), OUTBOX), delete(written(1), OUTBOX),
        (Op.SNAPSHOT, OUTBOX, insert(written(2, "order-line/a"), OUTBOX)[2]),
        (Op.TRUNCATE, OUTBOX, b""),
    )  # fmt: skip
    found = changed(batch, {"type": "outbox"})
    removed = Op.REMOVED
    assert list(found.ops) == [Op.INSERT, Op.EVENT, removed, Op.EVENT, removed]
    changes = list(found)
    assert changes[0].schema == ORDERS
    key, data, metadata, mimetype, kind = decode(changes[1].images()[1] or b"")
    assert (key, data, mimetype, kind) == (b"key 1", b'{"a": 1}', "application/json", "placed")
    assert json.loads(str(metadata)) == {"id": "id-1", "size": "1"}
    assert [routes(found)[i] for i in (0, 1, 3)] == [
        "", "outbox.event.order", "outbox.event.order-line-2fa",
    ]  # fmt: skip
    assert topic_name(None, changes[3].schema) == "outbox.event.order-line-2fa"


def test_an_outbox_with_names_of_its_own() -> None:
    mine = table("events", ("uid", "uuid"), "agg", "agg_id", ("body", "bytes"), key=("uid",))
    batch = batch_of(
        insert(["u1", "cart", "7", "\\x00ff"], mine), insert(["u2", "cart", None, None], mine)
    )
    found = changed(batch, {
        "type": "outbox", "tables": ["*.events"], "topic": "{schema}.{aggregatetype}",
        "id_column": "uid", "aggregate_type_column": "agg", "aggregate_id_column": "agg_id",
        "type_column": None, "payload_column": "body",
    })  # fmt: skip
    rows = [decode(change.images()[1] or b"") for change in found]
    assert rows[0] == [b"7", b"\0\xff", '{"id": "u1"}', "application/octet-stream", None]
    assert rows[1][:2] == [None, None]
    assert routes(found) == ["public.cart"] * 2


def test_what_is_no_event_in_an_outbox() -> None:
    letters = Letters()
    batch = batch_of(
        insert(written(1), OUTBOX), update(written(1), written(1), OUTBOX),
        insert(written(2, ""), OUTBOX),
    )  # fmt: skip
    found = changed(batch, {"type": "outbox"}, letters=letters)
    assert letters.codes == ["transform.outbox_update", "transform.no_value"]
    assert list(found.ops) == [Op.EVENT, Op.REMOVED, Op.REMOVED]
    with pytest.raises(EnsignError) as caught:
        changed(batch_of(insert(["1"], table("outbox", "id"))), {"type": "outbox"})
    assert caught.value.code == "transform.unknown_column"


def upper(batch: Batch) -> Batch:
    """A user's function: it fails for a row with the note ``poison``."""
    if b"poison" in batch.body:
        raise ValueError("poison of sesame")
    builder = BatchBuilder()
    for change in batch:
        _, new, _ = change.images()
        row = [value.upper() if isinstance(value, str) else value for value in decode(new or b"")]
        builder.add(change.op, change.schema, new_image(row))
    return builder.take(Position(b"mine"))


def dropping(batch: Batch) -> Batch:
    return batch.part(0, len(batch) - 1)


def garbling(batch: Batch) -> Batch:
    return replace(batch, body=batch.body[:-1])


def away(_batch: Batch) -> Batch:
    raise EnsignError("lookup.unreachable", "The lookup is away.", "Wait.")


def misplaced(_batch: Batch) -> None:
    return None


def meddling(batch: Batch) -> Batch:
    for index in range(len(batch)):
        batch.ends[index] = batch.schema_ids[index] = 0
    batch.routes.append("x")
    raise ValueError("sesame")


def leaving(_batch: Batch) -> Batch:
    raise SystemExit(0)


def straying(batch: Batch) -> Batch:
    return replace(batch, routes=["a/b"] * len(batch.schemas))


def python(name: str, **options: Any) -> dict[str, Any]:
    return {"type": "python", "function": f"{__name__}:{name}", **options}


def test_a_function_of_ones_own_fails_for_one_event_only() -> None:
    letters = Letters()
    batch = batch_of(
        *(insert(order(n, note="poison" if n in (5, 90) else "n")) for n in range(100)),
        topic="t", offset=7,
    )  # fmt: skip
    found = changed(batch, python("upper"), letters=letters)
    assert [change.offset for change, _ in letters] == [12, 97]
    assert letters.codes == ["transform.python_failed"] * 2
    assert values(found, 1) == ["NEW"] * 98
    for _, error in letters:
        assert "sesame" not in str(error)
        assert "ValueError" in error.sentence


def test_errors_can_stop() -> None:
    batch = batch_of(insert(order(1, note="poison")))
    letters = Letters()
    with pytest.raises(EnsignError) as caught:
        changed(batch, python("upper", on_error="stop"), letters=letters)
    assert (caught.value.code, letters) == ("transform.python_failed", [])


def test_what_time_mends_is_nobodys_poison() -> None:
    letters = Letters()
    chain = Chain([config(**python("away"))], letters, lambda error: error.code.endswith("able"))
    with pytest.raises(EnsignError, match="unreachable"):
        chain(batch_of(insert(order(1))))
    assert letters == []


@pytest.mark.parametrize("name", ["dropping", "garbling", "misplaced", "straying"])
def test_what_a_function_must_not_return(name: str) -> None:
    letters = Letters()
    changed(batch_of(insert(order(1))), python(name), letters=letters)
    assert letters.codes == ["transform.python_result"]


@pytest.mark.parametrize("name", ["meddling", "leaving"])
def test_what_a_function_breaks_is_set_aside_whole(name: str) -> None:
    letters = Letters()
    events = [insert(order(1)), insert(["7"], table("items", "id"))]
    changed(batch_of(*events), python(name), letters=letters)
    assert letters.codes == ["transform.python_failed"] * 2
    assert [(c.schema, c.body) for c, _ in letters] == [event[1:] for event in events]


def test_a_function_sees_only_the_tables_that_are_named() -> None:
    items = table("items", "id")
    batch = batch_of(
        *(insert(order(n, note="x")) if n % 3 else insert([f"x{n}"], items) for n in range(10))
    )
    found = changed(batch, python("upper", tables=["public.orders"]))
    notes = [str((decode(c.images()[1] or b""))[-1])[0] for c in found]
    assert notes == ["X" if n % 3 else "x" for n in range(10)]


@pytest.mark.parametrize(
    "path", ["nowhere_at_all:f", "json:nope", "json:dumps.nope", "tests.transforms:TX"]
)
def test_a_function_that_is_not_there(path: str) -> None:
    with pytest.raises(EnsignError) as caught:
        Chain([config(type="python", function=path)], Letters())
    assert caught.value.code == "transform.python_missing"


@pytest.mark.parametrize("path", ["", "json", "json:", ":f", "a b:c", "json:dumps()", "1a:b"])
def test_a_path_that_names_no_function(path: str) -> None:
    with pytest.raises(ValidationError):
        config(type="python", function=path)


def test_what_was_taken_out_is_no_poison_later() -> None:
    batch = batch_of(
        insert(order(1, note="poison")), insert(order(2, note=None)), insert(order(3, note="a"))
    )
    found = changed(
        batch,
        {"type": "filter", "where": "note = 'a'"},
        python("upper"),
        {"type": "mask", "columns": ["status"]},
        {"type": "route", "topic": "t.{column:note}"},
    )
    assert values(found, 1) == ["***"]
    (piece,) = remaining(found, [route or "x" for route in found.routes or [""]]).items()
    assert piece[0] == "t.A"


def test_a_batch_keeps_what_is_not_of_its_events() -> None:
    empty = Batch(position=Position(b"7"), stage=Stage.RELEASE, kept={"a": b"b"})
    assert changed(empty, {"type": "filter", "where": "a = 1"}) is empty
    batch = batch_of(insert(order(1, note="poison")), insert(order(2)))
    batch.position, batch.stage, batch.kept = Position(b"8"), Stage.HOLD, {"c": b"d"}
    changed(batch, python("upper"), letters=Letters())


def test_runs_survive_the_search_for_poison() -> None:
    builder = BatchBuilder()
    for n in range(50):
        if n % 7 == 3:
            builder.begin(Tx(str(n), "0/1", n), n * 10)
        builder.add(*insert(order(n, note="poison" if n in (3, 30, 49) else "x")))
    batch = builder.take(None)
    letters = Letters()
    found = changed(batch, python("upper"), letters=letters)
    assert [change.ordinal for change in found] == [change.ordinal for change in batch]
    assert [(change.tx, change.ordinal) for change, _ in letters] == [
        (change.tx, change.ordinal) for change in batch if change.index in (3, 30, 49)
    ]
