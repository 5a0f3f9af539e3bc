"""The preflight: what `ensign check` says of a stream, and `ensign drop`. Changes nothing but what
`drop` is asked to drop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from connectors.kinesis.client import Service
from connectors.kinesis.config import KinesisSinkConfig, KinesisSourceConfig
from connectors.kinesis.errors import THROTTLED, code_of, error
from connectors.kinesis.fanout import describe
from connectors.kinesis.polling import Start
from connectors.kinesis.shards import leaves, listed
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding

if TYPE_CHECKING:
    from mypy_boto3_kinesis.type_defs import StreamDescriptionSummaryTypeDef


def check_source(config: KinesisSourceConfig, pipeline: str) -> Sequence[Finding]:
    """Connect, look at the stream, its shards and one of them, disconnect. What fails is a finding,
    not an exception."""
    return _found(config, lambda service: _of_source(service, config, pipeline))


def check_sink(config: KinesisSinkConfig) -> Sequence[Finding]:
    """Connect and look at the stream, if the config names one; writing is not tried."""
    return _found(config, lambda service: _of_sink(service, config))


def drop(config: KinesisSourceConfig, pipeline: str) -> Sequence[str]:
    """Deregister the consumer of the mode fanout, if there is one; says so."""
    if config.mode != "fanout":
        return []
    service = Service(config)
    try:
        arn = service.summary(config.stream)["StreamARN"]
        name = config.consumer_name(pipeline)
        if describe(service, arn, config.stream, name) is None:
            return []
        service.call(
            "DeregisterStreamConsumer",
            config.stream,
            lambda: service.raw.deregister_stream_consumer(StreamARN=arn, ConsumerName=name),
        )
        return [f"Consumer {name} of stream {config.stream} is deregistered."]
    finally:
        service.close()


def _found(
    config: KinesisSourceConfig | KinesisSinkConfig, look: Callable[[Service], Iterator[Finding]]
) -> Sequence[Finding]:
    findings: list[Finding] = []
    service = None
    try:
        service = Service(config)
        findings.extend(look(service))
    except EnsignError as problem:
        findings.append(_failed(problem))
    finally:
        if service is not None:
            service.close()
    return findings


def _failed(problem: EnsignError) -> Finding:
    return Finding("error", problem.code, problem.sentence, problem.remedy)


def _warning(problem: EnsignError) -> Finding:
    return Finding("warning", problem.code, problem.sentence, problem.remedy)


def _passed(word: str, sentence: str) -> Finding:
    return Finding("pass", f"kinesis.{word}", sentence)


def _stream(service: Service, stream: str) -> StreamDescriptionSummaryTypeDef:
    summary = service.summary(stream)
    if summary["StreamStatus"] not in ("ACTIVE", "UPDATING"):
        raise error("stream.busy", stream=stream, state=summary["StreamStatus"])
    return summary


def _of_source(service: Service, config: KinesisSourceConfig, pipeline: str) -> Iterator[Finding]:
    stream = config.stream
    summary = _stream(service, stream)
    hours = summary["RetentionPeriodHours"]
    yield _passed("stream", f"Stream {stream} is active and keeps records for {hours} h.")
    shards = listed(service, stream)
    opened = leaves(shards)
    yield _passed("shards", f"{len(opened)} of {len(shards)} shards are open.")
    if config.mode == "polling" and opened:
        _try_to_read(service, stream, opened[0])
        yield _passed("reading", "Records can be read.")
    if config.mode == "fanout":
        name = config.consumer_name(pipeline)
        if describe(service, summary["StreamARN"], stream, name) is None:
            yield _warning(error("consumer_unregistered", consumer=name))
        else:
            yield _passed("consumer", f"Consumer {name} is registered.")


def _try_to_read(service: Service, stream: str, shard: str) -> None:
    """Ask for a record at the shard's end: raises where that is not allowed."""
    iterator = service.call(
        "GetShardIterator",
        stream,
        lambda: service.raw.get_shard_iterator(
            StreamName=stream, ShardId=shard, **Start("LATEST").iterator()
        ),
    )["ShardIterator"]
    try:
        service.raw.get_records(ShardIterator=iterator, Limit=1)
    except (BotoCoreError, ClientError) as problem:
        if code_of(problem) not in THROTTLED:
            raise service.error(problem, "GetRecords", stream) from None


def _of_sink(service: Service, config: KinesisSinkConfig) -> Iterator[Finding]:
    stream = config.stream
    if "{topic}" in stream:
        # Which topics there will be is not known: asked is whether there is somebody to answer.
        service.call("ListStreams", "", lambda: service.raw.list_streams(Limit=1))
        yield _passed("reachable", f"Kinesis in {config.region} answers.")
        return
    summary = _stream(service, stream)
    mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    words = mode.lower().replace("_", "-")
    yield _passed("stream", f"Stream {stream} is active ({words}).")
    if summary.get("RecordDistributionStrategy") == "AUTO":
        yield _warning(error("order_unkept", stream=stream))
