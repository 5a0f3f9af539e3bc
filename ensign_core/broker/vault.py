"""Frames and records opened: what readers and writers of one broker share of its keys."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from ulid import ULID

from ensign_core import frame
from ensign_core.broker.client_keys import ClientKeys
from ensign_core.broker.policy import TopicPolicy
from ensign_core.change import Batch, Column, Offset, Op, Schema
from ensign_core.crypto import PROJECT, DataKey, Identity, KeyProvider, KeyRing, Opener, Sealer
from ensign_core.crypto.keyring import revoked
from ensign_core.engine import Engine, StaleKekError, Stored, Topic
from ensign_core.errors import EnsignError

SCHEMAS_MAX = 16_384
"""Schemas that are remembered. A table has few; each record of JSON may have its own."""

REVOKED_LOOK_S = 0.5
"""How long it takes at most until a revocation by another process is noticed."""

KEK_TRIES_MAX = 5
"""How often a KEK is looked for anew that is being rotated meanwhile."""

_WHERE = " (topic "
_Made = TypeVar("_Made")

_Range = tuple[Offset, Offset]


class Vault:
    """Opens frames, schemas and positions. Shared between threads: what its caches have lost is
    looked up, or stored where it lies already, once more. ``keys`` is another ring after the KEK
    was rotated; both seal and open the same records."""

    def __init__(self, engine: Engine, keys: KeyRing, identity: Identity | None = None) -> None:
        self.engine = engine
        self.keys = keys
        self.client_keys = ClientKeys(engine.keys, engine.grants, identity)
        self._sealing: dict[bytes, str] = {}
        self._openers: dict[bytes, Opener | list[_Range]] = {}
        self._revocations = 0
        self._looked_at = float("-inf")
        self._schemas: dict[int, Schema] = {}

    def revocations(self) -> int:
        """How many revocations are known of, as of a look that is `REVOKED_LOOK_S` old at most.
        What holds anything of a frame in the open lets it go when the number has changed."""
        now = time.monotonic()
        if now - self._looked_at >= REVOKED_LOOK_S:
            count = self.engine.keys.revocations()
            if count != self._revocations:
                # Not cleared: who is just looking a key up puts it into the old one.
                self._openers = {}
                self._revocations = count
            self._looked_at = now
        return self._revocations

    def look(self) -> None:
        """Notice revocations at the next use, without waiting."""
        self._looked_at = float("-inf")

    def under_kek(self, work: Callable[[KeyRing], _Made]) -> _Made:
        """Do ``work`` that wraps or unwraps data keys and raises StaleKekError where the ring is
        not the one that they are wrapped under: once more then, with the ring that is. Raises
        ``key.kek_rotated`` if this process cannot get the KEK."""
        for _ in range(KEK_TRIES_MAX):
            ring = self.keys
            try:
                return work(ring)
            except StaleKekError:
                try:
                    self.keys = unlocked(self.engine, ring.provider)
                except EnsignError as error:
                    raise _kek_rotated(error, ring.provider) from None
        raise _rotating()

    def open_frame(self, stored: Stored, topic: str, order: frame.Order | None = None) -> Batch:
        """The batch that a stored frame holds, which for a reader of the topic comes in ``order``.
        Errors name the topic and the offsets concerned."""
        with self._concerning(stored, topic):
            header, clear, sealed = _parse(stored)
            opener = self._opener(header.key_id, stored.topic_id)
            packed = opener.open(header.session, header.counter, sealed, clear)
            schemas = {key: self.schema(key) for key in frame.schema_ids(packed)}
            batch = frame.unpack(packed, schemas, header, stored.offset)
            if order is not None:
                order.check(header, stored.offset)
        batch.topic = topic
        if stored.superseded:
            last = stored.offset + stored.events - 1
            gone = self.engine.publishing.superseded(stored.topic_id, stored.offset, last)
            return _without(batch, gone) if gone else batch
        return batch

    def check_header(self, stored: Stored, topic: str) -> None:
        """Of a frame that its readers alone can open, see that its header fits; errors as those of
        `open_frame`."""
        with self._concerning(stored, topic):
            _parse(stored)

    @contextlib.contextmanager
    def _concerning(self, stored: Stored, topic: str) -> Iterator[None]:
        try:
            yield
        except EnsignError as error:
            end = stored.offset + stored.events
            if error.code == "key.revoked":
                end = max(end, self._revoked_until(stored.key_id, stored.offset))
            elif error.code == "topic.not_granted":
                end = self.client_keys.readable_from(stored.topic_id, stored.offset)
            where = f"{_WHERE}{topic}, offsets {stored.offset} to {end - 1})"
            raise EnsignError(error.code, f"{error.sentence}{where}", error.remedy) from None

    def policy(self, topic: Topic) -> TopicPolicy:
        """What a topic's owner decided about it."""
        if topic.policy is None:
            return TopicPolicy()
        about = about_policy(topic.topic_id)
        return TopicPolicy.decode(self.keys.open_record(topic.policy, about))

    def _opener(self, key_id: bytes, topic_id: bytes) -> Opener:
        self.revocations()
        openers = self._openers
        if key_id not in openers:
            openers[key_id] = self.under_kek(lambda ring: self._unwrapped(ring, key_id, topic_id))
        opener = openers[key_id]
        if isinstance(opener, Opener):
            return opener
        raise revoked(key_id)

    def _unwrapped(self, ring: KeyRing, key_id: bytes, topic_id: bytes) -> Opener | list[_Range]:
        """What opens frames; for a key that is revoked, where they are."""
        key = self.engine.keys.key(key_id, ring.check)
        if key is None or key.topic_id != topic_id:
            raise EnsignError(
                "key.missing",
                f"The data key {key_id.hex()} is not in keys.db.",
                "Restore keys.db from a backup; without the key these events cannot be read.",
            )
        if key.state == "revoked":
            return self.engine.keys.ranges(key_id)
        client = key.sealing == "client"
        return self.client_keys.opener(key) if client else ring.frame_opener(key)

    def _revoked_until(self, key_id: bytes, offset: Offset) -> Offset:
        """Where behind an offset the events end that a revoked key sealed one after another."""
        ranges = self._openers.get(key_id)
        if isinstance(ranges, list):
            for first, end in ranges:
                if first <= offset < end:
                    return end
        return offset

    def sealers(self, topics: Sequence[str]) -> dict[str, tuple[DataKey, Sealer]]:
        """The key that new frames of each topic are sealed under, made for those that have none,
        with a session under it; a topic that there is not yet gets an id, which the key names.
        Raises ``grants.none``."""
        ids = self.engine.topic_ids(topics)
        named = {name: ids.get(name) or bytes(ULID()) for name in topics}
        client = self.client_sealed({topic_id: name for name, topic_id in ids.items()})
        found = {
            name: self.client_keys.sealer(topic_id, name)
            for name, topic_id in named.items()
            if topic_id in client
        }
        others = {name: topic_id for name, topic_id in named.items() if name not in found}
        return found | self.under_kek(
            lambda ring: {
                name: (key, ring.frame_sealer(key))
                for name, key in self._active_keys(ring, others).items()
            }
        )

    def _active_keys(self, ring: KeyRing, named: Mapping[str, bytes]) -> dict[str, DataKey]:
        ids = list(named.values())
        found = self.engine.keys.stored(ids, ring.check) if ids else []
        active = {key.topic_id: key for key in found if key.state == "active"}
        fresh = [
            ring.new_data_key(topic_id, now_us())
            for topic_id in named.values()
            if topic_id not in active
        ]
        if fresh:
            made = self.engine.keys.add(fresh, ring.check)
            active.update((key.topic_id, key) for key in made)
        return {name: active[topic_id] for name, topic_id in named.items()}

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
            schema = decode_schema(self.keys.open_record(box, about_schema(schema_id)))
            self.remember([schema])
        return schema

    def unknown(self, schemas: Sequence[Schema]) -> list[Schema]:
        """Those that this process has neither read nor written."""
        return [schema for schema in schemas if schema.id not in self._schemas]

    def remember(self, schemas: Sequence[Schema]) -> None:
        if len(self._schemas) + len(schemas) > SCHEMAS_MAX:
            self._schemas.clear()
        self._schemas.update((schema.id, schema) for schema in schemas)


def _without(batch: Batch, offsets: Sequence[Offset]) -> Batch:
    """A batch with events taken out, which keep their places."""
    ops = bytearray(batch.ops)
    gone = [offset - batch.offset for offset in offsets]
    for index in gone:
        ops[index] = Op.REMOVED
    return batch.edited(bytes(ops), dict.fromkeys(gone, b""))


def _parse(stored: Stored) -> tuple[frame.Header, bytes, bytes]:
    """A frame's parts, if it is the one that should be there."""
    header, clear, sealed = frame.parse(stored.frame)
    if (header.topic_id, header.events, header.key_id) != (
        stored.topic_id, stored.events, stored.key_id,
    ):  # fmt: skip
        raise frame.damaged("does not belong where it lies")
    return header, clear, sealed


def without_place(sentence: str) -> str:
    """A sentence of `Vault.open_frame` without the topic and the offsets that it ends with."""
    return sentence.rpartition(_WHERE)[0]


def record_key(engine: Engine, ring: KeyRing, *, fresh: bool) -> DataKey:
    """The stored key of a project's records, put there at its first use: a ``fresh`` project's own,
    or what the records of an older one are sealed under already."""
    for key in engine.keys.stored([PROJECT], ring.check):
        return key
    make = ring.new_record_key if fresh else ring.legacy_record_key
    (kept,) = engine.keys.add([make(now_us())], ring.check)
    return kept


def unlocked(engine: Engine, provider: KeyProvider) -> KeyRing:
    """The ring of a project, a new one's if nothing is sealed yet, ready for its records. Another
    process may rotate the KEK meanwhile. Raises what `KeyRing` does."""
    for _ in range(KEK_TRIES_MAX):
        # Where projects kept the check that were made before KEKs could be rotated.
        known = engine.keys.check() or engine.meta().get("kek", b"")
        try:
            ring = KeyRing(provider, create=not known, check=known or None)
            engine.keys.begin(ring.check)
            ring.use_records(record_key(engine, ring, fresh=not known))
        except StaleKekError:
            continue
        except EnsignError:
            if engine.keys.check() in (known, b""):
                raise
        else:
            return ring
    raise _rotating()


def _rotating() -> EnsignError:
    return EnsignError(
        "engine.busy",
        "The key-encryption key was rotated again and again meanwhile.",
        "See what runs `ensign keys rotate --master`; the pipeline tries again by itself.",
    )


def _kek_rotated(error: EnsignError, provider: KeyProvider) -> EnsignError:
    """What an error means to a process that had the right KEK when it began."""
    if error.code not in ("key.wrong", "key.missing"):
        return error
    return EnsignError(
        "key.kek_rotated",
        "The key-encryption key was rotated, and the one that is in use now is not in "
        f"{provider.describe()}.",
        "Restart the worker with the new key.",
    )


def about_schema(schema_id: int) -> bytes:
    """What a schema's seal is bound to."""
    return b"schema:%d" % schema_id


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
