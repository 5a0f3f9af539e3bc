"""Sinks of topics from which events have gone."""

from __future__ import annotations

import pytest

from ensign_core.broker import Broker, Retention, TopicPolicy
from ensign_core.change import BatchBuilder, Op, Tx
from ensign_core.run.status import statuses
from tests.scripted import Running, Server, Target, rows, schema_of

pytestmark = pytest.mark.usefixtures("short_waits")


def test_a_sink_that_was_overtaken_goes_on_and_says_so(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensign_core.run.pipeline.REPORT_S", 0.01)
    broker.create_topic("orders", TopicPolicy(Retention(bytes_max=1, trim_unread=True)))
    server, target = Server([rows("orders", 1)]), Target()

    def warned() -> bool:
        (status,) = statuses(broker, {"shop": ["bus"]})
        return [warning["code"] for warning in status["warnings"]] == ["sink.trimmed"]

    with Running(broker, server, {"bus": target}):
        target.wait(target.has(1))
        server.wait(server.read_all)
    with Running(broker, server):
        server.add(rows("orders", 2), rows("orders", 3))
        server.wait(server.read_all)
    broker.keep()
    with Running(broker, server, {"bus": target}):
        server.add(rows("orders", 4))
        target.wait(target.has(2))
        target.wait(warned)
    assert target.values("orders") == ["1", "4"]


def test_a_pipeline_has_caught_up_with_what_was_compacted_away(broker: Broker) -> None:
    """The last frames are gone, and so no sink ever gets to the topic's last offset by reading."""
    broker.create_topic("orders", TopicPolicy(Retention(compact=True, tombstone_s=0)))
    server, target = Server([rows("orders", 1), rows("orders", 2)]), Target()
    with Running(broker, server) as running:
        server.wait(server.read_all)
        assert running.stop() is None
    writer = broker.writer()
    for op, marker in ((Op.INSERT, b"N"), (Op.DELETE, b"K")):
        builder = BatchBuilder().begin(Tx("9", "0/9", 9))
        builder.add(op, schema_of("orders"), marker + b"\0\1t\0\0\0\0013")
        writer.append([("orders", builder.take(None))])
    broker.keep()
    info = broker.topic("orders")
    assert (info.events, info.next_offset) == (2, 4)
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert target.values("orders") == ["1", "2"]
    (status,) = statuses(broker, {"shop": ["bus"]})
    assert (status["lag_events"], broker.topic("orders").groups) == (0, {"shop/bus": 4})
