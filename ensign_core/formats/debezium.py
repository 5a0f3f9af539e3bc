"""The format ``debezium``: Debezium's JSON envelope without schemas, for consumers written for it.

    {"before", "after", "source": {...}, "transaction": null, "op", "ts_ms", "ts_us", "ts_ns"}

After "Data change events" in the documentation of Debezium's PostgreSQL connector (3.x). What is
different, and why:

- ``source.name`` is the database's name: Debezium's ``topic.prefix`` has no counterpart here.
- ``source.lsn`` is the transaction's commit, not the single row's place in the log.
- A snapshot row's ``source.ts_ms`` is the time of writing, since a snapshot has no commit.
- ``before`` of a key-only image has the key's columns and no nulls for the rest.
- Values: see `ensign_core.formats.debezium_values`. No column and no value is left out.

A changed key gives two lines, a delete with the old key and a create with the new one. An unchanged
value is taken from the old image when the source sent it in full, else it is the placeholder.
Tombstones, which are records without a value, are for a Kafka sink to add. Published events have no
such envelope and are refused with ``format.debezium_needs_rows``.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version

from ensign_core.change import Batch, Op, Run
from ensign_core.formats.debezium_values import placeholder, render
from ensign_core.formats.flat import LETTERS
from ensign_core.formats.images import Body, Row, Table, Tables, filled, stretches
from ensign_core.formats.lines import Lines, inexpressible
from ensign_core.formats.values import quote

_EVENT, _UPDATE, _TRUNCATE, _MESSAGE = Op.EVENT, Op.UPDATE, Op.TRUNCATE, Op.MESSAGE

try:
    _VERSION = f"ensign-{version('ensign')}"
except PackageNotFoundError:
    _VERSION = "ensign"


class DebeziumFormatter:
    def __init__(self) -> None:
        self._tables = Tables(render)
        self._placeholders: dict[int, Row] = {}

    def lines(self, batch: Batch) -> Lines:
        tables = self._tables.of(batch)
        ops, schema_ids, ends, body = batch.ops, batch.schema_ids, batch.ends, Body(batch.body)
        texts: list[bytes] = []
        indexes: list[int] = []
        now_ns = time.time_ns()
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
                    source = sources.get(number) or _source(table, run, now_ns)
                    sources[number] = source
                    for change, kind in self._changes(table, body, at, end, op, letter):
                        text = (
                            f'{{{change},"source":{source},"transaction":null,"op":"{kind}"{tail}'
                        )
                        texts.append(text.encode())
                        indexes.append(index)
                at = end
        return Lines(texts, indexes)

    def _changes(
        self, table: Table, body: Body, at: int, end: int, op: int, letter: str
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
        after = _object(table, self._whole(table, old, new, key_only))
        if op == _UPDATE and old is not None and _key_changed(table, old, new):
            return [
                (f'"before":{before},"after":null', "d"),
                (f'"before":null,"after":{after}', "c"),
            ]
        return [(f'"before":{before},"after":{after}', letter)]

    def _whole(self, table: Table, old: Row | None, new: Row | None, key_only: bool) -> Row | None:
        """The new row without gaps."""
        if new is None or all(new):
            return new
        if old is not None and not key_only:
            new = filled(new, old)
        fill = self._placeholders.get(table.schema.id)
        if fill is None:
            fill = [placeholder(column) for column in table.schema.columns]
            self._placeholders[table.schema.id] = fill
        return filled(new, fill)


def _object(table: Table, row: Row | None) -> str:
    return "null" if row is None else f"{{{table.fields(row)}}}"


def _key_changed(table: Table, old: Row, new: Row | None) -> bool:
    if new is None or not table.key:
        return False
    return table.key_fields(old) != table.key_fields(filled(new, old))


def _source(table: Table, run: Run | None, now_ns: int) -> str:
    """The source's block. It is Postgres' when the schema's name has the parts of one."""
    names = dict(table.schema.names)
    tx = run.tx if run else None
    committed = tx.committed_at if tx else None
    us = now_ns // 1000 if committed is None else committed
    number = tx.id if tx and tx.id and tx.id.isascii() and tx.id.isdigit() else "null"
    snapshot = tx is not None and tx.id is None and committed is None
    text = (
        f'{{"version":"{_VERSION}","connector":'
        f'"{"postgresql" if "schema" in names else "mysql"}",'
        f'"name":{quote(names.get("database", ""))},'
        f'"ts_ms":{us // 1000},"ts_us":{us},"ts_ns":{us * 1000},'
        f'"snapshot":"{"true" if snapshot else "false"}","db":{quote(names.get("database", ""))},'
    )
    if "schema" in names:
        text += f'"schema":{quote(names["schema"])},'
    return (
        f'{text}"table":{quote(names.get("table", table.schema.name))},'
        f'"txId":{number},"lsn":{_lsn(tx.position) if tx else "null"},"xmin":null}}'
    )


def _lsn(position: str) -> str:
    """A Postgres position as its 64-bit number ("pg_lsn Type"), or null."""
    high, slash, low = position.partition("/")
    try:
        return str((int(high, 16) << 32) + int(low, 16)) if slash else "null"
    except ValueError:
        return "null"
