"""Published events, the batches that they become, and events as they are received."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

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
from ensign_core.rows import new_image, split

EVENT_BYTES_MAX = 5_243_000
"""What the data of an event may take."""

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


def event_body(event: Event) -> bytes:
    """An event as it lies in a batch."""
    metadata = json.dumps(dict(event.metadata)) if event.metadata else None
    return new_image([event.key, event.data, metadata, event.mimetype, event.type])


def checked_body(event: Event) -> bytes:
    """The same for what may be published; ``event.too_large`` for more."""
    size = len(event.data)
    if size > EVENT_BYTES_MAX:
        raise too_large(f"The data of an event has {size} bytes", EVENT_BYTES_MAX)
    body = event_body(event)
    if len(body) - size > ATTRIBUTES_BYTES_MAX:
        raise too_large(
            f"Key, metadata, mimetype and type of an event have {len(body) - size} bytes",
            ATTRIBUTES_BYTES_MAX,
        )
    return body


def too_large(what: str, most: int) -> EnsignError:
    return EnsignError(
        "event.too_large",
        f"{what}; {most} are the most.",
        "Split it, or store it elsewhere and publish where it lies.",
    )


def body_batch(topic: str, bodies: Sequence[bytes], committed_us: int) -> Batch:
    """Bodies of events as a batch of the fixed event schema."""
    count = len(bodies)
    return Batch(
        _OP * count, array("H", bytes(2 * count)), array("I", accumulate(map(len, bodies))),
        b"".join(bodies), [Run(0, 0, Tx(None, "", committed_us))] if count else [],
        [_schema(topic)] if count else [],
    )  # fmt: skip


def event_batch(topic: str, events: Iterable[Event]) -> Batch:
    """Events of any size as such a batch, committed now."""
    return body_batch(topic, list(map(event_body, events)), now_us())


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
