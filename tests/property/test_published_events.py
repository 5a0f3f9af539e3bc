"""Published events in bulk, by compiled code, against the plain functions of one event."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensign_core.broker import Event
from ensign_core.broker.events import event_batch, received
from ensign_core.change import Batch, BatchBuilder, Op, Tx, event_schema
from ensign_core.formats import formatter
from ensign_core.rows import ABSENT, Value, new_image
from ensign_core.schema import record_schema
from tests.plain.lines import flat_lines, json_lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
SPACED = st.builds(lambda value, indent: json.dumps(value, indent=indent).encode(), JSON,
                   st.sampled_from([None, 0, 2]))  # fmt: skip
DATA = st.one_of(
    SPACED, st.text(max_size=8).map(str.encode), st.binary(max_size=8),
    st.sampled_from([b"", b"{", b" {}", b"[1]x", b'{"a":NaN}', b"[" * 600 + b"]" * 600, b'"\xff"']),
)  # fmt: skip
MIMETYPES = st.none() | st.sampled_from(
    ["application/json", "Application/JSON; charset=utf-8", "text/plain", "text/json", "", "x/y",
     "application/ld+json", "image/png"]
)  # fmt: skip
METADATA = st.none() | SPACED.map(bytes.decode) | st.just("")


def value(kept: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.one_of(kept, kept, kept, st.none(), st.just(ABSENT), st.binary(max_size=3))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    builder = BatchBuilder().begin(Tx(None, "", draw(st.none() | st.integers(0, 2**51))))
    schemas = [event_schema("clicks"), record_schema("orders")]
    for _ in range(draw(st.integers(1, 3))):
        row = [
            draw(value(st.text(max_size=4) | st.binary(max_size=4))), draw(value(DATA)),
            draw(value(METADATA)), draw(value(MIMETYPES)), draw(value(st.text(max_size=4))),
        ]  # fmt: skip
        schema = draw(st.sampled_from(schemas))
        if schema is schemas[1]:
            row += [draw(value(METADATA)), draw(value(st.sampled_from(["3", "-1"]))), "7", "12"]
        builder.add(Op.EVENT, schema, new_image(row))
    batch = builder.take(None)
    batch.topic = "t"
    return batch


@given(batches())
def test_events_are_written_as_the_plain_functions_write_them(batch: Batch) -> None:
    assert list(formatter("json").lines(batch).texts) == json_lines(batch).texts
    assert list(formatter("flat").lines(batch).texts) == flat_lines(batch).texts


TEXTS = st.none() | st.text(max_size=5)
EVENTS = st.builds(
    Event, st.binary(max_size=5), st.none() | st.binary(max_size=5),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), TEXTS, TEXTS,
)  # fmt: skip


@given(st.lists(EVENTS, max_size=5))
def test_events_come_back_as_they_were(events: list[Event]) -> None:
    assert [one.event for one in received(event_batch("t", events))] == events


@pytest.mark.parametrize("event", [Event("text"), Event(b"", 7), Event(bytearray(b"x"))])  # type: ignore[arg-type] # what is refused
def test_what_is_no_event_is_refused(event: Event) -> None:
    with pytest.raises((TypeError, AttributeError)):
        event_batch("t", [event])
