"""The ledger: what the database committed, against the topic and the file."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ensign_core.broker import Broker
from ensign_core.formats import formatter

Event = dict[str, Any]
STREAMED = ("insert", "update", "delete")


class Database(Protocol):
    """What a database committed."""

    def audit(self) -> Iterable[tuple[str, int, int, str]]:
        """Table, account, version and op of each committed change, in the order of versions."""

    def tables(self) -> Iterable[str]:
        """The names of all tables of accounts."""

    def rows(self, table: str) -> dict[int, Event]:
        """A table's rows by id, as they are in events."""

    def place(self, position: str) -> tuple[int, int]:
        """A transaction's position, as a number of the log and an offset in it."""


@dataclass
class Verdict:
    """What was compared, and what is wrong: ``faults`` is empty when all is well."""

    events: int = 0
    lines: int = 0
    repeats: int = 0
    audited: int = 0
    streamed: int = 0
    snapshots: int = 0
    again: int = 0
    tables: int = 0
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def __str__(self) -> str:
        return (
            f"{self.audited} rows committed, {self.events} events in the topic "
            f"({self.streamed} streamed; {self.snapshots} snapshot rows of {self.tables} tables, "
            f"{self.again} of them again on request), "
            f"{self.lines} lines in the file ({self.repeats} repeats)"
        )


def events_of(broker: Broker, topic: str, verdict: Verdict) -> list[Event]:
    """A topic as `ensign read --format json` prints it; its offsets are dense and rising."""
    lines = formatter("json")
    reader = broker.reader([topic])
    found = []
    following = 0
    while batches := reader.fetch():
        for batch in batches:
            verdict.expect(batch.offset == following, f"offset {following} is not where it was")
            following = batch.offset + len(batch)
            found += [json.loads(text) for text in lines.lines(batch).texts]
    reader.close()
    return found


def judge(db: Database, broker: Broker, topic: str, files: Iterable[Path] | None) -> Verdict:
    """Compare everything; ``files`` are what a sink wrote, if there was one."""
    verdict = Verdict()
    events = events_of(broker, topic, verdict)
    verdict.events = len(events)
    _order(db, events, verdict)
    committed = list(db.audit())
    _audit({row[2] for row in committed}, events, verdict)
    changes = _by_table(committed)
    by_table: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_table[event["schema"].partition(".")[2]].append(event)
    for name in db.tables():
        verdict.tables += 1
        _table(db.rows(name), name, by_table[name], changes[name], verdict)
    if files is not None:
        _file(events, files, verdict)
    return verdict


def _order(db: Database, events: list[Event], verdict: Verdict) -> None:
    """Streamed changes stand in commit order, and none stands twice."""
    places = [
        (*db.place(event["tx"]["position"]), event["tx"]["ordinal"])
        for event in events
        if event["op"] in STREAMED
    ]
    verdict.streamed = len(places)
    verdict.snapshots = sum(event["op"] == "snapshot" for event in events)
    rising = all(a < b for a, b in pairwise(places))
    verdict.expect(rising, "streamed changes are not in commit order, or one is there twice")


def _audit(committed: set[int], events: list[Event], verdict: Verdict) -> None:
    """The insert-only table: each committed row exactly once; nobody asks for its rows again."""
    seen = Counter(
        event["after"]["version"]
        for event in events
        if event["schema"].endswith(".audit") and event["op"] in ("insert", "snapshot")
    )
    verdict.audited = len(committed)
    lost, strange = committed - seen.keys(), seen.keys() - committed
    twice = [version for version, count in seen.items() if count > 1]
    verdict.expect(not lost, f"{len(lost)} committed rows are lost, such as {sorted(lost)[:5]}")
    verdict.expect(not strange, f"{len(strange)} rows were never committed")
    verdict.expect(not twice, f"{len(twice)} rows are there twice, such as {twice[:5]}")


Changes = dict[int, list[tuple[int, bool]]]
"""By key: the versions of its committed changes, rising, and whether each is a delete."""


def _by_table(committed: Iterable[tuple[str, int, int, str]]) -> dict[str, Changes]:
    found: dict[str, Changes] = defaultdict(lambda: defaultdict(list))
    for name, account, version, op in committed:
        found[name][account].append((version, op == "delete"))
    return found


@dataclass
class _Row:
    """What the events said of one key. ``base``: the version that its first event covers;
    ``newest``: the newest of all; ``state`` is None when it is deleted."""

    base: int | None = None
    newest: int = 0
    state: Event | None = None
    streamed: list[int] = field(default_factory=list)
    deletes: int = 0


def _table(
    table: Mapping[int, Event],
    name: str,
    events: list[Event],
    changes: Mapping[int, list[tuple[int, bool]]],
    verdict: Verdict,
) -> None:
    """A table with updates and deletes: each change once, or covered by the row's base; a row read
    again never older than what stands before it; and the state that the events leave is the
    table's, unchanged columns included."""
    rows: dict[int, _Row] = {}
    for event in events:
        if event["op"] == "truncate":
            rows.clear()
            continue
        key = event["key"]["id"]
        _take(name, key, rows.setdefault(key, _Row()), event, verdict)
    for key, row in rows.items():
        later = [change for change in changes.get(key, []) if change[0] > (row.base or 0)]
        wanted = [version for version, deleted in later if not deleted]
        odd = sorted((Counter(wanted) - Counter(row.streamed)).elements())[:5]
        verdict.expect(not odd, f"{name} {key}: changes are lost, such as {odd}")
        odd = sorted((Counter(row.streamed) - Counter(wanted)).elements())[:5]
        verdict.expect(not odd, f"{name} {key}: changes come twice, such as {odd}")
        deletes = sum(deleted for _, deleted in later)
        verdict.expect(row.deletes == deletes, f"{name} {key}: {row.deletes} of {deletes} deletes")
    left = {key: row.state for key, row in rows.items() if row.state is not None}
    wrong = [key for key in table.keys() | left.keys() if not _same(table.get(key), left.get(key))]
    verdict.expect(not wrong, f"{len(wrong)} rows of {name} differ from the table: {wrong[:5]}")


def _same(row: Event | None, state: Event | None) -> bool:
    """Whether they are equal; a column added after the row's last event is null in the table."""
    if row is None or state is None:
        return row is state
    return {column: state.get(column) for column in row} == row


def _take(name: str, key: int, row: _Row, event: Event, verdict: Verdict) -> None:
    """Fold one event into what is known of its key."""
    what = f"{name} {key}: {event['op']}"
    if event["op"] == "delete":
        verdict.expect(row.state is not None, f"{what} has no row before it")
        row.state, row.deletes = None, row.deletes + 1
        return
    after = event["after"]
    version = after["version"]
    if event["op"] == "update":
        verdict.expect(row.state is not None, f"{what} has no row before it")
        after = after | {column: (row.state or {}).get(column) for column in event["unchanged"]}
    elif event["op"] == "insert":
        verdict.expect(row.state is None, f"{what} has a row before it")
    elif row.newest:
        verdict.again += 1
        stale = version < row.newest or (row.state is None and version == row.newest)
        verdict.expect(not stale, f"{what} is older than what stands before it")
    if event["op"] != "snapshot":
        row.streamed.append(version)
    if row.base is None:
        row.base = version if event["op"] == "snapshot" else version - 1
    row.newest = max(row.newest, version)
    row.state = after


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
