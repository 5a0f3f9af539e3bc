"""Copies of events in dead letters, each sealed under a subkey of the data key of its event's
frame, so that revoking that key destroys the copy as well."""

from __future__ import annotations

import json
from typing import NamedTuple

from ensign_core.broker.vault import Vault
from ensign_core.change import Offset
from ensign_core.crypto import KeyRing
from ensign_core.crypto.keyring import revoked
from ensign_core.errors import EnsignError


class Copy(NamedTuple):
    """A sealed copy and the id of the data key that it dies with."""

    key_id: bytes
    box: bytes


class Copies:
    """`Broker.copies`. May be called from any thread: no key is kept, so that a revocation holds
    at once."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, letters: str, topic: str, offset: Offset, body: bytes) -> Copy | None:
        """A copy for the topic ``letters`` of the event at ``offset`` of ``topic``. None where
        there may be none: the event's frame or its key is gone, or the topic is client-sealed."""
        key_id = self._key_of(topic, offset)
        if key_id is None:
            return None
        about = _about(letters, topic, offset)
        return self._vault.under_kek(lambda ring: self._sealed(ring, key_id, body, about))

    def _key_of(self, topic: str, offset: Offset) -> bytes | None:
        """The id of the data key that the event's frame is under."""
        engine = self._vault.engine
        topic_id = engine.topic_ids([topic]).get(topic)
        sequence = None if topic_id is None else engine.sequence_at(topic_id, offset)
        if topic_id is None or sequence is None:
            return None
        for stored in engine.frames([topic_id], sequence - 1, 0):
            if stored.offset <= offset < stored.offset + stored.events:
                return stored.key_id
        return None

    def _sealed(self, ring: KeyRing, key_id: bytes, body: bytes, about: bytes) -> Copy | None:
        key = self._vault.engine.keys.key(key_id, ring.check)
        if key is None or key.state == "revoked" or key.sealing == "client":
            return None
        return Copy(key_id, ring.letter_sealer(key).box(body, about))

    def open(self, letters: str, topic: str, offset: Offset, copy: Copy) -> bytes:
        """What was sealed. Raises ``key.revoked``, also where the key went with its topic, and
        ``frame.tampered``."""
        about = _about(letters, topic, offset)

        def opened(ring: KeyRing) -> bytes:
            key = self._vault.engine.keys.key(copy.key_id, ring.check)
            if key is None:
                raise _destroyed(copy.key_id)
            return ring.letter_opener(key).unbox(copy.box, about)

        return self._vault.under_kek(opened)


def _destroyed(key_id: bytes) -> EnsignError:
    error = revoked(key_id)
    return EnsignError(error.code, error.sentence, "Drop the letter: its data is gone for ever.")


def _about(letters: str, topic: str, offset: Offset) -> bytes:
    """What a copy's seal is bound to."""
    return b"letter:" + json.dumps([letters, topic, offset]).encode()
