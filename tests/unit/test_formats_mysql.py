"""The formats with schemas as a source for MySQL and MariaDB gives them: every type of both
servers, partial row images, and the block that says where a change stood in the binlog."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from ensign_core.change import Batch, BatchBuilder, Column, Logical, Op, Schema, Tx
from ensign_core.formats import formatter
from ensign_core.formats.debezium_values import PLACEHOLDER
from ensign_core.rows import ABSENT, Value, encode, new_image

NAMES = (("database", "shop"), ("table", "orders"))
UUID = "59d47792-e87f-11f1-b314-02fc00000001"
TX = Tx(f"{UUID}:7", "binlog.000003:1234", 1_795_439_430_661_374)
PLACEHOLDER_BYTES = base64.b64encode(PLACEHOLDER.encode()).decode()
POINT = struct.pack("<IBIdd", 4326, 1, 1, 2.5, -1.0)
LINE = struct.pack("<IBIIdddd", 0, 1, 2, 2, 0.0, 0.0, 1.0, 1.0)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


TYPES: list[tuple[str, Logical, Value, object, object]] = [
    ("tinyint(1)", "int", "1", 1, 1),
    ("tinyint unsigned", "int", "255", 255, 255),
    ("mediumint", "int", "-8388608", -8388608, -8388608),
    ("int(10) unsigned", "int", "4294967295", 4294967295, 4294967295),
    ("bigint unsigned", "int", "18446744073709551615", 2**64 - 1, 2**64 - 1),
    ("year", "int", "2155", 2155, 2155),
    ("float", "float", "3.4028235e+38", 3.4028235e38, 3.4028235e38),
    ("double", "float", "1e+20", 1e20, 1e20),
    ("float", "float", "16777216", 16777216, 16777216),
    ("decimal(12,2)", "decimal", "1.10", "1.10", "bg=="),
    ("decimal(5,0) unsigned", "decimal", "128", "128", "AIA="),
    ("date", "date", "2018-06-20", "2018-06-20", 17702),
    ("date", "date", "0000-00-00", "0000-00-00", None),
    ("date", "date", "2015-05-00", "2015-05-00", "2015-05-00"),
    ("date", "date", "2015-02-31", "2015-02-31", "2015-02-31"),
    ("time", "time", "-838:59:59", "-838:59:59", -3_020_399_000_000),
    ("time(3)", "time", "00:00:00.100", "00:00:00.100", 100_000),
    ("datetime", "timestamp", "2018-06-20 06:37:03", "2018-06-20 06:37:03", 1_529_476_623_000),
    ("datetime(6)", "timestamp", "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999", -1),
    ("datetime(6)", "timestamp", "0000-00-00 00:00:00.000000", "0000-00-00 00:00:00.000000", None),
    ("timestamp(2)", "timestamptz", "2018-06-20 06:37:03.10", "2018-06-20 06:37:03.10",
     "2018-06-20T06:37:03.10Z"),
    ("timestamp", "timestamptz", "0000-00-00 00:00:00", "0000-00-00 00:00:00", None),
    ("char(10)", "text", "a ü", "a ü", "a ü"),
    ("longtext", "text", "line\nbreak", "line\nbreak", "line\nbreak"),
    ("binary(4)", "bytes", b"a\0\0\0", b64(b"a\0\0\0"), b64(b"a\0\0\0")),
    ("varbinary(20)", "bytes", b"", "", ""),
    ("mediumblob", "bytes", b"\xff\xfe", b64(b"\xff\xfe"), b64(b"\xff\xfe")),
    ("bit(1)", "other", "1", "1", True),
    ("bit(9)", "other", "100000001", "100000001", b64(b"\x01\x01")),
    ("enum('a','b,c')", "other", "b,c", "b,c", "b,c"),
    ("enum('a','b,c')", "other", "", "", ""),
    ("set('a','b')", "other", "a,b", "a,b", "a,b"),
    ("json", "json", '{"a": [1.0, null]}', {"a": [1.0, None]}, '{"a": [1.0, null]}'),
    ("json", "json", "12345678901234567890", 12345678901234567890, "12345678901234567890"),
    ("longtext", "json", '{"a":\n1}', {"a": 1}, '{"a":\n1}'),
    ("longtext", "json", "1.", "1.", "1."),
    ("longtext", "json", '"\\x"', '"\\x"', '"\\x"'),
    ("longtext", "json", "", "", ""),
    ("geometry", "bytes", LINE, b64(LINE), {"wkb": b64(LINE[4:]), "srid": None}),
    ("point", "bytes", POINT, b64(POINT),
     {"x": 2.5, "y": -1.0, "wkb": b64(POINT[4:]), "srid": 4326}),
    ("vector(3)", "other", "[1,2.5,-3e-05]", "[1,2.5,-3e-05]", [1, 2.5, -3e-05]),
    ("uuid", "uuid", UUID, UUID, UUID),
    ("inet4", "other", "192.168.2.1", "192.168.2.1", "192.168.2.1"),
    ("inet6", "other", "::ffff:1.2.3.4", "::ffff:1.2.3.4", "::ffff:1.2.3.4"),
]  # fmt: skip
"""Native and logical type, the value in the row layout, in json and flat, in debezium."""


def batch_of(op: Op, body: bytes, columns: Sequence[Column], tx: Tx = TX) -> Batch:
    builder = BatchBuilder().begin(tx)
    builder.add(op, Schema("shop.orders", NAMES, tuple(columns)), body)
    batch = builder.take(None)
    batch.topic = "shop.orders"
    return batch


def written(name: str, batch: Batch) -> Any:
    (line,) = formatter(name).lines(batch).texts
    return json.loads(line)


@pytest.mark.parametrize(("native", "logical", "value", "as_json", "as_debezium"), TYPES)
def test_every_type(
    native: str, logical: Logical, value: Value, as_json: object, as_debezium: object
) -> None:
    batch = batch_of(Op.INSERT, new_image([value]), [Column("v", native, logical)])
    told = (
        written("json", batch)["after"]["v"],
        written("flat", batch)["v"],
        written("debezium", batch)["after"]["v"],
    )
    assert told == (as_json, as_json, as_debezium)
    assert [type(one) for one in told] == [type(as_json), type(as_json), type(as_debezium)]


@pytest.mark.parametrize(
    ("native", "logical", "text", "expected"),
    [
        ("date", "date", "0000-00-00", 0),
        ("datetime(3)", "timestamp", "0000-00-00 00:00:00.000", 0),
        ("timestamp(6)", "timestamptz", "0000-00-00 00:00:00.000000", "1970-01-01T00:00:00Z"),
        ("datetime", "timestamp", "2015-00-00 00:00:00", "2015-00-00 00:00:00"),
    ],
)
def test_a_zero_date_where_null_may_not_be(
    native: str, logical: Logical, text: str, expected: object
) -> None:
    batch = batch_of(Op.INSERT, new_image([text]), [Column("v", native, logical, nullable=False)])
    assert written("debezium", batch)["after"]["v"] == expected
    assert written("json", batch)["after"]["v"] == text


COLUMNS = (
    Column("id", "int unsigned", "int", nullable=False, key=True),
    Column("note", "varchar(20)", "text"),
    Column("photo", "blob", "bytes"),
    Column("place", "point", "bytes"),
    Column("n", "int", "int"),
)


def test_a_minimal_image_of_an_update() -> None:
    """The key of the old row, and of the new one the key and what was set."""
    body = b"K" + encode(["7", None, None, None, None]) + new_image(["7", *[ABSENT] * 3, "2"])
    batch = batch_of(Op.UPDATE, body, COLUMNS)
    event = written("json", batch)
    assert (event["key"], event["before"], event["after"], event["unchanged"]) == (
        {"id": 7}, {"id": 7}, {"id": 7, "n": 2}, ["note", "photo", "place"],
    )  # fmt: skip
    row = written("flat", batch)
    assert {n for n in row if not n.startswith("__")} == {"id", "n"}
    event = written("debezium", batch)
    assert (event["op"], event["before"], event["after"]) == (
        "u",
        {"id": 7},
        {"id": 7, "note": PLACEHOLDER, "photo": PLACEHOLDER_BYTES, "place": PLACEHOLDER, "n": 2},
    )


def test_an_image_without_blobs() -> None:
    """Neither row has the blob; what only the new one lacks is taken from the old."""
    old = encode(["7", "a", ABSENT, POINT, "1"])
    new = encode(["7", ABSENT, ABSENT, POINT, "2"])
    batch = batch_of(Op.UPDATE, b"O" + old + b"N" + new, COLUMNS)
    event = written("json", batch)
    assert event["before"] == {"id": 7, "note": "a", "place": b64(POINT), "n": 1}
    assert event["after"] == {"id": 7, "place": b64(POINT), "n": 2}
    assert event["unchanged"] == ["note", "photo"]
    row = written("flat", batch)
    assert ("photo" in row, row["note"], row["n"]) == (False, "a", 2)
    event = written("debezium", batch)
    assert set(event["before"]) == {"id", "note", "place", "n"}
    assert (event["after"]["note"], event["after"]["photo"]) == ("a", PLACEHOLDER_BYTES)
    assert event["after"]["place"]["srid"] == 4326


def test_a_minimal_image_of_a_delete() -> None:
    batch = batch_of(Op.DELETE, b"K" + encode(["7", None, None, None, None]), COLUMNS)
    event = written("json", batch)
    assert (event["key"], event["before"], event["after"]) == ({"id": 7}, {"id": 7}, None)
    assert written("flat", batch)["id"] == 7
    event = written("debezium", batch)
    assert (event["op"], event["before"], event["after"]) == ("d", {"id": 7}, None)


def test_a_changed_key_in_a_minimal_image() -> None:
    body = b"K" + encode(["7", None, None, None, None]) + new_image(["8", *[ABSENT] * 4])
    gone, new = map(
        json.loads, formatter("debezium").lines(batch_of(Op.UPDATE, body, COLUMNS)).texts
    )
    assert (gone["op"], gone["before"]) == ("d", {"id": 7})
    assert (new["op"], new["after"]["id"], new["after"]["n"]) == ("c", 8, PLACEHOLDER)


SOURCES: list[tuple[Tx, dict[str, object]]] = [
    (TX, {"gtid": f"{UUID}:7", "server_id": 0, "file": "binlog.000003", "pos": 1234}),
    (TX._replace(id=f"{UUID}:nightly:7"), {"gtid": f"{UUID}:nightly:7", "server_id": 0}),
    (TX._replace(id="0-11-7"), {"gtid": "0-11-7", "server_id": 11}),
    (TX._replace(id="binlog.000003:1000"), {"gtid": None, "server_id": 0, "pos": 1234}),
    (TX._replace(position="a:b.000001:77"), {"file": "a:b.000001", "pos": 77}),
    (TX._replace(position=""), {"file": "", "pos": 0}),
    (Tx(None, "binlog.000003:157", None),
     {"gtid": None, "snapshot": "true", "file": "binlog.000003", "pos": 157}),
]  # fmt: skip


@pytest.mark.parametrize(("tx", "expected"), SOURCES)
def test_the_source_of_debezium(tx: Tx, expected: dict[str, object]) -> None:
    batch = batch_of(Op.INSERT, new_image(["7", None, None, None, None]), COLUMNS, tx)
    source = written("debezium", batch)["source"]
    assert list(source) == [
        "version", "connector", "name", "ts_ms", "ts_us", "ts_ns", "snapshot", "db", "table",
        "sequence", "server_id", "gtid", "file", "pos", "row", "thread", "query",
    ]  # fmt: skip
    found = {name: source[name] for name in expected}
    assert found == expected
    shared = (source["connector"], source["name"], source["db"], source["table"], source["row"])
    assert shared == ("mysql", "shop", "shop", "orders", 0)
    if tx.committed_at is not None:
        assert source["ts_us"] == tx.committed_at
