"""The key ring: wraps and unwraps data keys, and seals what describes topics rather than is in
them (positions, schemas) under a key of the project, which is wrapped as data keys are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ensign_core.crypto.providers import KEY_BYTES, KeyProvider
from ensign_core.crypto.seal import Opener, Sealer
from ensign_core.errors import EnsignError

KEY_ID_BYTES = 16
PROJECT = bytes(16)
"""The topic id of the project's own key: a ULID that no topic has."""
_NONCE_BYTES = 12
FRAMES, _RECORDS, _LETTERS = b"frames", b"records", b"letters"


@dataclass(frozen=True)
class DataKey:
    """A topic's key as it is stored: wrapped under the KEK, or empty once revoked and where it is
    sealed for the readers of a client-sealed topic alone. ``created`` is in µs."""

    key_id: bytes
    topic_id: bytes
    wrapped: bytes
    created: int
    state: Literal["active", "retired", "revoked"]
    sealing: Literal["server", "client"] = "server"


class KeyRing:
    """Holds the KEK of an open broker. Safe to share between threads but for its sealers, which
    each writer makes for itself. Records are sealed and opened after `use_records` only."""

    def __init__(self, provider: KeyProvider, *, create: bool, check: bytes | None) -> None:
        """Take that of the provider's KEKs that ``check``, which is stored with the data, is of; in
        a new project, without one, the newest. ``create`` is for the provider. Raises ``key.wrong``
        and what the provider raises."""
        self.provider = provider
        """Where the KEK came from."""
        keks = provider.keys(create=create)
        kek = next((kek for kek in keks if check in (None, _check(kek))), keks[0])
        self._wrap = AESGCM(_derive(kek, b"wrap"))
        self._legacy_record_key = _derive(kek, b"records")
        self._record_key: bytes
        self._records: Opener
        self.check = _check(kek)
        """Tells two KEKs apart without telling either; stored with the data."""
        self.verify(check or self.check, provider.describe())

    @classmethod
    def of(cls, kek: bytes) -> Self:
        """A ring of this KEK, to `rewrap` keys for."""
        return cls(_Given([kek]), create=False, check=None)

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
        return self._wrapped(os.urandom(KEY_BYTES), topic_id, created)

    def new_record_key(self, created: int) -> DataKey:
        """A fresh random key for the records of a new project, wrapped; the broker stores it among
        the data keys, of the topic `PROJECT`."""
        return self.new_data_key(PROJECT, created)

    def legacy_record_key(self, created: int) -> DataKey:
        """The key of the records of a project that has none stored yet, as its first version
        derived it from the KEK; from here on it is stored, and outlives the KEK."""
        return self._wrapped(self._legacy_record_key, PROJECT, created)

    def use_records(self, key: DataKey) -> None:
        """Seal and open records under this stored key. Before the ring is shared."""
        self._record_key = self._unwrap(key)
        self._records = Opener(self._record_key, _RECORDS)

    def rewrap(self, key: DataKey, to: KeyRing) -> DataKey:
        """The same key, wrapped under another ring's KEK; one that no KEK wraps as it is."""
        if key.state == "revoked" or key.sealing == "client":
            return key
        return replace(key, wrapped=to._seal(self._unwrap(key), key.key_id, key.topic_id))

    def _wrapped(self, secret: bytes, topic_id: bytes, created: int) -> DataKey:
        key_id = os.urandom(KEY_ID_BYTES)
        return DataKey(key_id, topic_id, self._seal(secret, key_id, topic_id), created, "active")

    def _seal(self, secret: bytes, key_id: bytes, topic_id: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._wrap.encrypt(nonce, secret, key_id + topic_id)

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
        return Sealer(self._unwrap(key), FRAMES)

    def frame_opener(self, key: DataKey) -> Opener:
        """Opens the frames sealed under ``key``; ``key.revoked`` if it was destroyed."""
        return Opener(self._unwrap(key), FRAMES)

    def letter_sealer(self, key: DataKey) -> Sealer:
        """A new session for copies in dead letters of events whose frames ``key`` seals."""
        return Sealer(self._unwrap(key), _LETTERS)

    def letter_opener(self, key: DataKey) -> Opener:
        """Opens such copies; ``key.revoked`` if the key was destroyed."""
        return Opener(self._unwrap(key), _LETTERS)

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
        "The data is gone for ever, as was asked for: go on behind it with `--skip-revoked`, or "
        "`skip_revoked: true` at a sink.",
    )


class _Given:
    """A provider of keys that are at hand."""

    def __init__(self, keks: Sequence[bytes]) -> None:
        self._keks = keks

    def keys(self, *, create: bool) -> Sequence[bytes]:
        return self._keks

    def describe(self) -> str:
        return "memory"


def _check(kek: bytes) -> bytes:
    return _derive(kek, b"check")[:KEY_ID_BYTES]


def _derive(kek: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), length=KEY_BYTES, salt=None, info=b"ensign v1 kek " + purpose).derive(kek)
