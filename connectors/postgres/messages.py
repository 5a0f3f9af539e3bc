"""Events that are no rows: logical messages (``pg_logical_emit_message``) and the markers of
transactions; and what pgoutput is asked for beside rows. Pure: no I/O."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import error
from connectors.postgres.pgoutput import Message
from ensign_core.change import Column, Schema
from ensign_core.rows import new_image

OWN_PREFIX: Final = "ensign"
"""The prefix of messages that Ensign itself emits: they are never events."""

ORIGIN_VERSION_MIN: Final = 160000
"""The first version whose pgoutput has the option origin."""

_COLUMNS: Final = (Column("prefix", "text", "text", False), Column("content", "bytea", "text"))


def options(config: PostgresConfig, version: int) -> str:
    """Options of START_REPLICATION, each with a comma before it; ``version`` is the server's, as in
    ``server_version_num``. Raises ``postgres.origin_unsupported``.

    Messages are always asked for: they count as rows of their transaction, and a pipeline that is
    stopped in the middle of one may be started again with other prefixes.
    """
    asked = ", messages 'true'"
    if config.origin == "none":
        if version < ORIGIN_VERSION_MIN:
            raise error("origin_unsupported", version=version // 10000)
        asked += ", origin 'none'"
    return asked


def captures(config: PostgresConfig, message: Message) -> bool:
    """Whether a message becomes an event."""
    if message.prefix == OWN_PREFIX:
        return False
    return any(fnmatchcase(message.prefix, pattern) for pattern in config.messages)


def body(message: Message) -> bytes:
    """The body of a message's event: content that is UTF-8 is text, other content is bytes."""
    try:
        return new_image((message.prefix, message.content.decode()))
    except UnicodeDecodeError:
        return new_image((message.prefix, message.content))


def message_schema(database: str) -> Schema:
    """The schema of logical messages, whose columns are prefix and content."""
    return _schema(database, "pg_logical", "message", _COLUMNS)


def marker_schema(database: str) -> Schema:
    """The schema of the begin and the commit of transactions: no columns."""
    return _schema(database, "ensign", "transaction", ())


def _schema(database: str, schema: str, table: str, columns: tuple[Column, ...]) -> Schema:
    names = (("database", database), ("schema", schema), ("table", table))
    return Schema(f"{schema}.{table}", names, columns)
