"""CloudEvents, as the SDK of their project reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given

from ensign_core.change import Batch, BatchBuilder, Op, Tx, event_schema
from ensign_core.formats import formatter
from ensign_core.formats.lines import SILENT
from ensign_core.rows import Value, new_image
from tests.property.test_decoding import batches
from tests.unit.test_messages import FULL, OLD, ORDERS

TX = Tx("742", "0/16B3748", 1_795_439_430_661_374)


def batch_of(op: Op, body: bytes) -> Batch:
    builder = BatchBuilder().begin(TX)
    builder.add(op, ORDERS, body)
    batch = builder.take(None)
    batch.topic, batch.offset = "shop.public.orders", 41
    return batch


def read(line: bytes) -> Any:
    """By the SDK, which checks the attributes as the specification says."""
    return JSONFormat().read(CloudEvent, line)


def test_an_update() -> None:
    body = FULL + new_image(["7", "b", "1970-01-02"])
    (line,) = formatter("cloudevents").lines(batch_of(Op.UPDATE, body)).texts
    event = read(line)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": "shop.public.orders:41",
        "source": "/ensign/shop.public.orders",
        "type": "ensign.row.update",
        "time": datetime(2026, 11, 23, 13, 10, 30, 661374, UTC),
        "ensigntxid": "742",
        "ensignposition": "0/16B3748",
        "subject": "public.orders",
        "iodebeziumop": "u",
        "partitionkey": '{"id":7,"day":"1970-01-02"}',
        "datacontenttype": "application/json",
    }
    assert event.get_data() == {
        "before": {"id": 7, "note": "a", "day": "1970-01-02"},
        "after": {"id": 7, "note": "b", "day": "1970-01-02"},
        "unchanged": [],
    }


@pytest.mark.parametrize("op", [op for op in Op if op not in SILENT | {Op.EVENT}])
def test_each_op_is_an_event(op: Op) -> None:
    body = {Op.DELETE: OLD, Op.TRUNCATE: b""}.get(op, new_image(["7", "b", "1970-01-02"]))
    (line,) = formatter("cloudevents").lines(batch_of(op, body)).texts
    kind = "message" if op == Op.MESSAGE else f"row.{op.name.lower()}"
    assert read(line).get_type() == f"ensign.{kind}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["k", b'{"a":1}', None, "application/json", "shop.paid"],
         {"type": "shop.paid", "partitionkey": "k", "datacontenttype": "application/json",
          "data": {"a": 1}}),
        ([None, b"text", None, None, None],
         {"type": "ensign.event", "datacontenttype": "text/plain", "data": "text"}),
        ([None, b'{"a":1}', None, None, None],
         {"type": "ensign.event", "datacontenttype": "application/json", "data": {"a": 1}}),
        ([b"\xff", b"{", None, "application/json", ""],
         {"type": "ensign.event", "datacontenttype": "text/plain", "data": "{"}),
        ([None, b"\xff\x00", None, None, None],
         {"type": "ensign.event", "datacontenttype": "application/octet-stream",
          "data_base64": "/wA="}),
        ([None, b"abc", None, "image/png", None],
         {"type": "ensign.event", "datacontenttype": "image/png", "data_base64": "YWJj"}),
        ([None, b'"x"', None, "application/json", None],
         {"type": "ensign.event", "datacontenttype": "application/json", "data": "x"}),
        (["k", None, None, None, None], {"type": "ensign.event", "partitionkey": "k"}),
    ],
)  # fmt: skip
def test_published_events(values: list[Value], expected: dict[str, Any]) -> None:
    builder = BatchBuilder()
    builder.add(Op.EVENT, event_schema("clicks"), new_image(values))
    batch = builder.take(None)
    batch.topic = "clicks"
    (line,) = formatter("cloudevents").lines(batch).texts
    assert json.loads(line) == {
        "specversion": "1.0",
        "id": "clicks:0",
        "source": "/ensign/clicks",
        "subject": "clicks",
        **expected,
    }
    read(line)


@given(batches())
def test_messages_are_the_lines(batch: Batch) -> None:
    batch.topic = "a topic"
    lines = formatter("cloudevents").lines(batch)
    found = formatter("cloudevents").messages(batch)
    assert [value for value in found.values if value is not None] == list(lines.texts)
    assert found.keys == formatter("json").messages(batch).keys
    for line in lines.texts:
        event = read(line)
        key = json.loads(event.get_attributes().get("partitionkey", "null"))
        (row,) = (v for v in formatter("json").lines(batch).texts if _is_of(v, event.get_id()))
        assert json.loads(row)["key"] == key
        for image in ("before", "after", "unchanged"):
            assert json.loads(row)[image] == event.get_data()[image]


def _is_of(line: bytes, id_: str) -> bool:
    return bool(json.loads(line)["offset"] == int(id_.rpartition(":")[2]))
