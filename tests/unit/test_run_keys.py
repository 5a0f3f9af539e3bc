"""Pipelines whose topics' keys are rotated and revoked while they run, or between."""

from __future__ import annotations

import pytest

from ensign_core.broker import Broker
from ensign_core.change import Stage
from tests.scripted import PATIENCE_S, Running, Server, Target, kept, rows
from tests.services.ready import wait_until
from tests.unit.test_keys import keys_of

pytestmark = pytest.mark.usefixtures("short_waits")


def revoked(broker: Broker, *values: object) -> Server:
    """A pipeline has written values, each under a key of its own, and the keys of all but the last
    one are revoked."""
    server = Server()
    for value in values:
        server.add(rows("orders", value))
        with Running(broker, server, until_caught_up=True) as running:
            assert running.ended() is None
        broker.keys.rotate("orders")
    for key in keys_of(broker, "orders")[: len(values) - 1]:
        broker.keys.revoke(key.key_id)
    return server


def test_a_sink_stops_at_a_revoked_key_and_says_how_it_goes_on(broker: Broker) -> None:
    server, target = revoked(broker, 1, 2), Target()
    with Running(broker, server, {"bus": target}) as running:
        error = running.ended()
    assert error is not None
    assert error.code == "key.revoked"
    assert "topic orders, offsets 0 to 0" in error.sentence
    assert "skip_revoked: true" in error.remedy
    assert target.values("orders") == []


def test_a_sink_that_is_told_to_goes_on_behind_revoked_keys(broker: Broker) -> None:
    server, target = revoked(broker, 1, 2, 3), Target()
    with Running(
        broker, server, {"bus": target}, until_caught_up=True, skip_revoked=True
    ) as running:
        assert running.ended() is None
    assert target.values("orders") == ["3"]
    assert broker.topic("orders").groups == {"shop/bus": 3}


def test_what_a_sink_passes_over_at_the_end_is_behind_it(broker: Broker) -> None:
    server, target = revoked(broker, 1, 2), Target()
    broker.keys.revoke(keys_of(broker, "orders")[1].key_id)
    with Running(broker, server, {"bus": target}, skip_revoked=True):
        wait_until(lambda: broker.topic("orders").groups == {"shop/bus": 2}, PATIENCE_S)
    assert target.values("orders") == []


def test_a_transaction_held_under_a_revoked_key_is_read_again(broker: Broker) -> None:
    server = Server([rows("orders", 1), rows("orders", 2, stage=Stage.HOLD)])
    with Running(broker, server):
        server.wait(lambda: server.calls["read"] >= 3)
        broker.keys.rotate("orders")
        server.add(rows("orders", 3, stage=Stage.HOLD))
        server.wait(lambda: server.calls["read"] >= 5)
        (first, second) = keys_of(broker, "orders")
        assert (first.frames, second.frames) == (1, 0)
        broker.keys.revoke(second.key_id)
        server.add(rows("orders", 4, stage=Stage.RELEASE))
        server.wait(server.read_all)
    assert server.opened == [None, 1]
    assert kept(broker, "orders") == ["1", "2", "3", "4"]
