"""Published events, the batches that they become, and events as they are received."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ensign_core.broker.vault import now_us
from ensign_core.change import (
    NULL,
    UNCHANGED,
    Batch,
    Change,
    Offset,
    Op,
    Run,
    Tx,
    event_schema,
)
from ensign_core.errors import EnsignError
from ensign_core.rows import split
from ensign_core.rows.published import bodies

EVENT_BYTES_MAX = 5_243_000
"""What an event may take; larger ones are published with ``large=``."""

TOPIC_BYTES_MAX = 512


@dataclass(frozen=True)
class Event:
    """Something to publish. ``data`` is up to the publisher; ``mimetype`` says what it is."""

    data: bytes
    key: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    mimetype: str | None = None
    type: str | None = None


def check_topic_name(name: str) -> None:
    """Raise ``topic.name_invalid`` unless ``name`` may name a topic."""
    legal = name.isascii() and all(c.isalnum() or c in "._-" for c in name)
    if not name or len(name) > TOPIC_BYTES_MAX or not legal:
        raise EnsignError(
            "topic.name_invalid",
            "A topic's name is 1 to 512 letters, digits, dots, underscores and hyphens.",
            "Choose another name.",
        )


def event_batch(topic: str, events: Iterable[Event]) -> Batch:
    """Events as a batch of the fixed event schema, committed now."""
    body, ends = bodies(events, _metadata)
    if not ends:
        return Batch()
    count = len(ends)
    runs = [Run(0, 0, Tx(None, "", now_us()))]
    return Batch(
        bytes((Op.EVENT,)) * count, array("H", bytes(2 * count)), ends, body, runs,
        [event_schema(topic)],
    )  # fmt: skip


def _metadata(metadata: Mapping[str, str]) -> str:
    return json.dumps(dict(metadata))


@dataclass(frozen=True)
class Received:
    """One event as a subscriber gets it. ``event`` is None for a change of a row, which ``change``
    views; ``committed_us`` is None where the source did not say when it committed."""

    topic: str
    offset: Offset
    committed_us: int | None
    event: Event | None
    change: Change


def received(batch: Batch) -> Iterator[Received]:
    """The events of a batch, one by one, without those that were taken out of it."""
    for change in batch:
        if change.op is Op.REMOVED:
            continue
        event = published(change) if change.op is Op.EVENT else None
        committed_us = change.tx.committed_at if change.tx else None
        yield Received(batch.topic, change.offset, committed_us, event, change)


def published(change: Change) -> Event:
    """An event as it was published."""
    kinds, values = split(change.body[1:])
    columns = change.schema.columns
    found = {
        column.name: value
        for column, kind, value in zip(columns, kinds, values, strict=True)
        if kind not in (NULL, UNCHANGED)
    }
    metadata = json.loads(found["metadata"]) if found.get("metadata") else {}
    mimetype, kind = found.get("mimetype"), found.get("type")
    return Event(
        found.get("data", b""), found.get("key"), metadata,
        None if mimetype is None else mimetype.decode(), None if kind is None else kind.decode(),
    )  # fmt: skip
