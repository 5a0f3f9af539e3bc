"""What a table's topic holds, compared with the table itself: for `Signal.reconcile`.

The events of the table are folded into digests by key, in a temporary database that SQLite keeps in
a nameless file once it outgrows its cache: memory is bounded whatever the topic holds, and nothing
of a row is in the file, since the digests are keyed (BLAKE2b, RFC 7693) with a key of this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b

import apsw

from ensign_core.broker import Broker, Reader
from ensign_core.change import (
    BINARY,
    NULL,
    UNCHANGED,
    Batch,
    Change,
    Offset,
    Op,
    Schema,
)
from ensign_core.errors import EnsignError
from ensign_core.rows import split

DIGEST_BYTES = 8
KEY_DIGEST_BYTES = 16
CACHE_KIB = 64 << 10
"""How much of the temporary database is kept in memory."""

_UNKNOWN = bytes(DIGEST_BYTES)
_NULL = b"\x01" + bytes(DIGEST_BYTES - 1)
_FOLDED = frozenset({Op.SNAPSHOT, Op.INSERT, Op.UPDATE, Op.DELETE})
_TABLE = """
CREATE TABLE rows (
    key BLOB PRIMARY KEY, digests BLOB NOT NULL, at INTEGER NOT NULL, seen INTEGER NOT NULL
) WITHOUT ROWID
"""

_Row = tuple[bytes, list[bytes]]
"""Kinds and values of an image's columns."""

_State = tuple[bytes, Offset, bool]
"""The digests of a row's columns, the offset of its last event, whether it is accounted for."""


class TopicComparison:
    """Implements `ensign_core.plugin.Comparison` for the table of ``schema``. Belongs to one
    thread. Columns are matched by name; rows kept under another key than the schema's, from before
    the key was changed, are passed over."""

    def __init__(self, broker: Broker, topic: str, schema: Schema) -> None:
        self._broker = broker
        self._topic = topic
        self._schema = schema
        self._reader: Reader | None = None
        self._made_at = self._end()
        secret = os.urandom(32)
        self._digest = partial(blake2b, digest_size=DIGEST_BYTES, key=secret)
        self._key_digest = partial(blake2b, digest_size=KEY_DIGEST_BYTES, key=secret)
        self._columns = [column.name for column in schema.columns]
        self._key = [self._columns[place] for place in schema.key]
        self._db = apsw.Connection("")
        for name, value in (("journal_mode", "OFF"), ("cache_size", -CACHE_KIB)):
            self._db.pragma(name, value)
        self._db.execute(_TABLE)
        self._indexed = False

    def _end(self) -> Offset:
        try:
            return self._broker.topic(self._topic).next_offset
        except EnsignError as error:
            if error.code != "topic.unknown":
                raise
            return 0

    def advance(self, timeout_s: float) -> bool:
        """Take in what was appended, for about ``timeout_s``; whether that was all."""
        deadline = time.monotonic() + timeout_s
        if self._reader is None:
            if not self._end():
                return True
            self._reader = self._broker.reader([self._topic])
        while batches := self._reader.fetch():
            for batch in batches:
                self._fold(batch)
            if time.monotonic() >= deadline:
                return False
        return True

    def differing(self, schema: Schema, bodies: Sequence[bytes]) -> list[bytes]:
        self.advance(float("inf"))
        layout = _Layout(schema, self._columns, self._key)
        comparable = {column.name for column in schema.columns} == set(self._columns)
        different: list[bytes] = []
        seen: list[tuple[bytes]] = []
        with self._db:
            for body in bodies:
                row = split(body[1:])
                key = self._key_of(layout, row, None)
                held = self._stored(key) if key is not None else None
                if key is not None and held is not None and not held[2]:
                    seen.append((key,))
                if not comparable or held is None or held[0] != self._digests(layout, row):
                    different.append(body)
            self._db.executemany("UPDATE rows SET seen = 1 WHERE key = ?", seen)
        return different

    def absent(self, rows_max: int) -> list[bytes]:
        self.advance(float("inf"))
        if not self._indexed:
            self._db.execute("CREATE INDEX unseen ON rows (at) WHERE seen = 0")
            self._indexed = True
        found = list(
            self._db.execute(
                "SELECT at, key FROM rows WHERE seen = 0 ORDER BY at LIMIT ?", (rows_max,)
            )
        )
        with self._db:
            self._db.executemany(
                "UPDATE rows SET seen = 1 WHERE key = ?", [(key,) for _, key in found]
            )
        return self._old_images([at for at, _ in found])

    def close(self) -> None:
        self._db.close()
        if self._reader is not None:
            self._reader.close()

    def _old_images(self, offsets: Sequence[Offset]) -> list[bytes]:
        """The key images of the rows that the events at these rising offsets left."""
        images: list[bytes] = []
        if not offsets:
            return images
        wanted = set(offsets)
        with self._broker.reader([self._topic], offsets[0]) as reader:
            while len(images) < len(offsets) and (batches := reader.fetch()):
                for batch in batches:
                    if not wanted.isdisjoint(range(batch.offset, batch.next_offset)):
                        images += [
                            self._key_image(change)
                            for change in batch
                            if change.offset in wanted and change.op is not Op.REMOVED
                        ]
        return images

    def _key_image(self, change: Change) -> bytes:
        layout = _Layout(change.schema, self._columns, self._key)
        old, new, _ = change.images()
        assert new is not None
        parts = [b"K", len(self._columns).to_bytes(2, "big")]
        by_name = dict(zip(self._key, layout.key(split(new), split(old) if old else None) or (),
                           strict=True))  # fmt: skip
        for name in self._columns:
            kind, value = by_name.get(name, (NULL, b""))
            parts.append(bytes([kind]))
            if kind != NULL:
                parts += (len(value).to_bytes(4, "big"), value)
        return b"".join(parts)

    def _fold(self, batch: Batch) -> None:
        layouts = {
            number: _Layout(schema, self._columns, self._key)
            for number, schema in enumerate(batch.schemas)
            if (schema.name, schema.names) == (self._schema.name, self._schema.names)
        }
        if not layouts:
            return
        pending: dict[bytes, _State | None] = {}
        with self._db:
            for change, number in zip(batch, batch.schema_ids, strict=True):
                layout = layouts.get(number)
                if layout is None:
                    continue
                op = change.op
                if op is Op.TRUNCATE:
                    pending.clear()
                    self._db.execute("DELETE FROM rows")
                elif op in _FOLDED:
                    self._take(layout, change, pending)
            self._store(pending)

    def _take(self, layout: _Layout, change: Change, pending: dict[bytes, _State | None]) -> None:
        old_image, new_image, key_only = change.images()
        old = split(old_image) if old_image is not None else None
        new = split(new_image) if new_image is not None else None
        old_key = None
        if old is not None and not (key_only and not layout.key_images):
            old_key = self._key_of(layout, old, None)
        if new is None:
            if old_key is not None:
                pending[old_key] = None
            return
        key = self._key_of(layout, new, old)
        if key is None:
            return
        digests = self._digests(layout, new)
        if UNCHANGED in new[0]:
            before = old_key or key
            held = pending[before] if before in pending else self._stored(before)
            full = self._digests(layout, old) if old is not None and not key_only else None
            digests = layout.merged(new[0], digests, full, held[0] if held is not None else None)
        if old_key is not None and old_key != key:
            pending[old_key] = None
        pending[key] = digests, change.offset, change.offset >= self._made_at

    def _stored(self, key: bytes) -> _State | None:
        for digests, at, seen in self._db.execute(
            "SELECT digests, at, seen FROM rows WHERE key = ?", (key,)
        ):
            return digests, at, bool(seen)
        return None

    def _store(self, pending: dict[bytes, _State | None]) -> None:
        self._db.executemany(
            "DELETE FROM rows WHERE key = ?",
            [(key,) for key, state in pending.items() if state is None],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)",
            [(key, *state) for key, state in pending.items() if state is not None],
        )

    def _key_of(self, layout: _Layout, row: _Row, old: _Row | None) -> bytes | None:
        parts = layout.key(row, old)
        if parts is None:
            return None
        text = b"".join(b"%c%d:%b" % (kind, len(value), value) for kind, value in parts)
        return self._key_digest(text).digest()

    def _digests(self, layout: _Layout, row: _Row) -> bytes:
        kinds, values = row
        digest = self._digest
        found = [
            _UNKNOWN if place is None or kinds[place] == UNCHANGED
            else _NULL if kinds[place] == NULL
            else digest(values[place], person=b"b").digest() if kinds[place] == BINARY
            else digest(values[place]).digest()
            for place in layout.places
        ]  # fmt: skip
        return b"".join(found)


class _Layout:
    """Where the columns that are compared lie in the rows of a schema."""

    def __init__(self, schema: Schema, columns: Sequence[str], key: Sequence[str]) -> None:
        places = {column.name: place for place, column in enumerate(schema.columns)}
        self.places = [places.get(name) for name in columns]
        self._key = [places.get(name) for name in key]
        own = {schema.columns[place].name for place in schema.key}
        self.key_images = own.issuperset(key)

    def merged(self, kinds: bytes, new: bytes, *older: bytes | None) -> bytes:
        """The digests with those of unchanged columns from the next older image that has them."""
        merged = bytearray(new)
        for column, place in enumerate(self.places):
            if place is None or kinds[place] != UNCHANGED:
                continue
            part = slice(column * DIGEST_BYTES, (column + 1) * DIGEST_BYTES)
            known = (image[part] for image in older if image is not None)
            merged[part] = next((one for one in known if one != _UNKNOWN), _UNKNOWN)
        return bytes(merged)

    def key(self, row: _Row, old: _Row | None) -> list[tuple[int, bytes]] | None:
        """Kinds and values of the key's columns, unchanged ones from the old image; None where the
        row does not have them all."""
        parts: list[tuple[int, bytes]] = []
        for place in self._key:
            if place is None:
                return None
            kinds, values = row
            if kinds[place] == UNCHANGED:
                if old is None or old[0][place] == UNCHANGED:
                    return None
                kinds, values = old
            parts.append((kinds[place], values[place]))
        return parts
