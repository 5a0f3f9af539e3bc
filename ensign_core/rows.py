"""Rows to and from the row layout (`ensign_core.change`): pure functions, bytes in, bytes out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ensign_core.change import BINARY, NULL, TEXT, UNCHANGED, Column, image_end
from ensign_core.errors import EnsignError


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


def split(row: bytes) -> tuple[bytes, list[bytes]]:
    """Kinds and raw values of a row: one kind byte and one value (empty for ``n`` and ``u``) per
    column. Raises ``rows.damaged`` where the bytes do not fit the layout."""
    try:
        (columns,) = struct.unpack_from(">H", row)
        kinds = bytearray(columns)
        values: list[bytes] = []
        at = 2
        for i in range(columns):
            kind = kinds[i] = row[at]
            at += 1
            if kind in (TEXT, BINARY):
                end = at + 4 + int.from_bytes(row[at : at + 4], "big")
                values.append(row[at + 4 : end])
                at = end
            elif kind in (NULL, UNCHANGED):
                values.append(b"")
            else:
                raise damaged()
    except (struct.error, IndexError):
        raise damaged() from None
    if at != len(row):
        raise damaged()
    return bytes(kinds), values


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


def check_body(body: bytes) -> None:
    """Raise ``rows.damaged`` unless ``body`` is a run of well-formed images."""
    at = 0
    seen = bytearray()
    while at < len(body):
        seen.append(body[at])
        try:
            end = image_end(body, at + 1)
        except (struct.error, IndexError):
            raise damaged() from None
        split(body[at + 1 : end])
        at = end
    if bytes(seen) not in {b"", b"N", b"K", b"O", b"KN", b"ON"}:
        raise damaged()


def damaged() -> EnsignError:
    return EnsignError(
        "rows.damaged",
        "A row's bytes do not follow the row layout.",
        "Report this with the connector's name; read on behind it with a later offset.",
    )
