"""Published events, the batches that they become, and events as they are received."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import sub

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
"""What the data of an event may take; larger ones are published with ``large=``."""

ATTRIBUTES_BYTES_MAX = 1 << 20
"""What all else of an event may take: key, metadata, mimetype and type."""

_schema = lru_cache(1024)(event_schema)
_OP = bytes((Op.EVENT,))


@dataclass(frozen=True)
class Event:
    """Something to publish. ``data`` is up to the publisher; ``mimetype`` says what it is."""

    data: bytes
    key: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    mimetype: str | None = None
    type: str | None = None


def checked_bodies(events: Sequence[Event]) -> tuple[bytes, array[int]]:
    """Events as they lie in a batch, and where each ends; ``event.too_large`` for what may not be
    published."""
    body, ends = bodies(events, _metadata)
    sizes = list(map(sub, ends, chain((0,), ends)))
    if sizes and max(sizes) > ATTRIBUTES_BYTES_MAX:
        for event, size in zip(events, sizes, strict=True):
            _check_size(len(event.data), size)
    return body, ends


def _check_size(data_bytes: int, size: int) -> None:
    for what, found, most in (
        ("The data of an event", data_bytes, EVENT_BYTES_MAX),
        ("All but the data of an event", size - data_bytes, ATTRIBUTES_BYTES_MAX),
    ):
        if found > most:
            raise EnsignError(
                "event.too_large",
                f"{what} has {found} bytes; {most} are the most.",
                "Publish it as a large event, in parts or by a claim check.",
            )


def body_batch(topic: str, body: bytes, ends: array[int], committed_us: int) -> Batch:
    """Bodies of events in one piece as a batch of the fixed event schema."""
    count = len(ends)
    if not count:
        return Batch()
    return Batch(
        _OP * count, array("H", bytes(2 * count)), ends, body,
        [Run(0, 0, Tx(None, "", committed_us))], [_schema(topic)],
    )  # fmt: skip


def event_batch(topic: str, events: Iterable[Event]) -> Batch:
    """Events of any size as a batch of the fixed event schema, committed now."""
    return body_batch(topic, *bodies(events, _metadata), now_us())


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
        event = _event(change) if change.op is Op.EVENT else None
        committed_us = change.tx.committed_at if change.tx else None
        yield Received(batch.topic, change.offset, committed_us, event, change)


def _event(change: Change) -> Event:
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
