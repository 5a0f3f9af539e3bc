"""The formats by example: what is written in the design and in Debezium's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ensign_core.change import (
    Batch,
    BatchBuilder,
    Column,
    Logical,
    Op,
    Schema,
    Tx,
    event_schema,
)
from ensign_core.errors import EnsignError
from ensign_core.formats import FORMATS, formatter
from ensign_core.formats.debezium_values import PLACEHOLDER, placeholder, render
from ensign_core.rows import ABSENT, Value, encode, new_image

ORDERS = Schema(
    "public.orders",
    (("database", "shop"), ("schema", "public"), ("table", "orders")),
    (
        Column("id", "bigint", "int", nullable=False, key=True),
        Column("amount", "numeric(10,2)", "decimal"),
        Column("note", "text", "text"),
        Column("photo", "bytea", "bytes"),
    ),
)
TX = Tx("742", "0/16B3748", 1_795_439_430_661_374)


def batch_of(op: Op, body: bytes, schema: Schema = ORDERS, tx: Tx | None = TX) -> Batch:
    builder = BatchBuilder()
    if tx:
        builder.begin(tx, 3)
    builder.add(op, schema, body)
    batch = builder.take(None)
    batch.topic, batch.offset = "shop.public.orders", 41
    return batch


def written(name: str, batch: Batch) -> list[dict[str, Any]]:
    return [json.loads(text) for text in formatter(name).lines(batch).texts]


def full(*values: Value) -> bytes:
    return b"O" + encode(values)


def key(*values: Value) -> bytes:
    return b"K" + encode(values)


def test_json_of_an_update() -> None:
    body = full("7", "1.10", "long", None) + new_image(["7", "-0.00", ABSENT, "\\x00ff"])
    assert written("json", batch_of(Op.UPDATE, body)) == [
        {
            "topic": "shop.public.orders",
            "offset": 41,
            "op": "update",
            "key": {"id": 7},
            "before": {"id": 7, "amount": "1.10", "note": "long", "photo": None},
            "after": {"id": 7, "amount": "-0.00", "photo": "AP8="},
            "unchanged": ["note"],
            "schema": "public.orders",
            "tx": {
                "id": "742",
                "position": "0/16B3748",
                "ordinal": 3,
                "committed_at": "2026-11-23T13:10:30.661374Z",
            },
        }
    ]


def test_json_of_a_changed_key_is_one_event() -> None:
    body = key("7", None, None, None) + new_image(["8", "1.00", "a", None])
    (event,) = written("json", batch_of(Op.UPDATE, body))
    assert (event["key"], event["before"], event["after"]["id"]) == ({"id": 8}, {"id": 7}, 8)


def test_json_of_a_delete_has_the_old_key() -> None:
    (event,) = written("json", batch_of(Op.DELETE, key("7", None, None, None)))
    assert (event["key"], event["before"], event["after"]) == ({"id": 7}, {"id": 7}, None)


def test_json_of_a_table_without_key() -> None:
    schema = Schema("public.log", ORDERS.names, (Column("line", "text", "text"),))
    (event,) = written("json", batch_of(Op.INSERT, new_image(["a"]), schema))
    assert event["key"] is None


def test_json_of_a_truncate_and_a_snapshot_row() -> None:
    (event,) = written("json", batch_of(Op.TRUNCATE, b""))
    assert [event[n] for n in ("key", "before", "after", "unchanged")] == [None, None, None, []]
    body = new_image(["7", None, None, None])
    (event,) = written("json", batch_of(Op.SNAPSHOT, body, tx=Tx(None, "0/1", None)))
    assert event["op"] == "snapshot"
    assert event["tx"] == {"id": None, "position": "0/1", "ordinal": 3, "committed_at": None}


@pytest.mark.parametrize("text", ["-0", "1e+20", "9007199254740993", "1.7976931348623157e+308"])
def test_numbers_are_the_databases_own_text(text: str) -> None:
    schema = Schema("t", (("table", "t"),), (Column("x", "float8", "float"),))
    (line,) = formatter("json").lines(batch_of(Op.INSERT, new_image([text]), schema)).texts
    assert f'"after":{{"x":{text}}}'.encode() in line


def test_text_that_is_not_utf8_is_an_object() -> None:
    body = new_image(["7", None, b"\xff".decode("utf-8", "surrogateescape"), None])
    (event,) = written("json", batch_of(Op.INSERT, body))
    assert event["after"]["note"] == {"base64": "/w=="}


EVENTS: list[tuple[Value, Value, object]] = [
    (b'{"a":\n1}', "application/json", {"a": 1}),
    (b"[1]", "application/vnd.shop+json; charset=utf-8", [1]),
    (b"{broken", "application/json", "{broken"),
    (b"NaN", "application/json", "NaN"),
    (b"9" * 5000, "application/json", "9" * 5000),
    (b' {"a":1}', None, {"a": 1}),
    (b"[1,\n2]", None, [1, 2]),
    (b"{broken", None, "{broken"),
    (b"1", None, "1"),
    (b'{"a":1}', "text/plain", '{"a":1}'),
    ("grüße".encode(), "text/plain", "grüße"),
    (b"\xff", "text/plain", {"base64": "/w=="}),
    (b"abc", "application/octet-stream", {"base64": "YWJj"}),
    (b"\xff", None, {"base64": "/w=="}),
    (None, None, None),
]


@pytest.mark.parametrize(("data", "mimetype", "expected"), EVENTS)
def test_json_of_an_event(data: Value, mimetype: Value, expected: object) -> None:
    body = new_image([b"key", data, '{"k": "v"}', mimetype, None])
    (text,) = formatter("json").lines(batch_of(Op.EVENT, body, event_schema("clicks"), None)).texts
    event = json.loads(text, parse_int=lambda t: t if len(t) > 4000 else int(t))
    assert b"\n" not in text
    assert (event["key"], event["tx"]) == ("key", None)
    assert event["after"] == {
        "data": expected,
        "metadata": {"k": "v"},
        "mimetype": mimetype,
        "type": None,
    }


def test_an_events_key_may_be_bytes_or_missing() -> None:
    for found, expected in ((b"\xfe", {"base64": "/g=="}), (None, None)):
        body = new_image([found, b"x", None, None, None])
        (event,) = written("json", batch_of(Op.EVENT, body, event_schema("clicks"), None))
        assert event["key"] == expected
        (row,) = written("flat", batch_of(Op.EVENT, body, event_schema("clicks"), None))
        assert (row["key"], row["data"], row["__op"]) == (expected, "x", "c")


def test_flat() -> None:
    body = full("7", "1.10", "long", None) + new_image(["7", "2.00", ABSENT, None])
    assert written("flat", batch_of(Op.UPDATE, body)) == [
        {
            "id": 7, "amount": "2.00", "note": "long", "photo": None, "__op": "u",
            "__deleted": False, "__ts_ms": 1_795_439_430_661, "__position": "0/16B3748",
        }
    ]  # fmt: skip
    (row,) = written("flat", batch_of(Op.UPDATE, new_image(["7", "2.00", ABSENT, None])))
    assert "note" not in row
    (row,) = written("flat", batch_of(Op.DELETE, key("7", None, None, None)))
    assert (row["id"], row["__deleted"], "note" in row) == (7, True, False)


def test_raw_is_the_data_of_events_only() -> None:
    event = batch_of(Op.EVENT, new_image([None, b"\x00\xff", None, None, None]), event_schema("c"))
    assert formatter("raw").lines(event).texts == [b"\x00\xff"]
    for body in (new_image([None, None, None, None, None]),):
        nothing = formatter("raw").lines(batch_of(Op.EVENT, body, event_schema("c")))
        assert (nothing.texts, list(nothing.indexes)) == ([], [])
    with pytest.raises(EnsignError) as caught:
        formatter("raw").lines(batch_of(Op.INSERT, new_image(["7", None, None, None])))
    assert caught.value.code == "format.raw_needs_events"


@pytest.mark.parametrize("name", FORMATS)
def test_a_change_of_structure_has_no_line(name: str) -> None:
    for op in (Op.SCHEMA, Op.BEGIN, Op.COMMIT, Op.REMOVED):
        assert formatter(name).lines(batch_of(op, b"")).texts == []
    assert formatter(name).lines(Batch()).texts == []


@pytest.mark.parametrize("name", ["json", "flat", "debezium"])
@pytest.mark.parametrize(
    "body",
    [b"X", b"N", b"N\x00\x04", b"N\x00\x01n", new_image(["7"] * 4)[:-1], b"N\x00\x04nnnx",
     new_image(["7"] * 4) + b"n", b"N\x00\x04nnnt\x00\x00\xff\xff"],
)  # fmt: skip
def test_a_damaged_row_is_an_error(name: str, body: bytes) -> None:
    with pytest.raises(EnsignError) as caught:
        formatter(name).lines(batch_of(Op.INSERT, body))
    assert caught.value.code == "rows.damaged"


def test_an_unknown_format() -> None:
    with pytest.raises(EnsignError, match="json, flat, debezium, cloudevents, raw") as caught:
        formatter("xml")
    assert caught.value.code == "format.unknown"


def test_debezium_of_an_insert() -> None:
    (event,) = written("debezium", batch_of(Op.INSERT, new_image(["7", "1.10", "a", "\\x00ff"])))
    assert event["before"] is None
    assert event["after"] == {"id": 7, "amount": "bg==", "note": "a", "photo": "AP8="}
    source = event["source"]
    assert source.pop("version").startswith("ensign")
    assert source == {
        "connector": "postgresql", "name": "shop", "ts_ms": 1_795_439_430_661,
        "ts_us": 1_795_439_430_661_374, "ts_ns": 1_795_439_430_661_374_000, "snapshot": "false",
        "db": "shop", "schema": "public", "table": "orders", "txId": 742, "lsn": 0x16B3748,
        "xmin": None,
    }  # fmt: skip
    assert (event["op"], event["transaction"]) == ("c", None)
    assert isinstance(event["ts_ms"], int)


def test_debezium_splits_a_changed_key() -> None:
    body = key("7", None, None, None) + new_image(["8", "1.00", "a", ABSENT])
    lines = formatter("debezium").lines(batch_of(Op.UPDATE, body))
    gone, new = map(json.loads, lines.texts)
    assert list(lines.indexes) == [0, 0]
    assert (gone["op"], gone["before"], gone["after"]) == ("d", {"id": 7}, None)
    assert (new["op"], new["before"], new["after"]["id"]) == ("c", None, 8)


def test_debezium_of_unchanged_values() -> None:
    new = new_image(["7", "1.00", ABSENT, ABSENT])
    (event,) = written("debezium", batch_of(Op.UPDATE, new))
    assert event["after"]["note"] == PLACEHOLDER
    assert event["after"]["photo"] == "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
    (event,) = written("debezium", batch_of(Op.UPDATE, full("7", "1.00", "b", "\\x01") + new))
    assert (event["op"], event["after"]["note"], event["after"]["photo"]) == ("u", "b", "AQ==")


def test_debezium_of_other_ops() -> None:
    snapshot = batch_of(Op.SNAPSHOT, new_image(["7", None, None, None]), tx=Tx(None, "0/1", None))
    (event,) = written("debezium", snapshot)
    assert (event["op"], event["source"]["snapshot"], event["source"]["txId"]) == (
        "r", "true", None,
    )  # fmt: skip
    (event,) = written("debezium", batch_of(Op.TRUNCATE, b""))
    assert (event["op"], event["before"], event["after"]) == ("t", None, None)
    with pytest.raises(EnsignError) as caught:
        written("debezium", batch_of(Op.EVENT, new_image([None] * 5), event_schema("c")))
    assert caught.value.code == "format.debezium_needs_rows"


DEBEZIUM: list[tuple[str, Logical, str, object]] = [
    ("boolean", "bool", "t", True),
    ("double precision", "float", "NaN", "NaN"),
    ("numeric(10,2)", "decimal", "-1.28", "gA=="),
    ("numeric(5,0)", "decimal", "128", "AIA="),
    ("numeric(3,-2)", "decimal", "1200", "DA=="),
    ("numeric(10,2)", "decimal", "NaN", "NaN"),
    ("numeric", "decimal", "1.10", {"scale": 2, "value": "bg=="}),
    ("numeric", "decimal", "Infinity", "Infinity"),
    ("date", "date", "2018-06-20", 17702),
    ("date", "date", "0044-03-15 BC", -735_160),
    ("date", "date", "infinity", 2_147_483_647),
    ("time without time zone", "time", "24:00:00", 86_400_000_000),
    ("time(2) without time zone", "time", "00:00:01.23", 1230),
    ("timestamp without time zone", "timestamp", "2018-06-20 15:13:16.945104",
     1_529_507_596_945_104),
    ("timestamp(3) without time zone", "timestamp", "2018-06-20 15:13:16.945", 1_529_507_596_945),
    ("timestamp without time zone", "timestamp", "infinity", 9_223_372_036_825_200_000),
    ("timestamp without time zone", "timestamp", "-infinity", -9_223_372_036_832_400_000),
    ("timestamp without time zone", "timestamp", "0000-00-00 00:00:00", "0000-00-00 00:00:00"),
    ("timestamp with time zone", "timestamptz", "2016-11-04 13:51:30+00",
     "2016-11-04T13:51:30.000000Z"),
    ("timestamp(2) with time zone", "timestamptz", "2016-11-04 13:51:30.1+02",
     "2016-11-04T11:51:30.10Z"),
    ("timestamp with time zone", "timestamptz", "12345-01-01 00:00:00+00",
     "+12345-01-01T00:00:00.000000Z"),
    ("timestamp with time zone", "timestamptz", "0001-01-01 00:00:00+00 BC",
     "0000-01-01T00:00:00.000000Z"),
    ("timestamp with time zone", "timestamptz", "infinity", "infinity"),
    ("time with time zone", "timetz", "13:51:30.5+02", "11:51:30.5Z"),
    ("time with time zone", "timetz", "00:30:00+05:30", "19:00:00Z"),
    ("time with time zone", "timetz", "24:00:00+00", "24:00:00Z"),
    ("interval", "interval", "1 year 2 mons 3 days 04:05:06.789", 37_091_106_789_000),
    ("interval", "interval", "-1 days +02:03:00", -79_020_000_000),
    ("interval", "interval", "00:00:00", 0),
    ("interval", "interval", "-00:00:01.5", -1_500_000),
    ("jsonb", "json", '{"a": 1}', '{"a": 1}'),
    ("uuid", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
     "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bit(1)", "other", "1", True),
    ("bit(3)", "other", "011", "Aw=="),
    ("bit varying(10)", "other", "100000000", "AAE="),
    ("integer[]", "other", "{1,NULL,3}", [1, None, 3]),
    ("text[]", "other", '{a,"b \\"c\\"",NULL,"NULL",""}', ["a", 'b "c"', None, "NULL", ""]),
    ("numeric(5,1)[]", "other", "{1.5}", ["Dw=="]),
    ("integer[]", "other", "{}", []),
    ("integer[]", "other", "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
    ("text[]", "other", '{{"a b"},{"c"}}', '{{"a b"},{"c"}}'),
    ("integer[]", "other", "[0:1]={1,2}", [1, 2]),
    ("integer[]", "other", "[0:1][3:3]={{1},{2}}", "[0:1][3:3]={{1},{2}}"),
    ("box[]", "other", "{(3,4),(1,2);(3,4),(1,2)}", ["(3,4),(1,2)", "(3,4),(1,2)"]),
    ("public.mood[]", "other", '{ok,"so, so",NULL}', ["ok", "so, so", None]),
    ("time(0) without time zone[]", "other", "{24:00:00}", [86_400_000]),
    ("interval[]", "other", '{"1 day",infinity}', [86_400_000_000, "infinity"]),
    ("money", "other", "$1,234.11", "AeIT"),
    ("money", "other", "-$0.50", "zg=="),
    ("money", "other", "1.234,11 €", "AeIT"),
    ("money", "other", "-0,50 €", "zg=="),
    ("money", "other", "($0.50)", "zg=="),
    ("money", "other", "CHF 1'234.11", "AeIT"),
    ("money", "other", "1 234,11 kr.", "AeIT"),
    ("money", "other", "￥1,234", "￥1,234"),
    ("money", "other", "د.ك. 1,234.000-", "د.ك. 1,234.000-"),
    ("money", "other", "CHF- 1’234.11", "/h3t"),
    ("money", "other", "-1\u202f234,11 zł", "/h3t"),
    ("timestamp(0) without time zone", "timestamp", "infinity", 9_223_372_036_825_200),
    ("timestamp(3) without time zone", "timestamp", "-infinity", -9_223_372_036_832_400),
    ("timestamp without time zone", "timestamp", "294276-12-31 00:00:00", "294276-12-31 00:00:00"),
    ("interval", "interval", "-178000000 years", "-178000000 years"),
    ("interval", "interval", "infinity", "infinity"),
    ("bit varying(1)", "other", "1", True),
    ("public.hstore", "other", '"a"=>"1", "b"=>NULL', '{"a":"1","b":null}'),
    ("x.hstore", "other", '"=>"=>"\\"\\\\"', '{"=>":"\\"\\\\"}'),
    ("public.hstore", "other", "", "{}"),
    ("point", "other", "(1.5,-2)", {"x": 1.5, "y": -2, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAADA",
     "srid": None}),
    ("public.point", "text", "(1.5,-2)", "(1.5,-2)"),
    ("public.geometry(Point,4326)", "other", "0101000020E6100000000000000000F83F00000000000000C0",
     {"wkb": "AQEAACDmEAAAAAAAAAAA+D8AAAAAAAAAwA==", "srid": 4326}),
    ("public.geometry", "other", "00000000013FF00000000000004000000000000000",
     {"wkb": "AAAAAAE/8AAAAAAAAEAAAAAAAAAA", "srid": None}),
    ("public.geometry[]", "other", "{00:NULL}", ["00", None]),
    ("public.vector(3)", "other", "[1,2.5,-3e-10]", [1, 2.5, -3e-10]),
    ("public.sparsevec(5)", "other", "{1:1.5,5:-2}/5",
     {"dimensions": 5, "vector": [[1, 1.5], [5, -2]]}),
    ("public.vector", "other", "(1,2)", "(1,2)"),
]  # fmt: skip


@pytest.mark.parametrize(("native", "logical", "text", "expected"), DEBEZIUM)
def test_debezium_values(native: str, logical: Logical, text: str, expected: object) -> None:
    function = render(Column("c", native, logical))
    found = json.loads(function(text) if function else text)
    assert (type(found), found) == (type(expected), expected)


UNAVAILABLE: list[tuple[str, Logical, object]] = [
    ("text", "text", PLACEHOLDER),
    ("public.hstore", "other", json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":"))),
    ("text[]", "other", [PLACEHOLDER]),
    ("bigint[]", "other", list(PLACEHOLDER.encode())),
    ("uuid[]", "other", ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]),
    ("bytea[]", "other", ["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="]),
]


@pytest.mark.parametrize(("native", "logical", "expected"), UNAVAILABLE)
def test_debezium_placeholders(native: str, logical: Logical, expected: object) -> None:
    assert json.loads(placeholder(Column("c", native, logical))) == expected


def test_a_very_long_decimal() -> None:
    function = render(Column("c", "numeric", "decimal"))
    assert function is not None
    found = json.loads(function("1" + "0" * 20_000 + ".5"))
    assert found["scale"] == 1
    assert len(found["value"]) > 11_000
