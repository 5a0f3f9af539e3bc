"""Records in bulk, in compiled code, against the plain conversion of one message."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from connectors.kafka import records
from ensign_core.rows import check_body
from tests.plain.kafka_records import bodies

DATA = st.none() | st.binary(max_size=20) | st.text(max_size=8).map(str.encode)
NAMES = st.text(max_size=6) | st.sampled_from(["content-type", "Content-Type", '\n"\\'])
HEADERS = st.none() | st.lists(st.tuples(NAMES, DATA), max_size=4)
TIMESTAMPS = st.tuples(
    st.integers(0, 2),
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-1, 0, 1_700_000_000_000]),
)
TOPICS = st.sampled_from(["orders", "ümlaut", ""])
CODES = [KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET, KafkaError.INVALID_MSG]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    headers: Any = draw(HEADERS)
    failed = draw(st.sampled_from([None] * 9 + CODES))
    return Message(
        topic=draw(TOPICS), partition=draw(st.integers(0, 2)),
        offset=draw(st.integers(0, 3) | st.integers(0, 2**62)),
        key=draw(DATA), value=draw(DATA), headers=headers, timestamp=draw(TIMESTAMPS),
        error=None if failed is None else KafkaError(failed),
    )  # fmt: skip


@given(st.lists(messages(), max_size=8), st.data())
def test_records_are_those_of_the_plain_version(found: list[Message], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(found)))
    bytes_max = data.draw(st.integers(1, 300))
    nexts = {topic: dict.fromkeys(range(3), 0) for topic in ("orders", "ümlaut", "")}
    plain_nexts = copy.deepcopy(nexts)
    stop, plain = bodies(found, start, bytes_max, plain_nexts)
    at, topics, schema_ids, ends, body = records.bodies(found, start, bytes_max, nexts)
    assert (at, nexts) == (stop, plain_nexts)
    assert (ends.typecode, schema_ids.typecode) == ("I", "H")
    assert len(body) == (ends[-1] if ends else 0)
    parts = [body[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert [(topics[i], part) for i, part in zip(schema_ids, parts, strict=True)] == plain
    for part in parts:
        check_body(part)


def test_many_at_once_are_the_same() -> None:
    """Enough of them that room for a whole batch is made from the start."""
    found = [
        Message(topic="t", partition=n % 2, offset=n, key=b"k" * (n % 50), value=b"v" * (n % 3000),
                timestamp=(1, n))
        for n in range(2000)
    ]  # fmt: skip
    for bytes_max in (1, 1 << 16, 1 << 30):
        nexts, plain_nexts = {"t": {0: 0, 1: 0}}, {"t": {0: 0, 1: 0}}
        stop, plain = bodies(found, 0, bytes_max, plain_nexts)
        at, _, _, ends, body = records.bodies(found, 0, bytes_max, nexts)
        assert (at, len(ends), nexts) == (stop, len(plain), plain_nexts)
        assert body == b"".join(part for _, part in plain)


def test_what_is_no_record_is_refused() -> None:
    places = {"t": {0: 0}}
    with pytest.raises(KeyError):
        records.bodies([Message(topic="other", partition=0, offset=0)], 0, 1, places)
    with pytest.raises(TypeError):
        records.bodies([Message(topic="t", partition=0, offset=0, key=object())], 0, 1, places)  # type: ignore[arg-type]  # what must be refused
