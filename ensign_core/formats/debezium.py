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

from ensign_core.change import Batch, Op, Run, Schema
from ensign_core.formats.debezium_values import placeholder, render
from ensign_core.formats.flat import LETTERS
from ensign_core.formats.images import Tables
from ensign_core.formats.lines import Lines, inexpressible
from ensign_core.formats.values import quote
from ensign_core.rows import json as compiled

_MARKS = [LETTERS[op].encode() if op in LETTERS else None for op in sorted(Op)]

try:
    _VERSION = f"ensign-{version('ensign')}"
except PackageNotFoundError:
    _VERSION = "ensign"


class DebeziumFormatter:
    def __init__(self) -> None:
        self._tables = Tables(render, placeholder)

    def lines(self, batch: Batch) -> Lines:
        if Op.EVENT in batch.ops:
            raise inexpressible("debezium", "rows", "Choose the format json, flat or raw.")
        tables = self._tables.of(batch)
        rows = [table.rows for table in tables]
        now_ns = time.time_ns()
        tail = f',"ts_ms":{now_ns // 1_000_000},"ts_us":{now_ns // 1000},"ts_ns":{now_ns}}}'

        def source(number: int, run: Run | None) -> bytes:
            return source_block(tables[number].schema, run, now_ns).encode()

        return Lines(*compiled.debezium_lines(batch, rows, _MARKS, source, tail.encode()))


def source_block(schema: Schema, run: Run | None, now_ns: int) -> str:
    """The source's block. It is Postgres' when the schema's name has the parts of one."""
    names = dict(schema.names)
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
        f'{text}"table":{quote(names.get("table", schema.name))},'
        f'"txId":{number},"lsn":{_lsn(tx.position) if tx else "null"},"xmin":null}}'
    )


def _lsn(position: str) -> str:
    """A Postgres position as its 64-bit number ("pg_lsn Type"), or null."""
    high, slash, low = position.partition("/")
    try:
        return str((int(high, 16) << 32) + int(low, 16)) if slash else "null"
    except ValueError:
        return "null"
