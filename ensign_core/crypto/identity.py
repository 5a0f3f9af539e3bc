"""Readers of client-sealed topics: whoever writes seals the data key for each reader's public key,
so what lies between the two never holds it.

A box is that of HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
AES-256-GCM: the encapsulated key of 32 bytes, then the ciphertext. ``about`` is bound to it as the
``info``; each box has an encapsulated key of its own, so none needs a nonce. Base mode does not say
who sealed: that a box is the writer's is for whoever stores it to hold.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ensign_core.crypto.keyfile import KeyFile, decoded
from ensign_core.errors import EnsignError

_PUBLIC: Final = "ensign-reader-v1:"
_PRIVATE: Final = "ensign-identity-v1"
_INFO: Final = b"ensign v1 reader "
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class Identity:
    """A reader's private key. Threads may share it."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new identity, kept in the file ``path`` of mode 0600: a line ``ensign-identity-v1
        BASE64``. Raises ``reader.identity_exists`` where there is a file, which stays, and
        ``key.file_unwritable``."""
        private = X25519PrivateKey.generate()
        if not _file(path).create(private.private_bytes_raw):
            raise EnsignError(
                "reader.identity_exists",
                f"There is a file {path} already, and an identity that is lost cannot be replaced.",
                "Give another path, or use the identity that is there.",
            )
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The identity in the file ``path``. Raises ``reader.identity_missing``, and for a file as
        it should not be the codes of a key file."""
        if not path.exists():
            raise EnsignError(
                "reader.identity_missing",
                f"There is no identity of a reader in {path}.",
                "Put the file back from your backup, or make a new identity and have it granted.",
            )
        return cls(X25519PrivateKey.from_private_bytes(_file(path).read()[0]))

    @property
    def public(self) -> str:
        """What writers need in order to seal for this reader, as text: no secret."""
        return public_text(self._private.public_key())

    def open(self, box: bytes, about: bytes) -> bytes:
        """The data key that `seal_to` sealed for this reader about the same. Raises
        ``reader.key_wrong`` for a box for somebody else, of something else, or damaged."""
        try:
            return _SUITE.decrypt(box, self._private, info=_INFO + about)
        except (InvalidTag, ValueError):
            raise EnsignError(
                "reader.key_wrong",
                "What was sealed for a reader is not for this one, or was changed or damaged.",
                "Use the identity whose public key was granted, or have this one granted.",
            ) from None


def public_text(public: X25519PublicKey) -> str:
    """The one text of a public key."""
    return _PUBLIC + base64.b64encode(public.public_bytes_raw()).decode()


def parse_public(text: str) -> X25519PublicKey:
    """The public key that `Identity.public` gives as text; ``reader.key_malformed`` where it is
    none, or one that every private key agrees with on the same secret (RFC 7748, section 6.1)."""
    raw = decoded(text.removeprefix(_PUBLIC)) if text.startswith(_PUBLIC) else None
    try:
        public = X25519PublicKey.from_public_bytes(raw or b"")
        X25519PrivateKey.generate().exchange(public)
    except ValueError:
        raise EnsignError(
            "reader.key_malformed",
            "The text is not the public key of a reader.",
            f"It is `{_PUBLIC}` and base64 of 32 bytes, as the reader's identity shows it.",
        ) from None
    return public


def seal_to(public: X25519PublicKey, data_key: bytes, about: bytes) -> bytes:
    """A box that the owner of ``public`` alone opens; ``about`` names what it belongs to."""
    return _SUITE.encrypt(data_key, public, info=_INFO + about)


def _file(path: Path) -> KeyFile:
    return KeyFile(path, _PRIVATE, 32)
