"""Pipelines that write to client-sealed topics, and those whose sinks read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.broker.events import received
from ensign_core.run.context import Progress, RunContext
from ensign_core.run.letters import read_letter
from tests.scripted import Running, Server, Step, Target, rows, schema_of, topic_of
from tests.sealing import CLIENT, Readers, refused

LETTERS = "shop.dead-letters"


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    made = Readers(tmp_path / "b", ["worker", "operator"])
    with made.open(None) as broker:
        broker.create_topic("orders", CLIENT)
        broker.grants.add("orders", "worker", made.public("worker"))
    return made


@pytest.fixture
def broker(readers: Readers) -> Iterator[Broker]:
    """A broker without an identity."""
    with readers.open(None) as made:
        yield made


def data(broker: Broker, topic: str) -> list[bytes]:
    with broker.reader([topic]) as reader:
        return [one.change.body for batch in reader.fetch() for one in received(batch)]


def test_a_source_needs_no_identity_and_a_sink_does(broker: Broker, readers: Readers) -> None:
    server, target = Server([rows("orders", "a", "b")]), Target()
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    with Running(broker, server, {"bus": target}) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "topic.client_sealed"
    assert target.delivered == []
    with readers.open("operator") as other, Running(other, server, {"bus": target}) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "topic.not_granted"
    with (
        readers.open("worker") as worker,
        Running(worker, server, {"bus": target}, until_caught_up=True) as running,
    ):
        assert running.ended() is None
    assert target.values("orders") == ["a", "b"]


def test_a_topic_that_is_compared_needs_an_identity(broker: Broker, readers: Readers) -> None:
    with Running(broker, Server([rows("orders", "a")]), until_caught_up=True) as running:
        assert running.ended() is None
    for name, opened in (("worker", True), (None, False)):
        with readers.open(name) as one:
            context = RunContext("shop", "source", Progress(), one, topic_of)
            comparison = context.comparison(schema_of("orders"))
            try:
                if opened:
                    assert comparison.advance(60.0)
                else:
                    assert refused(comparison.advance, 60.0).code == "topic.client_sealed"
            finally:
                comparison.close()


def test_a_dead_letter_of_a_sink_has_no_data_that_the_topic_does_not_show(
    readers: Readers,
) -> None:
    server, target = Server([rows("orders", "a", "odd-Zyklame", "b")]), Target()
    target.odd = {"odd-Zyklame"}
    with (
        readers.open("worker") as worker,
        Running(worker, server, {"bus": target}, until_caught_up=True) as running,
    ):
        assert running.ended() is None
    with readers.open(None) as broker:
        with broker.reader([LETTERS]) as reader:
            (letter,) = [read_letter(change) for batch in reader.fetch() for change in batch]
        assert (letter.place, letter.data) == (("orders", 1), b"")
        broker.pipelines.letters("shop").ask("bus", [0])
    target.odd = set()
    with (
        readers.open("worker") as worker,
        Running(worker, server, {"bus": target}, until_caught_up=True) as running,
    ):
        assert running.ended() is None
    assert target.again == ["odd-Zyklame"]


def test_a_dead_letter_is_not_replayed_without_an_identity(
    broker: Broker, readers: Readers
) -> None:
    broker.create_topic(LETTERS, CLIENT)
    broker.grants.add(LETTERS, "operator", readers.public("operator"))
    server = Server([rows("orders", "a"), Step(letter=b"odd-Zyklame")])
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    letters = broker.pipelines.letters("shop")
    letters.ask("source", [0])
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    fate = letters.fates(0, 0)[0]
    assert (fate.attempts, fate.code) == (1, "topic.client_sealed")
    with readers.open("operator") as operator:
        assert b"odd-Zyklame" in data(operator, LETTERS)[0]


def test_a_dead_letter_of_a_source_stops_rather_than_lie_open(broker: Broker) -> None:
    server = Server([rows("orders", "a"), Step(letter=b"odd-Zyklame"), rows("orders", "b")])
    with Running(broker, server, until_caught_up=True) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "topic.client_sealed"
    assert f"ensign topics create {LETTERS} --sealing client" in error.remedy
    assert broker.topics([LETTERS]) == []


def test_a_pipeline_waits_for_nobody_to_seal_for(broker: Broker) -> None:
    broker.grants.remove("orders", "worker")
    with Running(broker, Server([rows("orders", "a")]), until_caught_up=True) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "grants.none"
