"""The format ``flat``: the row itself plus ``__op``, ``__ts_ms``, ``__deleted``, ``__position``.

For targets that want rows. Values are those of the format ``json``. ``__op`` is Debezium's letter
(``r`` snapshot, ``c`` insert or published event, ``u``, ``d``, ``t`` truncate, ``m`` message), as
its flattening transform writes it, ``__ts_ms`` the commit in milliseconds since the epoch or null
(snapshot rows), ``__deleted`` a boolean, ``__position`` the source's position of the commit or
null. A deleted row shows what the source sent of it: the key, or all columns. A column that did not
change is taken from the old image when the source sent it in full, else it is absent, which is not
null: a target that upserts keeps what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ensign_core.change import Batch, Op
from ensign_core.formats.events import event_fields, event_key
from ensign_core.formats.images import Table, Tables
from ensign_core.formats.lines import SILENT, Lines, Messages
from ensign_core.rows import json as compiled

LETTERS = {
    int(Op.SNAPSHOT): "r",
    int(Op.INSERT): "c",
    int(Op.UPDATE): "u",
    int(Op.DELETE): "d",
    int(Op.TRUNCATE): "t",
    int(Op.MESSAGE): "m",
    int(Op.EVENT): "c",
}
_MARKS = [
    None if op in SILENT
    else f'"__op":"{LETTERS[op]}","__deleted":{"true" if op == Op.DELETE else "false"},'.encode()
    for op in sorted(Op)
]  # fmt: skip


class FlatFormatter:
    def __init__(self) -> None:
        self._tables = Tables()

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        rows, events = [table.rows for table in tables], [table.events for table in tables]
        return Lines(*compiled.flat_lines(batch, rows, _MARKS, events, partial(_published, tables)))

    def messages(self, batch: Batch) -> Messages:
        tables = self._tables.of(batch)
        rows, events = [table.rows for table in tables], [table.events for table in tables]
        own = partial(_published, tables), partial(event_key, tables)
        return Messages(*compiled.flat_messages(batch, rows, _MARKS, events, *own))


def _published(tables: Sequence[Table], number: int, body: bytes) -> str:
    """The inside of a published event's object."""
    key, rest = event_fields(tables[number], body)
    return f'"key":{key}{"," if rest else ""}{rest}'
