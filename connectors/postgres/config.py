"""What a ``postgres`` source takes in a pipeline's YAML. Imports no driver."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from ensign_core.plugin import ConnectorConfig

NAME_BYTES_MAX = 63
"""The length of a PostgreSQL identifier (NAMEDATALEN - 1)."""

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "pg_toast")


class ColumnsConfig(BaseModel):
    """Which columns are captured: all but ``exclude``, or only ``include``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: list[str] | None = Field(
        default=None, min_length=1, description="Globs over schema.table.column to capture."
    )
    exclude: list[str] | None = Field(
        default=None, min_length=1, description="Globs over schema.table.column to leave out."
    )

    @model_validator(mode="after")
    def _one(self) -> ColumnsConfig:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("give either include or exclude")
        return self

    def captures(self, table: str, column: str) -> bool:
        """Whether a column of ``schema.table`` is captured."""
        name = f"{table}.{column}"
        if self.include is not None:
            return any(fnmatchcase(name, pattern) for pattern in self.include)
        return not any(fnmatchcase(name, pattern) for pattern in self.exclude or ())


class PostgresConfig(ConnectorConfig):
    """A database whose tables are captured through a logical replication slot."""

    type: Literal["postgres"]
    dsn: SecretStr = Field(
        description="Connection string or URL of the database, as libpq takes it."
    )
    tables: list[str] = Field(
        default=["*.*"],
        min_length=1,
        description="Globs over schema.table, plain and unquoted, of the tables to capture.",
    )
    exclude: list[str] = Field(
        default=[], description="Globs over schema.table of tables to leave out."
    )
    columns: ColumnsConfig | None = Field(
        default=None,
        description="Columns to capture, as exclude: [...] or include: [...] with globs over "
        "schema.table.column; columns of a table's key cannot be left out.",
    )
    partitions: Literal["root", "leaf"] = Field(
        default="root",
        description="Whether partitions are captured under their root's name or under their own.",
    )
    slot: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_]{1,63}$",
        description="Name of the replication slot; ensign_PIPELINE when it is not given.",
    )
    publication: str | None = Field(
        default=None,
        min_length=1,
        max_length=NAME_BYTES_MAX,
        description="Name of the publication; ensign_PIPELINE when it is not given.",
    )
    snapshot: Literal["initial", "never", "only"] = Field(
        default="initial",
        description="Whether the rows that are there already are captured: initial captures them "
        "and then every change, never captures changes only, only captures the rows and stops.",
    )
    messages: list[str] = Field(
        default=["*"],
        description="Globs over the prefixes of logical messages (pg_logical_emit_message) to "
        "capture as events; an empty list captures none.",
    )
    transaction_markers: bool = Field(
        default=False,
        description="Whether the begin and the commit of each captured transaction are events too.",
    )
    origin: Literal["any", "none"] = Field(
        default="any",
        description="none leaves out changes that the server itself got through replication "
        "(PostgreSQL 16 and later).",
    )
    read_only: bool = Field(
        default=False,
        description="Write nothing on the server: the publication is an administrator's, and no "
        "messages are emitted. A standby is always read so.",
    )
    stale_walsender: Literal["wait", "terminate"] = Field(
        default="wait",
        description="What is done where the slot is in use by a connection of this same pipeline "
        "that is left over: wait until the server notices, or terminate it.",
    )
    wal_warn_bytes: int = Field(
        default=10 << 30,
        ge=1,
        description="Bytes of WAL kept by the slot from which on a warning is given; half of "
        "max_slot_wal_keep_size, where the server limits it, if that is less.",
    )
    password_command: list[str] | None = Field(
        default=None,
        min_length=1,
        description="A program and its arguments that print the password, run for each connection, "
        "such as one that asks a cloud for a token.",
    )
    failover: bool = Field(
        default=False,
        description="Make the slot one that standbys keep a copy of (PostgreSQL 17 and later).",
    )
    heartbeat_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="How often, in seconds, an idle source moves its position past changes that "
        "nobody captures, so that they hold no WAL.",
    )
    discover_s: float = Field(
        default=10.0,
        gt=0,
        description="How often, in seconds, tables made since the start are looked for.",
    )
    workers: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Connections that read chunks of snapshots at the same time.",
    )
    chunk_rows: int = Field(
        default=20_000, ge=1, description="Rows that one chunk of a snapshot reads at most."
    )
    batch_bytes_max: int = Field(
        default=4 << 20,
        ge=1,
        le=256 << 20,
        description="Bytes of events that end a batch; one event may exceed it.",
    )
    connect_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds to wait for a connection to be made."
    )
    query_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds to wait for the answer to a catalog query."
    )

    def captures(self, schema: str, table: str, roots: Sequence[str] = ()) -> bool:
        """Whether a table is one that the pipeline captures. ``roots`` are the full names of the
        partitioned tables that it is a partition of, where partitions are captured: a glob that
        matches one of them matches the table."""
        if schema in SYSTEM_SCHEMAS or schema.startswith("pg_temp"):
            return False
        names = (f"{schema}.{table}", *roots)
        if not any(fnmatchcase(name, pattern) for name in names for pattern in self.tables):
            return False
        return not any(fnmatchcase(name, pattern) for name in names for pattern in self.exclude)

    def slot_name(self, pipeline: str) -> str:
        """The slot's name: the configured one, or one made from the pipeline's."""
        return self.slot or derived_name(pipeline)

    def publication_name(self, pipeline: str) -> str:
        """The publication's name: the configured one, or one made from the pipeline's."""
        return self.publication or derived_name(pipeline)


def derived_name(pipeline: str) -> str:
    """A name of slots and publications: lower-case letters, digits and underscores. A name that had
    to be changed gets a checksum, so that ``a-b`` and ``a_b`` do not share a slot."""
    legal = "ensign_" + re.sub(r"[^a-z0-9_]", "_", pipeline.lower())
    if legal == f"ensign_{pipeline}" and len(legal) <= NAME_BYTES_MAX:
        return legal
    checksum = f"_{zlib.crc32(pipeline.encode()):08x}"
    return legal[: NAME_BYTES_MAX - len(checksum)] + checksum
