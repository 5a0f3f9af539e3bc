"""The Kafka sink against a real broker: what lies in the topics, and what it refuses."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from connectors.kafka import KafkaSinkConfig
from connectors.kafka.outgoing import batch_bytes
from connectors.kafka.sink import KafkaSink
from connectors.kafka.sink_check import check
from ensign_core.change import Batch, BatchBuilder, Column, Op, Tx, event_schema
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.rows import new_image
from tests.integration.kafka_sinks import ORDERS, new_sink, placed, records, rows, values
from tests.services.kafka import STRANGER, KafkaServer
from tests.services.kafka_records import Record

ODD = [
    Record(b"", b"", (), 1, 0),
    Record(None, b"\xff\x00", (("a", None), ("a", b""), ("", b"\xff\x00"), ("a", b"1")), 5, 1),
    Record(b"\xfe", None, (), 1_700_000_000_000, 2),
    Record(None, None, (("ü", "ü".encode()),), None, 0),
    Record(b"key", b'{"a":\n1}', (), 1_750_000_000_000, 1),
]


def deliver(kafka: KafkaServer, topic: str, *batches: Batch, **options: Any) -> list[Record]:
    sink, context = new_sink(kafka, topic, **options)
    with closing(sink):
        sink.open()
        for batch in batches:
            sink.write(batch)
        sink.flush()
    assert context.dead == []
    return kafka.consume(topic)


def refused(kafka: KafkaServer, topic: str, *batches: Batch, **options: Any) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        deliver(kafka, topic, *batches, **options)
    return caught.value


def write_and_flush(sink: KafkaSink, batch: Batch) -> None:
    sink.write(batch)
    sink.flush()


def murmur2(data: bytes) -> int:
    """The hash of Kafka's own clients (`Utils.murmur2`), for its partitions."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    found = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        found = found * factor & mask ^ word
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * factor & mask
    found = (found ^ found >> 13) * factor & mask
    return (found ^ found >> 15) & 0x7FFFFFFF


def test_raw_passes_records_on_to_the_byte(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(3)
    found = deliver(kafka, topic, records(ODD), format="raw")
    expected = sorted(ODD, key=lambda record: record.partition or 0)
    stamps = [None if record.timestamp_ms == -1 else record.timestamp_ms for record in found]
    assert [
        record._replace(offset=None, timestamp_ms=stamp)
        for record, stamp in zip(found, stamps, strict=True)
    ] == expected


def test_raw_places_by_key_what_the_target_has_no_partition_for(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(5)
    given = [Record(b"key%d" % n, b"", (), 1, 4 + n % 3) for n in range(30)]
    for record in deliver(kafka, topic, records(given), format="raw"):
        key = record.key or b""
        by_key = murmur2(key) % 5
        assert record.partition == (4 if (int(key[3:]) % 3) == 0 else by_key)


def test_raw_takes_published_events_and_refuses_rows(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    builder = BatchBuilder()
    builder.add(Op.EVENT, event_schema("t"), new_image([b"k", b"v", "{}", "text/plain", "x"]))
    builder.add(Op.EVENT, event_schema("t"), new_image([None, None, None, None, None]))
    found = deliver(kafka, topic, placed(builder, "t", 0), format="raw")
    assert [(r.key, r.value, r.headers) for r in found] == [(b"k", b"v", ()), (None, None, ())]
    assert (found[0].timestamp_ms or 0) > 1_700_000_000_000
    failure = refused(kafka, topic, rows([1]), format="raw")
    assert failure.code == "format.raw_needs_events"


def test_raw_ignores_the_shard_of_a_kinesis_record(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(3)
    batch = records([Record(b"k", b"v", (), 17, 0)])
    (schema,) = batch.schemas
    columns = [
        Column("partition", "text", "text") if column.name == "partition" else column
        for column in schema.columns
    ]
    batch.schemas = [replace(schema, columns=tuple(columns))]
    (found,) = deliver(kafka, topic, batch, format="raw")
    assert (found.partition, found.timestamp_ms) == (murmur2(b"k") % 3, 17)


def without_clock(value: bytes | None) -> bytes:
    """Debezium's envelope has the time at which it was made."""
    return re.sub(rb'"op":"c",.*', b"", value or b"")


@pytest.mark.parametrize("name", ["json", "flat", "debezium"])
def test_rows_are_messages_of_the_format(kafka: KafkaServer, name: str) -> None:
    topic = kafka.new_topic(3)
    batch = rows(range(20))
    found = deliver(kafka, topic, batch, format=name)
    expected = formatter(name).messages(batch)
    given = dict(zip(expected.keys, map(without_clock, expected.values), strict=True))
    assert {record.key: without_clock(record.value) for record in found} == given
    assert b'{"id":7}' in given
    for record in found:
        assert record.partition == murmur2(record.key or b"") % 3
        assert record.headers == ()


def test_order_is_kept_in_each_partition(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(3)
    batches = [rows([n % 7 for n in range(500)], offset=500 * at) for at in range(20)]
    found = deliver(kafka, topic, *batches, queue_bytes_max=1 << 20)
    assert len(found) == 10_000
    for partition in range(3):
        own = [r for r in found if r.partition == partition]
        offsets = [json.loads(record.value or b"")["offset"] for record in own]
        assert offsets == sorted(offsets)


def test_headers_and_keys_as_the_options_say(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    more = {"headers": {"team": "ü"}, "identity_headers": True, "key": "none"}
    found = deliver(kafka, topic, rows([1, 2], offset=41), **more)
    team = ("team", "ü".encode())
    assert [record.headers for record in found] == [
        (team, ("__topic", b"shop.orders"), ("__offset", b"%d" % offset)) for offset in (41, 42)
    ]
    assert [record.key for record in found] == [None, None]


@pytest.mark.parametrize(
    ("policy", "tombstones", "expected"),
    [
        ("compact", "auto", True), ("compact,delete", "auto", True), ("delete", "auto", False),
        ("delete", True, True), ("compact", False, False),
    ],
)  # fmt: skip
def test_tombstones_follow_deletes(
    kafka: KafkaServer, policy: str, tombstones: object, expected: bool
) -> None:
    topic = kafka.new_topic(config={"cleanup.policy": policy})
    batches = rows([1, 2]), rows([1], op=Op.DELETE, offset=2), rows([3], offset=3)
    found = deliver(kafka, topic, *batches, format="debezium", tombstones=tombstones)
    kinds = [(record.key, record.value is None) for record in found]
    tombstone = [(b'{"id":1}', True)] if expected else []
    assert kinds == [
        (b'{"id":1}', False), (b'{"id":2}', False), (b'{"id":1}', False), *tombstone,
        (b'{"id":3}', False),
    ]  # fmt: skip


@pytest.mark.parametrize("tombstones", [True, False])
@pytest.mark.parametrize("name", ["flat", "cloudevents"])
def test_a_changed_key_leaves_nothing_of_the_old_one(
    kafka: KafkaServer, name: str, tombstones: bool
) -> None:
    moved = b"O" + new_image(["1", "tea"])[1:] + new_image(["2", "tea"])
    builder = BatchBuilder().begin(Tx("7", "0/1", 1_700_000_000_000_000))
    builder.add(Op.UPDATE, ORDERS, moved)
    batch = placed(builder, "shop.orders", 0)
    found = deliver(kafka, kafka.new_topic(), batch, format=name, tombstones=tombstones)
    kinds = [(record.key, record.value is None) for record in found]
    assert kinds == [*[(b'{"id":1}', True)] * tombstones, (b'{"id":2}', False)]
    says = ("content-type", b"application/cloudevents+json; charset=UTF-8")
    assert all((says in record.headers) is (name == "cloudevents") for record in found)


def test_topics_are_made_as_the_options_say(kafka: KafkaServer) -> None:
    create = {"partitions": 2, "config": {"cleanup.policy": "compact", "retention.ms": 5000}}
    name = "{database}.{table}.copy"
    other = replace(ORDERS, names=(("database", "a b"), ("table", "x.y")))
    sink, _ = new_sink(kafka, name, create=create, format="debezium")
    with closing(sink):
        sink.open()
        sink.write(rows([1]))
        sink.write(rows([1], op=Op.DELETE, offset=1))
        sink.write(rows([2], schema=other, offset=2))
        sink.flush()
    assert kafka.partitions("shop.orders.copy") == 2
    assert len(kafka.consume("shop.orders.copy")) == 3
    assert len(kafka.consume("a-20b.x-2ey.copy")) == 1


def test_a_batch_of_several_tables_is_told_apart(kafka: KafkaServer) -> None:
    create: dict[str, object] = {}
    builder = BatchBuilder()
    for number in range(6):
        table = replace(ORDERS, name=f"t{number % 2}", names=(("table", f"apart{number % 2}"),))
        builder.add(Op.INSERT, table, new_image([str(number), None]))
    sink, _ = new_sink(kafka, "{table}", create=create)
    with closing(sink):
        sink.open()
        sink.write(placed(builder, "all", 10))
        sink.flush()
    for which in range(2):
        offsets = [json.loads(v or b"")["offset"] for v in values(kafka.consume(f"apart{which}"))]
        assert offsets == [10 + which, 12 + which, 14 + which]


def test_what_the_template_asks_for_must_be_there(kafka: KafkaServer) -> None:
    sink, _ = new_sink(kafka, "{schema}.x", create={})
    event = records([Record(b"k", b"v")])
    with closing(sink):
        sink.open()
        with pytest.raises(EnsignError, match="schema") as caught:
            sink.write(event)
    assert caught.value.code == "kafka.topic_template"


def test_a_topic_that_does_not_exist(kafka: KafkaServer) -> None:
    assert refused(kafka, "nowhere").code == "kafka.topic_unknown"
    assert refused(kafka, "no{table}", rows([1])).code == "kafka.topic_unknown"
    assert "nowhere" not in kafka.topics()
    assert refused(kafka, "{topic}", rows([1], topic="x" * 250), create={}).code == (
        "kafka.topic_invalid"
    )


def test_who_may_not_write(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    sasl = {"mechanism": "PLAIN", "username": STRANGER, "password": STRANGER}
    there = {"bootstrap": kafka.address("sasl")}
    assert refused(kafka, topic, **there, sasl=sasl).code == "kafka.topic_unauthorized"
    wrong = sasl | {"password": "wrong"}
    failure = refused(kafka, topic, **there, sasl=wrong)
    assert failure.code == "kafka.authentication_failed"
    assert "wrong" not in str(failure)
    config = KafkaSinkConfig.model_validate(
        {"type": "kafka", "topic": topic, "format": "json", "sasl": wrong, **there}
    )
    assert [finding.code for finding in check(config, "p")] == ["kafka.authentication_failed"]


def test_check_says_what_is_there(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)

    def found(**options: object) -> list[tuple[str, str]]:
        given = {"type": "kafka", "bootstrap": kafka.bootstrap, "topic": topic, "format": "json"}
        config = KafkaSinkConfig.model_validate(given | options)
        return [(finding.level, finding.code) for finding in check(config, "p")]

    reached = ("pass", "kafka.reached")
    assert found() == [reached, ("pass", "kafka.topic")]
    assert found(topic="{topic}") == [reached]
    assert found(topic="nowhere") == [reached, ("error", "kafka.topic_unknown")]
    assert found(topic="nowhere", create={}) == [reached, ("pass", "kafka.topic_made")]
    ledger = {"topic": "{topic}", "transactional": True}
    assert found(**ledger, ledger="nowhere") == [reached, ("pass", "kafka.ledger_made")]
    assert found(**ledger, ledger=topic) == [reached, ("error", "kafka.ledger_not_compacted")]


LIMIT = 3000


def sized(size: int) -> Record:
    """A record that makes a batch of ``size`` bytes alone."""
    value = b"x" * (size - batch_bytes(b"k", b"", None))
    value = value[batch_bytes(b"k", value, None) - size :]
    assert batch_bytes(b"k", value, None) == size
    return Record(b"k", value, (), 1, 0)


def test_what_is_too_large_stops_or_is_set_aside(kafka: KafkaServer) -> None:
    """The limit is the topic's own, met to the byte; nothing of a refused batch is written."""
    topic = kafka.new_topic(config={"max.message.bytes": str(LIMIT)})
    given = [sized(LIMIT), sized(LIMIT + 1), sized(200)]
    failure = refused(kafka, topic, records(given), format="raw", compression="none")
    assert failure.code == "kafka.message_too_large"
    assert "xxx" not in str(failure)
    assert kafka.consume(topic) == []
    options = {"format": "raw", "on_refused": "dead_letter", "compression": "none"}
    sink, context = new_sink(kafka, topic, **options)
    with closing(sink):
        sink.open()
        sink.write(records(given, offset=70))
        sink.flush()
    assert values(kafka.consume(topic)) == [given[0].value, given[2].value]
    ((change, error),) = context.dead
    assert not isinstance(change, bytes)
    assert (change.offset, error.code) == (71, "kafka.message_too_large")


def test_batches_fit_the_smallest_topic(kafka: KafkaServer) -> None:
    """Many messages that each fit; the topic with the low limit comes when the producer runs."""
    large, small = kafka.new_topic(), kafka.new_topic(config={"max.message.bytes": "2000"})
    sink, _ = new_sink(kafka, "{topic}", compression="none")
    with closing(sink):
        sink.open()
        for topic in (large, small):
            sink.write(rows(range(200), topic=topic))
        sink.flush()
    assert [len(kafka.consume(topic)) for topic in (large, small)] == [200, 200]


def test_a_failed_delivery_is_heard_and_nothing_passes_it(kafka: KafkaServer) -> None:
    """The limit is lowered behind the sink's back: what follows the refused message must not
    arrive, since the message itself comes again."""
    topic = kafka.new_topic()
    sink, _ = new_sink(kafka, topic, format="raw", compression="none", linger_ms=0)
    with closing(sink):
        sink.open()
        sink.write(records([sized(200)]))
        sink.flush()
        kafka.configure_topic(topic, {"max.message.bytes": str(LIMIT)})
        sink.write(records([sized(LIMIT + 1)], offset=1))
        with pytest.raises(EnsignError) as caught:
            write_and_flush(sink, records([sized(300)] * 3, offset=2))
    assert caught.value.code == "kafka.message_too_large"
    assert values(kafka.consume(topic)) == [sized(200).value]


def test_a_compacted_topic_takes_no_message_without_key(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(config={"cleanup.policy": "compact"})
    given = [Record(b"k", b"1"), Record(None, b"2"), Record(b"k", b"3")]
    failure = refused(kafka, topic, records(given), format="raw")
    assert failure.code == "kafka.key_missing"
    sink, context = new_sink(kafka, topic, format="raw", on_refused="dead_letter")
    with closing(sink):
        sink.open()
        write_and_flush(sink, records(given))
    assert values(kafka.consume(topic)) == [b"1", b"3"]
    assert [error.code for _, error in context.dead] == ["kafka.key_missing"]


def test_what_is_refused_for_several_reasons_is_set_aside_once(kafka: KafkaServer) -> None:
    """Places in what is left after the first reason are not those of the second."""
    topic = kafka.new_topic(config={"cleanup.policy": "compact", "max.message.bytes": "3000"})
    large = b"x" * 5000
    given = [
        Record(b"a", large), Record(None, b"1"), Record(b"b", b"2"), Record(None, large),
        Record(b"c", b"3"), Record(None, b"4"),
    ]  # fmt: skip
    sink, context = new_sink(kafka, topic, format="raw", on_refused="dead_letter")
    with closing(sink):
        sink.open()
        write_and_flush(sink, records(given))
    assert values(kafka.consume(topic)) == [b"2", b"3"]
    letters = [(change.offset, error.code) for change, error in context.dead]  # type: ignore[union-attr] # changes all
    assert letters == [
        (0, "kafka.message_too_large"), (1, "kafka.key_missing"),
        (3, "kafka.message_too_large"), (5, "kafka.key_missing"),
    ]  # fmt: skip


def test_a_timestamp_that_the_topic_refuses(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    far = records([Record(b"k", b"v", (), 253_402_300_800_000)])
    assert refused(kafka, topic, far, format="raw").code == "kafka.timestamp_refused"
