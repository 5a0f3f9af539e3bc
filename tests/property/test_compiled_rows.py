"""The compiled rows against their plain versions: equal on random rows byte for byte, and
``rows.damaged`` on whatever is cut, flipped or lengthened."""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Callable
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ensign_core.change import (
    EVENT_COLUMNS,
    Batch,
    BatchBuilder,
    Column,
    Logical,
    Op,
    Schema,
    Tx,
)
from ensign_core.errors import EnsignError
from ensign_core.formats import Lines, formatter
from ensign_core.formats.lines import SILENT
from ensign_core.formats.values import binary, quote, render, undecodable
from ensign_core.rows import ABSENT, Value, check_body, encode, new_image, split
from ensign_core.rows.json import json_lines
from ensign_core.rows.table import RAW, RowTable
from tests.plain import lines as plain
from tests.plain import rows as plain_rows

NATIVES: dict[Logical, list[str]] = {
    "bool": ["boolean"], "int": ["bigint"], "float": ["double precision"], "json": ["jsonb"],
    "decimal": ["numeric(5,2)", "numeric"], "text": ["text"], "bytes": ["bytea"],
    "date": ["date"], "timestamp": ["timestamp without time zone"], "headers": ["json"],
    "other": ["integer[]", "inet"],
}  # fmt: skip
MYSQL: dict[Logical, list[str]] = {
    "int": ["bigint unsigned"], "float": ["float(7,4)"], "json": ["json", "longtext"],
    "text": ["text"], "decimal": ["decimal(5,2)", "decimal(65,30)"],
    "bytes": ["blob", "geometry", "point", "binary(3)"],
    "date": ["date"], "time": ["time(3)"], "timestamp": ["datetime", "datetime(6)"],
    "timestamptz": ["timestamp(3)"], "uuid": ["uuid"],
    "other": ["bit(1)", "bit(9)", "vector(2)", "enum('a','b')", "inet6"],
}  # fmt: skip
PIECES = [
    "", "t", "f", "0", "-0", "1e+20", "NaN", "-Infinity", "9" * 40, "\\x", "\\x0aFF", "\\x0",
    "\\xg0", '{"a": "b"}', "[1,\n\r2]", '"', "\\", "\n\r\t\b\f\0\x1f\x7f", "é",
    "\u2028", "\U0001f600", "\udcff", "\udced\udca0\udc80", "2026-11-23", "1.10", "{1,2}",
    "a" * 7, "a" * 8, "a" * 9, "٣", "1²", "0000-00-00", "-838:59:59.5", "2026-11-23 10:00:00.5",
    "2026-11-23 10:00:00+00", "0101", "[1,2.5]",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=3).map("".join) | st.sampled_from(PIECES)
POINT = struct.pack("<IBIdd", 4326, 1, 1, 2.5, -1.0)
BYTES = st.binary(max_size=9) | st.just(POINT)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    natives, part = draw(st.sampled_from([(NATIVES, "schema"), (MYSQL, "table")]))
    logicals = draw(st.lists(st.sampled_from(sorted(natives)), max_size=6))
    columns = tuple(
        Column(f"{number}{draw(NAMES)}", draw(st.sampled_from(natives[logical])), logical,
               nullable=draw(st.booleans()), key=draw(st.booleans()))
        for number, logical in enumerate(logicals)
    )  # fmt: skip
    return Schema(draw(NAMES), (("database", "d"), (part, draw(NAMES))), columns)


def texts_of(column: Column) -> st.SearchStrategy[Value]:
    """Anything for the types that compiled code renders; what functions of Python get is sane."""
    if column.native in ("integer[]", "date", "timestamp without time zone", "numeric"):
        return st.sampled_from(["{1,2}", "2026-11-23", "2026-11-23 10:00:00", "1.5", "\udcff"])
    return TEXTS | BYTES.map(lambda data: data.decode("utf-8", "surrogateescape"))


@st.composite
def row(draw: st.DrawFn, schema: Schema) -> bytes:
    states: st.SearchStrategy[Value] = st.sampled_from([None, ABSENT])
    return encode([draw(states | BYTES | texts_of(column)) for column in schema.columns])


@st.composite
def bodies(draw: st.DrawFn, schema: Schema) -> bytes:
    shape = draw(st.sampled_from(["", "N", "K", "O", "KN", "ON"]))
    return b"".join(marker.encode() + draw(row(schema)) for marker in shape)


EVENTS = Schema("clicks", (("topic", "clicks"),), EVENT_COLUMNS)
OPS = st.sampled_from([op for op in Op if op is not Op.EVENT])


@st.composite
def batches(draw: st.DrawFn, published: bool = True) -> Batch:
    builder = BatchBuilder()
    known = draw(st.lists(schemas(), min_size=1, max_size=2))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            moments = st.none() | st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
            number = st.none() | st.sampled_from(["7", '"', "x"])
            tx = Tx(draw(number), draw(st.just("0/A1") | NAMES), draw(moments))
            builder.begin(tx, draw(st.integers(0, 2**40)))
        for _ in range(draw(st.integers(0, 3))):
            if published and draw(st.integers(0, 9)) == 0:
                builder.add(Op.EVENT, EVENTS, new_image(draw(st.lists(BYTES | TEXTS | st.none(),
                            min_size=5, max_size=5))))  # fmt: skip
                continue
            schema = draw(st.sampled_from(known))
            builder.add(draw(OPS), schema, draw(bodies(schema)))
    batch = builder.take(None)
    batch.topic, batch.offset = draw(NAMES), draw(st.integers(0, 2**63))
    return batch


PLAIN: dict[str, Callable[[Batch], Lines]] = {"json": plain.json_lines, "flat": plain.flat_lines}


def outcome(call: Callable[[], Lines]) -> object:
    """The lines with their indexes, or the code of the error."""
    try:
        found = call()
    except EnsignError as error:
        return error.code
    return found.texts, list(found.indexes)


def check_text(found: Lines) -> None:
    assert found.text == b"".join(text + b"\n" for text in found.texts)


@pytest.mark.parametrize("name", sorted(PLAIN))
@given(batch=batches())
def test_lines_are_those_of_the_plain_version(name: str, batch: Batch) -> None:
    found = formatter(name).lines(batch)
    assert outcome(lambda: found) == outcome(lambda: PLAIN[name](batch))
    check_text(found)


WRITTEN_NS = re.compile(rb'"ts_ns":(\d+)}$')


def debezium_pair(batch: Batch) -> tuple[object, object]:
    """Our outcome, and the plain version's at the same time of writing."""
    found = outcome(lambda: formatter("debezium").lines(batch))
    now_ns = 0
    if isinstance(found, tuple) and len(found[0]):
        match = WRITTEN_NS.search(found[0][0])
        assert match is not None
        now_ns = int(match[1])
    return found, outcome(lambda: plain.debezium_lines(batch, now_ns))


@given(batches(published=False))
def test_debezium_lines_are_those_of_the_plain_version(batch: Batch) -> None:
    found, expected = debezium_pair(batch)
    assert found == expected


@st.composite
def harmed(draw: st.DrawFn) -> Batch:
    """A batch with its body cut, lengthened, flipped, or with ends that do not fit it."""
    batch = draw(batches(published=False).filter(lambda found: found.body))
    body, places = bytearray(batch.body), st.integers(0, len(batch.body) - 1)
    kind = draw(st.sampled_from(["cut", "longer", "flip", "end"]))
    if kind == "cut":
        del body[draw(places) :]
    elif kind == "longer":
        at = draw(places)
        body[at:at] = draw(st.binary(min_size=1, max_size=3))
        batch.ends[-1] = len(body)
    elif kind == "flip":
        body[draw(places)] ^= draw(st.integers(1, 255))
    else:
        at = draw(st.integers(0, len(batch.ends) - 1))
        batch.ends[at] = draw(st.integers(0, len(body) + 5) | st.just(2**32 - 1))
    batch.body = bytes(body)
    return batch


def fits(batch: Batch) -> bool:
    """Whether the ends rise and lie in the body. If not, the plain version may read on in the next
    event, or find none where ours says damaged."""
    ends = [0, *batch.ends, len(batch.body)]
    return all(a <= b for a, b in pairwise(ends))


@pytest.mark.parametrize("name", ["json", "flat", "debezium"])
@given(batch=harmed())
def test_harmed_bodies_are_read_alike_or_damaged(name: str, batch: Batch) -> None:
    if name == "debezium":
        found, expected = debezium_pair(batch)
    else:
        found = outcome(lambda: formatter(name).lines(batch))
        expected = outcome(lambda: PLAIN[name](batch))
    if fits(batch):
        assert found == expected
    else:
        assert found == "rows.damaged" or batch.ops[0] in SILENT or found == expected


def after(values: list[bytes], logical: Logical) -> list[str]:
    """One-column rows of these texts, as the compiled code writes the value."""
    schema = Schema("t", (), (Column("c", "any", logical),))
    builder = BatchBuilder()
    for value in values:
        builder.add(Op.INSERT, schema, b"N\0\1t" + struct.pack(">I", len(value)) + value)
    texts = formatter("json").lines(builder.take(None)).texts
    return [text.decode().partition('"after":{"c":')[2].rpartition('},"unch')[0] for text in texts]


def test_utf8_is_what_python_takes_for_it() -> None:
    """All of two bytes, and the borders of the longer sequences with all their second bytes."""
    tails = [b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x7f\x80", b"\xc0", b"\x80\xc0"]
    values = [bytes(pair) for pair in product(range(256), repeat=2)]
    values += [
        bytes((first, second)) + tail
        for first, second, tail in product(range(0xDF, 0x100), range(256), tails)
    ]
    expected = [plain_text(value) for value in values]
    assert after(values, "text") == expected


def plain_text(value: bytes) -> str:
    try:
        return quote(value.decode())
    except UnicodeDecodeError:
        return undecodable(value)


@pytest.mark.parametrize("logical", ["text", "json", "int", "bytes"])
def test_one_odd_byte_at_every_place_of_every_length(logical: Logical) -> None:
    """Values are looked at some bytes at a time: none is missed, whatever stands around it."""
    odd = ['"', "\\", "\n", "\r", "\x00", "\x1f", "\x7f", "é", " "]
    values = [
        ("0" * at + found + "0" * (length - at)).encode()
        for length in range(20)
        for at in range(length + 1)
        for found in odd
    ]
    function = render(Column("c", "any", logical))
    assert after(values, logical) == [
        value.decode() if function is None else function(value.decode()) for value in values
    ]


@given(st.lists(TEXTS.map(lambda text: text.encode("utf-8", "surrogateescape")) | BYTES))
def test_bytes_are_bytes(values: list[bytes]) -> None:
    hexadecimal = [f"\\x{value.hex()}".encode() for value in values]
    assert after(hexadecimal, "bytes") == [binary(value) for value in values]


@given(st.binary(max_size=40) | bodies(EVENTS))
@example(b"\xff\xff")
@example(b"\0\1t\xff\xff\xff\xff")
@example(b"N\0\1t\0\0\0\1")
def test_rows_are_taken_apart_as_the_plain_version_does(data: bytes) -> None:
    pairs = ((split, plain_rows.split), (check_body, plain_rows.check_body))
    for compiled, reference in pairs:
        assert told(compiled, data) == told(reference, data)
        assert told(compiled, data[1:]) == told(reference, data[1:])


def told(call: Callable[[bytes], object], data: bytes) -> object:
    try:
        return call(data)
    except EnsignError as error:
        return error.code


def test_what_does_not_belong_together_is_refused() -> None:
    """The compiled code reads beside a table's or a batch's end for no caller's mistake."""
    with pytest.raises(ValueError, match="one name, code and render"):
        RowTable('"t"', ['"a"'], (), b"", [None], ())
    with pytest.raises(ValueError, match="one name, code and render"):
        RowTable('"t"', ['"a"', '"b"'], (), bytes((RAW, RAW)), [None] * 2, ['""'])
    with pytest.raises(ValueError, match="key"):
        RowTable('"t"', ['"a"'], (1,), bytes((RAW,)), [None], ())
    table = RowTable('"t"', ['"a"'], (0,), bytes((RAW,)), [None], ())
    body = new_image(["7"])
    fitting = Batch(b"\1", array("H", [0]), array("I", [len(body)]), body)
    lines, indexes = json_lines(fitting, [table], [None, b',"op":"insert","key":'], [None], _never)
    assert (len(lines), list(indexes), lines[0], lines[-1], lines[:]) == (
        1, [0], lines[0], lines[0], [lines[0]],
    )  # fmt: skip
    with pytest.raises(IndexError):
        lines[1]
    with pytest.raises(IndexError):
        lines[-2]
    for ids, ends in (([1], [len(body)]), ([], [len(body)]), ([0], []), ([0], [len(body) + 1])):
        harmed_batch = Batch(b"\1", array("H", ids), array("I", ends), body)
        with pytest.raises(EnsignError, match=r"rows\.damaged"):
            json_lines(harmed_batch, [table], [None, b","], [None], _never)


def _never(_number: int, _body: bytes) -> str:
    raise AssertionError
