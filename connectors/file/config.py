"""What ``file`` sources and sinks take in a pipeline's YAML."""

from __future__ import annotations

import re
from string import Formatter as Template
from typing import Literal

from pydantic import Field, field_validator

from ensign_core.formats import FormatName
from ensign_core.plugin import ConnectorConfig


class FileSinkConfig(ConnectorConfig):
    """Lines appended to a file, or to one file per topic."""

    type: Literal["file"]
    path: str = Field(
        min_length=1,
        description="The file to append to. `{topic}` in it makes one file per topic. Folders that "
        "are missing are made.",
    )
    format: FormatName = Field(default="json", description="How an event becomes a line.")
    rotate_bytes_max: int | None = Field(
        default=None,
        ge=1,
        description="Bytes at which a file is renamed to `NAME.000001.EXT` and a new one begun; "
        "the last batch may exceed it.",
    )
    rotate_s_max: float | None = Field(
        default=None, gt=0, description="Seconds after which the same is done to a file."
    )

    @field_validator("path")
    @classmethod
    def _only_topic(cls, path: str) -> str:
        for _text, name, spec, conversion in Template().parse(path):
            if name is not None and (name, spec, conversion) != ("topic", "", None):
                raise ValueError("the only placeholder is {topic}")
        return path


class FileSourceConfig(ConnectorConfig):
    """Files of JSON lines, read to their end and then followed as they grow."""

    type: Literal["file"]
    path: str = Field(
        min_length=1,
        description="The file to read, or a glob. Files that do not exist yet are waited for, and "
        "a file that is renamed is read to its end.",
    )
    topic: str | None = Field(
        default=None,
        min_length=1,
        description="What `{topic}` in the pipeline's topic becomes; by default the file's name "
        "up to its first dot, without the characters of a glob.",
    )
    key: str | None = Field(
        default=None,
        description="The field of each object whose value is the event's key, if it is "
        "a string, number or boolean.",
    )
    batch_bytes_max: int = Field(
        default=4 << 20, ge=1, le=256 << 20, description="Bytes of lines that end a batch."
    )
    line_bytes_max: int = Field(
        default=16 << 20, ge=1, le=256 << 20, description="Bytes of the longest line."
    )

    def topic_name(self) -> str:
        """What ``{topic}`` becomes."""
        if self.topic is not None:
            return self.topic
        name = self.path.rpartition("/")[2].lstrip(".").partition(".")[0]
        return re.sub(r"[*?]|\[[^]]*\]", "", name).strip("-_") or "file"
