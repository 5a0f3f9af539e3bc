"""Published events, and the batches that they become."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ensign_core.broker.vault import now_us
from ensign_core.change import Batch, BatchBuilder, Op, Tx, event_schema
from ensign_core.rows import new_image


@dataclass(frozen=True)
class Event:
    """Something to publish. ``data`` is up to the publisher; ``mimetype`` says what it is."""

    data: bytes
    key: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    mimetype: str | None = None
    type: str | None = None


def event_batch(topic: str, events: Iterable[Event]) -> Batch:
    """Events as a batch of the fixed event schema, committed now."""
    builder = BatchBuilder().begin(Tx(None, "", now_us()))
    schema = event_schema(topic)
    for event in events:
        metadata = json.dumps(dict(event.metadata)) if event.metadata else None
        values = [event.key, event.data, metadata, event.mimetype, event.type]
        builder.add(Op.EVENT, schema, new_image(values))
    return builder.take(None)
