"""The format ``debezium``: Debezium's JSON envelope without schemas, for consumers written for it.

    {"before", "after", "source": {...}, "transaction": null, "op", "ts_ms", "ts_us", "ts_ns"}

After "Data change events" in the documentation of Debezium's connectors for PostgreSQL and MySQL
(3.x). What is different, and why:

- ``source.name`` is the database's name: Debezium's ``topic.prefix`` has no counterpart here.
- ``source.lsn`` is the transaction's commit, not the single row's place in the log; so are MySQL's
  ``file`` and ``pos`` the transaction's, and ``row`` is 0.
- ``source.server_id`` is 0 where the GTID does not say it (MySQL); ``thread`` and ``query`` are
  null. ``connector`` is ``mysql`` for MariaDB too.
- A snapshot row's ``source.ts_ms`` is the time of writing, since a snapshot has no commit.
- ``before`` of a key-only image has the key's columns and no nulls for the rest.
- Values: see `ensign_core.formats.debezium_values` and `debezium_mysql`. No column and no value is
  left out.

A changed key gives two lines, a delete with the old key and a create with the new one; a message's
key has the encodings of the values. An unchanged
value is taken from the old image when the source sent it in full, else it is the placeholder.
Tombstones, which are records without a value, are for a Kafka sink to add. Published events have no
such envelope and are refused with ``format.debezium_needs_rows``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from ensign_core.change import Batch, Op, Run, Schema, Tx
from ensign_core.formats import debezium_mysql, debezium_values
from ensign_core.formats.flat import LETTERS
from ensign_core.formats.images import Encoding, Tables
from ensign_core.formats.lines import Lines, Messages, inexpressible
from ensign_core.formats.values import quote
from ensign_core.rows import json as compiled
from ensign_core.rows import table as compiled_rows

_POSTGRES = Encoding(debezium_values.render, placeholder=debezium_values.placeholder)
_MYSQL = Encoding(
    debezium_mysql.render, debezium_mysql.bytes_render, placeholder=debezium_mysql.placeholder
)
_UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_GTID = re.compile(rf"\d+-(\d+)-\d+|{_UUID}(?::\w+)?:\d+", re.ASCII)
"""MariaDB's ``domain-server-sequence``, MySQL's ``uuid:number`` or ``uuid:tag:number``."""
_Parts = tuple[
    list[compiled_rows.RowTable], list[bytes | None], Callable[[int, Run | None], bytes], bytes
]  # fmt: skip
_MARKS = [LETTERS[op].encode() if op in LETTERS else None for op in sorted(Op)]

PRODUCT: Final = "ensign"
"""What ``source.version`` begins with."""

try:
    _VERSION = f"{PRODUCT}-{version(PRODUCT)}"
except PackageNotFoundError:
    _VERSION = PRODUCT


class DebeziumFormatter:
    def __init__(self) -> None:
        self._tables = Tables(encoding)

    def lines(self, batch: Batch) -> Lines:
        return Lines(*compiled.debezium_lines(batch, *self._parts(batch)))

    def messages(self, batch: Batch) -> Messages:
        return Messages(*compiled.debezium_messages(batch, *self._parts(batch)))

    def _parts(self, batch: Batch) -> _Parts:
        """What the compiled code puts its lines together from."""
        if Op.EVENT in batch.ops:
            raise inexpressible("debezium", "rows", "Choose the format json, flat or raw.")
        tables = self._tables.of(batch)
        rows = [table.rows for table in tables]
        now_ns = time.time_ns()
        tail = f',"ts_ms":{now_ns // 1_000_000},"ts_us":{now_ns // 1000},"ts_ns":{now_ns}}}'

        def source(number: int, run: Run | None) -> bytes:
            return source_block(tables[number].schema, run, now_ns).encode()

        return rows, _MARKS, source, tail.encode()


def encoding(schema: Schema) -> Encoding:
    """How the values of a schema's rows are written: as MySQL's where the table's name has a
    database and no schema, else as Postgres'."""
    names = dict(schema.names)
    return _MYSQL if "database" in names and "schema" not in names else _POSTGRES


def source_block(schema: Schema, run: Run | None, now_ns: int) -> str:
    """The source's block. It is Postgres' when the schema's name has the parts of one."""
    names = dict(schema.names)
    tx = run.tx if run else None
    committed = tx.committed_at if tx else None
    us = now_ns // 1000 if committed is None else committed
    snapshot = tx is not None and tx.id is None and committed is None
    is_postgres = "schema" in names
    text = (
        f'{{"version":"{_VERSION}","connector":"{"postgresql" if is_postgres else "mysql"}",'
        f'"name":{quote(names.get("database", ""))},'
        f'"ts_ms":{us // 1000},"ts_us":{us},"ts_ns":{us * 1000},'
        f'"snapshot":"{"true" if snapshot else "false"}","db":{quote(names.get("database", ""))},'
    )
    if is_postgres:
        text += f'"schema":{quote(names["schema"])},'
    table = quote(names.get("table", schema.name))
    return f'{text}"table":{table},{_of_postgres(tx) if is_postgres else _of_mysql(tx)}}}'


def _of_postgres(tx: Tx | None) -> str:
    number = tx.id if tx and tx.id and tx.id.isascii() and tx.id.isdigit() else "null"
    return f'"txId":{number},"lsn":{_lsn(tx.position) if tx else "null"},"xmin":null'


def _lsn(position: str) -> str:
    """A Postgres position as its 64-bit number ("pg_lsn Type"), or null."""
    high, slash, low = position.partition("/")
    try:
        return str((int(high, 16) << 32) + int(low, 16)) if slash else "null"
    except ValueError:
        return "null"


def _of_mysql(tx: Tx | None) -> str:
    """The transaction's id is its GTID, or file and offset where there is none, its position
    ``binlog.000003:1234``."""
    match = _GTID.fullmatch(tx.id) if tx and tx.id else None
    gtid = quote(match[0]) if match else "null"
    file, _, offset = tx.position.rpartition(":") if tx else ("", "", "")
    if not (offset.isascii() and offset.isdigit()):
        file, offset = "", "0"
    return (
        f'"sequence":null,"server_id":{int(match[1] or 0) if match else 0},"gtid":{gtid},'
        f'"file":{quote(file)},"pos":{int(offset)},"row":0,"thread":null,"query":null'
    )
