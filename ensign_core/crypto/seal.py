"""AES-256-GCM under a subkey per writer session.

A session's subkey is HKDF-SHA256 (RFC 5869) of the data key with the random 128-bit session id as
salt. Its nonce is the session's counter, which only rises: 4 zero bytes and 64 bits big-endian
(NIST SP 800-38D, 8.2.1, deterministic construction). A torn tail, a restart or a copied file can so
never make two messages share a nonce, since a new writer is a new session.
"""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ensign_core.errors import EnsignError

SESSION_BYTES = 16
_nonce = struct.Struct(">4xQ").pack
_prefix = struct.Struct(f"<{SESSION_BYTES}sQ")
_SESSIONS_CACHED_MAX = 1024


def _subkey(key: bytes, session: bytes, purpose: bytes) -> AESGCM:
    derived = HKDF(SHA256(), length=32, salt=session, info=b"ensign v1 " + purpose).derive(key)
    return AESGCM(derived)


class Sealer:
    """One writer session under one key. Not shared between threads."""

    def __init__(self, key: bytes, purpose: bytes) -> None:
        self.session = os.urandom(SESSION_BYTES)
        self.counter = 0
        self._process = os.getpid()
        self._aead = _subkey(key, self.session, purpose)

    def reach(self, counter: int) -> None:
        """Go on at this counter, unless the session is there already."""
        self.counter = max(self.counter, counter)

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        """Seal under the current `counter` and step it; ``aad`` must name session and counter.
        ``broker.forked`` in a fork of the process: two would seal under one nonce."""
        if os.getpid() != self._process:
            raise forked()
        nonce = _nonce(self.counter)
        self.counter += 1
        return self._aead.encrypt(nonce, plain, aad)

    def box(self, plain: bytes, aad: bytes) -> bytes:
        """Seal a small value: session, counter and sealed bytes in one."""
        prefix = _prefix.pack(self.session, self.counter)
        return prefix + self.seal(plain, aad + prefix)


class Opener:
    """Opens what any session sealed under one key; keeps the subkeys of recent sessions."""

    def __init__(self, key: bytes, purpose: bytes) -> None:
        self._key = key
        self._purpose = purpose
        self._sessions: dict[bytes, AESGCM] = {}

    def open(self, session: bytes, counter: int, sealed: bytes, aad: bytes) -> bytes:
        """The plain bytes; ``frame.tampered`` where the seal does not hold."""
        aead = self._sessions.get(session)
        if aead is None:
            if len(self._sessions) >= _SESSIONS_CACHED_MAX:
                self._sessions.clear()
            aead = self._sessions[session] = _subkey(self._key, session, self._purpose)
        try:
            return aead.decrypt(_nonce(counter), sealed, aad)
        except InvalidTag:
            raise tampered() from None

    def unbox(self, box: bytes, aad: bytes) -> bytes:
        """What `Sealer.box` sealed."""
        if len(box) < _prefix.size:
            raise tampered()
        session, counter = _prefix.unpack_from(box)
        prefix = box[: _prefix.size]
        return self.open(session, counter, box[_prefix.size :], aad + prefix)


def forked() -> EnsignError:
    return EnsignError(
        "broker.forked",
        "A broker that was opened before a fork is used after it.",
        "Open the broker in each process by itself, after the fork.",
    )


def tampered() -> EnsignError:
    return EnsignError(
        "frame.tampered",
        "A seal does not hold: bytes of the broker's folder were changed or damaged.",
        "Restore the broker's folder from a backup; what comes before can still be read.",
    )
