"""Row images as JSON text in plain Python: what the compiled rows are held against."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

from ensign_core.change import (
    BINARY,
    KEY_IMAGE,
    NEW_IMAGE,
    NULL,
    OLD_IMAGE,
    TEXT,
    UNCHANGED,
    Batch,
    Run,
    Schema,
)
from ensign_core.formats.images import Encoding, Table
from ensign_core.formats.values import binary, quote, undecodable
from ensign_core.rows import damaged

GAP: Final = ""
"""Stands for an unchanged column among rendered values; no JSON is empty."""

Row = list[str]
"""The columns of an image as JSON texts, `GAP` where the source left one out."""

_count = struct.Struct(">H").unpack_from
_column = struct.Struct(">BI").unpack_from
_PADDING = bytes(4)


class Body:
    """A batch's body, made ready for reading: padded, so that a kind and a length can be read in
    one go at its very end too, and once more as text of one character per byte, so that a value
    that is all ASCII, as most are, is a mere slice."""

    __slots__ = ("data", "size", "text")

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.data = data + _PADDING
        self.text = data.decode("latin-1")


class PlainTable:
    """How to read a schema's rows and how to write them as objects."""

    def __init__(self, schema: Schema, encoding: Encoding) -> None:
        self.schema = schema
        self.name = quote(schema.name)
        self.events = Table(schema, encoding)
        self.quoted = [quote(column.name) for column in schema.columns]
        of_bytes = [encoding.bytes_render(column) for column in schema.columns]
        # Text in a column whose bytes have a function of their own is a string.
        self.renders = [
            (encoding.render(column) if other is None else quote, other or binary)
            for column, other in zip(schema.columns, of_bytes, strict=True)
        ]
        self.key = schema.key
        # A template is filled in C, faster than names and values are joined.
        labels = [f"{name}:%s" for name in (q.replace("%", "%%") for q in self.quoted)]
        self._fields = ",".join(labels)
        self._key_fields = ",".join(labels[i] for i in self.key)
        self._key_values: Callable[[Row], object] = (
            itemgetter(*self.key) if self.key else lambda _row: ()
        )

    def read(self, body: Body, at: int) -> tuple[Row, int]:
        """The row that starts at ``at`` (behind its marker), and where it ends."""
        data, text = body.data, body.text
        row: Row = []
        add = row.append
        if _count(data, at)[0] != len(self.renders):
            raise damaged()
        at += 2
        for render, of_bytes in self.renders:
            kind, size = _column(data, at)
            if kind == TEXT:
                start = at + 5
                at = start + size
                value = text[start:at]
                if not value.isascii():
                    try:
                        value = str(data[start:at], "utf-8")
                    except UnicodeDecodeError:
                        add(undecodable(data[start:at]))
                        continue
                add((value if render is None else render(value)) or '""')
            elif kind == NULL:
                add("null")
                at += 1
            elif kind == UNCHANGED:
                add(GAP)
                at += 1
            elif kind == BINARY:
                start = at + 5
                at = start + size
                add(of_bytes(data[start:at]))
            else:
                raise damaged()
        return row, at

    def images(self, body: Body, at: int, end: int) -> tuple[Row | None, Row | None, bool]:
        """Old row, new row, and whether the old one holds the key's columns only."""
        data = body.data
        old = new = None
        key_only = False
        try:
            if at < end and data[at] != NEW_IMAGE:
                key_only = data[at] == KEY_IMAGE
                if not key_only and data[at] != OLD_IMAGE:
                    raise damaged()
                old, at = self.read(body, at + 1)
            if at < end:
                if data[at] != NEW_IMAGE:
                    raise damaged()
                new, at = self.read(body, at + 1)
        except (struct.error, IndexError):
            raise damaged() from None
        if at != end:
            raise damaged()
        return old, new, key_only

    def fields(self, row: Row) -> str:
        """The inside of a row's object: what the source sent, without what it left out."""
        if all(row):
            return self._fields % tuple(row)
        return ",".join(
            f"{name}:{value}" for name, value in zip(self.quoted, row, strict=True) if value
        )

    def key_fields(self, row: Row) -> str:
        """The inside of the key's object; columns of the key that are gaps are left out."""
        if all(row):
            return self._key_fields % self._key_values(row)
        return ",".join(f"{self.quoted[i]}:{row[i]}" for i in self.key if row[i])

    def key_object(self, old: Row | None, new: Row | None) -> str:
        """The event's key: of the new image, or of the old one where there is no other."""
        if not self.key or (new is None and old is None):
            return "null"
        if new is not None and old is not None:
            new = filled(new, old)
        return f"{{{self.key_fields(new or old or [])}}}"

    def unchanged(self, row: Row) -> str:
        """The names of the columns that the source left out, as a list."""
        names = [name for name, value in zip(self.quoted, row, strict=True) if not value]
        return f"[{','.join(names)}]"


def filled(new: Row, old: Row) -> Row:
    """The new row with its gaps taken from a full old one."""
    return new if all(new) else [value or before for value, before in zip(new, old, strict=True)]


def stretches(batch: Batch) -> Iterator[tuple[int, int, Run | None]]:
    """Start and stop of the events of each run, so that what a transaction's rows have in common
    is written once; the run is None for events outside any."""
    starts = [*(run.start for run in batch.runs), len(batch)]
    if starts[0]:
        yield 0, starts[0], None
    for run, stop in zip(batch.runs, starts[1:], strict=True):
        if run.start < stop:
            yield run.start, stop, run
