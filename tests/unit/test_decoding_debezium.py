"""Debezium's envelopes as rows: those that the real engines were recorded to emit, with schemas,
against the values that our own sources captured beside them; and examples of each op."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ensign_core.change import BatchBuilder, Column, Op, Schema, Tx
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.formats.decoding import Row, decoder
from ensign_core.rows import ABSENT, Value, check_body, decode, new_image

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

UNTOLD: dict[str, str] = {
    "interval": "in µs there are no months and days",
    "interval day to second": "as interval",
    "interval year to month": "as interval",
    "money": "a decimal number",
    "time with time zone": "is in UTC in Debezium",
    "time(2) with time zone": "as time with time zone",
    "public.hstore": "is JSON in Debezium",
    "bit(1)": "is a boolean in Debezium",
    "bit varying(1)": "as bit(1)",
    "bit varying": "its width is not told",
    "bit varying(5)": "as bit varying",
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


def told_by(found: Any, text: str | bytes, source: Any) -> Any:
    """What we write where Debezium wrote a value."""
    schema = Schema(
        "t",
        (("database", "d"), ("schema", "s"), ("table", "t"))[:: 1 if "schema" in source else 2],
        (Column("v", found["native"], found["logical"], found.get("nullable", True)),),
    )
    builder = BatchBuilder()
    builder.add(Op.INSERT, schema, new_image([text]))
    (line,) = formatter("debezium").lines(builder.take(None)).texts
    return json.loads(line)["after"]["v"]


def shortened(text: Value) -> Value:
    """Without zeros at the end of a fraction of a second, and without an array's bounds."""
    if not isinstance(text, str):
        return text
    text = re.sub(r"^(\[[-:0-9]+\])+=", "", text)
    return re.sub(r"(:\d\d)(\.\d*?)0*$", r"\1\2", text).rstrip(".")


def same(ours: Value, captured: str | bytes, found: Any) -> bool:
    if shortened(ours) == shortened(captured):
        return True
    if not (isinstance(ours, str) and isinstance(captured, str)):
        return False
    if found["native"].startswith("float"):
        return struct.pack("f", float(ours)) == struct.pack("f", float(captured))
    if found["logical"] in ("float", "decimal", "json"):
        return bool(json.loads(ours) == json.loads(captured))
    return False


def is_dated(text: str | bytes) -> bool:
    """Not a date that Debezium makes the epoch of."""
    return isinstance(text, bytes) or not text.startswith("0000-")


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_values_are_the_databases_own(name: str) -> None:
    """Wherever Debezium tells a value, which is where ours is the same: the lists of differences
    are in the tests of that."""
    source = POSTGRES if name.startswith("postgres") else MYSQL
    wrong, compared, all_of_them = [], 0, 0
    for kind, found, value, captured in told(name):
        all_of_them += 1
        envelope = with_schema(found["schema"], value, source)
        native = found["native"].removesuffix("[]")
        if told_by(found, captured, source) != value or native in UNTOLD:
            with contextlib.suppress(EnsignError):
                check_body(row_of(envelope).body)
        elif is_dated(captured):
            compared += 1
            (ours,) = decode(row_of(envelope).body[1:])
            if not same(ours, captured, found):
                wrong.append((kind, found["native"], value, captured, ours))
    assert wrong == []
    assert compared > all_of_them * 0.6


def test_an_update_of_postgres() -> None:
    after = {"id": 7, "note": "__debezium_unavailable_value", "price": 1.50, "tags": ["a"]}
    row = row_of({"before": None, "after": after, "source": POSTGRES, "op": "u"}, {"id": 7})
    assert (row.op, row.schema.name) == (Op.UPDATE, "public.orders")
    assert row.schema.names == (("database", "shop"), ("schema", "public"), ("table", "orders"))
    assert [(c.name, c.logical, c.key) for c in row.schema.columns] == [
        ("id", "int", True), ("note", "text", False), ("price", "float", False),
        ("tags", "json", False),
    ]  # fmt: skip
    assert decode(row.body[1:]) == ["7", ABSENT, "1.5", '["a"]']
    assert row.tx == Tx("742", "0/16B3748", 1795439430661374)


def test_transactions() -> None:
    event = {"before": None, "after": {"id": 7}, "source": MYSQL, "op": "c"}
    assert row_of(event).tx == Tx("binlog.000003:1234", "binlog.000003:1234", 1795439430661000)
    gtid = {**event, "source": {**MYSQL, "gtid": "0-1-7"}}
    assert row_of(gtid).tx == Tx("0-1-7", "binlog.000003:1234", 1795439430661000)
    told = {**event, "transaction": {"id": "x", "total_order": 3, "data_collection_order": 1}}
    assert row_of(told).ordinal == 2
    snapshot = row_of({**event, "op": "r"})
    assert (snapshot.op, snapshot.tx) == (Op.SNAPSHOT, Tx(None, "binlog.000003:1234", None))
    assert row_of({**event, "source": {"version": "1"}}).tx is None


@pytest.mark.parametrize(
    ("before", "source", "key", "image"),
    [
        ({"id": 7}, POSTGRES, {"id": 7}, (b"K", ["7"])),
        ({"id": 7, "a": None}, POSTGRES, {"id": 7}, (b"K", ["7", None])),
        ({"id": 7, "a": None}, MYSQL, {"id": 7}, (b"O", ["7", None])),
        ({"id": 7, "a": None}, {**POSTGRES, "version": "ensign-1"}, {"id": 7}, (b"O", ["7", None])),
        ({"id": 7, "a": 1}, POSTGRES, None, (b"O", ["7", "1"])),
        (None, POSTGRES, {"id": 7}, (b"K", ["7"])),
        ({"id": 7}, POSTGRES, {"schema": None, "payload": {"id": 7}}, (b"K", ["7"])),
    ],
)
def test_deletes(before: object, source: object, key: object, image: tuple[bytes, object]) -> None:
    row = row_of({"before": before, "after": None, "source": source, "op": "d"}, key)
    assert row.op == Op.DELETE
    assert (row.body[:1], decode(row.body[1:])) == image


def test_a_tombstone_is_nothing() -> None:
    assert decoder("debezium").row("t", b'{"id":7}', None) is None
    assert decoder("debezium").row("t", b'{"id":7}', b'{"schema":null,"payload":null}') is None


def test_a_truncate_has_the_tables_schema() -> None:
    made = decoder("debezium")
    event = {"before": None, "after": {"id": 7}, "source": POSTGRES, "op": "c"}
    row = made.row("t", b'{"id":7}', json.dumps(event).encode())
    gone = made.row("t", None, json.dumps({"source": POSTGRES, "op": "t"}).encode())
    assert row is not None
    assert gone is not None
    assert (gone.op, gone.schema, gone.body) == (Op.TRUNCATE, row.schema, b"")


def test_a_message() -> None:
    message = {"prefix": "p", "content": base64.b64encode(b"text").decode()}
    row = row_of({"op": "m", "source": POSTGRES, "message": message}, {"prefix": "p"})
    assert (row.op, decode(row.body[1:])) == (Op.MESSAGE, ["p", "text"])


def test_rows_of_mongodb_are_json_in_a_string() -> None:
    source = {"connector": "mongodb", "db": "shop", "collection": "orders", "ts_ms": 1}
    row = row_of({"after": '{"_id":7,"o":{"a":1}}', "op": "c", "source": source}, {"id": "7"})
    assert row.schema.name == "shop.orders"
    assert decode(row.body[1:]) == ["7", '{"a":1}']


@pytest.mark.parametrize("schema", [False, True])
@pytest.mark.parametrize(
    ("in_key", "in_document", "expected"),
    [("7", {"$numberLong": "7"}, "7"), ('{"$oid": "5f"}', {"$oid": "5f"}, '{"$oid": "5f"}'),
     ('"a"', "a", "a")],
)  # fmt: skip
def test_a_document_of_mongodb_is_deleted_by_the_key_it_was_inserted_with(
    in_key: str, in_document: object, expected: str, *, schema: bool
) -> None:
    source = {"connector": "mongodb", "db": "shop", "collection": "orders", "ts_ms": 1}
    document = json.dumps({"a": 1, "_id": in_document})
    envelopes: list[Any] = [
        {"before": None, "after": document, "op": "c", "source": source},
        {"before": None, "after": None, "op": "d", "source": source},
    ]
    if schema:
        of_row = {"type": "string", "name": "io.debezium.data.Json", "field": "after"}
        fields = {"type": "struct", "fields": [of_row]}
        envelopes = [{"schema": fields, "payload": envelope} for envelope in envelopes]
    inserted, deleted = (row_of(envelope, {"id": in_key}) for envelope in envelopes)
    assert [c.name for c in inserted.schema.columns if c.key] == ["_id"]
    assert decode(inserted.body[1:]) == ["1", expected]
    assert deleted.body[:1] == b"K"
    assert [c.name for c in deleted.schema.columns] == ["_id"]
    assert decode(deleted.body[1:]) == [expected]


def test_a_time_stamp_with_an_offset_keeps_all_digits() -> None:
    field = {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "field": "v"}
    row = row_of(with_schema(field, "2024-01-01T01:00:00.1234567+02:00", POSTGRES))
    assert decode(row.body[1:]) == ["2023-12-31 23:00:00.1234567+00"]


GOOD = {"before": None, "after": {"id": 7}, "source": POSTGRES, "op": "c"}


@pytest.mark.parametrize(
    ("code", "envelope"),
    [
        ("not_debezium", {}),
        ("not_debezium", {"schema": {}, "payload": 7}),
        ("not_debezium", {"id": 7}),
        ("not_debezium", {**GOOD, "op": "x"}),
        ("not_debezium", {**GOOD, "op": None}),
        ("not_debezium", {**GOOD, "source": None}),
        ("not_debezium", {**GOOD, "after": None}),
        ("not_debezium", {**GOOD, "after": [1]}),
        ("not_debezium", {**GOOD, "op": "d"}),
        ("not_debezium", {"op": "m", "source": POSTGRES}),
        ("not_debezium", {"schema": {"fields": 7}, "payload": GOOD}),
        ("not_debezium", {"schema": {"fields": []}, "payload": GOOD}),
        ("not_json", {**GOOD, "after": "no json"}),
        ("not_of_its_type", with_schema({"type": "int32", "field": "v"}, "7", POSTGRES)),
        ("not_of_its_type", with_schema({"type": "bytes", "field": "v"}, "%", POSTGRES)),
        ("not_of_its_type", with_schema({"type": "int32", "field": "w"}, 7, POSTGRES)),
        ("not_of_its_type", {"op": "m", "source": POSTGRES, "message": {"prefix": "p"}}),
    ],
)
def test_faults(code: str, envelope: object) -> None:
    with pytest.raises(EnsignError) as caught:
        row_of(envelope)
    assert caught.value.code == f"decode.{code}"
