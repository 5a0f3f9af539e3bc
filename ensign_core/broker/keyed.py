"""Which key a change is about, and which values it knows: what compaction folds topics by. Pure.

Rows have the key of their schema's key columns, published events their own. Keys of two tables (or
streams) in one topic are apart, and so are those of a table whose key columns were changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from ensign_core.broker.large.claim import CHUNKED, PART, PART_MIMETYPE, Parts
from ensign_core.change import NULL, UNCHANGED, Change, Op, Schema
from ensign_core.rows import join, split

DIGEST_BYTES = 16

Values = dict[str, tuple[int, bytes]]
"""Kinds and values of columns, by name."""

_Row = tuple[bytes, list[bytes]]
_OF_PARTS = frozenset({CHUNKED.encode(), PART_MIMETYPE.encode()})
_ROWS = frozenset({Op.SNAPSHOT, Op.INSERT, Op.UPDATE, Op.DELETE})


class Does(Enum):
    """What a change does to the state of its topic."""

    SET = 0
    DELETE = 1
    TRUNCATE = 2
    PART = 3
    NOTHING = 4


class Effect(NamedTuple):
    """``key`` is a digest, None where there is none; ``old`` is that of the key that the row had
    before, if it has another now. ``lacks``: a column is unchanged, and its value is not in the
    change itself. ``run``: the parts of a large event, of which the change is one or the claim."""

    does: Does
    table: bytes
    key: bytes | None = None
    old: bytes | None = None
    lacks: bool = False
    run: bytes | None = None


class Keyed:
    """Finds the effects of changes. The digests of two of these do not compare: they are keyed,
    so that they tell nothing of the keys."""

    def __init__(self) -> None:
        secret = os.urandom(32)
        self._digest = partial(blake2b, digest_size=DIGEST_BYTES, key=secret)
        self._tables: dict[int, tuple[bytes, bytes]] = {}

    def effect(self, change: Change) -> Effect | None:
        """What a change does; None for what has no key and is never taken out."""
        op = change.op
        if op is Op.EVENT:
            return self._event(change)
        schema = change.schema
        if op is Op.TRUNCATE:
            return Effect(Does.TRUNCATE, self._table(schema)[0])
        if op not in _ROWS or not schema.key:
            return None
        old_image, new_image, key_only = change.images()
        old = split(old_image) if old_image is not None else None
        table = self._table(schema)[0]
        old_key = self._key(schema, old, None) if old is not None else None
        if new_image is None:
            return None if old_key is None else Effect(Does.DELETE, table, old_key)
        new = split(new_image)
        key = self._key(schema, new, old)
        if key is None:
            return None
        lacks = UNCHANGED in new[0] and bool(_lacking(new, None if key_only else old))
        return Effect(Does.SET, table, key, old_key if old_key != key else None, lacks)

    def _event(self, change: Change) -> Effect | None:
        row = change.images()[1]
        if row is None:
            return None
        kinds, values = split(row)
        columns = change.schema.columns
        found = {
            column.name: value
            for column, kind, value in zip(columns, kinds, values, strict=False)
            if kind not in (NULL, UNCHANGED)
        }
        table, prefix = self._table(change.schema)
        run = _run(found) if found.get("mimetype") in _OF_PARTS else None
        if run is not None and found["mimetype"] == PART_MIMETYPE.encode():
            return Effect(Does.PART, table, run=run)
        if "key" not in found:
            return None if run is None else Effect(Does.NOTHING, table, run=run)
        does = Does.SET if "data" in found else Does.DELETE
        return Effect(does, table, self._digest(prefix + found["key"]).digest(), run=run)

    def _table(self, schema: Schema) -> tuple[bytes, bytes]:
        """A table's own bytes, and what its keys are digested behind."""
        found = self._tables.get(schema.id)
        if found is None:
            table = self._digest(repr((schema.name, schema.names)).encode()).digest()
            names = repr([schema.columns[place].name for place in schema.key]).encode()
            found = self._tables[schema.id] = table, table + names
        return found

    def _key(self, schema: Schema, row: _Row, old: _Row | None) -> bytes | None:
        """The key, unchanged columns of it from the old image; None if the row does not have it."""
        parts = [self._table(schema)[1]]
        for place in schema.key:
            kinds, values = row
            if kinds[place] == UNCHANGED:
                if old is None or old[0][place] == UNCHANGED:
                    return None
                kinds, values = old
            parts.append(b"%c%d:%b" % (kinds[place], len(values[place]), values[place]))
        return self._digest(b"".join(parts)).digest()


def _run(found: Mapping[str, bytes]) -> bytes | None:
    """The run of parts of an event that is one of them or claims them."""
    try:
        if found["mimetype"] == CHUNKED.encode():
            return Parts.model_validate_json(found["data"]).run.encode()
        run, _, _ = str(json.loads(found["metadata"])[PART]).partition("/")
    except (ValueError, KeyError, TypeError):
        return None
    return run.encode()


def known(change: Change) -> Values:
    """The values that a change's new image has or leaves to its own full old image."""
    old, new = _images(change)
    names = [column.name for column in change.schema.columns]
    found: Values = {}
    for image in filter(None, (old, new)):
        found.update(
            (name, (kind, value))
            for name, kind, value in zip(names, *image, strict=True)
            if kind != UNCHANGED
        )
    return found


def completed(change: Change, older: Mapping[str, tuple[int, bytes]]) -> bytes:
    """The body of a change with the values that it lacks from ``older``, where that has them."""
    old, new = _images(change)
    kinds, values = bytearray(new[0]), list(new[1])
    for place in _lacking(new, old):
        value = older.get(change.schema.columns[place].name)
        if value is not None:
            kinds[place], values[place] = value
    return without_new(change) + b"N" + join(bytes(kinds), values)


def without_new(change: Change) -> bytes:
    """The body of a change up to its new image: that of a delete."""
    old = change.images()[0]
    return b"" if old is None else change.body[: 1 + len(old)]


def _images(change: Change) -> tuple[_Row | None, _Row]:
    """The old image, if it has all columns, and the new one."""
    old, new, key_only = change.images()
    assert new is not None, "a change that sets a row has a new image"
    return (None if old is None or key_only else split(old)), split(new)


def _lacking(new: _Row, old: _Row | None) -> list[int]:
    return [
        place
        for place, kind in enumerate(new[0])
        if kind == UNCHANGED and (old is None or old[0][place] == UNCHANGED)
    ]
