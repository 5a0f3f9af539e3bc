"""What a ``kafka`` sink takes in a pipeline's YAML. Imports no driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.kafka.config import KafkaConnection
from ensign_core.formats import FormatName

VARIABLE: Final = re.compile(r"\{([^{}]*)\}")
VARIABLES: Final = ("topic", "database", "schema", "table")

_LEGAL: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_LEDGER: Final = "ensign.offsets"

_ORDER: Final = "nothing may be lost, repeated or reordered through retries"
_PLACE: Final = "messages of a key lie where Java clients put them"


class CreateTopic(BaseModel):
    """How topics are made that do not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partitions: int | None = Field(
        default=None, ge=1, description="Partitions; the brokers' default without it."
    )
    replication_factor: int | None = Field(
        default=None, ge=1, description="Replicas of each; the brokers' default without it."
    )
    config: dict[str, str | int | bool] = Field(
        default={}, description="Settings of the topic by Kafka's names, such as `cleanup.policy`."
    )

    def settings(self) -> dict[str, str]:
        """The topic's settings as Kafka takes them: text."""
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in self.config.items()
        }


class KafkaSinkConfig(KafkaConnection):
    """Messages in topics of a Kafka cluster: at least once, or exactly once in transactions."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (
                "enable.idempotence", "enable.gapless.guarantee", "acks", "request.required.acks",
                "retries", "message.send.max.retries", "max.in.flight",
                "max.in.flight.requests.per.connection", "queuing.strategy",
            ),
            _ORDER,
        ),
        **dict.fromkeys(("partitioner", "msg_order_cmp"), _PLACE),
        **dict.fromkeys(
            ("message.timeout.ms", "delivery.timeout.ms", "transaction.timeout.ms"),
            "use delivery_timeout_s",
        ),
        **dict.fromkeys(
            ("queue.buffering.max.kbytes", "queue.buffering.max.messages"), "use queue_bytes_max"
        ),
        **dict.fromkeys(("queue.buffering.max.ms", "linger.ms"), "use linger_ms"),
        **dict.fromkeys(("compression.codec", "compression.type"), "use compression"),
        "transactional.id": "use transactional_id",
        "delivery.report.only.error": "the sink hears of failures only",
        "message.max.bytes": "the topics' own max.message.bytes counts",
    }  # fmt: skip

    type: Literal["kafka"]
    topic: str = Field(
        min_length=1,
        description="The topic to write to: a name, or a template of `{topic}` (the topic read "
        "from, or the one that a `route` chose), `{database}`, `{schema}` and `{table}`.",
    )
    format: FormatName = Field(
        description="How an event becomes a message; `raw` passes records and published events on "
        "byte for byte and adds nothing."
    )
    key: Literal["row", "none"] = Field(
        default="row",
        description="The messages' keys: `row`, the row's key in the encoding of the format (the "
        "event's own key of an event), or `none`; then order is kept for no key.",
    )
    headers: dict[str, str] = Field(
        default={}, description="Headers that each message gets; not with `raw`."
    )
    identity_headers: bool = Field(
        default=False,
        description="Whether each message gets the headers `__topic` and `__offset`, which tell "
        "its event: readers can drop repeats by them. Not with `raw`.",
    )
    tombstones: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether a delete is followed by a message without value, which lets Kafka's "
        "compaction forget the key; `auto`: where the topic's `cleanup.policy` has `compact`.",
    )
    create: CreateTopic | None = Field(
        default=None,
        description="`{partitions, replication_factor, config}`, all optional: make topics that "
        "do not exist. Without it they must exist.",
    )
    transactional: bool = Field(
        default=False,
        description="Whether offsets are written with the messages in transactions of Kafka: each "
        "event is then there exactly once for readers with `isolation.level=read_committed`.",
    )
    transactional_id: str | None = Field(
        default=None,
        min_length=1,
        description="The producer's id in transactions; `ensign-PROJECT-PIPELINE-SINK` without it.",
    )
    ledger: str = Field(
        default=_LEDGER,
        description="The compacted topic for the offsets of transactional sinks; made if need be.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="lz4", description="How batches of messages are compressed."
    )
    linger_ms: float = Field(
        default=5.0, ge=0, le=900_000, description="Milliseconds that a batch waits for more."
    )
    queue_bytes_max: int = Field(
        default=64 << 20,
        ge=1 << 20,
        le=2 << 30,
        description="Bytes of messages in memory that are not delivered; then the sink waits.",
    )
    delivery_timeout_s: float = Field(
        default=120.0,
        ge=1,
        le=900,
        description="Seconds without any delivery after which the sink gives up and begins anew; "
        "an outage that is shorter causes no repeats. With `transactional`, also the longest "
        "time of a transaction.",
    )
    on_refused: Literal["stop", "dead_letter"] = Field(
        default="stop",
        description="What happens to an event whose message is larger than the topic takes: the "
        "pipeline stops, or the event becomes a dead letter and the next ones of its key go on.",
    )

    @field_validator("topic")
    @classmethod
    def _template(cls, topic: str) -> str:
        for name in VARIABLE.findall(topic):
            if name not in VARIABLES:
                known = ", ".join(f"{{{variable}}}" for variable in VARIABLES)
                raise ValueError(f"the placeholders are {known}")
        literal = VARIABLE.sub("", topic)
        if literal and not _LEGAL.fullmatch(literal):
            raise ValueError("a topic's name has letters, digits, . _ - only, 249 at most")
        return topic

    @field_validator("ledger")
    @classmethod
    def _name(cls, ledger: str) -> str:
        if not _LEGAL.fullmatch(ledger):
            raise ValueError("a topic's name has letters, digits, . _ - only, 249 at most")
        return ledger

    @model_validator(mode="after")
    def _consistent(self) -> KafkaSinkConfig:
        if self.format == "raw" and (self.headers or self.identity_headers or self.key == "none"):
            raise ValueError("format raw adds and removes nothing: no headers, key: row")
        if self.key == "none" and self.tombstones is True:
            raise ValueError("tombstones need keys")
        if not self.transactional and self.transactional_id is not None:
            raise ValueError("transactional_id is for transactional: true")
        if self.topic == self.ledger:
            raise ValueError("the ledger is a topic of its own")
        return self
