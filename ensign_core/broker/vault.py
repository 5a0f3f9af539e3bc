"""Frames and records opened: what readers and writers of one broker share of its keys."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from ulid import ULID

from ensign_core import frame
from ensign_core.change import Batch, Column, Schema
from ensign_core.crypto import PROJECT, DataKey, KeyRing, Opener
from ensign_core.engine import Engine, Stored
from ensign_core.errors import EnsignError

SCHEMAS_MAX = 16_384
"""Schemas that are remembered. A table has few; each record of JSON may have its own."""


class Vault:
    """Opens frames, schemas and positions. Shared between threads: what its caches have lost is
    looked up, or stored where it lies already, once more."""

    def __init__(self, engine: Engine, keys: KeyRing) -> None:
        self.engine = engine
        self.keys = keys
        self._openers: dict[bytes, Opener] = {}
        self._schemas: dict[int, Schema] = {}

    def open_frame(self, stored: Stored, topic: str) -> Batch:
        """The batch that a stored frame holds. Errors name the topic and the offsets concerned."""
        try:
            header, clear, sealed = frame.parse(stored.frame)
            if (header.topic_id, header.events) != (stored.topic_id, stored.events):
                raise frame.damaged("does not belong where it lies")
            opener = self._openers.get(header.key_id)
            if opener is None:
                opener = self._openers[header.key_id] = self._opener(header.key_id, stored)
            packed = opener.open(header.session, header.counter, sealed, clear)
            schemas = {key: self.schema(key) for key in frame.schema_ids(packed)}
            batch = frame.unpack(packed, schemas, header, stored.offset)
        except EnsignError as error:
            last = stored.offset + stored.events - 1
            where = f"topic {topic}, offsets {stored.offset} to {last}"
            raise EnsignError(error.code, f"{error.sentence} ({where})", error.remedy) from None
        batch.topic = topic
        return batch

    def _opener(self, key_id: bytes, stored: Stored) -> Opener:
        for key in self.engine.keys.stored([stored.topic_id]):
            if key.key_id == key_id:
                return self.keys.frame_opener(key)
        raise EnsignError(
            "key.missing",
            f"The data key {key_id.hex()} is not in keys.db.",
            "Restore keys.db from a backup; without the key these events cannot be read.",
        )

    def active_keys(self, topics: Sequence[str]) -> dict[str, DataKey]:
        """The key that new frames of each topic are sealed under, made for those that have none;
        a topic that there is not yet gets an id, which the key names."""
        ids = self.engine.topic_ids(topics)
        named = {name: ids.get(name) or bytes(ULID()) for name in topics}
        found = self.engine.keys.stored(list(ids.values())) if ids else []
        active = {key.topic_id: key for key in found if key.state == "active"}
        fresh = [
            self.keys.new_data_key(topic_id, now_us())
            for topic_id in named.values()
            if topic_id not in active
        ]
        if fresh:
            active.update((key.topic_id, key) for key in self.engine.keys.add(fresh))
        return {name: active[topic_id] for name, topic_id in named.items()}

    def schema(self, schema_id: int) -> Schema:
        """A schema by its id, from the engine at its first use."""
        schema = self._schemas.get(schema_id)
        if schema is None:
            box = self.engine.schema(schema_id)
            if box is None:
                raise frame.damaged("names a schema that is not stored")
            schema = decode_schema(self.keys.open_record(box, _about_schema(schema_id)))
            self.remember([schema])
        return schema

    def unknown(self, schemas: Sequence[Schema]) -> list[Schema]:
        """Those that this process has neither read nor written."""
        return [schema for schema in schemas if schema.id not in self._schemas]

    def remember(self, schemas: Sequence[Schema]) -> None:
        if len(self._schemas) + len(schemas) > SCHEMAS_MAX:
            self._schemas.clear()
        self._schemas.update((schema.id, schema) for schema in schemas)


def record_key(engine: Engine, ring: KeyRing, *, fresh: bool) -> DataKey:
    """The stored key of a project's records, put there at its first use: a ``fresh`` project's own,
    or what the records of an older one are sealed under already."""
    for key in engine.keys.stored([PROJECT]):
        return key
    make = ring.new_record_key if fresh else ring.legacy_record_key
    (kept,) = engine.keys.add([make(now_us())])
    return kept


def _about_schema(schema_id: int) -> bytes:
    return b"schema:%d" % schema_id


def about_schema(schema: Schema) -> bytes:
    """What a schema's seal is bound to."""
    return _about_schema(schema.id)


def about_position(pipeline: str) -> bytes:
    return b"position:" + pipeline.encode()


def about_kept(pipeline: str, name: str) -> bytes:
    """What the seal of a piece kept beside the position is bound to."""
    return b"kept:%s\0%s" % (pipeline.encode(), name.encode())


def about_signal(pipeline: str) -> bytes:
    return b"signal:" + pipeline.encode()


def about_letter(pipeline: str) -> bytes:
    """What the seal of an error is bound to for which a dead letter could not be replayed."""
    return b"letter:" + pipeline.encode()


def about_policy(topic_id: bytes) -> bytes:
    return b"policy:" + topic_id


def about_status(pipeline: str) -> bytes:
    return b"status:" + pipeline.encode()


def encode_schema(schema: Schema) -> bytes:
    return json.dumps([schema.name, schema.names, schema.columns]).encode()


def decode_schema(data: bytes) -> Schema:
    name, names, columns = json.loads(data)
    return Schema(
        name,
        tuple((key, value) for key, value in names),
        tuple(Column(*column) for column in columns),
    )


def now_us() -> int:
    """The time in µs since the Unix epoch."""
    return time.time_ns() // 1000
