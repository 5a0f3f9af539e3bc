"""Frames and records opened: what readers and writers of one broker share of its keys."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ulid import ULID

from ensign_core import frame
from ensign_core.broker.client_keys import ClientKeys
from ensign_core.broker.policy import TopicPolicy
from ensign_core.change import Batch, Column, Schema
from ensign_core.crypto import PROJECT, DataKey, Identity, KeyRing, Opener, Sealer
from ensign_core.engine import Engine, Stored, Topic
from ensign_core.errors import EnsignError

SCHEMAS_MAX = 16_384
"""Schemas that are remembered. A table has few; each record of JSON may have its own."""


class Target(NamedTuple):
    """What a writer seals frames of a topic with, in a session of its own."""

    key: DataKey
    sealer: Sealer


class Vault:
    """Opens frames, schemas and positions. Shared between threads: what its caches have lost is
    looked up, or stored where it lies already, once more."""

    def __init__(self, engine: Engine, keys: KeyRing, identity: Identity | None = None) -> None:
        self.engine = engine
        self.keys = keys
        self.client_keys = ClientKeys(engine.keys, engine.grants, identity)
        self._sealing: dict[bytes, str] = {}
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
            end = stored.offset + stored.events
            if error.code == "topic.not_granted":
                end = self.client_keys.readable_from(stored.topic_id, stored.offset)
            last = end - 1
            where = f"topic {topic}, offsets {stored.offset} to {last}"
            raise EnsignError(error.code, f"{error.sentence} ({where})", error.remedy) from None
        batch.topic = topic
        return batch

    def _opener(self, key_id: bytes, stored: Stored) -> Opener:
        key = self.engine.keys.key(key_id)
        if key is None or key.topic_id != stored.topic_id:
            raise EnsignError(
                "key.missing",
                f"The data key {key_id.hex()} is not in keys.db.",
                "Restore keys.db from a backup; without the key these events cannot be read.",
            )
        if key.sealing == "client" and key.state != "revoked":
            return self.client_keys.opener(key)
        return self.keys.frame_opener(key)

    def targets(self, topics: Sequence[str]) -> dict[str, Target]:
        """What new frames of each topic are sealed with; keys are made for those that have none. A
        topic that there is not yet gets an id, which the key names. Raises ``grants.none``."""
        ids = self.engine.topic_ids(topics)
        named = {name: ids.get(name) or bytes(ULID()) for name in topics}
        client = self.client_sealed({topic_id: name for name, topic_id in named.items()})
        found = {
            name: Target(*self.client_keys.target(topic_id, name))
            for name, topic_id in named.items()
            if topic_id in client
        }
        keys = self._active_keys({id_ for id_ in named.values() if id_ not in client})
        for name, topic_id in named.items():
            if topic_id in keys:
                key = keys[topic_id]
                found[name] = Target(key, self.keys.frame_sealer(key))
        return found

    def _active_keys(self, topic_ids: Collection[bytes]) -> dict[bytes, DataKey]:
        found = self.engine.keys.stored(list(topic_ids)) if topic_ids else []
        active = {key.topic_id: key for key in found if key.state == "active"}
        fresh = [
            self.keys.new_data_key(topic_id, now_us())
            for topic_id in topic_ids
            if topic_id not in active
        ]
        if fresh:
            active.update((key.topic_id, key) for key in self.engine.keys.add(fresh))
        return active

    def policy(self, topic: Topic) -> TopicPolicy:
        """A topic's policy, opened."""
        if topic.policy is None:
            return TopicPolicy()
        about = about_policy(topic.topic_id)
        return TopicPolicy.decode(self.keys.open_record(topic.policy, about))

    def client_sealed(self, topics: Mapping[bytes, str]) -> set[bytes]:
        """Those of the topics, names by id, that are client-sealed: so they are from their making
        on, or never."""
        unknown = [name for topic_id, name in topics.items() if topic_id not in self._sealing]
        if unknown:
            for topic in self.engine.topics(unknown):
                self._sealing[topic.topic_id] = self.policy(topic).sealing
        return {topic_id for topic_id in topics if self._sealing.get(topic_id) == "client"}

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
