"""Transforms where they run: between source and topic, between topic and sink."""

from __future__ import annotations

from typing import Any

import pytest

from ensign_core.broker import Broker
from ensign_core.change import Batch, BatchBuilder, Op, Stage, Tx
from ensign_core.config.transforms import AnyTransform
from ensign_core.errors import EnsignError
from ensign_core.rows import decode
from ensign_core.run.context import Progress, RunContext
from tests.scripted import (
    Running,
    Server,
    Step,
    Target,
    kept,
    lost,
    rows,
    schema_of,
    topic_of,
    value_of,
)
from tests.transforms import config

LETTERS = "shop.dead-letters"


pytestmark = pytest.mark.usefixtures("short_waits")


def some(*options: dict[str, Any]) -> list[AnyTransform]:
    return [config(**one) for one in options]


def without(*names: str) -> dict[str, Any]:
    listed = ", ".join(f"'{name}'" for name in names)
    return {"type": "filter", "where": f"value NOT IN ({listed})"}


ROUTE = {"type": "route", "topic": "r.{column:value}"}
STEPS = [rows("orders", "a", "b", "c", "b"), rows("orders", "b"), rows("orders", "d")]


def python(name: str) -> dict[str, Any]:
    return {"type": "python", "function": f"{__name__}:{name}"}


def picky(batch: Batch) -> Batch:
    if b"b" in [value_of(change).encode() for change in batch]:
        raise ValueError("it is b")
    return batch


calls: list[int] = []


def sometimes(batch: Batch) -> Batch:
    calls.append(len(batch))
    if len(calls) < 3:
        raise lost()
    return batch


def test_a_pipeline_takes_events_out(broker: Broker) -> None:
    server = Server(STEPS)
    with Running(
        broker, server, until_caught_up=True, transforms=some(without("b"))
    ) as running:  # fmt: skip
        assert running.ended() is None
    assert kept(broker, "orders") == ["a", "c", "d"]
    assert server.acked[-1] == 3, "a batch of which nothing is left moves the position"
    with broker.reader(["orders"]) as reader:
        found = [change for batch in reader.fetch() for change in batch]
    assert [(change.tx, change.ordinal) for change in found] == [
        (Tx("1", "0/1", 1_000_001), 0), (Tx("1", "0/1", 1_000_001), 2),
        (Tx("3", "0/3", 1_000_003), 0),
    ]  # fmt: skip


def test_a_pipeline_routes(broker: Broker) -> None:
    with Running(
        broker, Server(STEPS), until_caught_up=True, transforms=some(without("c"), ROUTE)
    ) as running:
        assert running.ended() is None
    assert {topic.name for topic in broker.topics()} == {"r.a", "r.b", "r.d"}
    assert kept(broker, "r.b") == ["b", "b", "b"]


def test_held_batches_are_changed_too(broker: Broker) -> None:
    steps = [
        rows("orders", "a", "b", stage=Stage.HOLD),
        Step((("orders", "c"), ("orders", "b")), Stage.RELEASE, kept=(("piece", b"1"),)),
    ]
    with Running(
        broker, Server(steps), until_caught_up=True, transforms=some(without("b"))
    ) as running:
        assert running.ended() is None
    assert kept(broker, "orders") == ["a", "c"]
    assert broker.pipelines.kept("shop") == {"piece": b"1"}


def test_poison_on_the_way_in_is_set_aside(broker: Broker) -> None:
    server = Server(STEPS)
    with Running(
        broker, server, until_caught_up=True, transforms=some(python("picky"))
    ) as running:  # fmt: skip
        assert running.ended() is None
    assert kept(broker, "orders") == ["a", "c", "d"]
    assert broker.topic(LETTERS).events == 3


def test_a_sink_sees_its_events_at_their_offsets(broker: Broker) -> None:
    target = Target(keeps_offsets=True)
    with Running(
        broker, Server(STEPS), {"bus": target}, until_caught_up=True,
        sink_transforms=some(without("b", "d")),
    ) as running:  # fmt: skip
        assert running.ended() is None
    assert kept(broker, "orders") == ["a", "b", "c", "b", "b", "d"]
    assert target.delivered == [("orders", 0, "a"), ("orders", 2, "c")]
    assert target.offsets == {"orders": 6}
    assert LETTERS not in [topic.name for topic in broker.topics()]


def test_a_sink_gets_batches_of_one_target(broker: Broker) -> None:
    target = Target()
    with Running(
        broker, Server(STEPS), {"bus": target}, until_caught_up=True, sink_transforms=some(ROUTE)
    ) as running:
        assert running.ended() is None
    assert [value for _, _, value in target.delivered] == ["a", "b", "c", "b", "b", "d"]
    assert [offset for _, offset, _ in target.delivered] == list(range(6))
    written = [name for name in target.targets if name]
    assert set(written) == {"r.a", "r.b", "r.c", "r.d"}
    assert all(topic == "orders" for topic, _, _ in target.delivered)


def test_poison_on_the_way_out_is_set_aside(broker: Broker) -> None:
    target = Target()
    with Running(
        broker, Server(STEPS), {"bus": target}, until_caught_up=True,
        sink_transforms=some(python("picky")),
    ) as running:  # fmt: skip
        assert running.ended() is None
    assert target.values("orders") == ["a", "c", "d"]
    assert broker.topic(LETTERS).events == 3


def test_a_config_that_does_not_fit_stops(broker: Broker) -> None:
    wrong = some({"type": "mask", "columns": ["nope"]})
    for options in ({"transforms": wrong}, {"sink_transforms": wrong}):
        server, target = Server([rows("orders", "a")]), Target()
        with Running(broker, server, {"bus": target}, **options) as running:  # type: ignore[arg-type]  # one of two
            error = running.ended()
        assert error is not None
        assert error.code == "transform.unknown_column"
        assert target.delivered == []


def test_a_function_that_is_not_there_stops(broker: Broker) -> None:
    missing = some({"type": "python", "function": "nowhere_at_all:f"})
    with Running(broker, Server(STEPS), transforms=missing) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "transform.python_missing"


def test_what_a_function_looks_up_may_be_away(broker: Broker) -> None:
    calls.clear()
    with Running(
        broker, Server([rows("orders", "a")]), until_caught_up=True, wait_s=30,
        transforms=some(python("sometimes")),
    ) as running:  # fmt: skip
        assert running.ended() is None
    assert calls == [1, 1, 1]
    assert kept(broker, "orders") == ["a"]


def test_changed_rows_are_not_compared_with_the_table(broker: Broker) -> None:
    context = RunContext("shop", "source", Progress(), broker, topic_of, changed=True)
    with pytest.raises(EnsignError) as caught:
        context.comparison(schema_of("orders"))
    assert caught.value.code == "transform.no_reconcile"


def test_an_old_life_is_done_again_alike(broker: Broker) -> None:
    server = Server(STEPS)
    server.fail("ack", None, lost())
    with Running(broker, server, until_caught_up=True, transforms=some(without("b"))) as running:
        assert running.ended() is None
    assert kept(broker, "orders") == ["a", "c", "d"]


def test_other_ops_pass_a_pipeline(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    add = BatchBuilder.add

    def with_more(self: BatchBuilder, op: Op, schema: Any, body: bytes) -> None:
        add(self, Op.BEGIN, schema, b"")
        add(self, op, schema, body)
        add(self, Op.TRUNCATE, schema, b"")

    monkeypatch.setattr("tests.scripted.BatchBuilder.add", with_more)
    server = Server([rows("orders", "a", "b")])
    with Running(
        broker, server, until_caught_up=True,
        transforms=some(
                without("b"), {"type": "hash", "columns": ["value"], "key": "sesame" * 3}
            ),
    ) as running:  # fmt: skip
        assert running.ended() is None
    with broker.reader(["orders"]) as reader:
        found = [change for batch in reader.fetch() for change in batch]
    assert [change.op for change in found] == [
        Op.BEGIN, Op.INSERT, Op.TRUNCATE, Op.BEGIN, Op.TRUNCATE,
    ]  # fmt: skip
    assert len(str(decode(found[1].body[1:])[0])) == 64
    assert {change.schema.columns[0].logical for change in found} == {"text"}
