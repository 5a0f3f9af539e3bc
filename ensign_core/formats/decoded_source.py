"""Where a change comes from, of the ``source`` block of Debezium's envelope: the table's name and
the transaction.

Fields after "Data change events" in the documentation of each connector (3.x). A connector that is
not known by its fields still has its table's name and the commit's time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ensign_core.change import NULL, Op, Tx
from ensign_core.formats.records import Members

_STRING, _INT = b"si"

_PLACES: Final = ("commit_lsn", "lsn", "commit_scn", "scn", "change_lsn", "resume_token", "offset")
"""Of connectors that say a place by one field: SQL Server, PostgreSQL, Oracle, MongoDB."""

_LONGS: Final = range(2**64)
_US_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999, behind which no time can be written (RFC 3339)."""
_DIGITS_MAX: Final = 20


class Values(dict[str, tuple[int, bytes]]):
    """An object's members by name; one that is not there is a null."""

    def __missing__(self, name: str) -> tuple[int, bytes]:
        return NULL, b""

    def text(self, name: str) -> str:
        """A string's or whole number's text, else an empty one."""
        kind, text = self[name]
        return text.decode() if kind in (_STRING, _INT) else ""

    def number(self, name: str) -> int | None:
        kind, text = self[name]
        return int(text) if kind == _INT and len(text) <= _DIGITS_MAX else None


class Source(NamedTuple):
    connector: str
    version: str
    name: str
    names: tuple[tuple[str, str], ...]
    has_schema: bool
    """Whether tables are in schemas, as Postgres' are."""
    tx: Tx | None
    ordinal: int


def values_of(found: Members) -> Values:
    names, kinds, texts = found
    return Values(zip(names, zip(kinds, texts, strict=True), strict=True))


def source_of(topic: str, block: Values, op: Op, transaction: Values) -> Source:
    """``transaction`` is the envelope's block of that name, empty where it has none."""
    database, schema = block.text("db"), block.text("schema")
    table = block.text("table") or block.text("collection")
    names: tuple[tuple[str, str], ...]
    if not table:
        name, names = topic, (("topic", topic),)
    elif block["schema"][0] == _STRING:
        name = f"{schema}.{table}"
        names = (("database", database), ("schema", schema), ("table", table))
    else:
        name, names = f"{database}.{table}", (("database", database), ("table", table))
    order = transaction.number("total_order") or 0
    return Source(
        block.text("connector"),
        block.text("version"),
        name,
        names,
        len(names) != 2,
        _tx(block, op, transaction.text("id")),
        max(order - 1, 0),
    )


def _tx(block: Values, op: Op, id_: str) -> Tx | None:
    position = _position(block)
    if op == Op.SNAPSHOT:
        return Tx(None, position, None)
    number = block.text("gtid") or block.text("txId") or block.text("commit_lsn") or id_ or position
    committed_at = _committed_at(block)
    if not number and committed_at is None:
        return None
    return Tx(number or None, position, committed_at)


def _position(block: Values) -> str:
    """As our own connectors write it, where they know the database."""
    file, pos = block.text("file"), block.text("pos")
    if file:
        return f"{file}:{pos}"
    lsn = block.number("lsn")
    if lsn is not None and lsn in _LONGS:
        return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
    return next(filter(None, map(block.text, _PLACES)), "")


def _committed_at(block: Values) -> int | None:
    us, ms = block.number("ts_us"), block.number("ts_ms")
    if us is None and ms is not None:
        us = ms * 1000
    return us if us is not None and 0 <= us <= _US_MAX else None
