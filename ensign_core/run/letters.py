"""How a dead letter lies in its topic: an event whose data are what was set aside, and whose
metadata say why, by which part of the pipeline, and what it takes to work on it again."""

from __future__ import annotations

import json
from typing import NamedTuple

from ensign_core.broker import Event
from ensign_core.broker.copies import Copy
from ensign_core.broker.vault import decode_schema, encode_schema
from ensign_core.change import SET_ASIDE, Batch, BatchBuilder, Change, Offset, Op, Tx
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image

SOURCE = "source"
"""The name of a pipeline's source among its parts; sinks have their own."""

Place = tuple[str, Offset]
"""Topic and offset of an event."""


class Letter(NamedTuple):
    """A dead letter. ``part`` is `SOURCE` or a sink's name, None where an earlier Ensign did not
    keep which sink it was. ``place`` is where a sink's event lies; ``op`` and ``schema`` (its name)
    are None for bytes of which no event was made. ``data`` are sealed if `copy` is one."""

    offset: Offset
    time_us: int | None
    part: str | None
    code: str
    error: str
    place: Place | None
    op: str | None
    schema: str | None
    data: bytes
    known: dict[str, str]

    @property
    def copy(self) -> Copy | None:
        """The sealed copy of the event; None if the letter has none, or ``data`` are in clear."""
        key_id = self.known.get("key")
        return None if key_id is None else Copy(bytes.fromhex(key_id), self.data)

    @property
    def size(self) -> int:
        """How many bytes the event had, as far as the letter has them."""
        return int(self.known.get("bytes", len(self.data)))

    def again(self) -> Batch:
        """What a source set aside, as a batch of one event: bytes are the data of an event of
        `SET_ASIDE`."""
        builder = BatchBuilder()
        if self.op is None:
            builder.add(Op.EVENT, SET_ASIDE, new_image([None, self.data, None, None, None]))
            return builder.take(None)
        if "tx" in self.known:
            builder.begin(Tx(*json.loads(self.known["tx"])), int(self.known["ordinal"]))
        schema = decode_schema(self.known["structure"].encode())
        builder.add(Op[self.op.upper()], schema, self.data)
        return builder.take(None)


def letter_event(
    part: str, event: Change | bytes, error: EnsignError, copy: Copy | None = None
) -> Event:
    """What a part of a pipeline sets aside, as the event that goes into the topic. What lies in a
    topic is looked up there again, and is here as its sealed ``copy`` at most; all else is kept
    whole."""
    metadata = {"part": part, "code": error.code, "error": error.sentence}
    data = event if isinstance(event, bytes) else event.body
    if isinstance(event, Change):
        metadata |= {"op": event.op.name.lower(), "schema": event.schema.name}
        if event.batch.topic:
            metadata |= {"topic": event.batch.topic, "offset": str(event.offset)}
            if copy is not None:
                metadata |= {"key": copy.key_id.hex(), "bytes": str(len(data))}
            data = b"" if copy is None else copy.box
        else:
            metadata["structure"] = encode_schema(event.schema).decode()
            if event.tx is not None:
                metadata |= {"tx": json.dumps(event.tx), "ordinal": str(event.ordinal)}
    return Event(data, metadata=metadata, mimetype="application/octet-stream")


def read_letter(change: Change) -> Letter:
    """A dead letter as it was read from its topic."""
    row = change.images()[1]
    assert row is not None
    _, data, metadata, *_ = decode(row)
    assert isinstance(data, bytes)
    assert isinstance(metadata, str)
    known: dict[str, str] = json.loads(metadata)
    place = (known["topic"], int(known["offset"])) if "topic" in known else None
    return Letter(
        change.offset, change.tx.committed_at if change.tx else None,
        known.get("part", None if place else SOURCE), known["code"], known["error"], place,
        known.get("op"), known.get("schema"), data, known,
    )  # fmt: skip
