"""The life of keys: data keys are rotated and revoked, the KEK behind them is rotated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from ensign_core.broker.audit import audit_event
from ensign_core.broker.events import Event
from ensign_core.broker.vault import Vault, now_us
from ensign_core.change import Offset
from ensign_core.crypto import DataKey, KeyRing, RotatingProvider
from ensign_core.engine import StaleKekError, Topic
from ensign_core.errors import EnsignError


@dataclass(frozen=True)
class KeyInfo:
    """A data key: ``active`` (its topic's new frames are sealed under it), ``retired`` (it opens
    what it sealed) or ``revoked`` (it is destroyed). ``frames`` is how many are sealed under it."""

    key_id: str
    topic: str
    created: datetime
    state: Literal["active", "retired", "revoked"]
    frames: int


class Keys:
    """`Broker.keys`. Every method may be called from any thread, while others read and write; what
    changes keys is noted in the audit."""

    def __init__(
        self,
        vault: Vault,
        find: Callable[[str], Topic],
        note: Callable[[Iterable[Event]], None],
    ) -> None:
        self._vault = vault
        self._keys = vault.engine.keys
        self._find = find
        self._note = note

    def list(self) -> list[KeyInfo]:
        """The keys of all topics, by topic and age."""
        names = {topic.topic_id: topic.name for topic in self._vault.engine.topics()}
        frames = self._keys.frames()
        found = [
            _info(key, names[key.topic_id], frames.get(key.key_id, 0))
            for key in self._keys.stored()
            if key.topic_id in names
        ]
        return sorted(found, key=lambda info: (info.topic, info.created))

    def find(self, key_id: str) -> KeyInfo:
        """One key; ``key.unknown`` if there is none of that id."""
        for info in self.list():
            if info.key_id == key_id.lower():
                return info
        raise EnsignError(
            "key.unknown",
            f"There is no data key {key_id!r}.",
            "List the keys with: ensign keys list",
        )

    def ranges(self, key_id: str) -> Sequence[tuple[Offset, Offset]]:
        """The offsets of the events under a key, as ranges from a first one to a last one. Raises
        ``key.unknown``."""
        found = self._keys.ranges(bytes.fromhex(self.find(key_id).key_id))
        return [(first, end - 1) for first, end in found]

    def rotate(self, topic: str | None = None) -> Sequence[KeyInfo]:
        """Let new frames of a topic, or of all, be sealed under new keys, which are returned. Those
        of before still open what they sealed. A topic without an active key gets one when it is
        written to. Raises ``topic.unknown``."""
        topics = self._vault.engine.topics() if topic is None else [self._find(topic)]
        names = {found.topic_id: found.name for found in topics}

        def make(ring: KeyRing) -> list[DataKey]:
            fresh = [ring.new_data_key(topic_id, now_us()) for topic_id in names]
            return self._keys.rotate(fresh, ring.check)

        made = [_info(key, names[key.topic_id], 0) for key in self._vault.under_kek(make)]
        if made:
            self._note([audit_event("key.rotated", topic=i.topic, key_id=i.key_id) for i in made])
        return made

    def rotate_master(self) -> bool:
        """Wrap all keys anew under a new KEK, which the provider makes or was given; data stays as
        it is. True if it did; False if it only completed an earlier rotation that was broken off,
        or there is no newer KEK. Raises ``key.not_rotatable``, ``engine.busy`` if other processes
        rotated it meanwhile, and what the provider raises."""
        provider = self._vault.keys.provider
        if not isinstance(provider, RotatingProvider):
            raise EnsignError(
                "key.not_rotatable",
                f"What gives the key-encryption key ({provider.describe()}) cannot replace it.",
                "Use a provider that has `begin` and `finish`.",
            )
        before = self._keys.check()
        new = KeyRing.of(provider.begin())

        def rewrap(ring: KeyRing) -> bool:
            # What is wrapped under a KEK that came meanwhile must not go back to an older one,
            # which whoever made that one is about to forget.
            if ring.check not in (before, new.check):
                raise StaleKekError
            return self._keys.rewrap(partial(ring.rewrap, to=new), ring.check, new.check)

        rotated = self._vault.under_kek(rewrap)
        provider.finish()
        if rotated:
            self._note([audit_event("key.master_rotated")])
        return rotated

    def revoke(self, key_id: str) -> KeyInfo:
        """Destroy a key for ever: what it sealed is unreadable from now on (readers of this process
        stop at once, others within a second), and what was derived from that is gone. If it was
        its topic's active one, the next append makes a new one. The key as it was; one that is
        revoked already may be revoked again, which completes what was broken off. Raises
        ``key.unknown``."""
        info = self.find(key_id)
        self._keys.revoke(bytes.fromhex(info.key_id))
        self._vault.look()
        self._note([audit_event("key.revoked", topic=info.topic, key_id=info.key_id)])
        return info


def _info(key: DataKey, topic: str, frames: int) -> KeyInfo:
    seconds, us = divmod(key.created, 1_000_000)
    created = datetime.fromtimestamp(seconds, UTC).replace(microsecond=us)
    return KeyInfo(key.key_id.hex(), topic, created, key.state, frames)
