"""The formats json, flat and debezium in plain Python, an event at a time: the compiled lines are
held against these, byte for byte, and measured beside them."""

from __future__ import annotations

from ensign_core.change import Batch, Op, Run
from ensign_core.formats.debezium import encoding, source_block
from ensign_core.formats.events import event_fields
from ensign_core.formats.flat import LETTERS
from ensign_core.formats.images import Encoding
from ensign_core.formats.lines import SILENT, Lines, inexpressible
from ensign_core.formats.values import instant, quote
from tests.plain.images import Body, PlainTable, Row, filled, stretches

_OPS = {int(op): f',"op":"{op.name.lower()}","key":' for op in Op if op not in SILENT}
_EVENT, _UPDATE, _MESSAGE = Op.EVENT, Op.UPDATE, Op.MESSAGE
_FLAT_MARKS = {
    op: f'"__op":"{letter}","__deleted":{"true" if op == Op.DELETE else "false"},'
    for op, letter in LETTERS.items()
}


def json_lines(batch: Batch) -> Lines:
    tables = [PlainTable(schema, Encoding()) for schema in batch.schemas]
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


def rendered_row(table: PlainTable, body: Body, at: int, end: int) -> str:
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


def rendered_event(table: PlainTable, body: bytes) -> str:
    """Key to unchanged of a published event."""
    key, fields = event_fields(table.events, body)
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


def flat_lines(batch: Batch) -> Lines:
    tables = [PlainTable(schema, Encoding()) for schema in batch.schemas]
    ops, schema_ids, ends, body = batch.ops, batch.schema_ids, batch.ends, Body(batch.body)
    texts: list[bytes] = []
    indexes: list[int] = []
    for start, stop, run in stretches(batch):
        shared = _shared(run)
        at = ends[start - 1] if start else 0
        for index in range(start, stop):
            end = ends[index]
            op = ops[index]
            marks = _FLAT_MARKS.get(op)
            if marks is not None:
                table = tables[schema_ids[index]]
                if op == _EVENT:
                    key, rest = event_fields(table.events, batch.body[at:end])
                    fields = f'"key":{key}{"," if rest else ""}{rest}'
                else:
                    fields = _fields(table, body, at, end)
                comma = "," if fields else ""
                texts.append(f"{{{fields}{comma}{marks}{shared}".encode())
                indexes.append(index)
            at = end
    return Lines(texts, indexes)


def _fields(table: PlainTable, body: Body, at: int, end: int) -> str:
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


def debezium_lines(batch: Batch, now_ns: int) -> Lines:
    tables = [PlainTable(schema, encoding(schema)) for schema in batch.schemas]
    ops, schema_ids, ends, body = batch.ops, batch.schema_ids, batch.ends, Body(batch.body)
    texts: list[bytes] = []
    indexes: list[int] = []
    tail = f',"ts_ms":{now_ns // 1_000_000},"ts_us":{now_ns // 1000},"ts_ns":{now_ns}}}'
    for start, stop, run in stretches(batch):
        sources: dict[int, str] = {}
        at = ends[start - 1] if start else 0
        for index in range(start, stop):
            end = ends[index]
            op = ops[index]
            letter = LETTERS.get(op)
            if letter is not None:
                number = schema_ids[index]
                table = tables[number]
                # Rows of one transaction and table share this part; a snapshot has its own.
                source = sources.get(number) or source_block(table.schema, run, now_ns)
                sources[number] = source
                for change, kind in _changes(table, body, at, end, op, letter):
                    text = f'{{{change},"source":{source},"transaction":null,"op":"{kind}"{tail}'
                    texts.append(text.encode())
                    indexes.append(index)
            at = end
    return Lines(texts, indexes)


def _changes(
    table: PlainTable, body: Body, at: int, end: int, op: int, letter: str
) -> list[tuple[str, str]]:
    """Before and after with their letter: one pair, or two for a changed key."""
    if op == _EVENT:
        raise inexpressible("debezium", "rows", "Choose the format json, flat or raw.")
    old, new, key_only = table.images(body, at, end)
    if op == _MESSAGE:
        return [(f'"message":{_object(table, new)}', letter)]
    before = "null"
    if old is not None:
        before = f"{{{table.key_fields(old)}}}" if key_only else _object(table, old)
    after = _object(table, _whole(table, old, new, key_only))
    if op == _UPDATE and old is not None and _key_changed(table, old, new):
        return [
            (f'"before":{before},"after":null', "d"),
            (f'"before":null,"after":{after}', "c"),
        ]
    return [(f'"before":{before},"after":{after}', letter)]


def _whole(table: PlainTable, old: Row | None, new: Row | None, key_only: bool) -> Row | None:
    """The new row without gaps."""
    if new is None or all(new):
        return new
    if old is not None and not key_only:
        new = filled(new, old)
    fill = encoding(table.schema).placeholder
    assert fill is not None
    return filled(new, [fill(column) for column in table.schema.columns])


def _object(table: PlainTable, row: Row | None) -> str:
    return "null" if row is None else f"{{{table.fields(row)}}}"


def _key_changed(table: PlainTable, old: Row, new: Row | None) -> bool:
    if new is None or not table.key:
        return False
    return table.key_fields(old) != table.key_fields(filled(new, old))
