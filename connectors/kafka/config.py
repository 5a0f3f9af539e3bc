"""What a ``kafka`` source takes in a pipeline's YAML, and what it shares with the sink: how the
cluster is reached. Imports no driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from ensign_core.plugin import ConnectorConfig

Setting = str | int | float | bool

_TYPED: Final = {
    "bootstrap.servers": "bootstrap",
    "metadata.broker.list": "bootstrap",
    "sasl.password": "sasl: {password}",
    "sasl.oauthbearer.client.secret": "sasl: {client_secret}",
    "ssl.key.password": "tls: {key_password}",
}
"""Settings that are refused in `options` for the option in their place, which keeps secrets out of
messages."""

_CALLBACKS: Final = re.compile(r".*_cb|on_\w+|logger|log\.queue|log\.thread\.name")
"""What the driver takes for functions of Python, and what keeps librdkafka's own lines out of the
standard error."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""Names of topics ("Legal characters" in Kafka's Topic.java); anything else is a pattern."""

_READING: Final = "the source keeps its positions with the data and reads each record once"


class KafkaTls(BaseModel):
    """How the connection is encrypted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: str | None = Field(
        default=None,
        description="File with the certificates of authorities that are trusted; the system's "
        "without it.",
    )
    cert: str | None = Field(default=None, description="File with the client's certificate.")
    key: str | None = Field(default=None, description="File with the client's private key.")
    key_password: SecretStr | None = Field(
        default=None, description="The password of the private key."
    )
    verify: Literal["identity", "ca", "none"] = Field(
        default="identity",
        description="What is checked: the broker's certificate and the host's name in it, the "
        "certificate only, or nothing.",
    )

    @model_validator(mode="after")
    def _pair(self) -> KafkaTls:
        if (self.key is None) != (self.cert is None):
            raise ValueError("cert and key go together")
        return self


class KafkaSasl(BaseModel):
    """How the client logs in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        description="The mechanism; OAUTHBEARER fetches tokens by the client's credentials."
    )
    username: str | None = Field(default=None, description="The user of PLAIN and SCRAM.")
    password: SecretStr | None = Field(default=None, description="The user's password.")
    token_url: str | None = Field(
        default=None, description="Where the authorization server gives tokens (OAUTHBEARER)."
    )
    client_id: str | None = Field(default=None, description="The client's id there.")
    client_secret: SecretStr | None = Field(default=None, description="The client's secret there.")
    scope: str | None = Field(default=None, description="The scope that is asked for there.")
    extensions: dict[str, str] = Field(
        default={}, description="SASL extensions to send, such as a logical cluster's id."
    )

    @model_validator(mode="after")
    def _complete(self) -> KafkaSasl:
        login = (self.username, self.password)
        token = (self.token_url, self.client_id, self.client_secret)
        if self.mechanism != "OAUTHBEARER":
            if None in login:
                raise ValueError(f"{self.mechanism} needs username and password")
            if any(token) or self.scope or self.extensions:
                raise ValueError("token_url and what goes with it are for OAUTHBEARER")
        elif any(login):
            raise ValueError("username and password are for PLAIN and SCRAM")
        elif any(token) and None in token:
            raise ValueError("token_url, client_id and client_secret go together")
        return self


class KafkaConnection(ConnectorConfig):
    """How a Kafka cluster is reached. ``REFUSED`` are the settings that a half of the connector
    sets itself, with the reason, in words that end a sentence."""

    REFUSED: ClassVar[Mapping[str, str]] = {}

    bootstrap: str = Field(
        min_length=1, description="Brokers to begin with, as `host:port`, separated by commas."
    )
    tls: KafkaTls | bool = Field(
        default=False,
        description="`true`, or `{ca, cert, key, key_password, verify}`, to encrypt the "
        "connection; cert and key log the client in where brokers ask for it.",
    )
    sasl: KafkaSasl | None = Field(
        default=None,
        description="How to log in: `{mechanism, username, password}` for PLAIN, SCRAM-SHA-256 and "
        "SCRAM-SHA-512, `{mechanism, token_url, client_id, client_secret, scope, extensions}` for "
        "OAUTHBEARER.",
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        description="Seconds to wait for an answer of the cluster before it counts as unreachable.",
    )
    options: dict[str, Setting] = Field(
        default={},
        repr=False,
        description="Settings of librdkafka by their names, such as `fetch.max.bytes`; those that "
        "would break what the connector promises are refused.",
    )

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, bootstrap: str) -> str:
        if any(not address.strip() for address in bootstrap.split(",")):
            raise ValueError("write it as host:port,host:port")
        return bootstrap

    @model_validator(mode="after")
    def _permitted(self) -> KafkaConnection:
        for name in self.options:
            if name in _TYPED:
                raise ValueError(f"options: use {_TYPED[name]} in place of {name}")
            if name in self.REFUSED:
                raise ValueError(f"options: {name} cannot be set: {self.REFUSED[name]}")
            if _CALLBACKS.fullmatch(name):
                raise ValueError(f"options: {name} cannot be set in a config")
        return self


class KafkaSourceConfig(KafkaConnection):
    """Topics of a Kafka cluster, all their partitions, read from positions that are Ensign's own:
    no consumer group, nothing committed there."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (
                "group.instance.id", "group.protocol", "group.remote.assignor",
                "partition.assignment.strategy", "enable.auto.commit", "auto.commit.enable",
                "auto.commit.interval.ms", "enable.auto.offset.store", "offset.store.method",
            ),
            _READING,
        ),
        "auto.offset.reset": "removed records must not be skipped in silence; see on_removed",
        "isolation.level": "records of aborted transactions are never read",
        "enable.partition.eof": "the source tells the ends of partitions by it",
        "max.poll.interval.ms": "a source may stand still for as long as its topic is full",
    }  # fmt: skip

    type: Literal["kafka"]
    topics: str | list[str] = Field(
        min_length=1,
        description="Topics to read: names, or regular expressions that begin with `^` and are "
        "searched in the names; one, or a list. Topics made later that match are read too.",
    )
    start: Literal["earliest", "latest"] | datetime = Field(
        default="earliest",
        description="Where a pipeline without position begins: earliest, latest, or a time in "
        "ISO 8601 (UTC where it names no zone). Partitions found later are read from their start.",
    )
    on_removed: Literal["stop", "skip"] = Field(
        default="stop",
        description="What happens where retention removed records that were not read: stop with "
        "an error that names them, or skip to the first that is there, with a message "
        "`ensign.gap` in the topic that names them.",
    )
    decode: Literal["none", "json", "debezium"] = Field(
        default="none",
        description="What becomes of records: none keeps them as they are, json makes rows of JSON "
        "objects, debezium makes rows of Debezium's envelopes. What cannot be decoded is a dead "
        "letter.",
    )
    discover_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="Seconds between two looks for new topics and partitions.",
    )
    batch_bytes_max: int = Field(
        default=4 << 20,
        ge=1,
        le=256 << 20,
        description="Bytes of events that end a batch; one event may exceed it.",
    )
    batch_events_max: int = Field(
        default=20_000, ge=1, le=65_535, description="Events that one batch holds at most."
    )
    queue_bytes_max: int = Field(
        default=32 << 20,
        ge=1 << 20,
        le=2 << 30,
        description="Bytes of records that are fetched ahead into memory.",
    )

    @field_validator("topics")
    @classmethod
    def _readable(cls, topics: str | list[str]) -> str | list[str]:
        for topic in [topics] if isinstance(topics, str) else topics:
            if topic.startswith("^"):
                try:
                    re.compile(topic)
                except re.error as error:
                    raise ValueError(f"not a regular expression: {error.msg}") from None
            elif not _NAME.fullmatch(topic):
                raise ValueError("a topic's name has letters, digits, . _ - only; a pattern has ^")
        return topics

    def names(self) -> list[str]:
        """The topics that are named, each once."""
        return list(dict.fromkeys(t for t in self._listed() if not t.startswith("^")))

    def patterns(self) -> list[re.Pattern[str]]:
        """The regular expressions among the topics."""
        return [re.compile(t) for t in self._listed() if t.startswith("^")]

    def _listed(self) -> list[str]:
        return [self.topics] if isinstance(self.topics, str) else self.topics
