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

from ensign_core.change import Batch, Op, Run
from ensign_core.formats.events import event_fields
from ensign_core.formats.images import Body, Table, Tables, filled, stretches
from ensign_core.formats.lines import Lines
from ensign_core.formats.values import quote, render

LETTERS = {
    int(Op.SNAPSHOT): "r",
    int(Op.INSERT): "c",
    int(Op.UPDATE): "u",
    int(Op.DELETE): "d",
    int(Op.TRUNCATE): "t",
    int(Op.MESSAGE): "m",
    int(Op.EVENT): "c",
}
_EVENT = int(Op.EVENT)
_MARKS = {
    op: f'"__op":"{letter}","__deleted":{"true" if op == Op.DELETE else "false"},'
    for op, letter in LETTERS.items()
}


class FlatFormatter:
    def __init__(self) -> None:
        self._tables = Tables(render)

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        ops, schema_ids, ends, body = batch.ops, batch.schema_ids, batch.ends, Body(batch.body)
        texts: list[bytes] = []
        indexes: list[int] = []
        for start, stop, run in stretches(batch):
            shared = _shared(run)
            at = ends[start - 1] if start else 0
            for index in range(start, stop):
                end = ends[index]
                op = ops[index]
                marks = _MARKS.get(op)
                if marks is not None:
                    table = tables[schema_ids[index]]
                    if op == _EVENT:
                        key, rest = event_fields(table, batch.body[at:end])
                        fields = f'"key":{key}{"," if rest else ""}{rest}'
                    else:
                        fields = _fields(table, body, at, end)
                    comma = "," if fields else ""
                    texts.append(f"{{{fields}{comma}{marks}{shared}".encode())
                    indexes.append(index)
                at = end
        return Lines(texts, indexes)


def _fields(table: Table, body: Body, at: int, end: int) -> str:
    old, new, key_only = table.images(body, at, end)
    if new is not None:
        return table.fields(new if key_only or old is None else filled(new, old))
    if old is None:
        return ""
    return table.key_fields(old) if key_only else table.fields(old)


def _shared(run: Run | None) -> str:
    """What all events of a transaction end with."""
    committed = run.tx.committed_at if run else None
    ts_ms = "null" if committed is None else committed // 1000
    return f'"__ts_ms":{ts_ms},"__position":{quote(run.tx.position) if run else "null"}}}'
