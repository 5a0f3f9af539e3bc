"""The format ``raw``: the data of published events, byte for byte, and nothing else.

Rows have no bytes of their own that a stranger could read, so a topic of rows is refused with
``format.raw_needs_events``. An event whose data is null has no line. Data may hold line breaks:
then a file of such lines has more lines than events, which is the publisher's choice.
"""

from __future__ import annotations

from ensign_core.change import Batch, Op
from ensign_core.formats.events import event_data
from ensign_core.formats.images import Tables
from ensign_core.formats.lines import SILENT, Lines, inexpressible


class RawFormatter:
    def __init__(self) -> None:
        self._tables = Tables()

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        texts: list[bytes] = []
        indexes: list[int] = []
        at = 0
        for index, end in enumerate(batch.ends):
            op = batch.ops[index]
            if op == Op.EVENT:
                data = event_data(tables[batch.schema_ids[index]], batch.body[at:end])
                if data is not None:
                    texts.append(data)
                    indexes.append(index)
            elif op not in SILENT:
                raise inexpressible("raw", "events", "Choose the format json, flat or debezium.")
            at = end
        return Lines(texts, indexes)
