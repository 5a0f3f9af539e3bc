"""Columns left out, renamed, and their values replaced, in all images of an event alike."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ensign_core.change import EVENT_COLUMNS, Batch, Column, Schema
from ensign_core.config.transforms import (
    DropConfig,
    HashConfig,
    MaskConfig,
    RenameConfig,
    SelectConfig,
    TruncateConfig,
)
from ensign_core.errors import EnsignError
from ensign_core.rows import edit
from ensign_core.transforms.transform import Transform, key_only, matching, unknown_column


class Shape(NamedTuple):
    """What becomes of a schema, and of its rows if anything does."""

    schema: Schema
    rows: edit.Plan | None


class Reshaping(Transform[Shape]):
    """A transform that does the same to every row of a schema."""

    def apply(self, batch: Batch, plans: Sequence[Shape | None]) -> Batch:
        schemas = [
            schema if plan is None else plan.schema
            for schema, plan in zip(batch.schemas, plans, strict=True)
        ]
        rows = [None if plan is None else plan.rows for plan in plans]
        if not any(rows):
            return replace(batch, schemas=schemas)
        body, ends = edit.edited(batch.body, batch.ends, batch.schema_ids, rows)
        return replace(batch, schemas=schemas, body=body, ends=ends)


class Picking(Reshaping):
    """``select`` and ``drop``."""

    def __init__(self, config: SelectConfig | DropConfig) -> None:
        super().__init__(config)
        self._config = config
        self._selects = config.type == "select"

    def plan(self, schema: Schema) -> Shape:
        _check_table(schema)
        named = set(matching(schema.columns, self._config.columns, schema))
        places = [i for i in range(len(schema.columns)) if (i in named) == self._selects]
        columns = [schema.columns[place] for place in places]
        if not columns:
            raise EnsignError(
                "transform.no_columns",
                f"A transform leaves {schema.name} without columns.",
                "Keep one at least, or take the table's events out with a filter.",
            )
        if not set(schema.key).issubset(places):
            if not self._config.keyless:
                raise EnsignError(
                    "transform.key_dropped",
                    f"A transform leaves out columns of the key of {schema.name}.",
                    "Keep them, or say `keyless: true` to let go of the key.",
                )
            columns = [column._replace(key=False) for column in columns]
        rows = None
        if len(places) < len(schema.columns):
            rows = edit.Plan(len(schema.columns), places, [None] * len(places))
        return Shape(replace(schema, columns=tuple(columns)), rows)


class Renaming(Reshaping):
    """``rename``: no row is touched."""

    def __init__(self, config: RenameConfig) -> None:
        super().__init__(config)
        self._names = config.columns

    def plan(self, schema: Schema) -> Shape:
        _check_table(schema)
        missing = self._names.keys() - {column.name for column in schema.columns}
        if missing and not key_only(schema):
            raise unknown_column(min(missing), schema)
        columns = tuple(
            column._replace(name=self._names.get(column.name, column.name))
            for column in schema.columns
        )
        if len({column.name for column in columns}) < len(columns):
            raise EnsignError(
                "transform.duplicate_column",
                f"A transform gives two columns of {schema.name} the same name.",
                "Choose names that no other column of the table has.",
            )
        return Shape(replace(schema, columns=columns), None)


class Replacing(Reshaping):
    """``mask``, ``hash`` and ``truncate``."""

    def __init__(self, config: MaskConfig | HashConfig | TruncateConfig) -> None:
        super().__init__(config)
        self._globs = config.columns
        self._edit: edit.Edit
        match config:
            case MaskConfig():
                self._edit = config.text.encode()
            case HashConfig():
                self._edit = _hashing(
                    config.key.get_secret_value().encode("utf-8", "surrogateescape")
                )
            case TruncateConfig():
                self._edit = config.characters_max

    def plan(self, schema: Schema) -> Shape:
        places = set(matching(schema.columns, self._globs, schema))
        columns = tuple(
            self._replaced(column, schema) if place in places else column
            for place, column in enumerate(schema.columns)
        )
        edits = [self._edit if place in places else None for place in range(len(columns))]
        rows = edit.Plan(len(columns), range(len(columns)), edits) if places else None
        return Shape(replace(schema, columns=columns), rows)

    def _replaced(self, column: Column, schema: Schema) -> Column:
        if column.key and not callable(self._edit):
            raise EnsignError(
                "transform.key_replaced",
                f"A transform gives rows of {schema.name} the same {column.name}, which is of the "
                "key.",
                "Hash it, which keeps keys apart, or leave it out with `drop` and `keyless: true`.",
            )
        if _is_event(schema) and column.logical not in ("text", "bytes", "payload"):
            raise EnsignError(
                "transform.event_columns",
                f"A transform replaces {column.name} of the events of {schema.name}, which is "
                "read as JSON or a number.",
                "Of an event, replace key, data, mimetype or type only.",
            )
        if isinstance(self._edit, int):
            if column.logical != "text":
                raise EnsignError(
                    "transform.not_text",
                    f"A transform cuts {column.name} of {schema.name}, which is no text.",
                    "Name columns of a text type, or mask the value.",
                )
            return column
        if _is_event(schema):
            # Their columns have fixed types, whatever they hold.
            return column
        return column._replace(native="text", logical="text")


def _hashing(key: bytes) -> edit.Edit:
    """HMAC-SHA256 (RFC 2104) of a value's bytes, in hex."""
    keyed = hmac.new(key, digestmod="sha256")

    def hashed(value: bytes) -> bytes:
        own = keyed.copy()
        own.update(value)
        return own.hexdigest().encode()

    return hashed


def _is_event(schema: Schema) -> bool:
    """Whether its rows are events or records of a broker, whose columns are fixed."""
    return schema.columns[: len(EVENT_COLUMNS)] == EVENT_COLUMNS


def _check_table(schema: Schema) -> None:
    if _is_event(schema):
        raise EnsignError(
            "transform.event_columns",
            f"A transform changes the columns of {schema.name}, whose events have fixed ones.",
            "Say with `tables` which tables it is meant for.",
        )
