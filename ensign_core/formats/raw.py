"""The format ``raw``: the data of published events, byte for byte, and nothing else.

Rows have no bytes of their own that a stranger could read, so a topic of rows is refused with
``format.raw_needs_events``. An event whose data is null has no line, but a message without value.
Data may hold line breaks: then a file of such lines has more lines than events, which is the
publisher's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ensign_core.change import Batch, Op, Schema
from ensign_core.formats.lines import SILENT, Lines, Messages, inexpressible
from ensign_core.rows import columns as compiled

_EVENTS = bytes((Op.EVENT,))


class RawFormatter:
    def lines(self, batch: Batch) -> Lines:
        found, indexes = _keys_and_data(batch)
        kept = [(data, i) for (_, data), i in zip(found, indexes, strict=True) if data is not None]
        return Lines([data for data, _ in kept], [index for _, index in kept])

    def messages(self, batch: Batch) -> Messages:
        found, indexes = _keys_and_data(batch)
        keys = [key for key, _ in found]
        return Messages(keys, [data for _, data in found], indexes, bytes(len(indexes)))


def _keys_and_data(batch: Batch) -> tuple[Sequence[tuple[bytes | None, ...]], Sequence[int]]:
    if set(batch.ops) - SILENT - {Op.EVENT}:
        raise inexpressible("raw", "events", "Choose the format json, flat or debezium.")
    return compiled.columns(batch, _EVENTS, [_places(schema) for schema in batch.schemas])


@cache
def _places(schema: Schema) -> tuple[int, int]:
    """Where key and data are in a row of the schema."""
    names = [column.name for column in schema.columns]
    kinds = [column.logical for column in schema.columns]
    return (
        names.index("key") if "key" in names else -1,
        kinds.index("payload") if "payload" in kinds else -1,
    )
