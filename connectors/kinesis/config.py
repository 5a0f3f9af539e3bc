"""What ``kinesis`` sources and sinks take in a pipeline's YAML. Imports no driver."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime
from string import Formatter as Template
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from ensign_core.formats import FormatName
from ensign_core.plugin import ConnectorConfig

NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
"""Names of streams and of consumers (Kinesis API reference, CreateStream, "StreamName")."""


class KinesisConnection(ConnectorConfig):
    """How Kinesis is reached, and as whom."""

    region: str = Field(
        pattern=r"^[a-z0-9-]{1,64}$", description="The AWS region of the stream, as `eu-west-1`."
    )
    endpoint_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Another address than the region's own, such as that of a VPC endpoint or of "
        "an emulator.",
    )
    access_key_id: str | None = Field(
        default=None,
        min_length=1,
        description="An access key, with secret_access_key. Without keys and profile the ordinary "
        "chain of AWS is asked: environment, shared files, container and instance roles.",
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="The secret of the access key."
    )
    session_token: SecretStr | None = Field(
        default=None, description="The session token of a temporary access key."
    )
    profile: str | None = Field(
        default=None, min_length=1, description="A profile of the shared files of AWS."
    )
    role_arn: str | None = Field(
        default=None,
        pattern=r"^arn:",
        description="A role to assume with these credentials; it is assumed anew before it ends.",
    )
    external_id: SecretStr | None = Field(
        default=None, description="The external id that the role's trust policy asks for."
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="Seconds to wait for a connection to be made."
    )
    request_timeout_s: float = Field(
        default=15.0, gt=0, le=120, description="Seconds to wait for an answer."
    )

    @model_validator(mode="after")
    def _credentials(self) -> KinesisConnection:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token goes with access_key_id and secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("give either profile or access_key_id")
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id goes with role_arn")
        return self


class KinesisSourceConfig(KinesisConnection):
    """A stream, all of whose shards are read: those that are there and those that come of splits
    and merges."""

    type: Literal["kinesis"]
    stream: str = Field(pattern=rf"^{NAME.pattern}$", description="The stream's name.")
    start: Literal["earliest", "latest"] | datetime = Field(
        default="earliest",
        description="Where a pipeline without position begins: earliest (TRIM_HORIZON), latest, or "
        "a time in ISO 8601 (UTC where it names no zone). Shards found later are read from their "
        "start.",
    )
    mode: Literal["polling", "fanout"] = Field(
        default="polling",
        description="polling shares the read limits of the shards with other readers; fanout "
        "registers a consumer with limits of its own, to which Kinesis pushes (it has a price).",
    )
    consumer: str | None = Field(
        default=None,
        pattern=rf"^{NAME.pattern}$",
        description="The name of the consumer in mode fanout; ensign_PIPELINE when it is not "
        "given.",
    )
    aggregated: Literal["split", "keep"] = Field(
        default="split",
        description="Whether records that the Kinesis Producer Library has aggregated are split "
        "into the records in them, or kept as they are.",
    )
    on_removed: Literal["stop", "skip"] = Field(
        default="stop",
        description="What happens where retention removed records that were not read, or may have: "
        "stop with an error, or skip to what is there, with a message `ensign.gap` in the topic "
        "that says what is missing.",
    )
    poll_s: float = Field(
        default=1.0,
        ge=0.2,
        le=60,
        description="Seconds between two looks at a shard that had nothing more, in mode polling.",
    )
    records_max: int = Field(
        default=10_000,
        ge=1,
        le=10_000,
        description="Records asked for in one call, in mode polling.",
    )
    discover_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds between two looks at the list of shards; children of a shard that "
        "ends are found at once.",
    )
    batch_bytes_max: int = Field(
        default=4 << 20,
        ge=1,
        le=256 << 20,
        description="Bytes of events that end a batch; one event may exceed it.",
    )
    queue_bytes_max: int = Field(
        default=32 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Bytes that are pushed ahead into memory, in mode fanout; each shard may "
        "exceed it by one push.",
    )

    def start_ms(self) -> int | None:
        """The time to start at, in ms since the Unix epoch; None for earliest and latest."""
        if isinstance(self.start, str):
            return None
        start = self.start if self.start.tzinfo else self.start.replace(tzinfo=UTC)
        return int(start.timestamp() * 1000)

    def consumer_name(self, pipeline: str) -> str:
        """The consumer's name: the configured one, or one made from the pipeline's. A name that had
        to be changed gets a checksum, so that no two pipelines share a consumer."""
        if self.consumer is not None:
            return self.consumer
        name = f"ensign_{pipeline}"
        if NAME.fullmatch(name):
            return name
        checksum = f"_{zlib.crc32(pipeline.encode()):08x}"
        return re.sub(r"[^a-zA-Z0-9_.-]", "_", name)[: 128 - len(checksum)] + checksum


class KinesisSinkConfig(KinesisConnection):
    """Records put into a stream, or into one stream per topic."""

    type: Literal["kinesis"]
    stream: str = Field(
        min_length=1,
        description="The stream to write to. `{topic}` in it makes one stream per topic. Streams "
        "are not created.",
    )
    format: FormatName = Field(default="json", description="How an event becomes a record's data.")
    partition_key: str = Field(
        default="{key}",
        min_length=1,
        description="A template of the partition key: `{key}` is the event's key, `{topic}` the "
        "topic, and any other name a column of the row.",
    )
    on_refused: Literal["stop", "dead_letter"] = Field(
        default="stop",
        description="What happens to a record that is larger than the stream takes: stop the "
        "pipeline, or set it aside among the dead letters, out of its key's order.",
    )
    requests_max: int = Field(
        default=4,
        ge=1,
        le=32,
        description="Requests under way at the same time, never two with the same partition key.",
    )
    buffer_bytes_max: int = Field(
        default=16 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Bytes of records that wait to be sent; one batch may exceed it.",
    )
    throttled_s_max: float = Field(
        default=30.0,
        gt=0,
        le=600,
        description="Seconds in which Kinesis takes no record at all for want of throughput, after "
        "which the sink reports that and begins again from its last flush.",
    )

    @field_validator("stream")
    @classmethod
    def _only_topic(cls, stream: str) -> str:
        if placeholders(stream) - {"topic"}:
            raise ValueError("the only placeholder is {topic}")
        if not NAME.fullmatch(stream.replace("{topic}", "")[:128] or "x"):
            raise ValueError("a stream's name has letters, digits, . _ - only")
        return stream

    @field_validator("partition_key")
    @classmethod
    def _template(cls, template: str) -> str:
        placeholders(template)
        return template


def placeholders(template: str) -> set[str]:
    """The names in braces of a template. Raises ValueError for anything but plain names."""
    names = set()
    for _text, name, spec, conversion in Template().parse(template):
        if name is None:
            continue
        if not name or spec or conversion:
            raise ValueError("placeholders are plain names in braces")
        names.add(name)
    return names
