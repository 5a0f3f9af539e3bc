"""The format ``json``: one lossless object per event, as "The command line" in the design says.

    {"topic", "offset", "op", "key", "before", "after", "unchanged", "schema",
     "tx": {"id", "position", "ordinal", "committed_at"}}

``before`` holds the key's columns only when the source sent no more; ``after`` lacks the columns
named in ``unchanged``, whether ``before`` has them or not. ``tx`` is null for events outside any
transaction, such as published ones.
"""

from __future__ import annotations

from ensign_core.change import Batch, Op, Run
from ensign_core.formats.events import event_fields
from ensign_core.formats.images import Body, Table, Tables, stretches
from ensign_core.formats.lines import SILENT, Lines
from ensign_core.formats.values import instant, quote, render

_OPS = {int(op): f',"op":"{op.name.lower()}","key":' for op in Op if op not in SILENT}
_EVENT = int(Op.EVENT)


class JsonFormatter:
    def __init__(self) -> None:
        self._tables = Tables(render)

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        ops, schema_ids, ends, body = batch.ops, batch.schema_ids, batch.ends, Body(batch.body)
        head = f'{{"topic":{quote(batch.topic)},"offset":'
        texts: list[bytes] = []
        indexes: list[int] = []
        for start, stop, run in stretches(batch):
            before_ordinal, after_ordinal = transaction(run)
            ordinal_shift = run.ordinal - run.start if run else 0
            at = ends[start - 1] if start else 0
            for index in range(start, stop):
                end = ends[index]
                op = _OPS.get(ops[index])
                if op is not None:
                    table = tables[schema_ids[index]]
                    change = (
                        rendered_event(table, batch.body[at:end])
                        if ops[index] == _EVENT
                        else rendered_row(table, body, at, end)
                    )
                    ordinal = index + ordinal_shift if run else ""
                    text = (
                        f"{head}{batch.offset + index}{op}{change},"
                        f'"schema":{table.name},"tx":{before_ordinal}{ordinal}{after_ordinal}}}'
                    )
                    texts.append(text.encode())
                    indexes.append(index)
                at = end
        return Lines(texts, indexes)


def rendered_row(table: Table, body: Body, at: int, end: int) -> str:
    """Key to unchanged of a row's event."""
    old, new, key_only = table.images(body, at, end)
    key = table.key_object(old, new)
    if old is None:
        before = "null"
    else:
        before = f"{{{table.key_fields(old) if key_only else table.fields(old)}}}"
    if new is None:
        return f'{key},"before":{before},"after":null,"unchanged":[]'
    unchanged = "[]" if all(new) else table.unchanged(new)
    return f'{key},"before":{before},"after":{{{table.fields(new)}}},"unchanged":{unchanged}'


def rendered_event(table: Table, body: bytes) -> str:
    """Key to unchanged of a published event."""
    key, fields = event_fields(table, body)
    return f'{key},"before":null,"after":{{{fields}}},"unchanged":[]'


def transaction(run: Run | None) -> tuple[str, str]:
    """The transaction's object before and behind the ordinal, or null in two parts."""
    if run is None:
        return "null", ""
    tx = run.tx
    number = "null" if tx.id is None else quote(tx.id)
    return (
        f'{{"id":{number},"position":{quote(tx.position)},"ordinal":',
        f',"committed_at":{instant(tx.committed_at)}}}',
    )
