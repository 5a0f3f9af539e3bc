"""Rows events of a binlog in plain Python: what the compiled decoder is held against."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.mysql import binaryjson, rowimage
from connectors.mysql.wire import Type, WireColumn
from ensign_core.rows import ABSENT, Value, encode
from tests.plain.mysql_values import (
    PlainDamageError,
    PlainMismatchError,
    fixed_size,
    prefix,
    stored_value,
)


class Reader:
    """Bytes that are read from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise PlainDamageError
        found, self.data = self.data[:size], self.data[size:]
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def length_encoded(self) -> int:
        first = self.number(1)
        if first < 251:
            return first
        if first not in (252, 253, 254):
            raise PlainDamageError
        return self.number({252: 2, 253: 3, 254: 8}[first])

    def bits(self, count: int) -> list[bool]:
        data = self.take((count + 7) // 8)
        return [bool(data[i // 8] >> i % 8 & 1) for i in range(count)]


def raw(
    columns: Sequence[WireColumn], reader: Reader, there: Sequence[int]
) -> dict[int, bytes | None]:
    """The bytes of the columns present in an image, None for null."""
    nulls = reader.bits(len(there))
    row: dict[int, bytes | None] = {}
    for i, null in zip(there, nulls, strict=True):
        if null:
            row[i] = None
            continue
        size = prefix(columns[i])
        row[i] = reader.take(reader.number(size) if size else fixed_size(columns[i]))
    return row


class PlainDecoder:
    """As `connectors.mysql.rowimage.RowDecoder`."""

    def __init__(
        self, columns: Sequence[WireColumn], key: Sequence[int], keep: Sequence[int] | None = None
    ) -> None:
        self.columns = columns
        self.key = set(key)
        self.keep = range(len(columns)) if keep is None else sorted(set(keep))
        self.json = [i for i, c in enumerate(columns) if c.type == Type.JSON]

    def bodies(self, event: bytes, kind: int) -> list[bytes]:
        """Raises `PlainDamageError` and `PlainMismatchError`."""
        reader = Reader(event)
        count = len(self.columns)
        if reader.length_encoded() != count:
            raise PlainMismatchError
        first = [i for i, bit in enumerate(reader.bits(count)) if bit]
        updates = kind in (rowimage.UPDATE, rowimage.PARTIAL_UPDATE)
        second = [i for i, bit in enumerate(reader.bits(count)) if bit] if updates else []
        bodies: list[bytes] = []
        if not first and (kind != rowimage.WRITE or reader.data):
            raise PlainDamageError
        while reader.data or not (first or bodies):
            row = raw(self.columns, reader, first)
            if kind == rowimage.WRITE:
                bodies.append(b"N" + self._row(row, b"u"))
                continue
            marker = self._marker(set(first))
            body = marker + self._row(row, b"n" if marker == b"K" else b"u")
            if updates:
                new = self._new_row(reader, second, row, kind == rowimage.PARTIAL_UPDATE)
                body += b"N" + encode([new[i] for i in self.keep])
            bodies.append(body)
        return bodies

    def _value(self, index: int, data: bytes | None) -> Value:
        return None if data is None else stored_value(self.columns[index], data)

    def _row(self, row: dict[int, bytes | None], absent: bytes) -> bytes:
        lacks: Value = None if absent == b"n" else ABSENT
        return encode([self._value(i, row[i]) if i in row else lacks for i in self.keep])

    def _marker(self, there: set[int]) -> bytes:
        return b"K" if there and there == self.key and len(there) < len(self.columns) else b"O"

    def _new_row(
        self, reader: Reader, there: Sequence[int], old: dict[int, bytes | None], partial: bool
    ) -> dict[int, Value]:
        changed = []
        if partial:
            options = reader.number(1)
            if options > 1:
                raise PlainDamageError
            if options:
                bits = reader.bits(len(self.json))
                changed = [i for i, bit in zip(self.json, bits, strict=True) if bit]
        found = raw(self.columns, reader, there)
        row: dict[int, Value] = {}
        for i in range(len(self.columns)):
            if i not in self.keep:
                continue
            if i in found:
                value = found[i]
                row[i] = (
                    self._patched(i, value, old) if value is not None and i in changed
                    else self._value(i, value)
                )  # fmt: skip
            elif i in self.key and i in old:
                row[i] = self._value(i, old[i])
            else:
                row[i] = ABSENT
        return row

    def _patched(self, index: int, diff: bytes, old: dict[int, bytes | None]) -> Value:
        if index not in old:
            return ABSENT
        document = old[index]
        if document is None:
            raise PlainDamageError
        try:
            return binaryjson.json_patched(document, diff).decode("utf-8", "surrogateescape")
        except ValueError:
            raise PlainDamageError from None
