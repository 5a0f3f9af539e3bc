"""The servers that tests of Kafka and Kinesis stand on keep what those tests take for granted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from confluent_kafka import KafkaException

from tests.services import kafka_records
from tests.services.kafka import STRANGER, KafkaServer, Listener
from tests.services.kafka_records import Record
from tests.services.kinesis import KinesisServer
from tests.services.kinesis_proxy import CUT, LOST, THROTTLED

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import PutRecordsRequestEntryTypeDef

RECORDS = [
    Record(b"k", b"v", (("a", b"1"), ("a", None), ("b", b"")), 1234567, 0),
    Record(None, None, (), 5, 1),
    Record(b"", b"", (), 6, 1),
]


def test_records_of_kafka_are_read_as_they_were_written(kafka: KafkaServer) -> None:
    topic = kafka.new_topic(2)
    written = kafka.produce(topic, RECORDS)
    assert [record._replace(offset=None) for record in written] == RECORDS
    aborted = kafka.produce(topic, RECORDS, transaction="abort")
    written += kafka.produce(topic, RECORDS, transaction="commit")
    assert kafka.consume(topic) == sorted(written, key=_place)
    every = sorted(written + aborted, key=_place)
    assert kafka.consume(topic, "read_uncommitted") == every
    # Each end of a transaction is a record, too.
    assert kafka.end_offsets(topic) == [5, 8]
    kafka.delete_records(topic, 1, 2)
    assert kafka.start_offsets(topic) == [0, 2]


def _place(record: Record) -> tuple[int, int]:
    return record.partition or 0, record.offset or 0


def test_kafka_keeps_its_records_over_its_death(kafka: KafkaServer) -> None:
    topic = kafka.new_topic()
    written = kafka.produce(topic, [Record(b"1"), Record(b"2")])
    kafka.restart("kill")
    written += kafka.produce(topic, [Record(b"3")])
    assert kafka.consume(topic) == written


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [
        ("ssl", ""), ("sasl", "PLAIN"), ("sasl", "SCRAM-SHA-256"), ("sasl", "OAUTHBEARER"),
        ("sasl_ssl", "SCRAM-SHA-512"),
    ],
)  # fmt: skip
def test_users_of_kafka(kafka: KafkaServer, listener: Listener, mechanism: str) -> None:
    topic = kafka.new_topic()
    client = kafka.client(listener, mechanism=mechanism)
    kafka_records.produce(client, topic, [Record(b"k")])
    assert len(kafka.consume(topic)) == 1
    if listener == "sasl":
        stranger = kafka.client(listener, mechanism=mechanism, user=STRANGER)
        with pytest.raises(KafkaException):
            kafka_records.consume(stranger, topic, 1, "read_committed")


def test_kinesis_reshards(kinesis: KinesisServer) -> None:
    stream = kinesis.new_stream()
    first = kinesis.shards(stream)[0]["ShardId"]
    kinesis.put(stream, [(f"key{n}", b"before") for n in range(10)])
    left, right = kinesis.split(stream, first)
    places = kinesis.put(stream, [(f"key{n}", b"between") for n in range(10)])
    assert {shard for shard, _ in places} == {left, right}
    last = kinesis.merge(stream, left, right)
    kinesis.put(stream, [("key", b"after")])
    assert [shard["ShardId"] for shard in kinesis.shards(stream, are_open=True)] == [last]
    data = [record.data for record in kinesis.records(stream)]
    assert data == [b"before"] * 10 + [b"between"] * 10 + [b"after"]
    kinesis.update_shard_count(stream, 2)
    assert len(kinesis.shards(stream, are_open=True)) == 2


def test_kinesis_fails_on_demand(kinesis: KinesisServer) -> None:
    stream = kinesis.new_stream()
    client, proxy = kinesis.client(), kinesis.proxy
    records: list[PutRecordsRequestEntryTypeDef] = [
        {"PartitionKey": str(n), "Data": b"%d" % n} for n in range(3)
    ]
    proxy.fail("PutRecords", times=1)
    with pytest.raises(ClientError) as refused:
        client.put_records(StreamName=stream, Records=records)
    assert refused.value.response["Error"]["Code"] == THROTTLED
    proxy.refuse_records(times=2)
    told = client.put_records(StreamName=stream, Records=records)
    assert told["FailedRecordCount"] == 2
    assert [r.get("ErrorCode") for r in told["Records"]] == [THROTTLED, THROTTLED, None]
    for lost in (CUT, LOST):
        proxy.fail("PutRecords", lost, times=1)
        with pytest.raises(HTTPClientError):
            client.put_records(StreamName=stream, Records=records[:1])
    assert [r.data for r in kinesis.records(stream)] == [b"2", b"0"]
    proxy.fail("GetShardIterator", "ExpiredIteratorException")
    with pytest.raises(client.exceptions.ExpiredIteratorException):
        client.get_shard_iterator(
            StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="LATEST"
        )
    proxy.heal()
    client.close()


def test_kinesis_pushes_to_its_subscribers(kinesis: KinesisServer) -> None:
    stream = kinesis.new_stream()
    kinesis.put(stream, [("key", b"data")])
    client = kinesis.client()
    arn = kinesis.new_consumer(stream, "reader")
    told = client.subscribe_to_shard(
        ConsumerARN=arn, ShardId="shardId-000000000000",
        StartingPosition={"Type": "TRIM_HORIZON"},
    )  # fmt: skip
    pushed = (event["SubscribeToShardEvent"]["Records"] for event in told["EventStream"])
    assert next(filter(None, pushed))[0]["Data"] == b"data"
    told["EventStream"].close()
    client.close()
