"""Schemas compiled for the formats: how their rows' values become JSON, in compiled code where it
knows the type (`ensign_core.rows.table`), else by a function of Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ensign_core.change import Batch, Column, Schema
from ensign_core.formats.values import (
    Render,
    boolean,
    hex_as_base64,
    number,
    one_line,
    quote,
    render,
)
from ensign_core.rows import published
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


class Encoding(NamedTuple):
    """How a format writes the values of a schema's columns: text by what ``render`` gives, raw
    bytes as base64 but where ``bytes_render`` gives a function, and in place of an unchanged value
    the ``placeholder``, in formats that write something there. ``usual`` gives code and argument of
    a column whose usual texts the compiled code knows (`ensign_core.rows.table`)."""

    render: Callable[[Column], Render] = render
    bytes_render: Callable[[Column], Callable[[bytes], str] | None] = lambda _column: None
    placeholder: Callable[[Column], str] | None = None
    usual: Callable[[Column], tuple[int, int] | None] = lambda _column: None


class Table:
    """A `Schema` compiled for a format: how to write its rows as objects."""

    def __init__(self, schema: Schema, encoding: Encoding) -> None:
        self.schema = schema
        self.quoted = [quote(column.name) for column in schema.columns]
        self.renders = [encoding.render(column) for column in schema.columns]
        of_bytes = [encoding.bytes_render(column) for column in schema.columns]
        usual = [encoding.usual(column) for column in schema.columns]
        fill = encoding.placeholder
        self.events = _events(schema, self.quoted, self.renders)
        self.rows = compiled.RowTable(
            quote(schema.name),
            self.quoted,
            schema.key,
            bytes(
                compiled.BYTES
                if other is not None
                else known[0]
                if known is not None
                else _CODES.get(found, compiled.CALL)
                for found, other, known in zip(self.renders, of_bytes, usual, strict=True)
            ),
            [
                found if other is None else other
                for found, other in zip(self.renders, of_bytes, strict=True)
            ],
            [fill(column) for column in schema.columns] if fill else (),
            [known[1] if known is not None else 0 for known in usual],
        )


def _events(
    schema: Schema, quoted: Sequence[str], renders: Sequence[Render]
) -> published.EventTable | None:
    """How published events of the schema are written, if they have a key and data."""
    names = [column.name for column in schema.columns]
    if names[:1] != ["key"] or all(column.logical != "payload" for column in schema.columns):
        return None
    codes = [published.STRING]
    for column, found in zip(schema.columns[1:], renders[1:], strict=True):
        if column.logical == "payload":
            codes.append(published.PAYLOAD)
        elif column.name == "mimetype":
            codes.append(published.MIMETYPE)
        elif found is quote:
            codes.append(published.STRING)
        elif found is None:
            codes.append(published.RAW)
        elif found is one_line:
            codes.append(published.ONE_LINE)
        else:
            return None
    return published.EventTable(bytes(codes), [f"{name}:".encode() for name in quoted])


class Tables:
    """The compiled schemas of one formatter, by the schema's id. ``encoding`` gives that of each
    schema: without it, all have that of the formats ``json`` and ``flat``."""

    def __init__(self, encoding: Callable[[Schema], Encoding] = lambda _schema: Encoding()) -> None:
        self._encoding = encoding
        self._tables: dict[int, Table] = {}

    def of(self, batch: Batch) -> list[Table]:
        """One `Table` per schema of the batch, in its order."""
        return [self._tables.get(schema.id) or self._add(schema) for schema in batch.schemas]

    def _add(self, schema: Schema) -> Table:
        if len(self._tables) >= TABLES_MAX:
            self._tables.clear()
        table = self._tables[schema.id] = Table(schema, self._encoding(schema))
        return table
