"""What a ``mysql`` source takes in a pipeline's YAML. Imports no driver."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from ensign_core.plugin import ConnectorConfig

SYSTEM_DATABASES = ("mysql", "sys", "information_schema", "performance_schema")


class ColumnsConfig(BaseModel):
    """Which columns are captured: all but ``exclude``, or only ``include``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: list[str] | None = Field(
        default=None, min_length=1, description="Globs over database.table.column to capture."
    )
    exclude: list[str] | None = Field(
        default=None, min_length=1, description="Globs over database.table.column to leave out."
    )

    @model_validator(mode="after")
    def _one(self) -> ColumnsConfig:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("give either include or exclude")
        return self

    def captures(self, table: str, column: str) -> bool:
        """Whether a column of ``database.table`` is captured."""
        name = f"{table}.{column}"
        if self.include is not None:
            return any(fnmatchcase(name, pattern) for pattern in self.include)
        return not any(fnmatchcase(name, pattern) for pattern in self.exclude or ())


class TlsConfig(BaseModel):
    """How the connection is encrypted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"] = Field(
        default="preferred",
        description="disabled, preferred (TLS where the server offers it), required, verify_ca "
        "(and the certificate is checked), verify_identity (and the host's name in it).",
    )
    ca: str | None = Field(
        default=None, description="File with the certificates of authorities that are trusted."
    )
    cert: str | None = Field(default=None, description="File with the client's certificate.")
    key: str | None = Field(default=None, description="File with the client's private key.")

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if self.key is not None and self.cert is None:
            raise ValueError("a key needs its cert")
        if self.ca is not None and not self.mode.startswith("verify"):
            raise ValueError("ca is what the modes verify_ca and verify_identity check against")
        return self


class MysqlConfig(ConnectorConfig):
    """A MySQL or MariaDB server whose tables are captured through its binary log."""

    type: Literal["mysql"]
    host: str = Field(min_length=1, description="Name or address of the server.")
    port: int = Field(default=3306, ge=1, le=65535, description="Port of the server.")
    user: str = Field(min_length=1, description="The account to log in with.")
    password: SecretStr | None = Field(
        default=None, description="The account's password; may be empty, for one that has none."
    )
    password_command: list[str] | None = Field(
        default=None,
        min_length=1,
        description="A program and its arguments that print the password, run for each connection, "
        "such as one that asks a cloud for a token.",
    )
    tls: TlsConfig = Field(default=TlsConfig(), description="How the connection is encrypted.")
    databases: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Globs over the names of databases whose tables are all captured.",
    )
    tables: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Globs over database.table, plain and unquoted, of the tables to capture.",
    )
    exclude: list[str] = Field(
        default=[], description="Globs over database.table of tables to leave out."
    )
    columns: ColumnsConfig | None = Field(
        default=None,
        description="Columns to capture, as exclude: [...] or include: [...] with globs over "
        "database.table.column; columns of a table's key cannot be left out.",
    )
    server_id: int | None = Field(
        default=None,
        ge=1,
        le=0xFFFFFFFF,
        description="The id under which this source reads the binary log; it must be nobody "
        "else's. One that nobody has is chosen when it is not given.",
    )
    position: Literal["auto", "gtid", "file"] = Field(
        default="auto",
        description="How the place in the log is kept: gtid, which survives a failover, or file "
        "and offset; auto takes gtid where the server has it. It is decided at the first start.",
    )
    snapshot: Literal["initial", "never", "only"] = Field(
        default="initial",
        description="Whether the rows that are there already are captured: initial captures them "
        "and then every change, never captures changes only, only captures the rows and stops.",
    )
    transaction_markers: bool = Field(
        default=False,
        description="Whether the begin and the commit of each captured transaction are events too.",
    )
    heartbeat_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="How often, in seconds, an idle source moves its position past changes that "
        "nobody captures.",
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
        default=60.0, gt=0, description="Seconds to wait for the answer to a query."
    )

    @model_validator(mode="after")
    def _something(self) -> MysqlConfig:
        if self.databases is None and self.tables is None:
            raise ValueError("give databases or tables")
        if self.password is None and self.password_command is None:
            raise ValueError("give password or password_command")
        return self

    def captures(self, database: str, table: str) -> bool:
        """Whether a table is one that the pipeline captures."""
        if database in SYSTEM_DATABASES:
            return False
        name = f"{database}.{table}"
        listed = any(fnmatchcase(database, pattern) for pattern in self.databases or ())
        if not listed and not any(fnmatchcase(name, pattern) for pattern in self.tables or ()):
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.exclude)
