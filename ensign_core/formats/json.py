"""The format ``json``: one lossless object per event, as "The command line" in the design says.

    {"topic", "offset", "op", "key", "before", "after", "unchanged", "schema",
     "tx": {"id", "position", "ordinal", "committed_at"}}

``before`` holds the key's columns only when the source sent no more; ``after`` lacks the columns
named in ``unchanged``, whether ``before`` has them or not. ``tx`` is null for events outside any
transaction, such as published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ensign_core.change import Batch, Op
from ensign_core.formats.events import event_fields, event_key
from ensign_core.formats.images import Table, Tables
from ensign_core.formats.lines import SILENT, Lines, Messages
from ensign_core.rows import json as compiled

_MARKS = [
    None if op in SILENT else f',"op":"{op.name.lower()}","key":'.encode() for op in sorted(Op)
]


class JsonFormatter:
    def __init__(self) -> None:
        self._tables = Tables()

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        rows, events = [table.rows for table in tables], [table.events for table in tables]
        return Lines(*compiled.json_lines(batch, rows, _MARKS, events, partial(_published, tables)))

    def messages(self, batch: Batch) -> Messages:
        tables = self._tables.of(batch)
        rows, events = [table.rows for table in tables], [table.events for table in tables]
        own = partial(_published, tables), partial(event_key, tables)
        return Messages(*compiled.json_messages(batch, rows, _MARKS, events, *own))


def _published(tables: Sequence[Table], number: int, body: bytes) -> str:
    """Key to unchanged of a published event."""
    key, fields = event_fields(tables[number], body)
    return f'{key},"before":null,"after":{{{fields}}},"unchanged":[]'
