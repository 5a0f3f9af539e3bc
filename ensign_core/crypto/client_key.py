"""The data key of a client-sealed topic, as the process that made it has it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from ensign_core.crypto.identity import Identity, parse_public, seal_to
from ensign_core.crypto.keyring import FRAMES, KEY_ID_BYTES, DataKey
from ensign_core.crypto.providers import KEY_BYTES
from ensign_core.crypto.seal import Opener, Sealer


@dataclass(frozen=True)
class ClientKey:
    """``row`` is what is stored of it: nothing that opens anything."""

    row: DataKey
    _secret: bytes = field(repr=False)

    @classmethod
    def new(cls, topic_id: bytes, created: int) -> Self:
        """A fresh random key for a topic. ``created`` is in µs."""
        row = DataKey(os.urandom(KEY_ID_BYTES), topic_id, b"", created, "active", "client")
        return cls(row, os.urandom(KEY_BYTES))

    @classmethod
    def opened(cls, row: DataKey, box: bytes, identity: Identity) -> Self:
        """The key from a box that `sealed_for` made for this identity. Raises
        ``reader.key_wrong``."""
        return cls(row, identity.open(box, _about(row)))

    def sealed_for(self, public_keys: Iterable[str]) -> dict[str, bytes]:
        """A box for each reader, by public key. Raises ``reader.key_malformed``."""
        about = _about(self.row)
        return {text: seal_to(parse_public(text), self._secret, about) for text in public_keys}

    def sealer(self) -> Sealer:
        """A new writer session for the topic's frames."""
        return Sealer(self._secret, FRAMES)

    def opener(self) -> Opener:
        """Opens the frames that were sealed under it."""
        return Opener(self._secret, FRAMES)


def _about(row: DataKey) -> bytes:
    return row.key_id + row.topic_id
