"""What `ensign check` looks at before a pipeline writes to Kafka: the login, the topic, the
ledger. Makes and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.kafka.errors import error
from connectors.kafka.sink_config import VARIABLE, KafkaSinkConfig
from connectors.kafka.topics import Topics
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding


def check(config: KafkaSinkConfig, _pipeline: str) -> Sequence[Finding]:
    """Findings, the first error ends them."""
    found: list[Finding] = []
    try:
        found.extend(_findings(config))
    except EnsignError as failed:
        found.append(_finding(failed))
    return found


def _findings(config: KafkaSinkConfig) -> Iterator[Finding]:
    topics = Topics(config)
    topics.reach()
    yield Finding("pass", "kafka.reached", f"The brokers of {config.bootstrap} answer.")
    if not VARIABLE.search(config.topic):
        yield _topic(config, topics)
    if config.transactional:
        yield _ledger(config, topics)


def _topic(config: KafkaSinkConfig, topics: Topics) -> Finding:
    try:
        facts = topics.facts(config.topic, None)
    except EnsignError as failed:
        if failed.code == "kafka.topic_unknown" and config.create is not None:
            return Finding("pass", "kafka.topic_made", f"Topic {config.topic} will be made.")
        return _finding(failed)
    many = "partition" if facts.partitions == 1 else "partitions"
    return Finding("pass", "kafka.topic", f"Topic {config.topic} has {facts.partitions} {many}.")


def _ledger(config: KafkaSinkConfig, topics: Topics) -> Finding:
    try:
        facts = topics.facts(config.ledger, None)
    except EnsignError as failed:
        if failed.code == "kafka.topic_unknown":
            return Finding("pass", "kafka.ledger_made", f"Topic {config.ledger} will be made.")
        return _finding(failed)
    if not facts.compacted:
        return _finding(error("ledger_not_compacted", topic=config.ledger))
    return Finding("pass", "kafka.ledger", f"Topic {config.ledger} keeps the offsets.")


def _finding(failed: EnsignError) -> Finding:
    return Finding("error", failed.code, failed.sentence, failed.remedy)
