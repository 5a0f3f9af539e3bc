"""Data keys of client-sealed topics: made by whoever writes, sealed for the readers that have a
grant, opened by these readers and by nobody else."""

from __future__ import annotations

import threading
import time

from ensign_core.change import Offset
from ensign_core.crypto import ClientKey, DataKey, Identity, Opener, Sealer
from ensign_core.engine import Grants, Keys, StaleWriteError
from ensign_core.errors import EnsignError

GRANTS_TRIES_MAX = 5


class ClientKeys:
    """Those of one open broker, which its threads share. A key that this process made is in its
    memory only: another process, or the next, makes its own."""

    def __init__(self, keys: Keys, grants: Grants, identity: Identity | None) -> None:
        self.identity = identity
        self._keys = keys
        self._grants = grants
        self._made: dict[bytes, ClientKey] = {}
        self._lock = threading.Lock()

    def sealer(self, topic_id: bytes, topic: str) -> tuple[DataKey, Sealer]:
        """What new frames of a topic are sealed with. Raises ``grants.none``."""
        with self._lock:
            made = self._made.get(topic_id)
            stored = self._keys.key(made.row.key_id) if made is not None else None
            if made is None or stored is None or stored.state != "active":
                made = self._made[topic_id] = self._make(topic_id, topic)
            return made.row, made.sealer()

    def _make(self, topic_id: bytes, topic: str) -> ClientKey:
        made = ClientKey.new(topic_id, time.time_ns() // 1000)
        for _ in range(GRANTS_TRIES_MAX):
            readers = [
                grant.public_key
                for grant in self._grants.of([topic_id])
                if grant.granted and grant.public_key is not None
            ]
            if not readers:
                raise EnsignError(
                    "grants.none",
                    f"Nobody may read the client-sealed topic {topic}, so there is nobody to seal "
                    "events for.",
                    f"Let somebody in: ensign grants add {topic} READER --public-key TEXT",
                )
            try:
                self._grants.add_key(made.row, made.sealed_for(readers))
            except StaleWriteError:
                continue
            return made
        raise changing(topic)

    def opener(self, key: DataKey) -> Opener:
        """Opens what is sealed under a key. Raises ``topic.client_sealed`` without an identity and
        ``topic.not_granted`` for one that it is not sealed for."""
        if self.identity is None:
            raise client_sealed()
        return self._opened(key, self.identity).opener()

    def _opened(self, key: DataKey, identity: Identity) -> ClientKey:
        box = self._grants.boxes(identity.public, key.topic_id, key.key_id).get(key.key_id)
        if box is None:
            raise EnsignError(
                "topic.not_granted",
                "The identity had no grant when these events were written, or has none any more.",
                "Read on behind them, or have somebody who can read give the identity the past "
                "keys: ensign grants add TOPIC READER --identity FILE",
            )
        return ClientKey.opened(key, box, identity)

    def past(self, topic_id: bytes, public_key: str) -> dict[bytes, bytes]:
        """All keys of a topic that this identity can open, sealed for another reader, by id."""
        if self.identity is None:
            raise client_sealed()
        boxes: dict[bytes, bytes] = {}
        for key_id, box in self._grants.boxes(self.identity.public, topic_id).items():
            row = self._keys.key(key_id)
            if row is not None:
                opened = ClientKey.opened(row, box, self.identity)
                boxes |= {key_id: opened.sealed_for([public_key])[public_key]}
        return boxes

    def readable_from(self, topic_id: bytes, offset: Offset) -> Offset:
        """Where what this identity cannot open ends."""
        if self.identity is None:
            return offset
        return self._grants.readable_from(self.identity.public, topic_id, offset)


def client_sealed(topic: str | None = None) -> EnsignError:
    """The error for whoever must see inside and has no identity."""
    return EnsignError(
        "topic.client_sealed",
        f"The topic {topic} is client-sealed: only an identity with a grant opens it."
        if topic
        else "The topic is client-sealed: only an identity with a grant opens it.",
        "Give the identity of a reader, with --identity FILE or `broker: identity:`.",
    )


def changing(topic: str) -> EnsignError:
    return EnsignError(
        "engine.busy",
        f"Grants of the topic {topic} changed again and again meanwhile.",
        "See what changes them; a pipeline tries again by itself.",
    )
