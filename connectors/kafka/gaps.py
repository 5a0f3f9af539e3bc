"""Records that are gone before they were read, named in the topic itself: a message with the prefix
``ensign.gap`` and a JSON object. Pure: no I/O."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from connectors.kafka.errors import error
from ensign_core.change import Column, Schema
from ensign_core.errors import EnsignError
from ensign_core.rows import new_image

PREFIX: Final = "ensign.gap"

_COLUMNS: Final = (
    Column("prefix", "text", "text", nullable=False),
    Column("content", "json", "json", nullable=False),
)


class Gap(NamedTuple):
    """Why a source cannot go on at the offset that comes next, ``at``, and where it can, ``to``:
    the first record that is there, or the end of a log that was truncated, or 0 (None for a topic
    that is gone) of a topic that was made again, whose ``partition`` is -1."""

    word: str
    topic: str
    partition: int
    at: int
    to: int | None

    def error(self) -> EnsignError:
        """What a source says that stops at it."""
        last = self.to if self.to is None or self.at > self.to else self.to - 1
        return error(
            self.word, topic=self.topic, partition=self.partition, first=self.at, last=last
        )

    def schema(self) -> Schema:
        """The schema of its message, which goes where the topic's records go."""
        return Schema(self.topic, (("topic", self.topic),), _COLUMNS)

    def body(self) -> bytes:
        """The message."""
        content: dict[str, object] = {"reason": self.word, "topic": self.topic}
        if self.partition >= 0:
            content |= {"partition": self.partition, "next_offset": self.at, "resumed_at": self.to}
            if self.to is not None and self.at < self.to:
                content |= {"first_offset": self.at, "last_offset": self.to - 1}
        return new_image((PREFIX, json.dumps(content)))
