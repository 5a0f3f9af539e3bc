"""The structure of rows: what a table, stream or kind of event consists of, and what its columns
mean. Everybody imports it through `ensign_core.change`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

Logical = Literal[
    "bool", "int", "float", "decimal", "text", "bytes", "json", "date", "time", "timetz",
    "timestamp", "timestamptz", "interval", "uuid", "payload", "headers", "other",
]  # fmt: skip
"""What a value means, whatever the database calls its type: formats choose their rendering by it.
``payload`` is the data of a published event (JSON, text or bytes, as its mimetype says),
``headers`` a JSON list of name and value pairs; ``other`` is the text of the type's output
function. Text of ``int``, ``float`` and ``json`` columns goes into JSON as it is: a source promises
that it is JSON, but for the floats NaN, Infinity and -Infinity, and for ``json`` columns of another
native type than ``json`` and ``jsonb``, such as MariaDB's ``longtext``: that text is looked at."""


class Column(NamedTuple):
    """One column of a `Schema`. ``native`` is the database's name of its type."""

    name: str
    native: str
    logical: Logical
    nullable: bool = True
    key: bool = False


@dataclass(frozen=True)
class Schema:
    """The structure of the rows of one table, stream or kind of event.

    ``names`` are the parts that topic templates may use, in order, such as
    ``(("database", "shop"), ("schema", "public"), ("table", "orders"))``; ``name`` is how people
    write it (``public.orders``). Two schemas are equal when their structure is.
    """

    name: str
    names: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]

    def __hash__(self) -> int:
        # Sources look a schema up for every event: hashing all its columns each time would show.
        return self.id

    @cached_property
    def id(self) -> int:
        """The version: a 64-bit fingerprint of name and structure. The same structure has the same
        id wherever and whenever it is seen, so a restart introduces nothing new."""
        text = repr((self.name, self.names, tuple(tuple(c) for c in self.columns)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

    @cached_property
    def key(self) -> tuple[int, ...]:
        """Indexes of the key's columns; empty for a table without key."""
        return tuple(i for i, column in enumerate(self.columns) if column.key)


EVENT_COLUMNS = (
    Column("key", "bytes", "bytes"),
    Column("data", "bytes", "payload"),
    Column("metadata", "json", "json"),
    Column("mimetype", "text", "text"),
    Column("type", "text", "text"),
)

RECORD_COLUMNS = (
    *EVENT_COLUMNS,
    Column("headers", "json", "headers"),
    Column("partition", "int", "int"),
    Column("source_offset", "bigint", "int"),
    Column("timestamp_ms", "bigint", "int"),
)
"""Of records of another broker. ``headers`` is null where there are none."""


def event_schema(topic: str) -> Schema:
    """The fixed schema of published events; ``topic`` is what ``{topic}`` in a template becomes."""
    return Schema(topic, (("topic", topic),), EVENT_COLUMNS)


SET_ASIDE = event_schema("")
"""Of bytes that a source set aside, on their way back to it (`Connector.replay`): they are the data
of an event. No topic has events of it. What comes back of other schemas is an event already, which
a transform refused, and mostly stays as it is."""


def record_schema(topic: str) -> Schema:
    """The fixed schema of the records of a Kafka topic."""
    return Schema(topic, (("topic", topic),), RECORD_COLUMNS)
