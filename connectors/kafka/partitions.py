"""What there is to read: topics of a cluster that a config asks for, their ids and partitions, at
the start and looked for again while the source runs; and the offsets that partitions have.

A look takes as long as the cluster takes to answer, so it is taken on a thread of its own and with
a client of its own. It is the source's sign of life from the cluster too: a consumer that hears
nothing cannot tell a quiet topic from a silent broker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

from connectors.kafka.config import KafkaSourceConfig
from connectors.kafka.connection import ASK_S_MAX, Reports, admin, metadata
from connectors.kafka.errors import error
from ensign_core.errors import EnsignError

K = TypeVar("K")


class Found(NamedTuple):
    """A topic of the cluster; its partitions are numbered from 0."""

    id: str
    partitions: int


class Cluster:
    """Questions to a cluster. Methods block for `timeout_s` at most for each request, and raise
    `EnsignError`."""

    def __init__(self, config: KafkaSourceConfig) -> None:
        self._config = config
        self.reports = Reports(config)
        self._admin: AdminClient = admin(config, self.reports)

    def topics(self, known: Iterable[str] = ()) -> dict[str, Found]:
        """The topics that the config asks for and that are there, by name, sorted; ``known`` ones
        are asked for by their names, so that one that may not be seen any more is an error."""
        listed, patterns = set(self._config.names()), self._config.patterns()
        names = {*listed, *known}
        if patterns:
            every = metadata(self._admin, self.reports, self._config.timeout_s).topics
            names.update(n for n in every if any(pattern.search(n) for pattern in patterns))
        if not names:
            return {}
        found: dict[str, Found] = {}
        asked = self._admin.describe_topics(
            TopicCollection(sorted(names)), request_timeout=self._config.timeout_s
        )
        for name, told in self._answers(asked):
            try:
                topic: TopicDescription = told.result()
            except KafkaException as failed:
                if failed.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise self._error(failed, "describe", topic=name) from None
                continue
            # Kafka's own topics are nobody's data; who wants one names it.
            if name in listed or not topic.is_internal:
                found[name] = Found(str(topic.topic_id), len(topic.partitions))
        return found

    def offsets(self, asked: Mapping[tuple[str, int], OffsetSpec]) -> dict[tuple[str, int], int]:
        """Offsets by topic and partition, -1 where a time has none. The latest is the end of what
        can be read: the first record of an open transaction."""
        if not asked:
            return {}
        futures = self._admin.list_offsets(
            {Partition(*place): spec for place, spec in asked.items()},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=self._config.timeout_s,
        )
        found: dict[tuple[str, int], int] = {}
        for place, told in self._answers(futures):
            try:
                found[place.topic, place.partition] = told.result().offset
            except KafkaException as failed:
                raise self._error(failed, "read offsets of", topic=place.topic) from None
        return found

    def retention_ms(self, names: Sequence[str]) -> dict[str, int]:
        """For how long topics keep their records, -1 for ever; topics whose settings the user may
        not see, and compacted ones, are left out."""
        asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._admin.describe_configs(asked, request_timeout=self._config.timeout_s)
        found: dict[str, int] = {}
        for resource, told in self._answers(futures):
            with suppress(KafkaException):
                entries = told.result()
                if "delete" in entries["cleanup.policy"].value:
                    found[resource.name] = int(entries["retention.ms"].value)
        return found

    def _answers(self, futures: Mapping[K, Future[Any]]) -> Iterable[tuple[K, Future[Any]]]:
        """What was asked for, when all answers are there. Requests end by themselves; a cluster
        that is away or rejects the login is told sooner."""
        while wait(futures.values(), ASK_S_MAX).not_done:
            self._admin.poll(0)
            trouble = self.reports.trouble()
            if trouble is not None:
                raise trouble
        self._admin.poll(0)
        if any(told.exception() is None for told in futures.values()):
            self.reports.answered()
        return futures.items()

    def _error(self, failed: KafkaException, doing: str, **facts: object) -> EnsignError:
        return self.reports.trouble() or self.reports.by_report(
            failed.args[0], doing=doing, **facts
        )


class Lookout:
    """Looks for topics every ``discover_s``, on a thread that ends with each look."""

    def __init__(self, config: KafkaSourceConfig, cluster: Cluster) -> None:
        self._every_s = config.discover_s
        self._cluster = cluster
        self._due_s = time.monotonic() + self._every_s
        self._thread: threading.Thread | None = None
        self._found: dict[str, Found] | Exception | None = None

    def topics(self, known: Collection[str]) -> dict[str, Found] | None:
        """What the last look found, once; None in between. Raises what it met. ``known`` are those
        that the next look asks for by name."""
        if self._thread is None:
            if time.monotonic() >= self._due_s:
                self._thread = threading.Thread(target=self._look, args=(known,), daemon=True)
                self._thread.start()
            return None
        if self._thread.is_alive():
            return None
        self._thread = None
        self._due_s = time.monotonic() + self._every_s
        if isinstance(self._found, Exception):
            raise self._found
        return self._found

    def _look(self, known: Collection[str]) -> None:
        try:
            self._found = self._cluster.topics(known)
        except Exception as failed:  # noqa: BLE001  raised where the source is
            self._found = failed


def check_listed(config: KafkaSourceConfig, found: Mapping[str, Found]) -> None:
    """Raise ``kafka.topic_unknown`` for a listed topic that is not there. A pattern that nothing
    matches waits for something to match."""
    for name in config.names():
        if name not in found:
            raise error("topic_unknown", topic=name, where=config.bootstrap)
