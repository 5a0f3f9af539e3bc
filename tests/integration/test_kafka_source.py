"""Records of a real broker, to the byte, and positions that go on exactly."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from connectors.kafka.source import KafkaSource
from ensign_core.change import Op, Position
from ensign_core.errors import EnsignError
from ensign_core.rows import split
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record
from tests.services.kafka_source import (
    caught_up,
    opened,
    position_of,
    record,
    records,
    some,
)
from tests.services.ready import wait_until

ODD = (
    Record(None, None),
    Record(b"", b""),
    Record(b"key", None),
    Record(None, b"value"),
    Record(b"\xff\x00", b"\x80" * 300),
    Record("schlüssel".encode(), b'{"a": 1}\n', (("a", b"1"), ("a", None), ("a", b"2"))),
    Record(b"k", b"v", (("", b""), ('ü\n"\\', b"\xfe\xff"), ("tab\t", b'"\\\n'))),
    Record(b"k", b"v", (("content-type", b"application/json"),)),
    Record(b"k", b"v", timestamp_ms=1),
    Record(b"k", b"v", timestamp_ms=1_700_000_000_123),
)


def test_records_are_kept_to_the_byte(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(3)
    kafka.produce(topic, [each._replace(partition=n) for each in ODD for n in (2, 0)])
    with opened(kafka, topics=topic) as source:
        batches = caught_up(source)
    assert records(batches) == kafka.consume(topic)
    assert {change.schema.name for batch in batches for change in batch} == {topic}


def test_the_mimetype_is_that_of_the_header(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    headers = ((("Content-Type", b"text/csv"),), (("content-type", b"\xff"),), (("type", b"a/b"),))
    kafka.produce(topic, [Record(b"k", b"v", each) for each in headers])
    with opened(kafka, topics=topic) as source:
        batches = caught_up(source)
    rows = [split(change.images()[1] or b"") for batch in batches for change in batch]
    assert [(chr(kinds[3]), values[3]) for kinds, values in rows] == [
        ("t", b"text/csv"), ("n", b""), ("n", b""),
    ]  # fmt: skip


def test_what_was_aborted_is_not_read_and_gone_past(kafka: KafkaServer) -> None:
    """Control records and what was aborted are the last in the topic: the position is past them, so
    that a resumed source is caught up at once."""
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"1", b"committed")], transaction="commit")
    kafka.produce(topic, [Record(b"2", b"aborted")] * 3, transaction="abort")
    kafka.produce(topic, [Record(b"3", b"committed")], transaction="commit")
    kafka.produce(topic, [Record(b"4", b"aborted")] * 3, transaction="abort")
    with opened(kafka, topics=topic) as source:
        batches = caught_up(source)
    assert [each.key for each in records(batches)] == [b"1", b"3"]
    assert json.loads(position_of(batches))["topics"][topic]["partitions"] == {
        "0": kafka.end_offsets(topic)[0]
    }
    with opened(kafka, position_of(batches), topics=topic) as source:
        assert source.caught_up()
        kafka.produce(topic, [Record(b"5", b"later")])
        assert [each.key for each in records(some(source, 1))] == [b"5"]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_resumes_within_what_the_producer_sent_together(
    kafka: KafkaServer, compression: str
) -> None:
    topic = kafka.new_topic(1, {"compression.type": compression} if compression != "none" else {})
    written = kafka.produce(topic, [Record(b"%d" % n, b"v") for n in range(20)])
    with opened(kafka, topics=topic, batch_events_max=1) as source:
        batches = caught_up(source)
    assert records(batches) == written
    for cut in (1, 7, 19):
        with opened(kafka, position_of(batches[:cut]), topics=topic) as source:
            assert records(caught_up(source)) == records(batches[cut:])


def test_a_compacted_topic_is_read_over_its_holes(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(
        1,
        {
            "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
            "max.compaction.lag.ms": "100",
        },
    )  # fmt: skip
    with opened(kafka, topics=topic, batch_events_max=1) as source:
        kafka.produce(topic, [Record(b"k%d" % (n % 3), b"%d" % n) for n in range(12)])
        position = position_of(some(source, 2))
    # The active segment is not compacted: a record later than its time begins the next one.
    wait_until(lambda: bool(kafka.produce(topic, [Record(b"last", b"v")]))
               and len(kafka.consume(topic)) < 12, 30, 0.2)  # fmt: skip
    with opened(kafka, position, topics=topic) as source:
        batches = caught_up(source)
    found = records(batches)
    assert found == [each for each in kafka.consume(topic) if each in found]
    assert found[0].offset != 2
    with opened(kafka, position_of(batches), topics=topic) as source:
        assert source.caught_up()


def test_no_records_and_no_topics_are_the_end(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    with opened(kafka, topics=[topic, "^nothing-like-this$"]) as source:
        batches = caught_up(source)
    assert records(batches) == []
    with opened(kafka, topics="^nothing-like-this$") as source:
        assert records(caught_up(source)) == []
        assert source.read(0.0) is None


def test_latest_is_decided_before_anything_comes(kafka: KafkaServer) -> None:
    """A worker that dies before the first record came still begins where it did."""
    topic = kafka.new_topic(2)
    kafka.produce(topic, [Record(b"old", b"v", partition=0)])
    with opened(kafka, topics=topic, start="latest") as source:
        batches = caught_up(source)
        assert batches
        assert not records(batches)
    kafka.produce(topic, [Record(b"new", b"v", partition=n) for n in (0, 1)])
    with opened(kafka, position_of(batches), topics=topic, start="latest") as source:
        assert [each.key for each in records(caught_up(source))] == [b"new", b"new"]


def test_latest_is_not_decided_again_for_topics_that_came_since(kafka: KafkaServer) -> None:
    """A pattern that matches nothing yet has begun all the same."""
    prefix = f"{kafka.new_topic()}-later"
    given = {"topics": f"^{prefix}", "start": "latest"}
    with opened(kafka, **given) as source:
        position = position_of(caught_up(source))
    kafka.create_topic(prefix)
    kafka.produce(prefix, [Record(b"k", b"v")])
    with opened(kafka, position, **given) as source:
        batches = some(source, 1)
    assert records(batches) == kafka.consume(prefix)


def test_begins_at_a_time(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    day_ms = 86_400_000
    kafka.produce(
        topic,
        [Record(b"%d" % day, b"v", timestamp_ms=day * day_ms, partition=0) for day in (1, 2, 3)]
        + [Record(b"before", b"v", timestamp_ms=day_ms, partition=1)],
    )
    start = datetime.fromtimestamp(2 * 86_400, UTC).replace(tzinfo=None).isoformat()
    with opened(kafka, topics=topic, start=start) as source:
        batches = caught_up(source)
        assert [each.key for each in records(batches)] == [b"2", b"3"]
        kafka.produce(topic, [Record(b"later", b"v", partition=1)])
        assert [each.key for each in records(some(source, 1))] == [b"later"]


def test_new_partitions_and_topics_are_read_from_their_first_record(kafka: KafkaServer) -> None:
    """Also by a pipeline that began at the latest record."""
    prefix = f"grows-{kafka.new_topic()}"
    kafka.create_topic(f"{prefix}.a")
    with opened(kafka, topics=f"^{prefix}\\.", start="latest") as source:
        batches = caught_up(source)
        kafka.add_partitions(f"{prefix}.a", 2)
        kafka.produce(f"{prefix}.a", [Record(b"1", b"v", partition=1)])
        kafka.create_topic(f"{prefix}.b", 2)
        kafka.produce(f"{prefix}.b", [Record(b"2", b"v", partition=1)])
        batches += some(source, 2)
        assert sorted(each.key or b"" for each in records(batches)) == [b"1", b"2"]
    position = position_of(batches)
    kafka.add_partitions(f"{prefix}.b", 3)
    kafka.produce(f"{prefix}.b", [Record(b"3", b"v", partition=2)])
    with opened(kafka, position, topics=f"^{prefix}\\.", start="latest") as source:
        assert [each.key for each in records(caught_up(source))] == [b"3"]


def test_topics_of_kafka_itself_match_no_pattern(kafka: KafkaServer) -> None:
    kafka.produce(kafka.new_topic(), [Record(b"k", b"v")], transaction="commit")
    assert "__transaction_state" in kafka.topics()
    with opened(kafka, topics="^__") as source:
        assert records(caught_up(source)) == []


def test_a_topic_that_is_not_asked_for_any_more_keeps_its_place(kafka: KafkaServer) -> None:
    one, two = kafka.new_topic(), kafka.new_topic()
    for topic in (one, two):
        kafka.produce(topic, [Record(b"1", b"v")])
    with opened(kafka, topics=[one, two]) as source:
        first = caught_up(source)
    kafka.produce(two, [Record(b"2", b"v")])
    kafka.produce(one, [Record(b"2", b"v")])
    with opened(kafka, position_of(first), topics=[one]) as source:
        second = caught_up(source)
    assert len(records(second)) == 1
    with opened(kafka, position_of(second), topics=[one, two]) as source:
        third = caught_up(source)
    assert [(c.schema.name, record(c).key) for b in third for c in b] == [(two, b"2")]


def test_removed_records_are_a_named_gap(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    for partition in (0, 1):
        written = [Record(b"%d" % n, b"v", partition=partition) for n in range(10)]
        kafka.produce(topic, written)
    with opened(kafka, topics=topic, batch_events_max=1) as source:
        batches = some(source, 1)
    nexts = json.loads(position_of(batches))["topics"][topic]["partitions"]
    kafka.delete_records(topic, 0, 7)
    with opened(kafka, position_of(batches), topics=topic) as source:
        with pytest.raises(EnsignError) as caught:
            some(source, 20)
        assert caught.value.code == "kafka.records_removed"
        assert f"Records {nexts['0']} to 6 of {topic}, partition 0," in caught.value.sentence
    with opened(kafka, position_of(batches), topics=topic, on_removed="skip") as source:
        rest = caught_up(source)
    (gap,) = [change for batch in rest for change in batch if change.op is Op.MESSAGE]
    before = [batch for batch in rest if '"0":7' in str(batch.position)]
    assert next(iter(before[0])).op is Op.MESSAGE, "the position passed the gap before its name"
    prefix, content = split(gap.images()[1] or b"")[1]
    assert (prefix, gap.schema.names) == (b"ensign.gap", (("topic", topic),))
    assert json.loads(content) == {
        "reason": "records_removed", "topic": topic, "partition": 0, "next_offset": nexts["0"],
        "first_offset": nexts["0"], "last_offset": 6, "resumed_at": 7,
    }  # fmt: skip
    offsets = [(each.partition, each.offset) for each in records(rest)]
    assert offsets == [(0, 7), (0, 8), (0, 9), *((1, n) for n in range(nexts["1"], 10))]
    with opened(kafka, position_of(rest), topics=topic) as source:
        assert source.caught_up()


@pytest.mark.parametrize("batch_events_max", [20_000, 5])
def test_a_partition_that_is_read_anew_repeats_nothing(
    kafka: KafkaServer, batch_events_max: int
) -> None:
    """What a broker did not know for a moment is fetched again from what comes next, and not what
    was fetched already and waits to be handed out."""
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"%d" % n, b"x" * 100) for n in range(200)])
    given = {"topics": topic, "batch_bytes_max": 1000, "batch_events_max": batch_events_max}
    with opened(kafka, **given) as source:
        assert isinstance(source, KafkaSource)
        batches = some(source, 1)
        for place in ((topic, 0), (topic, -1), ("unknown", 0)):
            source._missed.add(place)
        source._read_anew()
        batches += caught_up(source)
        kafka.produce(topic, [Record(b"more", b"")])
        batches += some(source, 1)
    assert records(batches) == kafka.consume(topic)


def test_a_log_that_ends_before_the_position_was_cut(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"k", b"v")] * 3)
    with opened(kafka, topics=topic) as source:
        position = position_of(caught_up(source))
    beyond = type(position)(position.replace(b'"0":3', b'"0":9'))
    assert beyond != position
    with opened(kafka, beyond, topics=topic) as source:
        with pytest.raises(EnsignError) as caught:
            some(source, 1)
        assert caught.value.code == "kafka.log_truncated"
    with opened(kafka, beyond, topics=topic, on_removed="skip") as source:
        some(source, 1)
        kafka.produce(topic, [Record(b"next", b"v")])
        assert [each.key for each in records(some(source, 1))] == [b"next"]


def test_a_topic_made_again_is_not_taken_for_the_old_one(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    kafka.produce(topic, [Record(b"%d" % n, b"v") for n in range(3)])
    with opened(kafka, topics=topic) as source:
        position = position_of(caught_up(source))
        kafka.delete_topic(topic)
        with pytest.raises(EnsignError) as caught:
            some(source, 1)
        assert caught.value.code == "kafka.topic_unknown"
    kafka.create_topic(topic)
    kafka.produce(topic, [Record(b"new %d" % n, b"v") for n in range(5)])
    with pytest.raises(EnsignError) as caught, opened(kafka, position, topics=topic):
        pass
    assert caught.value.code == "kafka.topic_recreated"
    with opened(kafka, position, topics=topic, on_removed="skip") as source:
        batches = caught_up(source)
    assert [each.key for each in records(batches)] == [b"new %d" % n for n in range(5)]


def test_a_deleted_topic_of_a_pattern(kafka: KafkaServer) -> None:
    """Its end is named, or stops the pipeline, whether it is running meanwhile or not."""
    prefix = f"goes-{kafka.new_topic()}"
    goes, stays = f"{prefix}.a", f"{prefix}.b"
    for topic in (goes, stays):
        kafka.create_topic(topic)
        kafka.produce(topic, [Record(b"1", b"v")])
    pattern = f"^{prefix}\\."
    with opened(kafka, topics=pattern, on_removed="skip") as source:
        position = position_of(caught_up(source))
        kafka.delete_topic(goes)
        batches = some(source, 1)
        kafka.produce(stays, [Record(b"2", b"v")])
        batches += some(source, 1)
    assert [(c.schema.name, c.op) for b in batches for c in b] == [
        (goes, Op.MESSAGE), (stays, Op.EVENT),
    ]  # fmt: skip
    with pytest.raises(EnsignError) as caught, opened(kafka, position, topics=pattern):
        pass
    assert caught.value.code == "kafka.topic_deleted"
    with opened(kafka, position, topics=pattern, on_removed="skip") as source:
        again = caught_up(source)
    assert sorted((c.schema.name, c.op) for b in again for c in b) == [
        (goes, Op.MESSAGE), (stays, Op.EVENT),
    ]  # fmt: skip


def test_the_position_of_something_else_is_refused(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    for damaged in (b"0", b"x", b"[]", b'{"v":2,"topics":{}}', b'{"v":1,"topics":{"a":1}}'):
        position = Position(damaged)
        with pytest.raises(EnsignError) as caught, opened(kafka, position, topics=topic):
            pass
        assert caught.value.code == "kafka.position_damaged"
