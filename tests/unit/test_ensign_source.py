"""The source ``ensign``: topics of other pipelines and publishers, delivered."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

from connectors.registry import connector
from ensign_core.broker import Broker, Event, dead_letter_topic
from ensign_core.run.pipeline import Pipeline, Plan, SinkPlan
from ensign_core.run.status import statuses
from tests.services.ready import wait_until


def plan(folder: Path, topics: list[str], begin: Literal["start", "end"] = "start") -> Plan:
    source, sink = connector("source", "ensign"), connector("sink", "file")
    lines = sink.config.model_validate({"type": "file", "path": f"{folder}/lines.jsonl"})
    return Plan(
        "copy", source, source.config.model_validate({"type": "ensign", "topics": topics}),
        lambda schema: schema.name,
        {"lines": SinkPlan(sink, lines, begin)},
    )  # fmt: skip


def lines(folder: Path) -> list[Any]:
    path = folder / "lines.jsonl"
    if not path.exists():
        return []
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [(event["topic"], event["after"]["data"]) for event in events]


def test_topics_that_match_are_delivered(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "broker") as broker:
        broker.publish("shop.orders", [Event(b"1")])
        broker.publish("other", [Event(b"2")])
        broker.publish(dead_letter_topic("shop"), [Event(b"3")])
        assert Pipeline(broker, plan(tmp_path, ["shop*"]), until_caught_up=True).run() is None
        assert lines(tmp_path) == [("shop.orders", "1")]
        (status,) = statuses(broker, {"copy": ["lines"]})
        (sink,) = status["sinks"]
        assert sink["topics"] == [{"topic": "shop.orders", "offset": 1, "lag_events": 0}]

        named = plan(tmp_path, ["other", dead_letter_topic("shop")])
        assert Pipeline(broker, named, until_caught_up=True).run() is None
        assert sorted(lines(tmp_path))[1:] == [("shop.dead-letters", "3"), ("shop.orders", "1")]
        assert ("other", "2") in lines(tmp_path)


def test_topics_made_later_are_delivered_from_their_start(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "broker") as broker:
        broker.publish("a.old", [Event(b"1")])
        pipeline = Pipeline(broker, plan(tmp_path, ["a.*"], "end"))
        running = threading.Thread(target=pipeline.run)
        running.start()
        try:
            wait_until(
                lambda: broker.pipelines.held("copy") and broker.pipelines.topics("copy"), 10
            )
            wait_until(lambda: "copy/lines" in broker.topic("a.old").groups, 10)
            broker.publish("a.new", [Event(b"2")])
            wait_until(lambda: lines(tmp_path) == [("a.new", "2")], 10)
            broker.publish("a.old", [Event(b"3")])
            wait_until(lambda: lines(tmp_path) == [("a.new", "2"), ("a.old", "3")], 10)
        finally:
            pipeline.stop()
            running.join()
