"""Schemas compiled for the formats: how their rows' values become JSON, in compiled code where it
knows the type (`ensign_core.rows.table`), else by a function of Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ensign_core.change import Batch, Column, Schema
from ensign_core.formats.values import Render, boolean, hex_as_base64, number, one_line, quote
from ensign_core.rows import table as compiled

TABLES_MAX = 4096
"""Compiled schemas a formatter keeps; a topic has one or a few."""

_CODES: Final[dict[Render, int]] = {
    None: compiled.RAW,
    quote: compiled.STRING,
    one_line: compiled.ONE_LINE,
    number: compiled.NUMBER,
    boolean: compiled.BOOLEAN,
    hex_as_base64: compiled.HEX,
}
"""The functions that the compiled code does the work of."""


class Table:
    """A `Schema` compiled for a format: how to write its rows as objects."""

    def __init__(
        self,
        schema: Schema,
        render: Callable[[Column], Render],
        placeholder: Callable[[Column], str] | None = None,
    ) -> None:
        self.schema = schema
        self.quoted = [quote(column.name) for column in schema.columns]
        self.renders = [render(column) for column in schema.columns]
        self.rows = compiled.RowTable(
            quote(schema.name),
            self.quoted,
            schema.key,
            bytes(_CODES.get(found, compiled.CALL) for found in self.renders),
            self.renders,
            [placeholder(column) for column in schema.columns] if placeholder else (),
        )


class Tables:
    """The compiled schemas of one formatter, by the schema's id. ``placeholder`` gives what stands
    for an unchanged value, in formats that write something in its place."""

    def __init__(
        self,
        render: Callable[[Column], Render],
        placeholder: Callable[[Column], str] | None = None,
    ) -> None:
        self._render = render
        self._placeholder = placeholder
        self._tables: dict[int, Table] = {}

    def of(self, batch: Batch) -> list[Table]:
        """One `Table` per schema of the batch, in its order."""
        return [self._tables.get(schema.id) or self._add(schema) for schema in batch.schemas]

    def _add(self, schema: Schema) -> Table:
        if len(self._tables) >= TABLES_MAX:
            self._tables.clear()
        table = self._tables[schema.id] = Table(schema, self._render, self._placeholder)
        return table
