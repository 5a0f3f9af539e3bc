"""Decoders on random records: what our formats emit comes back as it was, what is harmed is a fault
with a code or a row, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ensign_core.change import Batch, BatchBuilder, Column, Logical, Op, Schema, Tx
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.formats.decoding import Decoder, Row, decoder
from ensign_core.formats.lines import Messages
from ensign_core.rows import ABSENT, Value, check_body, encode, join, members, new_image, split
from ensign_core.rows.members import DEPTH_MAX
from tests.unit.test_decoding_debezium import MYSQL, POSTGRES, with_schema

TEXTS = st.text(max_size=5) | st.sampled_from(['"', "\\", "NULL", "__debezium_unavailable"])
VALUES: dict[str, tuple[Logical, st.SearchStrategy[Value]]] = {
    "bigint": ("int", st.integers().map(str)),
    "double precision": (
        "float", st.floats(allow_infinity=False, allow_nan=False).map(repr) | st.just("NaN")
    ),
    "boolean": ("bool", st.sampled_from("tf")),
    "numeric": ("decimal", st.sampled_from(["1.50", "-0.01", "NaN"])),
    "numeric(5,2)": ("decimal", st.sampled_from(["1.50", "-0.01"])),
    "text": ("text", TEXTS.map(lambda t: t.encode("utf-8", "replace").decode())),
    "bytea": ("bytes", st.binary(max_size=3)),
    "jsonb": ("json", st.sampled_from(["{}", '{"a": [1]}', "null", '"x"'])),
    "integer[]": ("other", st.sampled_from(["{1,2}", "{{1},{2}}", "{NULL}"])),
    "text[]": ("other", st.sampled_from(["{a,NULL}", "{}"])),
    "public.hstore": ("other", st.sampled_from(['"a"=>"b"', ""])),
    "timestamp without time zone": ("timestamp", st.just("2026-11-23 10:00:00.5")),
    "uuid[]": ("other", st.just("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}")),
    "point": ("other", st.just("(1.5,-0)")),
}  # fmt: skip


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    natives = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    columns = tuple(
        Column(f"{number}{draw(st.sampled_from(['', 'é', 'op']))}", native, VALUES[native][0],
               key=draw(st.booleans()))
        for number, native in enumerate(natives)
    )  # fmt: skip
    names = (("database", "shop"), ("schema", "public"), ("table", draw(st.sampled_from("ab"))))
    return Schema(f"public.{names[2][1]}", names, columns)


@st.composite
def row(draw: st.DrawFn, schema: Schema, *, absent: bool) -> bytes:
    missing: list[Value] = [None, ABSENT] if absent else [None]
    return encode(
        [
            draw(VALUES[column.native][1])
            if column.key
            else draw(VALUES[column.native][1] | st.sampled_from(missing))
            for column in schema.columns
        ]
    )


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    builder = BatchBuilder().begin(Tx("742", "0/16B3748", 1_795_439_430_661_374))
    schema = draw(schemas())
    for _ in range(draw(st.integers(1, 4))):
        op = draw(st.sampled_from([Op.INSERT, Op.SNAPSHOT, Op.UPDATE, Op.DELETE]))
        old = draw(st.sampled_from([b"K", b"O"])) + draw(row(schema, absent=False))
        new = b"N" + draw(row(schema, absent=op == Op.UPDATE))
        if op == Op.DELETE:
            body = old
        else:
            body = old + new if op == Op.UPDATE and draw(st.booleans()) else new
        builder.add(op, schema, body)
    return builder.take(None)


def decoded(made: Decoder, messages: Messages) -> Iterator[Row]:
    for key, value in zip(messages.keys, messages.values, strict=True):
        found = made.row("t", key, value)
        assert found is not None
        yield found


def again(rows: Iterator[Row]) -> Batch:
    builder = BatchBuilder()
    for found in rows:
        check_body(found.body)
        if found.tx is not None:
            builder.begin(found.tx, found.ordinal)
        builder.add(found.op, found.schema, found.body)
    return builder.take(None)


def envelopes(messages: Messages) -> list[tuple[bytes | None, Any]]:
    """Keys and envelopes without their time of writing; rows are the very text."""
    found = []
    for key, value in zip(messages.keys, messages.values, strict=True):
        images, _, rest = (value or b"").partition(b',"source":')
        event = json.loads(b'{"source":' + rest)
        if event["op"] == "r":
            event["source"] = None
        found.append((key, (images, event["source"], event["op"])))
    return found


@given(batches())
def test_our_envelopes_come_back_as_they_were(batch: Batch) -> None:
    first = formatter("debezium").messages(batch)
    second = formatter("debezium").messages(again(decoded(decoder("debezium"), first)))
    assert envelopes(second) == envelopes(first)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4) | st.sampled_from(["__debezium_unavailable_value", "AP8=", "infinity"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
FIELDS = [
    {"type": kind, "name": name, "field": "v"}
    for kind, name in [
        ("int32", "io.debezium.time.Date"), ("int64", "io.debezium.time.MicroTimestamp"),
        ("int64", "io.debezium.time.NanoTimestamp"), ("int64", "io.debezium.time.MicroTime"),
        ("string", "io.debezium.time.ZonedTimestamp"), ("string", "io.debezium.data.Json"),
        ("string", "io.debezium.time.ZonedTime"), ("bytes", None), ("double", None),
        ("bytes", "org.apache.kafka.connect.data.Decimal"), ("bytes", "io.debezium.data.Bits"),
        ("struct", "io.debezium.data.VariableScaleDecimal"), ("array", None), ("map", None),
        ("struct", "io.debezium.data.geometry.Point"), ("array", "io.debezium.data.DoubleVector"),
        ("struct", "io.debezium.data.geometry.Geometry"), ("boolean", None),
        ("struct", "io.debezium.data.SparseDoubleVector"),
    ]
]  # fmt: skip
ENVELOPES: list[Any] = [
    {"before": {"id": 7}, "after": {"id": 7, "a": None}, "source": POSTGRES, "op": "u"},
    {"before": {"id": 7}, "after": None, "source": MYSQL, "op": "d"},
    {"op": "m", "source": POSTGRES, "message": {"prefix": "p", "content": "AP8="}},
    {"op": "t", "source": POSTGRES},
    *[with_schema(field, None, source) for field in FIELDS for source in (POSTGRES, MYSQL)],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*path, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def harmed(draw: st.DrawFn) -> bytes:
    envelope = draw(st.sampled_from(ENVELOPES))
    typed = [path for path in places(envelope) if path[-1:] == ("v",)]
    for _ in range(draw(st.integers(0, 3))):
        every = list(places(envelope))
        path = draw(st.sampled_from(typed or every) | st.sampled_from(every))
        if path in every:
            envelope = replaced(envelope, path, draw(JSON))
    text = bytearray(json.dumps(envelope).encode())
    if draw(st.integers(0, 4)) == 0:
        text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
    return bytes(text)


def check_row(made: Decoder, key: bytes | None, value: bytes) -> None:
    try:
        found = made.row("t", key, value)
    except EnsignError as error:
        assert error.code.startswith("decode.")  # noqa: PT017
        return
    if found is not None:
        batch = again(iter([found]))
        for name in ("json", "debezium"):
            for line in formatter(name).lines(batch).texts:
                json.loads(line)


@given(harmed(), st.none() | JSON.map(lambda key: json.dumps(key).encode()) | st.binary(max_size=3))
def test_a_harmed_envelope_is_a_fault_or_a_row(value: bytes, key: bytes | None) -> None:
    check_row(decoder("debezium"), key, value)


@given(JSON | st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.data())
def test_json_comes_back_as_it_was(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    check_row(decoder("json"), None, text)
    if isinstance(value, dict):
        try:
            found = decoder("json").row("t", None, text)
        except EnsignError as error:
            assert error.code in ("decode.not_json", "decode.not_unicode")  # noqa: PT017
            return
        assert found is not None
        (line,) = formatter("json").lines(again(iter([found]))).texts
        assert json.loads(line)["after"] == value


@given(st.binary(max_size=12) | st.text('{}[]",:\\u019.eE+-tfn ', max_size=14).map(str.encode))
def test_members_are_pythons(data: bytes) -> None:
    try:
        ours = members.members(data)
        valid = True
    except UnicodeError:
        return
    except ValueError:
        ours, valid = None, False
    try:
        theirs = json.loads(data.decode(), parse_constant=int)
    except ValueError:
        assert not valid
        return
    assert valid
    assert (ours is not None) == isinstance(theirs, dict)


@given(st.lists(st.none() | st.binary(max_size=3) | st.text(max_size=3), max_size=5))
def test_rows_are_joined_as_they_were_split(values: list[Value]) -> None:
    body = new_image([v.encode("utf-8", "replace") if isinstance(v, str) else v for v in values])
    assert join(*split(body[1:])) == body[1:]


def test_nothing_is_too_deep_for_the_stack() -> None:
    for made in (decoder("json"), decoder("debezium")):
        for opening in (b"[", b'{"a":'):
            check_row(made, opening * 100_000, b'{"a":' + opening * 100_000)
    assert DEPTH_MAX < 1000
