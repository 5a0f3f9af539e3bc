"""The formats ``json`` and ``flat`` against a slow reference that decodes every row."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Batch, BatchBuilder, Change, Column, Logical, Op, Schema, Tx
from ensign_core.formats import formatter
from ensign_core.formats.lines import SILENT
from ensign_core.rows import ABSENT, Unchanged, Value, decode, encode

Row = list[Value]


class Number(str):
    """A number as it is written, so that -0 and the last digit count."""

    __slots__ = ()


def parsed(text: str | bytes) -> Any:
    return json.loads(text, parse_int=Number, parse_float=Number)


def _json_text(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


ANY_TEXT = st.binary(max_size=12).map(lambda b: b.decode("utf-8", "surrogateescape"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | ANY_TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\n"), inner, max_size=3),
    max_leaves=5,
)
TEXTS: dict[Logical, st.SearchStrategy[str]] = {
    "bool": st.sampled_from(["t", "f"]),
    "int": st.integers(-(2**63), 2**64 - 1).map(str),
    "float": st.floats().map(repr).map(lambda t: {"nan": "NaN"}.get(t, t))
    .map(lambda t: t.replace("inf", "Infinity")),
    "decimal": st.decimals().map(str) | st.just("Infinity"),
    "bytes": st.binary(max_size=9).map(lambda b: "\\x" + b.hex()),
    "json": JSON.map(_json_text),
    "headers": st.just('[["name",null],\r\n["name", "value"]]'),
    "date": st.sampled_from(["2026-11-23", "infinity", "0044-03-15 BC"]),
    "text": TEXT,
    "other": TEXT,
}  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    logicals = st.sampled_from(sorted(TEXTS))
    columns = (Column(n, "any", draw(logicals), key=draw(st.booleans())) for n in names)
    return Schema(draw(NAMES), (("table", "t"),), tuple(columns))


@st.composite
def bodies(draw: st.DrawFn, schema: Schema) -> tuple[Op, bytes]:
    def row(gaps: bool) -> bytes:
        values: Row = []
        for column in schema.columns:
            choices: list[st.SearchStrategy[Value]] = [TEXTS[column.logical], st.none()]
            if gaps:
                choices.append(st.just(ABSENT))
            if column.logical == "bytes":
                choices.append(st.binary(max_size=5))
            values.append(draw(st.one_of(choices)))
        return encode(values)

    op = draw(st.sampled_from([o for o in Op if o not in (Op.EVENT, Op.MESSAGE)]))
    if op in (Op.INSERT, Op.SNAPSHOT):
        return op, b"N" + row(False)
    if op is Op.UPDATE:
        old = draw(st.sampled_from([b"", b"K", b"O"]))
        return op, (old + row(False) if old else b"") + b"N" + row(True)
    if op is Op.DELETE:
        return op, draw(st.sampled_from([b"K", b"O"])) + row(False)
    return op, b""


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    builder = BatchBuilder()
    known = draw(st.lists(schemas(), min_size=1, max_size=2))
    moments = st.none() | st.integers(0, 2**51)
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            tx = Tx(draw(st.none() | st.just("7")), draw(NAMES), draw(moments))
            builder.begin(tx, draw(st.integers(0, 3)))
        for _ in range(draw(st.integers(0, 3))):
            schema = draw(st.sampled_from(known))
            builder.add(*_with(schema, draw(bodies(schema))))
    batch = builder.take(None)
    batch.topic, batch.offset = draw(NAMES), draw(st.integers(0, 2**63))
    return batch


def _with(schema: Schema, event: tuple[Op, bytes]) -> tuple[Op, Schema, bytes]:
    return event[0], schema, event[1]


def reference_value(column: Column, value: Value) -> object:
    if value is None or isinstance(value, bytes):
        return None if value is None else base64.b64encode(value).decode()
    assert isinstance(value, str)
    data = value.encode("utf-8", "surrogateescape")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    convert: dict[str, Callable[[str], object]] = {
        "bool": lambda t: t == "t",
        "int": Number,
        "float": lambda t: t if t in ("NaN", "Infinity", "-Infinity") else Number(t),
        "bytes": lambda t: base64.b64encode(bytes.fromhex(t[2:])).decode(),
        "json": parsed,
        "headers": parsed,
    }
    return convert.get(column.logical, str)(text)


def reference_row(schema: Schema, row: bytes | None, *, key_only: bool) -> dict[str, object] | None:
    if row is None:
        return None
    return {
        column.name: reference_value(column, value)
        for column, value in zip(schema.columns, decode(row), strict=True)
        if not isinstance(value, Unchanged) and (column.key or not key_only)
    }


def reference_json(change: Change) -> dict[str, object]:
    schema = change.schema
    old, new, key_only = change.images()
    before = reference_row(schema, old, key_only=key_only)
    after = reference_row(schema, new, key_only=False)
    key = None
    if schema.key and (old or new):
        both = {**(before or {}), **(after or {})}
        names = [schema.columns[i].name for i in schema.key]
        key = {name: both[name] for name in names if name in both}
    values = [] if new is None else decode(new)
    tx = change.tx
    return {
        "topic": change.batch.topic,
        "offset": Number(change.offset),
        "op": change.op.name.lower(),
        "key": key,
        "before": before,
        "after": after,
        "unchanged": [c.name for c, v in zip(schema.columns, values, strict=False) if v is ABSENT],
        "schema": schema.name,
        "tx": tx and {
            "id": tx.id,
            "position": tx.position,
            "ordinal": Number(change.ordinal),
            "committed_at": None if tx.committed_at is None else (
                datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=tx.committed_at)
            ).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }  # fmt: skip


@given(batches())
def test_json_is_what_the_reference_says(batch: Batch) -> None:
    lines = formatter("json").lines(batch)
    assert not any(b"\n" in text or b"\r" in text for text in lines.texts)
    expected = [change for change in batch if change.op not in SILENT]
    assert list(lines.indexes) == [change.index for change in expected]
    assert [parsed(text) for text in lines.texts] == list(map(reference_json, expected))


@given(batches())
def test_flat_is_the_row_and_where_it_comes_from(batch: Batch) -> None:
    lines = formatter("flat").lines(batch)
    changes = list(batch)
    for text, index in zip(lines.texts, lines.indexes, strict=True):
        assert b"\n" not in text
        change, found = changes[index], parsed(text)
        old, new, key_only = change.images()
        row = reference_row(change.schema, old, key_only=key_only) or {}
        if new is not None:
            row = (row if not key_only else {}) | (
                reference_row(change.schema, new, key_only=False) or {}
            )
        assert {n: v for n, v in found.items() if n not in MARKS} == row
        assert found["__deleted"] == (change.op is Op.DELETE)
        assert found["__position"] == (change.tx.position if change.tx else None)


MARKS = ("__op", "__ts_ms", "__deleted", "__position")


@given(batches())
def test_debezium_lines_are_json(batch: Batch) -> None:
    lines = formatter("debezium").lines(batch)
    assert sorted(lines.indexes) == list(lines.indexes)
    for text in lines.texts:
        assert b"\n" not in text
        assert {"before", "after", "source", "op", "ts_ms"} <= parsed(text).keys()
