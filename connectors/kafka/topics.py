"""Topics that a sink writes to: their names, what is known of them, and their making."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from connectors.kafka.config import KafkaConnection
from connectors.kafka.connection import Reports, admin, metadata
from connectors.kafka.errors import error
from connectors.kafka.sink_config import VARIABLE, CreateTopic
from ensign_core.change import Schema

T = TypeVar("T")

NAME_BYTES_MAX: Final = 249
ANSWER_POLL_S: Final = 0.05

_ESCAPED: Final = re.compile(r"[^A-Za-z0-9_]")


class TopicFacts(NamedTuple):
    """``batch_bytes_max`` is the topic's ``max.message.bytes``, None where the user may not see
    the topic's settings; ``compacted`` is then False."""

    partitions: int
    batch_bytes_max: int | None
    compacted: bool


class Topics:
    """Looks topics up and makes them, through a client of its own. Methods raise `EnsignError`."""

    def __init__(self, config: KafkaConnection) -> None:
        self._timeout_s = config.timeout_s
        self._reports = Reports(config)
        self._client: AdminClient = admin(config, self._reports)

    @property
    def client(self) -> AdminClient:
        return self._client

    def reach(self) -> None:
        """Raise why the cluster cannot be reached, if so."""
        metadata(self._client, self._reports, self._timeout_s)

    def facts(self, name: str, create: CreateTopic | None) -> TopicFacts:
        """What is known of a topic, which is made if it does not exist and ``create`` says how.
        Raises ``kafka.topic_unknown``, ``kafka.topic_unauthorized``, ``kafka.topic_invalid``."""
        if not 0 < len(name) <= NAME_BYTES_MAX or name in (".", ".."):
            raise error("topic_invalid", topic=name)
        found = self._partitions(name, create is not None)
        if found is None and create is not None:
            self.create(name, create)
            found = self._wait_for(name)
        if found is None:
            raise error("topic_unknown", topic=name, **self._reports.facts)
        settings = self._settings(name)
        bytes_max = settings.get("max.message.bytes")
        return TopicFacts(
            found,
            int(bytes_max) if bytes_max else None,
            "compact" in settings.get("cleanup.policy", ""),
        )

    def _partitions(self, name: str, listed: bool) -> int | None:
        """How many partitions a topic has, None if it does not exist. ``listed``: among all topics,
        since brokers may take a question for one as the wish to have it made."""
        asked = None if listed else name
        topic = metadata(self._client, self._reports, self._timeout_s, asked).topics.get(name)
        if topic is None or (topic.error and topic.error.code() == _UNKNOWN):
            return None
        if topic.error:
            raise self._reports.by_report(topic.error, topic=name, doing="write to")
        return len(topic.partitions)

    def create(self, name: str, wanted: CreateTopic) -> None:
        """Make a topic; that it exists is no error."""
        topic = NewTopic(
            name, wanted.partitions or -1, wanted.replication_factor or -1,
            config=wanted.settings(),
        )  # fmt: skip
        asked = self._client.create_topics([topic], request_timeout=self._timeout_s)
        try:
            self.answer(asked[name], topic=name, doing="create")
        except _ExistsError:
            return

    def _wait_for(self, name: str) -> int | None:
        """A broker may hear of a new topic a moment later than its maker."""
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            found = self._partitions(name, True)
            if found is not None or time.monotonic() >= deadline_s:
                return found
            self._client.poll(ANSWER_POLL_S)

    def _settings(self, name: str) -> Mapping[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, name)
        asked = self._client.describe_configs([resource], request_timeout=self._timeout_s)
        try:
            found = self.answer(asked[resource], topic=name, doing="see the settings of")
        except _DeniedError:
            return {}
        return {entry.name: entry.value or "" for entry in found.values()}

    def answer(self, asked: Future[T], **facts: object) -> T:
        """What the cluster answered."""
        try:
            return asked.result(self._timeout_s)
        except TimeoutError:
            raise error("timeout", **self._reports.facts, **facts) from None
        except KafkaException as failed:
            report: KafkaError = failed.args[0]
            if report.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise _ExistsError from None
            if report.code() in (_TOPIC_DENIED, _CLUSTER_DENIED) and facts.get("doing") != "create":
                raise _DeniedError from None
            raise self._reports.by_report(report, **facts) from None


class _ExistsError(Exception):
    """A topic that is to be made is there."""


class _DeniedError(Exception):
    """The user may not see what was asked for."""


_UNKNOWN: Final = KafkaError.UNKNOWN_TOPIC_OR_PART
_TOPIC_DENIED: Final = KafkaError.TOPIC_AUTHORIZATION_FAILED
_CLUSTER_DENIED: Final = KafkaError.CLUSTER_AUTHORIZATION_FAILED


def namer(template: str) -> Callable[[str, Schema], str]:
    """The name of a target, from the topic that was read and the schema of an event: in
    ``{database}``, ``{schema}`` and ``{table}`` every character but letters, digits and ``_``
    becomes ``-`` and two hex digits per UTF-8 byte, as in the pipeline's own topics."""
    variables = VARIABLE.findall(template)

    def name(topic: str, schema: Schema) -> str:
        known: dict[str, Any] = dict(schema.names) | {"topic": topic}
        for variable in variables:
            if variable not in known:
                raise error("topic_template", variable=f"{{{variable}}}", schema=schema.name)
        return VARIABLE.sub(lambda match: _part(match[1], known[match[1]]), template)

    return name


def _part(variable: str, text: str) -> str:
    if variable == "topic":
        return text
    return _ESCAPED.sub(lambda match: "".join(f"-{byte:02x}" for byte in match[0].encode()), text)
