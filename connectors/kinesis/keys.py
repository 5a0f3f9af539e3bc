"""The partition keys of what a sink writes. Pure.

Kinesis wants 1 to 256 characters; they are counted in units of UTF-16, which is the strictest
reading of that. A key that does not fit, or is no text, is replaced by its SHA-256 in hexadecimal
digits, so that equal keys stay equal. What has no key is spread over the shards by its offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from connectors.kinesis.config import placeholders
from connectors.kinesis.errors import error
from ensign_core.change import Batch, Change, Op, Schema
from ensign_core.formats.lines import Messages
from ensign_core.rows import Value, decode

UNITS_MAX: Final = 256
OURS: Final = frozenset({"key", "topic"})
ROWS: Final = frozenset({Op.SNAPSHOT, Op.INSERT, Op.UPDATE, Op.DELETE, Op.EVENT})
"""Events that have columns; a TRUNCATE, say, has none, and is spread."""


class PartitionKeys:
    """Fills in the template of a config."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._names = placeholders(template)
        self._columns = self._names - OURS
        self._is_key = template == "{key}"

    def of(self, batch: Batch, messages: Messages) -> list[str]:
        """The partition key of each message. Raises ``kinesis.column_missing``."""
        if self._is_key:
            return [
                _spread(batch, index) if key is None else fitting(key)
                for key, index in zip(messages.keys, messages.indexes, strict=True)
            ]
        rows = _rows(batch, self._columns) if self._columns else {}
        return [
            self._filled(batch, key, index, rows.get(index, {}))
            for key, index in zip(messages.keys, messages.indexes, strict=True)
        ]

    def _filled(self, batch: Batch, key: bytes | None, index: int, row: Mapping[str, Value]) -> str:
        values: dict[str, Value] = {**row, "key": key, "topic": batch.target}
        texts: dict[str, bytes] = {}
        for name in self._names:
            schema = batch.schemas[batch.schema_ids[index]]
            if name not in OURS and batch.ops[index] in ROWS and name not in _names(schema):
                raise error("column_missing", schema=schema.name, column=name)
            value = values.get(name)
            if isinstance(value, str):
                value = value.encode("utf-8", "surrogateescape")
            if not isinstance(value, bytes):
                return _spread(batch, index)
            texts[name] = value
        decoded = {n: value.decode("utf-8", "surrogateescape") for n, value in texts.items()}
        filled = self._template.format(**decoded)
        return fitting(filled.encode("utf-8", "surrogateescape"))


def fitting(key: bytes) -> str:
    """A key as Kinesis takes it."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return sha256(key).hexdigest()
    units = len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
    return text if 1 <= units <= UNITS_MAX else sha256(key).hexdigest()


def _names(schema: Schema) -> set[str]:
    return {column.name for column in schema.columns}


def _spread(batch: Batch, index: int) -> str:
    return sha256(f"{batch.topic}:{batch.offset + index}".encode()).hexdigest()[:32]


def _rows(batch: Batch, names: set[str] | frozenset[str]) -> dict[int, dict[str, Value]]:
    """The values of the named columns of each event that has a row: of the new one, and of the old
    one where the new one has none or leaves the column out."""
    found: dict[int, dict[str, Value]] = {}
    for change in batch:
        row: dict[str, Value] = {}
        old, new, _key_only = change.images()
        for image in (old, new):
            if image is not None:
                row |= _named(change, image, names)
        found[change.index] = row
    return found


def _named(change: Change, image: bytes, names: set[str] | frozenset[str]) -> dict[str, Value]:
    columns = change.schema.columns
    values = zip(columns, decode(image), strict=True)
    return {
        column.name: value
        for column, value in values
        if column.name in names and (value is None or isinstance(value, (str, bytes)))
    }
