"""What `ensign check` looks at before a Kafka source runs: that the cluster answers and takes the
login, that the topics are there and may be read, and how long their records stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import OffsetSpec

from connectors.kafka.config import KafkaSourceConfig
from connectors.kafka.connection import Reports, client, settings
from connectors.kafka.errors import error
from connectors.kafka.partitions import Cluster, Found, check_listed
from connectors.kafka.source import DEFAULTS, FIXED
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding

HOUR_MS = 3_600_000
RETENTION_MS_MIN = 24 * HOUR_MS
"""Records that stay for less are warned of: a pipeline may stand still over a night."""


def check(config: KafkaSourceConfig, _pipeline: str) -> Sequence[Finding]:
    """The findings; an error that keeps from looking further is the last of them."""
    findings: list[Finding] = []
    try:
        findings.extend(_found(config))
    except EnsignError as met:
        findings.append(Finding("error", met.code, met.sentence, met.remedy))
    return findings


def _found(config: KafkaSourceConfig) -> Iterator[Finding]:
    cluster = Cluster(config)
    found = cluster.topics()
    said = "The brokers answer" + (" and take the login." if config.sasl else ".")
    yield Finding("pass", "kafka.reachable", said)
    check_listed(config, found)
    if not found:
        yield Finding(
            "warning",
            "kafka.nothing_matches",
            "No topic matches a pattern of topics yet.",
            "Check the pattern; the source waits for a topic to appear.",
        )
        return
    parts = sum(topic.partitions for topic in found.values())
    said = f"{len(found)} topics match, with {parts} partitions."
    yield Finding("pass", "kafka.topics", said)
    _read(config, cluster, found)
    yield Finding("pass", "kafka.readable", "The user may read them.")
    yield from _retention(cluster, sorted(found))


def _read(config: KafkaSourceConfig, cluster: Cluster, found: dict[str, Found]) -> None:
    """Fetch from the end of a partition of each topic: what the brokers say to that, no listing
    tells. Raises the first refusal."""
    reports = Reports(config)
    places = {(name, 0): OffsetSpec.latest() for name in found}
    ends = cluster.offsets(places)
    fixed = {**FIXED, "enable.partition.eof": True}
    consumer = client(Consumer, settings(config, DEFAULTS, fixed), reports)
    try:
        consumer.assign([Partition(name, number, end) for (name, number), end in ends.items()])
        waiting = set(found)
        while waiting:
            message = consumer.poll(config.timeout_s)
            trouble = reports.trouble()
            if message is None:
                raise trouble or error("timeout", **reports.facts, doing="reading")
            failed = message.error()
            if failed is None or failed.code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.topic() or "")
            elif failed.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise reports.by_report(failed, doing="read", topic=message.topic())
    except KafkaException as failed:
        raise reports.by_report(failed.args[0], doing="reading") from None
    finally:
        consumer.close()


def _retention(cluster: Cluster, names: Sequence[str]) -> Iterator[Finding]:
    """Topics whose records may be gone before a pipeline that stood still comes back."""
    for name, kept_ms in cluster.retention_ms(names).items():
        if 0 <= kept_ms < RETENTION_MS_MIN:
            yield Finding(
                "warning",
                "kafka.retention_short",
                f"Topic {name} keeps records for {kept_ms / HOUR_MS:g} hours only: a pipeline that "
                "stands still for longer misses some.",
                "Raise retention.ms of the topic.",
            )
