"""Debezium's envelopes as rows: those that the real engines were recorded to emit, with schemas,
against the values that our own sources captured beside them; and examples of each op."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ensign_core.change import BatchBuilder, Op, Tx
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.formats.decoding import Row, decoder
from ensign_core.rows import ABSENT, Value, decode

FOLDER = Path(__file__).parents[1] / "fixtures" / "debezium"
RECORDINGS = sorted(path.name for path in FOLDER.glob("*.json"))

POSTGRES = {
    "version": "3.6.3.Final", "connector": "postgresql", "name": "theirs", "ts_ms": 1795439430661,
    "ts_us": 1795439430661374, "snapshot": "false", "db": "shop", "schema": "public",
    "table": "orders", "txId": 742, "lsn": 23803720,
}  # fmt: skip
MYSQL = {
    "version": "3.6.1.Final", "connector": "mysql", "ts_ms": 1795439430661, "db": "shop",
    "table": "orders", "gtid": None, "file": "binlog.000003", "pos": 1234, "row": 0,
}  # fmt: skip

DIFFERENT: dict[str, str] = {
    "interval": "in µs there are no months and days",
    "interval[]": "as interval",
    "money": "a decimal number",
    "timetz": "is in UTC in Debezium",
    "timetz(2)": "as timetz",
    "public.hstore": "is JSON in Debezium",
    "public.hstore[]": "as public.hstore",
    "bit varying": "its width is not told",
    "bit varying(70)": "as bit varying",
    "int2vector": "is an empty list in Debezium",
    "oidvector": "as int2vector",
}
"""Types whose text an envelope does not tell."""


@cache
def recording(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def told(name: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """Each type, its field's schema, a value as Debezium wrote it, and as we captured it."""
    for kind, found in recording(name)["columns"].items():
        for value in found["values"] if found["schema"] else ():
            for moment in ("value", "snapshot", "stream"):
                if value.get(moment) not in (None, {"engine": "stops"}):
                    text = base64.b64decode(value["bytes"]) if "bytes" in value else value["text"]
                    yield kind, found, value[moment], text


def row_of(envelope: object, key: object = None) -> Row:
    key_text = None if key is None else json.dumps(key).encode()
    row = decoder("debezium").row("theirs.orders", key_text, json.dumps(envelope).encode())
    assert row is not None
    return row


def with_schema(field: Any, value: object, source: object) -> object:
    row = {"type": "struct", "fields": [field], "optional": True}
    return {
        "schema": {
            "type": "struct",
            "fields": [{**row, "field": "before"}, {**row, "field": "after"}],
        },
        "payload": {"before": None, "after": {"v": value}, "source": source, "op": "c"},
    }


def same(ours: Value, captured: str | bytes, found: Any) -> bool:
    if ours == captured:
        return True
    if not (isinstance(ours, str) and isinstance(captured, str)):
        return False
    if found["logical"] == "float":
        return math.isclose(float(ours), float(captured), rel_tol=1e-7)
    if found["logical"] in ("decimal", "json"):
        return bool(json.loads(ours) == json.loads(captured))
    return False


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_values_are_the_databases_own(name: str) -> None:
    source = POSTGRES if name.startswith("postgres") else MYSQL
    wrong = []
    for kind, found, value, captured in told(name):
        row = row_of(with_schema(found["schema"], value, source))
        (ours,) = decode(row.body[1:])
        if not same(ours, captured, found):
            wrong.append((kind, found["native"], value, captured, ours))
    assert [w for w in wrong if w[1] not in DIFFERENT] == []
