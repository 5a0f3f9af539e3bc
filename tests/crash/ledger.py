"""The ledger: what the database committed, against the topic and the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg

from ensign_core.broker import Broker
from ensign_core.formats import formatter

Event = dict[str, Any]


@dataclass
class Verdict:
    """What was compared, and what is wrong: ``faults`` is empty when all is well."""

    events: int = 0
    lines: int = 0
    repeats: int = 0
    audited: int = 0
    streamed: int = 0
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


def events_of(broker: Broker, topic: str) -> list[Event]:
    """A topic as `ensign read --format json` prints it."""
    lines = formatter("json")
    reader = broker.reader([topic])
    found = []
    while batches := reader.fetch():
        found += [json.loads(text) for batch in batches for text in lines.lines(batch).texts]
    reader.close()
    return found


def judge(
    db: psycopg.Connection[Any], broker: Broker, topic: str, files: Iterable[Path]
) -> Verdict:
    """Compare everything."""
    verdict = Verdict()
    events = events_of(broker, topic)
    verdict.events = len(events)
    offsets = [event["offset"] for event in events]
    verdict.expect(offsets == list(range(len(events))), "offsets are not dense and rising")
    _order(events, verdict)
    _audit(db, events, verdict)
    _accounts(db, events, verdict)
    _file(events, files, verdict)
    return verdict


def _place(event: Event) -> tuple[int, int]:
    high, _, low = event["tx"]["position"].partition("/")
    return int(high, 16) << 32 | int(low, 16), event["tx"]["ordinal"]


def _order(events: list[Event], verdict: Verdict) -> None:
    """Streamed changes stand in commit order, and none stands twice."""
    verdict.streamed = sum(event["op"] != "snapshot" for event in events)
    places = [_place(event) for event in events if event["op"] != "snapshot"]
    rising = all(a < b for a, b in pairwise(places))
    verdict.expect(rising, "streamed changes are not in commit order, or one is there twice")


def _audit(db: psycopg.Connection[Any], events: list[Event], verdict: Verdict) -> None:
    """The insert-only table: each committed row exactly once."""
    seen = Counter(
        event["after"]["version"]
        for event in events
        if event["schema"].endswith(".audit") and event["op"] in ("insert", "snapshot")
    )
    committed = {row[0] for row in db.execute("SELECT version FROM audit")}
    verdict.audited = len(committed)
    lost, strange = committed - seen.keys(), seen.keys() - committed
    twice = [version for version, count in seen.items() if count > 1]
    verdict.expect(not lost, f"{len(lost)} committed rows are lost, such as {sorted(lost)[:5]}")
    verdict.expect(not strange, f"{len(strange)} rows were never committed")
    verdict.expect(not twice, f"{len(twice)} rows are there twice, such as {twice[:5]}")


def _accounts(db: psycopg.Connection[Any], events: list[Event], verdict: Verdict) -> None:
    """The table with updates and deletes: each change once or covered by the row's base, and the
    state that the events leave is the table's, unchanged columns included."""
    state: dict[int, Event] = {}
    versions: Counter[int] = Counter()
    for event in events:
        if not event["schema"].endswith(".accounts"):
            continue
        key = event["key"]["id"]
        if event["op"] == "delete":
            verdict.expect(key in state, f"a delete of {key} has no row before it")
            state.pop(key, None)
            continue
        after = event["after"]
        versions[after["version"]] += 1
        if event["op"] == "update":
            verdict.expect(key in state, f"an update of {key} has no row before it")
            kept = {name: state.get(key, {}).get(name) for name in event.get("unchanged", [])}
            after = after | kept
        else:
            verdict.expect(key not in state, f"{key} has two bases: {event['op']}")
        state[key] = after
    twice = [version for version, count in versions.items() if count > 1]
    verdict.expect(not twice, f"{len(twice)} versions are there twice")
    table = {
        row[0]: {"id": row[0], "version": row[1], "note": row[2]}
        for row in db.execute("SELECT id, version, note FROM accounts")
    }
    wrong = [key for key in table.keys() | state.keys() if table.get(key) != state.get(key)]
    verdict.expect(not wrong, f"{len(wrong)} accounts differ from the table: {wrong[:5]}")


def _file(events: list[Event], files: Iterable[Path], verdict: Verdict) -> None:
    """The sink's file: every event at least once, and once after dropping repeats by offset."""
    lines = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
    verdict.lines = len(lines)
    by_offset: dict[int, Event] = {}
    for line in lines:
        first = by_offset.setdefault(line["offset"], line)
        verdict.expect(first == line, f"the repeats of offset {line['offset']} differ")
    verdict.repeats = len(lines) - len(by_offset)
    ordered = [by_offset[offset] for offset in sorted(by_offset)]
    verdict.expect(ordered == events, "the file without its repeats is not the topic")
