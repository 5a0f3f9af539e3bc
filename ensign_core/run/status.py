"""What `ensign status` shows: what pipelines left, seen together with their topics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from ensign_core.broker import Broker, TopicInfo, dead_letter_topic
from ensign_core.change import Offset


def statuses(broker: Broker, pipelines: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """One object per pipeline, given with the names of its sinks, with the fields of the public
    contract. A pipeline whose worker is gone is ``stopped``, whatever it left, unless it had
    ``failed``."""
    left = broker.pipelines.statuses()
    topics = broker.topics()
    return [
        _status(broker, name, left.get(name, {}), topics, sinks)
        for name, sinks in pipelines.items()
    ]


def _status(
    broker: Broker, name: str, left: dict[str, Any], topics: list[TopicInfo], named: Iterable[str]
) -> dict[str, Any]:
    held = broker.pipelines.held(name)
    # A worker that cannot store its status, on a full disk say, waits for something.
    state = left.get("state", "waiting" if held else "stopped")
    if held and state in ("stopped", "failed"):
        state = "waiting"
    elif not held and state != "failed":
        state = "stopped"
    mine = set(broker.pipelines.topics(name)) - {dead_letter_topic(name)}
    sinks: dict[str, list[dict[str, Any]]] = {sink: [] for sink in named}
    for topic in topics:
        for sink in sinks if topic.name in mine else ():
            offset = topic.groups.get(f"{name}/{sink}", 0)
            sinks[sink].append(
                {"topic": topic.name, "offset": offset, "lag_events": lag(topic, offset)}
            )
    summed = [
        {
            "name": sink,
            "offset": sum(entry["offset"] for entry in entries),
            "lag_events": sum(entry["lag_events"] for entry in entries),
            "topics": entries,
        }
        for sink, entries in sorted(sinks.items())
    ]
    return {
        "pipeline": name,
        "state": state,
        "position": left.get("position"),
        "lag_bytes": left.get("lag_bytes"),
        "lag_events": max((sink["lag_events"] for sink in summed), default=0),
        "lag_seconds": _lag_seconds(left),
        "kept_bytes": left.get("kept_bytes"),
        "snapshot": _snapshot(left, held),
        "warnings": left.get("warnings", []) if held else [],
        "dead_letters": _dead_letters(broker, name, topics),
        "detail": left.get("detail"),
        "error": left.get("error"),
        "sinks": summed,
    }


def lag(topic: TopicInfo, offset: Offset) -> int:
    """How far a group that stands at an offset is behind a topic's end: what was trimmed before it
    came does not count."""
    return max(0, topic.next_offset - max(offset, topic.first_offset))


def _snapshot(left: dict[str, Any], held: bool) -> dict[str, Any] | None:
    """How far the snapshots are, or were when the worker went: then nobody knows their end."""
    snapshot: dict[str, Any] | None = left.get("snapshot")
    return snapshot if held or snapshot is None else snapshot | {"eta_seconds": None}


def _dead_letters(broker: Broker, name: str, topics: Iterable[TopicInfo]) -> int:
    """How many events a pipeline set aside that were neither dropped nor replayed since."""
    letters = broker.pipelines.letters(name)
    return sum(
        topic.events - len(letters.done()) for topic in topics if topic.name == letters.topic
    )


def snapshot_text(snapshot: Mapping[str, Any]) -> str:
    """A snapshot's progress in a few words."""
    text = f"snapshot: {snapshot['rows']:,} rows"
    if snapshot["percent"] is not None:
        text += f" of about {snapshot['rows_total']:,} ({snapshot['percent']:.1f} %)"
    # A terminal may cut the line: what people look for comes first.
    if snapshot["eta_seconds"] is not None:
        text += f", {timedelta(seconds=snapshot['eta_seconds'])} left"
    return f"{text}, {snapshot['tables_done']} of {snapshot['tables']} tables"


def _lag_seconds(left: dict[str, Any]) -> float | None:
    """How old the last captured commit is while the source's log is ahead; 0 when it is not."""
    lag_bytes, committed_us = left.get("lag_bytes"), left.get("committed_us")
    if lag_bytes == 0:
        return 0.0
    if lag_bytes is None or committed_us is None:
        return None
    return round(max(0.0, time.time() - float(committed_us) / 1e6), 3)
