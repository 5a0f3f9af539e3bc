"""What tells which events of a topic must be delivered one after another: those of equal keys."""

from __future__ import annotations

from collections.abc import Callable

from ensign_core.change import EVENT_COLUMNS, NULL, UNCHANGED, Batch, Change, Schema
from ensign_core.rows import split

EVENT_KEY = (0,)


class KeyOrder:
    """Keys as keyed hashes, which tell nothing to who has only the database. One thread uses it."""

    def __init__(self, fingerprint: Callable[[bytes], bytes]) -> None:
        self._fingerprint = fingerprint

    def key(self, topic_id: bytes, change: Change) -> bytes | None:
        """16 bytes for the key of an event; None if it has none: then it has no order. An update
        that changes the key has the new one."""
        places = _places(change.schema)
        old, new, _ = change.images()
        row = new if new is not None else old
        if not places or row is None:
            return None
        kinds, values = split(row)
        if places is EVENT_KEY and kinds[0] == NULL:
            return None
        if old is not None and any(kinds[place] == UNCHANGED for place in places):
            kinds, values = split(old)
        parts = [topic_id, change.schema.name.encode()]
        for place in places:
            parts += bytes([kinds[place]]), values[place]
        return self._fingerprint(b"".join(len(part).to_bytes(4, "big") + part for part in parts))

    def keys(self, topic_id: bytes, batch: Batch, start: int, stop: int) -> list[bytes | None]:
        """Those of the events ``start`` to ``stop`` (exclusive) of a batch."""
        return [self.key(topic_id, change) for change in batch.part(start, stop)]


def _places(schema: Schema) -> tuple[int, ...]:
    if schema.columns[: len(EVENT_COLUMNS)] == EVENT_COLUMNS:
        return EVENT_KEY
    return schema.key
