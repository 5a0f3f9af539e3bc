"""Rows to and from the row layout (`ensign_core.change`): pure functions, bytes in, bytes out.

What runs for every row is compiled (Cython): `split` and `check_body`; what writes whole batches as
lines of JSON for `ensign_core.formats` (`table`, `lines`, `json`) and takes the records of brokers
apart for it (`messages`); and what changes batches for `ensign_core.transforms` (`edit`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ensign_core.change import BINARY, NULL, TEXT, Column
from ensign_core.rows.damage import damaged

try:
    from ensign_core.rows import (
        cloudevents,
        edit,
        json,
        layout,
        lines,
        members,
        messages,
        table,
    )
except ImportError as missing:
    raise ImportError(
        "Ensign's compiled modules are not built for this Python: run `pip install .` (in a clone, "
        "for work on it, `make check`), which needs a C compiler and Python's headers."
    ) from missing

__all__ = [
    "ABSENT", "Unchanged", "Value", "check_body", "cloudevents", "damaged", "decode", "edit",
    "encode", "join", "json", "lines", "members", "messages", "named", "new_image", "split",
    "table",
]  # fmt: skip

check_body, join, split = layout.check_body, layout.join, layout.split


class Unchanged:
    """The state of a column that the source left out because it did not change."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNCHANGED"


ABSENT: Final = Unchanged()

Value = str | bytes | None | Unchanged
"""A decoded column: text, raw bytes, null, or unchanged."""

_length = struct.Struct(">I").pack
_count = struct.Struct(">H").pack


def encode(values: Sequence[Value]) -> bytes:
    """A row from its columns' values. `str` becomes text, `bytes` raw bytes;
    TypeError for anything else, so that no value is taken for an unchanged one."""
    parts = [_count(len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, str):
            data = value.encode("utf-8", "surrogateescape")
            parts += (b"t", _length(len(data)), data)
        elif isinstance(value, bytes):
            parts += (b"b", _length(len(value)), value)
        elif isinstance(value, Unchanged):
            parts.append(b"u")
        else:
            raise TypeError(f"a column's value cannot be a {type(value).__name__}")
    return b"".join(parts)


def new_image(values: Sequence[Value]) -> bytes:
    """The body of an insert, snapshot row or event."""
    return b"N" + encode(values)


def decode(row: bytes) -> list[Value]:
    """The columns of a row as `Value`; text that is not UTF-8 keeps its bytes as surrogates."""
    kinds, values = split(row)
    return [
        value.decode("utf-8", "surrogateescape") if kind == TEXT
        else value if kind == BINARY
        else None if kind == NULL
        else ABSENT
        for kind, value in zip(kinds, values, strict=True)
    ]  # fmt: skip


def named(columns: Sequence[Column], row: bytes) -> dict[str, Value]:
    """A row as a dictionary, for whoever wants a value and not speed."""
    return {column.name: value for column, value in zip(columns, decode(row), strict=False)}
