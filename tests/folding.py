"""What a reader of a topic ends up with, folded in plain Python: for tests of compaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ensign_core.broker import Broker
from ensign_core.change import Change, Offset, Op
from ensign_core.rows import ABSENT, Value, decode

Key = tuple[Value, ...]


@dataclass
class Reader:
    """Rows by table and key, the latest of published events by key, and all that has no key."""

    rows: dict[str, dict[Key, dict[str, Value]]] = field(default_factory=lambda: defaultdict(dict))
    events: dict[tuple[str, Value], Value] = field(default_factory=dict)
    others: list[tuple[Offset, Op, bytes]] = field(default_factory=list)

    @property
    def state(self) -> tuple[object, object, object]:
        return {name: rows for name, rows in self.rows.items() if rows}, self.events, self.others

    def take(self, changes: Iterable[Change]) -> Reader:
        for change in changes:
            self._take(change)
        return self

    def _take(self, change: Change) -> None:
        op, schema = change.op, change.schema
        rows = self.rows[schema.name]
        old_image, new_image, key_only = change.images()
        names = [column.name for column in schema.columns]
        old = dict(zip(names, decode(old_image), strict=True)) if old_image is not None else None
        new = dict(zip(names, decode(new_image), strict=True)) if new_image is not None else None
        if op is Op.EVENT:
            assert new is not None
            if new["key"] is None:
                self.others.append((change.offset, op, change.body))
            elif new["data"] is None:
                self.events.pop((schema.name, new["key"]), None)
            else:
                self.events[schema.name, new["key"]] = new["data"]
        elif op is Op.TRUNCATE:
            rows.clear()
        elif op in (Op.MESSAGE, Op.SCHEMA) or not schema.key:
            self.others.append((change.offset, op, change.body))
        elif op is not Op.REMOVED:
            self._row(rows, [names[place] for place in schema.key], old, new, key_only)

    def _row(
        self, rows: dict[Key, dict[str, Value]], key: list[str],
        old: dict[str, Value] | None, new: dict[str, Value] | None, key_only: bool,
    ) -> None:  # fmt: skip
        before = (
            {} if old is None or key_only else {k: v for k, v in old.items() if v is not ABSENT}
        )
        if new is None:
            assert old is not None
            rows.pop(tuple(old[name] for name in key), None)
            return
        place = tuple(new[name] for name in key)
        held = rows.get(place, {})
        if old is not None and (left := tuple(old[name] for name in key)) != place:
            held = rows.pop(left, {})
        known = held | before
        rows[place] = {
            name: known.get(name, ABSENT) if value is ABSENT else value
            for name, value in new.items()
        }


def changes(broker: Broker, topic: str, start: Offset = 0) -> Iterator[Change]:
    """All events of a topic from an offset on, but those that were taken out."""
    with broker.reader([topic], start) as reader:
        while batches := reader.fetch():
            for batch in batches:
                yield from (change for change in batch if change.op is not Op.REMOVED)
