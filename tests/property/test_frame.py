"""Batches of any content come out of a frame as they went in, and damage is told by a code."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensign_core import frame
from ensign_core.change import Batch, Column, Op, Run, Schema, Tx
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, Value, encode

Event = tuple[Op, Schema, bytes, Tx | None, int]
"""An event of the naive model: op, schema, body, transaction, ordinal."""

TIMES = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.just(ABSENT), st.text(max_size=12), st.binary(max_size=12)
)
COLUMNS = st.builds(
    Column,
    st.text(max_size=8),
    st.text(max_size=8),
    st.sampled_from(["int", "text", "bytes", "json", "other"]),
    st.booleans(),
    st.booleans(),
)
TXS = st.builds(Tx, st.none() | st.text(max_size=8), st.text(max_size=8), st.none() | TIMES)


@st.composite
def schemas(draw: st.DrawFn) -> list[Schema]:
    names = draw(st.lists(st.text(max_size=8), min_size=1, max_size=6, unique=True))
    return [
        Schema(name, (("table", name),), tuple(draw(st.lists(COLUMNS, max_size=4))))
        for name in names
    ]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    rows = st.lists(VALUES, max_size=4).map(encode)
    old = draw(st.sampled_from([b"", b"K", b"O"]))
    body = old + draw(rows) if old else b""
    return body + b"N" + draw(rows) if draw(st.booleans()) else body


@st.composite
def modelled(draw: st.DrawFn) -> tuple[Batch, list[Event]]:
    """A batch, put together column by column, and the same events one by one."""
    known = draw(schemas())
    events: list[Event] = []
    runs: list[Run] = []
    for number in range(draw(st.integers(0, 5))):
        tx = None if number == 0 and draw(st.booleans()) else draw(TXS)
        ordinal = 0 if tx is None else draw(st.integers(0, 1 << 31))
        if tx is not None:
            runs.append(Run(len(events), ordinal, tx))
        for index in range(draw(st.integers(0, 4))):
            place = 0 if tx is None else ordinal + index
            op = draw(st.sampled_from(Op))
            events.append((op, draw(st.sampled_from(known)), draw(bodies()), tx, place))
    batch = Batch(
        bytes(event[0] for event in events),
        array("H", [known.index(event[1]) for event in events]),
        array("I", accumulate(len(event[2]) for event in events)),
        b"".join(event[2] for event in events),
        runs,
        known,
    )
    return batch, events


def exploded(batch: Batch) -> list[Event]:
    """A batch's events, by its views."""
    return [(c.op, c.schema, c.body, c.tx, c.ordinal) for c in batch]


def code_of(call: Callable[..., object], *args: object) -> str:
    """The code of the error that a call raises, empty if none; others pass through."""
    try:
        call(*args)
    except EnsignError as error:
        return error.code
    return ""


def header(batch: Batch) -> frame.Header:
    return frame.Header(b"t" * 16, 1, 2, b"k" * 16, b"s" * 16, 7, len(batch))


def by_id(batch: Batch) -> dict[int, Schema]:
    return {schema.id: schema for schema in batch.schemas}


@given(modelled(), st.integers(0, 1 << 62))
def test_pack_and_unpack_give_the_batch_again(made: tuple[Batch, list[Event]], offset: int) -> None:
    batch, events = made
    packed = frame.pack(batch)
    again = frame.unpack(packed, by_id(batch), header(batch), offset)
    assert exploded(again) == events
    assert [c.offset for c in again] == list(range(offset, offset + len(events)))
    assert (again.runs, again.schemas, again.body) == (batch.runs, batch.schemas, batch.body)
    assert frame.schema_ids(packed) == [schema.id for schema in batch.schemas]


@given(
    st.builds(
        frame.Header,
        st.binary(min_size=16, max_size=16), TIMES, TIMES,
        st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16),
        st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1),
    ),
    st.binary(max_size=20),
)  # fmt: skip
def test_header_is_parsed_as_it_was_encoded(made: frame.Header, sealed: bytes) -> None:
    encoded = made.encode()
    assert len(encoded) == frame.HEADER_BYTES
    assert frame.parse(encoded + sealed) == (made, encoded, sealed)


@given(st.binary(max_size=200))
def test_parse_of_any_bytes_is_a_frame_or_a_code(data: bytes) -> None:
    assert code_of(frame.parse, data) in {"", "frame.damaged", "frame.version_unknown"}


@given(st.binary(min_size=frame.HEADER_BYTES, max_size=frame.HEADER_BYTES + 20))
def test_parse_splits_whatever_begins_as_a_frame(data: bytes) -> None:
    data = b"ENSF\x01\0\0\0" + data[8:]
    made, clear, sealed = frame.parse(data)
    assert (clear + sealed, made.encode()) == (data, clear)


@given(modelled(), st.data())
def test_damage_behind_the_seal_is_a_code(made: tuple[Batch, list[Event]], data: Any) -> None:
    batch, _ = made
    plain = bytearray(frame._decompress(frame.pack(batch)))
    if data.draw(st.booleans()):
        del plain[data.draw(st.integers(0, len(plain) - 1)) :]
    else:
        place = data.draw(st.integers(0, len(plain) - 1))
        plain[place] ^= data.draw(st.integers(1, 255))
    packed = frame._compressors.compress(bytes(plain))

    def read() -> None:
        known = dict.fromkeys(frame.schema_ids(packed), batch.schemas[0])
        assert len(list(frame.unpack(packed, known, header(batch), 0))) == len(batch)

    assert code_of(read) in {"", "frame.damaged"}


@given(modelled(), st.data())
def test_damaged_compression_is_a_code(made: tuple[Batch, list[Event]], data: Any) -> None:
    packed = bytearray(frame.pack(made[0]))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    for cut in (bytes(packed), bytes(packed[:place])):
        for call in (frame.schema_ids, frame._decompress):
            assert code_of(call, cut) in {"", "frame.damaged"}


def test_missing_schema_is_named() -> None:
    schema = Schema("orders", (), ())
    batch = Batch(b"\1", array("H", [0]), array("I", [1]), b"x", [], [schema])
    with pytest.raises(KeyError, match=str(schema.id)):
        frame.unpack(frame.pack(batch), {}, header(batch), 0)
