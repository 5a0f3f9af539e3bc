"""The Kinesis sink against a real server: order per key, refusals, sizes, keys, round trips."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from connectors.kinesis.config import KinesisSinkConfig
from connectors.kinesis.sink import KinesisSink
from ensign_core.change import Batch, BatchBuilder, Column, Op, Schema, event_schema
from ensign_core.errors import EnsignError
from ensign_core.rows import encode, new_image
from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import Capture, connection
from tests.services.postgres_capture import Told

Make = Callable[..., KinesisSink]
ORDERS = Schema(
    "public.orders",
    (("database", "shop"), ("schema", "public"), ("table", "orders")),
    (
        Column("id", "bigint", "int", False, True),
        Column("customer", "text", "text"),
        Column("note", "text", "text"),
    ),
)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def sink_of(kinesis: KinesisServer, told: Told) -> Iterator[Make]:
    """Makes open sinks; they are closed afterwards, and the server's faults healed."""
    with ExitStack() as stack:
        stack.callback(kinesis.proxy.heal)

        def make(stream: str, **options: Any) -> KinesisSink:
            given = {**connection(kinesis), "stream": stream, **options}
            sink = KinesisSink(KinesisSinkConfig.model_validate(given), told)
            stack.callback(sink.close)
            sink.open()
            return sink

        yield make


def events(
    records: list[tuple[bytes | None, bytes | None]], offset: int = 0, topic: str = "things"
) -> Batch:
    """A batch of published events with these keys and data."""
    builder = BatchBuilder()
    schema = event_schema(topic)
    for key, data in records:
        builder.add(Op.EVENT, schema, new_image([key, data, None, None, None]))
    batch = builder.take(None)
    batch.topic, batch.offset = topic, offset
    return batch


def numbers_by_key(kinesis: KinesisServer, stream: str) -> dict[str, list[int]]:
    found = defaultdict(list)
    for record in kinesis.records(stream):
        found[record.key].append(int(record.data))
    return found


def numbered(count: int, keys: int) -> list[tuple[bytes | None, bytes | None]]:
    return [(b"key-%d" % (n % keys), b"%d" % n) for n in range(count)]


def test_order_per_key_survives_refused_records(kinesis: KinesisServer, sink_of: Make) -> None:
    """A third of all records is refused, at random, while others of the request are taken."""
    stream = kinesis.new_stream(3)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    before = kinesis.proxy.failed["PutRecords:record"]
    kinesis.proxy.refuse_records(fraction=0.33, seed=seed)
    sink = sink_of(stream, format="raw")
    sink.write(events(numbered(120, 30)))
    sink.flush()
    assert kinesis.proxy.failed["PutRecords:record"] > before
    found = numbers_by_key(kinesis, stream)
    assert sorted(n for numbers in found.values() for n in numbers) == list(range(120))
    assert {key: sorted(numbers) for key, numbers in found.items()} == found


def test_a_naive_resend_would_break_the_order(kinesis: KinesisServer) -> None:
    """What the sink's order rests on: whole requests and what was refused sent again is not it."""
    stream = kinesis.new_stream(1)
    kinesis.proxy.refuse_records(fraction=0.33, seed=7)
    client = kinesis.client()
    left: list[Any] = [{"PartitionKey": "k", "Data": b"%d" % n} for n in range(50)]
    while left:
        told = client.put_records(StreamName=stream, Records=left)["Records"]
        left = [r for r, result in zip(left, told, strict=True) if "ErrorCode" in result]
    client.close()
    kinesis.proxy.heal()
    found = numbers_by_key(kinesis, stream)["k"]
    assert sorted(found) == list(range(50))
    assert found != list(range(50))


def test_refused_requests_are_waited_out_and_shown(
    kinesis: KinesisServer, sink_of: Make, told: Told
) -> None:
    stream = kinesis.new_stream(1)
    sink = sink_of(stream, format="raw")
    kinesis.proxy.fail("PutRecords", times=3)
    sink.write(events(numbered(20, 5)))
    sink.flush()
    assert told.facts["detail"] == ""
    assert sum(map(len, numbers_by_key(kinesis, stream).values())) == 20


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("ProvisionedThroughputExceededException", "kinesis.throttled"),
        ("InternalFailure", "kinesis.busy"),
    ],
)
def test_a_stream_that_takes_nothing_is_reported(
    kinesis: KinesisServer, sink_of: Make, fault: str, code: str
) -> None:
    stream = kinesis.new_stream(1)
    sink = sink_of(stream, format="raw", throttled_s_max=0.3)
    kinesis.proxy.refuse_records(fault)
    sink.write(events(numbered(5, 5)))
    with pytest.raises(EnsignError) as caught:
        sink.flush()
    assert caught.value.code == code


def test_a_lost_answer_brings_repeats_in_order(kinesis: KinesisServer, sink_of: Make) -> None:
    """At least once: the records of a request whose answer is lost come again."""
    stream = kinesis.new_stream(1)
    sink = sink_of(stream, format="raw", requests_max=1)
    kinesis.proxy.fail("PutRecords", "lost", times=1)
    sink.write(events(numbered(20, 5)))
    with pytest.raises(EnsignError) as caught:
        sink.flush()
    assert caught.value.code == "kinesis.connection_lost"
    sink.close()
    again = sink_of(stream, format="raw")
    again.write(events(numbered(20, 5)))
    again.flush()
    found = numbers_by_key(kinesis, stream)
    repeats = sum(len(numbers) - len(set(numbers)) for numbers in found.values())
    assert repeats == 5
    for numbers in found.values():
        # A reader drops what is not above the last it has taken.
        kept: list[int] = []
        for number in numbers:
            if not kept or number > kept[-1]:
                kept.append(number)
        assert kept == sorted(set(numbers))


def test_a_key_that_does_not_fit_is_hashed_and_what_has_none_is_spread(
    kinesis: KinesisServer, sink_of: Make
) -> None:
    stream = kinesis.new_stream(1)
    sink = sink_of(stream, format="raw")
    keys = [
        b"plain",
        "ü".encode(),
        b"x" * 256,
        b"x" * 257,
        "\U0001f600".encode() * 200,
        b"\xff",
        b"",
    ]
    sink.write(events([*((key, b"1") for key in keys), (None, b"2"), (None, b"3")]))
    sink.flush()
    found = [record.key for record in kinesis.records(stream)]
    assert {"plain", "ü", "x" * 256} < set(found)
    assert sorted(map(len, found)) == [1, 5, 32, 32, 64, 64, 64, 64, 256]
    assert len(set(found)) == len(found)


def test_null_data_is_empty_data(kinesis: KinesisServer, sink_of: Make) -> None:
    stream = kinesis.new_stream(1)
    sink = sink_of(stream, format="raw")
    sink.write(events([(b"a", None), (b"b", b"")]))
    sink.flush()
    assert sorted((r.key, r.data) for r in kinesis.records(stream)) == [("a", b""), ("b", b"")]


def test_a_deleted_row_has_no_tombstone(kinesis: KinesisServer, sink_of: Make) -> None:
    stream = kinesis.new_stream(1)
    builder = BatchBuilder()
    builder.add(Op.INSERT, ORDERS, new_image(["1", "c1", None]))
    builder.add(Op.DELETE, ORDERS, b"O" + encode(["1", "c1", None]))
    batch = builder.take(None)
    batch.topic = "orders"
    sink = sink_of(stream, format="debezium", partition_key="{customer}")
    sink.write(batch)
    sink.flush()
    found = kinesis.records(stream)
    assert [record.key for record in found] == ["c1", "c1"]
    assert all(record.data for record in found)


def test_a_partition_key_of_a_topic_and_a_column(kinesis: KinesisServer, sink_of: Make) -> None:
    stream = kinesis.new_stream(1)
    builder = BatchBuilder()
    builder.add(Op.INSERT, ORDERS, new_image(["7", "c1", None]))
    builder.add(Op.TRUNCATE, ORDERS, b"")
    builder.add(Op.DELETE, ORDERS, b"K" + encode(["7", None, None]))
    batch = builder.take(None)
    batch.topic = "orders"
    sink = sink_of(stream, partition_key="{topic}/{id}")
    sink.write(batch)
    sink.flush()
    found = sorted((record.key for record in kinesis.records(stream)), key=len)
    assert [len(key) for key in found] == [8, 8, 32]
    assert found[:2] == ["orders/7"] * 2
    wrong = sink_of(stream, partition_key="{shop}")
    with pytest.raises(EnsignError) as caught:
        wrong.write(batch)
    assert caught.value.code == "kinesis.column_missing"


def test_a_record_too_large_stops_or_is_set_aside(
    kinesis: KinesisServer, sink_of: Make, told: Told
) -> None:
    stream = kinesis.new_stream(1)
    large = b"x" * ((1 << 20) - 2)
    batch = events([(b"key", b"1"), (b"key", large), (b"k", large), (b"key", b"2")])
    with pytest.raises(EnsignError) as caught:
        sink_of(stream, format="raw").write(batch)
    assert caught.value.code == "kinesis.record_too_large"
    sink = sink_of(stream, format="raw", on_refused="dead_letter")
    sink.write(batch)
    sink.flush()
    assert sorted((r.key, len(r.data)) for r in kinesis.records(stream)) == [
        ("k", len(large)), ("key", 1), ("key", 1),
    ]  # fmt: skip
    assert [error.code for _, error in told.letters] == ["kinesis.record_too_large"]


def test_a_stream_per_topic(kinesis: KinesisServer, sink_of: Make) -> None:
    streams = [kinesis.new_stream(1) for _ in range(2)]
    sink = sink_of("{topic}", format="raw", buffer_bytes_max=1 << 20)
    for stream in streams:
        sink.write(events([(b"k%d" % n, b"x" * 100_000) for n in range(11)], topic=stream))
    sink.flush()
    assert [len(kinesis.records(stream)) for stream in streams] == [11, 11]
    with pytest.raises(EnsignError) as caught:
        sink.write(events([(b"k", b"1")], topic="nowhere"))
    assert caught.value.code == "kinesis.stream_missing"
    with pytest.raises(EnsignError) as caught:
        sink.write(events([(b"k", b"1")], topic="n" * 129))
    assert caught.value.code == "kinesis.stream_name"


def test_kinesis_to_kinesis_is_the_same_to_the_byte(
    kinesis: KinesisServer, sink_of: Make, read_stream: Callable[..., Capture]
) -> None:
    source, target = kinesis.new_stream(2), kinesis.new_stream(1)
    given = [
        ("ü" * 100, bytes(range(256))), ("a b\n", b""), ("\U0001f600", b"\x00"),
        ("x" * 256, b"\xf3\x89\x9a\xc2 no aggregate"), ("a b\n", b"second"),
    ]  # fmt: skip
    kinesis.put(source, given)
    capture = read_stream(source)
    capture.caught_up()
    sink = sink_of(target, format="raw")
    for offset, batch in enumerate(capture.batches):
        batch.topic, batch.offset = "copy", offset * 1000
        sink.write(batch)
    sink.flush()
    found = [(record.key, record.data) for record in kinesis.records(target)]
    assert sorted(found) == sorted(given)
    assert [data for key, data in found if key == "a b\n"] == [b"", b"second"]
