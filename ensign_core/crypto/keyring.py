"""The key ring: wraps and unwraps data keys, and seals what describes topics rather than is in
them (positions, schemas) under a key derived from the KEK."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ensign_core.crypto.providers import KEY_BYTES, KeyProvider
from ensign_core.crypto.seal import Opener, Sealer
from ensign_core.errors import EnsignError

KEY_ID_BYTES = 16
_NONCE_BYTES = 12
_FRAMES, _RECORDS = b"frames", b"records"


@dataclass(frozen=True)
class DataKey:
    """A topic's key as it is stored: wrapped, or empty once revoked. ``created`` is in µs."""

    key_id: bytes
    topic_id: bytes
    wrapped: bytes
    created: int
    state: Literal["active", "retired", "revoked"]


class KeyRing:
    """Holds the KEK of an open broker. Safe to share between threads but for its sealers, which
    each writer makes for itself."""

    def __init__(self, provider: KeyProvider, *, create: bool) -> None:
        kek = provider.key(create=create)
        self._wrap = AESGCM(_derive(kek, b"wrap"))
        self._record_key = _derive(kek, b"records")
        self._records = Opener(self._record_key, _RECORDS)
        self.check = _derive(kek, b"check")[:KEY_ID_BYTES]
        """Tells two KEKs apart without telling either; stored with the data."""

    def verify(self, check: bytes, where: str) -> None:
        """Raise ``key.wrong`` unless this is the KEK that the data was sealed under."""
        if check != self.check:
            raise EnsignError(
                "key.wrong",
                f"The key in {where} is not the one that this data was sealed with.",
                "Give the right key with `keys:` in the config or --keys; nothing was changed.",
            )

    def new_data_key(self, topic_id: bytes, created: int) -> DataKey:
        """A fresh random key for a topic, wrapped."""
        key_id = os.urandom(KEY_ID_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._wrap.encrypt(nonce, os.urandom(KEY_BYTES), key_id + topic_id)
        return DataKey(key_id, topic_id, nonce + sealed, created, "active")

    def _unwrap(self, key: DataKey) -> bytes:
        if key.state == "revoked":
            raise revoked(key.key_id)
        nonce, sealed = key.wrapped[:_NONCE_BYTES], key.wrapped[_NONCE_BYTES:]
        try:
            return self._wrap.decrypt(nonce, sealed, key.key_id + key.topic_id)
        except (InvalidTag, ValueError):
            raise EnsignError(
                "key.damaged",
                f"The data key {key.key_id.hex()} does not unwrap: keys.db was changed or damaged.",
                "Restore keys.db from a backup.",
            ) from None

    def frame_sealer(self, key: DataKey) -> Sealer:
        """A new writer session for a topic's frames."""
        return Sealer(self._unwrap(key), _FRAMES)

    def frame_opener(self, key: DataKey) -> Opener:
        """Opens the frames sealed under ``key``; ``key.revoked`` if it was destroyed."""
        return Opener(self._unwrap(key), _FRAMES)

    def record_sealer(self) -> Sealer:
        """A new session for positions and schemas."""
        return Sealer(self._record_key, _RECORDS)

    def fingerprinter(self) -> Callable[[bytes], bytes]:
        """What makes 16 bytes of any bytes that tell equals from others, and, without the ring,
        nothing else."""
        key = _derive(self._record_key, b"fingerprints")
        return lambda data: hashlib.blake2b(data, digest_size=16, key=key).digest()

    def open_record(self, box: bytes, about: bytes) -> bytes:
        """A position or schema again; ``about`` names what it belongs to."""
        return self._records.unbox(box, about)


def revoked(key_id: bytes) -> EnsignError:
    return EnsignError(
        "key.revoked",
        f"The data key {key_id.hex()} was revoked: what it sealed cannot be read any more.",
        "Read on behind it with a later offset; the data is gone for ever, as was asked for.",
    )


def _derive(kek: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=KEY_BYTES, salt=None, info=b"ensign v1 kek " + purpose).derive(kek)
