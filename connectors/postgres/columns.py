"""Which columns of a table are captured, and rows reduced to them. Pure: no I/O."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from connectors.postgres.config import ColumnsConfig
from connectors.postgres.errors import error
from ensign_core.change import BINARY, KEY_IMAGE, OLD_IMAGE, TEXT, Schema, image_end
from ensign_core.rows import split

_count = struct.Struct(">H").pack
_length = struct.Struct(">I").pack


def kept(columns: ColumnsConfig | None, schema: Schema) -> tuple[int, ...] | None:
    """The indexes of the columns of ``schema`` that are captured, None for all. Raises
    ``postgres.column_key_excluded``."""
    if columns is None:
        return None
    keep = tuple(i for i, c in enumerate(schema.columns) if columns.captures(schema.name, c.name))
    if len(keep) == len(schema.columns):
        return None
    lost = next((i for i in schema.key if i not in keep), None)
    if lost is not None:
        raise error("column_key_excluded", column=f"{schema.name}.{schema.columns[lost].name}")
    return keep


def reduced(schema: Schema, keep: Sequence[int] | None) -> Schema:
    """The schema of rows that are `project`ed."""
    if keep is None:
        return schema
    return replace(schema, columns=tuple(schema.columns[i] for i in keep))


def project(body: bytes, keep: Sequence[int]) -> bytes:
    """An event's images with only the columns ``keep``, in its order. Raises ``rows.damaged``,
    IndexError or struct.error for bytes that are no images or have fewer columns."""
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        end = image_end(body, at + 1)
        kinds, values = split(body[at + 1 : end])
        parts += (body[at : at + 1], _count(len(keep)))
        for i in keep:
            parts.append(kinds[i : i + 1])
            if kinds[i] in (TEXT, BINARY):
                parts += (_length(len(values[i])), values[i])
        at = end
    return b"".join(parts)


def key_only(body: bytes) -> bytes:
    """An event's images with an old one taken for the key only."""
    return bytes((KEY_IMAGE,)) + body[1:] if body[0] == OLD_IMAGE else body
