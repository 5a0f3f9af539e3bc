"""The config as the rest of Ensign sees it. Paths are relative to the working directory of the
command, in every field and in ``${file:PATH}``, as the commands in the README are run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    SerializeAsAny,
)
from pydantic_core import PydanticCustomError

from ensign_core.config.quantities import Seconds, Size
from ensign_core.config.topics import VARIABLES, template_fault
from ensign_core.config.transforms import AnyTransform
from ensign_core.plugin import Connector, ConnectorConfig

NAME_CHARS_MAX = 63
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_CHARS_MAX}}}")
_LISTEN = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError(
            "config.name",
            "The name is not one to {most} letters, digits, _ and -.",
            {"most": NAME_CHARS_MAX, "remedy": "Choose another name."},
        )
    return name


def _sinks(sinks: dict[str, Any]) -> dict[str, Any]:
    if "source" in sinks:
        raise PydanticCustomError(
            "config.name",
            "A sink cannot be named as the source is.",
            {"remedy": "Choose another name than `source`."},
        )
    return sinks


def _template(template: str) -> str:
    fault = template_fault(template)
    if fault is not None:
        names = ", ".join(f"{{{name}}}" for name in VARIABLES)
        remedy = f"Use letters, digits, '.', '_', '-' and {names}."
        raise PydanticCustomError(
            "config.topic_template", "{fault}", {"fault": fault, "remedy": remedy}
        )
    return template


def _address(listen: str) -> str:
    match = _LISTEN.fullmatch(listen)
    if match is None or int(match["port"]) > 65535:
        raise PydanticCustomError(
            "config.invalid_value",
            "The value is not an address and a port.",
            {"remedy": 'Write it as "127.0.0.1:9464".'},
        )
    return listen


Name = Annotated[str, AfterValidator(_named)]
Template = Annotated[str, AfterValidator(_template)]


class FileKeys(_Section):
    """The key-encryption key in a file."""

    type: Literal["file"] = Field(description="`file`: the key lies in a file.")
    path: Path = Field(
        description="The key file, mode 0600, relative to the working directory; made at first "
        "use. Keep a copy elsewhere: without it the data cannot be read."
    )


class EnvKeys(_Section):
    """The key-encryption key in the environment."""

    type: Literal["env"] = Field(description="`env`: the key lies in an environment variable.")
    variable: str = Field(
        min_length=1, description="The name of the variable, which holds base64 of 32 bytes."
    )
    next: str | None = Field(
        None,
        min_length=1,
        description="The name of a second variable, with the key that `ensign keys rotate "
        "--master` goes over to; afterwards that key belongs into the first.",
    )


class KmsKeys(_Section):
    """The key-encryption key as a data key of AWS KMS."""

    type: Literal["aws_kms"] = Field(description="`aws_kms`: a key of AWS KMS seals the key.")
    key_id: str = Field(
        min_length=1,
        description="The KMS key, symmetric: its id, its ARN, or an alias. Credentials come from "
        "where AWS's own tools take them; they need kms:GenerateDataKey and kms:Decrypt.",
    )
    region: str | None = Field(
        None, description="The region. Default: that of the ARN, or what the environment says."
    )
    endpoint_url: str | None = Field(
        None, description="Where KMS answers, if that is not AWS's own address of the region."
    )
    path: Path | None = Field(
        None,
        description="The file that holds what KMS sealed, mode 0600; made at first use. Keep a "
        "copy elsewhere: without it the data cannot be read. Default: `PATH.keys` beside the "
        "folder.",
    )


class DiskConfig(_Section):
    """What the topics may take of their disk. When it is reached, appends are refused and sources
    are not read; acks, offsets, trimming and sinks go on."""

    bytes_max: Size | None = Field(
        None,
        ge=1,
        description="What the topics may take together, such as `50GB`; the log beside them, up to "
        "128 MB, is not counted. Default: no limit.",
    )
    free_bytes_min: Size = Field(
        256 << 20, ge=0, description="What must stay free on the disk, such as `1GB`."
    )


class KeepConfig(_Section):
    """How long a topic keeps its events. What a group or sink has not read is kept all the same."""

    keep_age: Seconds | None = Field(
        None, gt=0, description="Events older than this are trimmed, such as `7d`."
    )
    keep_bytes: Size | None = Field(
        None, ge=1, description="The oldest events are trimmed beyond this size, such as `10GB`."
    )
    compact: bool = Field(False, description="Keep the latest event of each key only.")
    tombstones: Seconds = Field(
        86_400.0, ge=0, description="How long a compacted topic keeps deletes."
    )
    trim_unread: bool = Field(
        False, description="Trim also what groups and sinks have not read yet."
    )


class BrokerConfig(_Section):
    """Where the topics lie and what opens them."""

    path: Path = Field(
        Path("./var/ensign"),
        description="The folder that holds the topics, relative to the working directory; made at "
        "first use.",
    )
    keys: Annotated[FileKeys | EnvKeys | KmsKeys, Field(discriminator="type")] | None = Field(
        None,
        description="Where the key that seals the data comes from. Default: the file `PATH.keys` "
        "beside the folder.",
    )
    disk: DiskConfig = Field(
        default_factory=DiskConfig, description="What the topics may take of their disk."
    )
    topics: dict[str, KeepConfig] = Field(
        default_factory=dict,
        description="How long topics that pipelines make keep their events, by globs over their "
        "names; the first that matches counts. Topics that there are keep what they have, see "
        "`ensign topics set`.",
    )
    identity: Path | None = Field(
        None,
        description="The file with a reader's identity, as `ensign grants identity` makes it, with "
        "which sinks read client-sealed topics. Default: none, and they cannot.",
    )


class MetricsConfig(_Section):
    """Where Prometheus may ask."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:9464",
        description="The address and port on which `ensign run` answers `GET /metrics`; port 0 "
        "takes a free one.",
    )

    @property
    def host(self) -> str:
        """The address alone, an IPv6 one without its brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


class SourceEntry(_Section):
    """A pipeline's source: the connector that ``type`` names, and its own validated options."""

    connector: InstanceOf[Connector[Any]] = Field(description="The connector.")
    config: InstanceOf[SerializeAsAny[ConnectorConfig]] = Field(
        description="The connector's options."
    )


class SinkEntry(_Section):
    """A sink: the connector that ``type`` names, its own validated options, and ``from``."""

    connector: InstanceOf[Connector[Any]] = Field(description="The connector.")
    config: InstanceOf[SerializeAsAny[ConnectorConfig]] = Field(
        description="The connector's options."
    )
    from_: Literal["start", "end"] = Field(
        "start",
        alias="from",
        description="Where a sink that is seen for the first time starts to read: `start` (all "
        "that is kept) or `end` (only what comes from now on).",
    )
    transforms: tuple[AnyTransform, ...] = Field(
        (), description="Steps between the topic and this sink, in their order."
    )
    skip_revoked: bool = Field(
        False,
        description="Go on behind events whose key was revoked. Otherwise the pipeline stops at "
        "them with `key.revoked`.",
    )


class PipelineConfig(_Section):
    """One source, its topics, and the sinks that read them."""

    source: SourceEntry = Field(description="Where changes come from; `type` names the connector.")
    topic: Template | None = Field(
        None,
        description="The topic's name, with {database}, {schema}, {table} or {topic} for the "
        "source's names; a name without them keeps all tables in one order. Default: all of the "
        "source's names, joined with dots.",
    )
    transforms: tuple[AnyTransform, ...] = Field(
        (), description="Steps between source and topic, in their order."
    )
    sinks: Annotated[dict[Name, SinkEntry], AfterValidator(_sinks)] = Field(
        default_factory=dict,
        description="Where events go, by name. Without sinks the topic is the destination.",
    )


class Config(_Section):
    """The whole file. Every section is optional, and an empty file is valid."""

    broker: BrokerConfig = Field(
        default_factory=BrokerConfig, description="Where the topics lie and what opens them."
    )
    pipelines: dict[Name, PipelineConfig] = Field(
        default_factory=dict, description="The pipelines, by name."
    )
    metrics: MetricsConfig | None = Field(
        None, description="Where Prometheus may ask. Default: nowhere."
    )
