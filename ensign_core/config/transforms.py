"""What the transforms of a pipeline or a sink take in YAML. What they do is in
`ensign_core.transforms`; of them this folder knows nothing."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ensign_core.config.conditions import condition
from ensign_core.config.topics import ROUTE_VARIABLES, VARIABLES, route_fault
from ensign_core.errors import EnsignError

HASH_KEY_CHARS_MIN = 16


def _condition(text: str) -> str:
    try:
        condition(text)
    except EnsignError as error:
        raise PydanticCustomError(
            "config.condition", "{sentence}",
            {"sentence": error.sentence, "remedy": error.remedy},
        ) from None  # fmt: skip
    return text


def _route(template: str) -> str:
    fault = route_fault(template, (*VARIABLES, "column"))
    if fault is not None:
        raise PydanticCustomError(
            "config.topic_template", "{fault}",
            {"fault": fault, "remedy": "Use letters, digits, '.', '_', '-', "
             "{database}, {schema}, {table}, {topic} and {column:NAME}."},
        )  # fmt: skip
    return template


def _outbox_route(template: str) -> str:
    fault = route_fault(template, (*VARIABLES, *ROUTE_VARIABLES))
    if fault is not None:
        raise PydanticCustomError(
            "config.topic_template", "{fault}",
            {"fault": fault, "remedy": "Use letters, digits, '.', '_', '-' and {aggregatetype}."},
        )  # fmt: skip
    return template


def _function(path: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", path):
        raise PydanticCustomError(
            "config.function", "The value does not name a function.",
            {"remedy": "Write it as package.module:function."},
        )  # fmt: skip
    return path


def _hash_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < HASH_KEY_CHARS_MIN:
        raise PydanticCustomError(
            "config.hash_key", "The key is shorter than {least} characters.",
            {"least": HASH_KEY_CHARS_MIN, "remedy": "Make one with: openssl rand -base64 32"},
        )  # fmt: skip
    return key


Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class TransformConfig(BaseModel):
    """What all transforms have. ``type`` (a Literal) discriminates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: tuple[str, ...] = Field(
        (),
        description="Globs over the names of tables and streams, such as `public.orders`, that it "
        "applies to; all if there are none. Logical messages of a database "
        "(`pg_logical.message`) only where a glob names them.",
    )
    on_error: Literal["dead_letter", "stop"] = Field(
        "dead_letter",
        description="What becomes of an event that it fails for: it is set aside as a dead letter "
        "and the rest goes on, or all stops.",
    )


class FilterConfig(TransformConfig):
    """Keeps the events for which a condition is true."""

    type: Literal["filter"] = Field(description="`filter`")
    where: Annotated[str, AfterValidator(_condition)] = Field(
        description="The condition, in SQL over the columns of the row and `_op`, `_database`, "
        "`_schema`, `_table`, `_topic`."
    )
    image: Literal["new", "old", "either"] = Field(
        "new",
        description="Which image of an update counts: `new`, `old`, or `either` (kept if one of "
        "them meets the condition, so that a row's last event is not lost when it leaves). "
        "An insert has the new one only, a delete the old one.",
    )


class SelectConfig(TransformConfig):
    """Keeps some columns, in their order."""

    type: Literal["select"] = Field(description="`select`")
    columns: Columns = Field(description="Globs over the names of the columns to keep.")
    keyless: bool = Field(
        False, description="Let go of the key, if columns of it are not kept; else that is refused."
    )


class DropConfig(TransformConfig):
    """Leaves out some columns."""

    type: Literal["drop"] = Field(description="`drop`")
    columns: Columns = Field(description="Globs over the names of the columns to leave out.")
    keyless: bool = Field(
        False, description="Let go of the key, if columns of it are left out; else that is refused."
    )


class RenameConfig(TransformConfig):
    """Gives columns other names."""

    type: Literal["rename"] = Field(description="`rename`")
    columns: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="New names by old ones."
    )


class MaskConfig(TransformConfig):
    """Writes a fixed text over values; null stays null."""

    type: Literal["mask"] = Field(description="`mask`")
    columns: Columns = Field(description="Globs over the names of the columns.")
    text: str = Field("***", description="What stands in place of each value.")


class HashConfig(TransformConfig):
    """Replaces values by their keyed hash, HMAC-SHA256 in 64 hex digits; null stays null."""

    type: Literal["hash"] = Field(description="`hash`")
    columns: Columns = Field(description="Globs over the names of the columns.")
    key: Annotated[SecretStr, AfterValidator(_hash_key)] = Field(
        description="The key, at least 16 characters, such as `${HASH_KEY}`. Who has it can try "
        "values; equal values have equal hashes under the same key, in every column."
    )


class TruncateConfig(TransformConfig):
    """Cuts text to its first characters."""

    type: Literal["truncate"] = Field(description="`truncate`")
    columns: Columns = Field(description="Globs over the names of the columns, which hold text.")
    characters_max: int = Field(ge=0, le=1 << 30, description="How many characters are left.")


class RouteConfig(TransformConfig):
    """Chooses the topic by the names of the table and by values."""

    type: Literal["route"] = Field(description="`route`")
    topic: Annotated[str, AfterValidator(_route)] = Field(
        description="The topic's name, with {database}, {schema}, {table} or {topic} for the "
        "source's names and {column:NAME} for a value. On a sink this is what {topic} in its "
        "options becomes."
    )
    otherwise: Annotated[str, AfterValidator(_route)] | None = Field(
        None,
        description="The topic of events whose value is null or not known; without it they are "
        "set aside as dead letters.",
    )

    @model_validator(mode="after")
    def _fixed(self) -> RouteConfig:
        if self.otherwise is not None and "{column:" in self.otherwise:
            raise PydanticCustomError(
                "config.topic_template", "The topic of what has no value asks for one.",
                {"remedy": "Leave {column:NAME} out of `otherwise`."},
            )  # fmt: skip
        return self


class OutboxConfig(TransformConfig):
    """Turns the rows of a transactional outbox into events."""

    type: Literal["outbox"] = Field(description="`outbox`")
    tables: tuple[str, ...] = Field(
        ("outbox", "*.outbox"),
        min_length=1,
        description="Globs over the names of the outbox tables; rows of others pass unchanged.",
    )
    topic: Annotated[str, AfterValidator(_outbox_route)] = Field(
        "outbox.event.{aggregatetype}", description="The topic of the events."
    )
    id_column: str = Field("id", description="The event's id, which goes into its metadata.")
    aggregate_type_column: str = Field("aggregatetype", description="What {aggregatetype} becomes.")
    aggregate_id_column: str = Field("aggregateid", description="The event's key.")
    type_column: str | None = Field("type", description="The event's type; null for none.")
    payload_column: str = Field("payload", description="The event's data.")
    mimetype: str | None = Field(
        None,
        description="What the data is. Default: by the column's type `application/json`, "
        "`application/octet-stream` or `text/plain`.",
    )


class PythonConfig(TransformConfig):
    """Calls a function of yours with each batch."""

    type: Literal["python"] = Field(description="`python`")
    function: Annotated[str, AfterValidator(_function)] = Field(
        description="`package.module:function`, importable where the pipeline runs. It takes and "
        "returns an `ensign_core.change.Batch`."
    )


AnyTransform = Annotated[
    FilterConfig | SelectConfig | DropConfig | RenameConfig | MaskConfig | HashConfig
    | TruncateConfig | RouteConfig | OutboxConfig | PythonConfig,
    Field(discriminator="type"),
]  # fmt: skip
