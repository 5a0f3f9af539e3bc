"""Long data sealed in pieces, in bounded memory: AES-256-GCM in the STREAM construction (Hoang,
Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance,
CRYPTO 2015).

Every block of `BLOCK_BYTES` is sealed for itself, under a nonce of 7 zero bytes, its number (4
bytes, big-endian) and a byte that is 1 for the last block only: blocks that are left out, repeated,
moved, added or cut off at the end do not open. A key must seal one stream only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK_BYTES = 1 << 20
TAG_BYTES = 16
_nonce = struct.Struct(">7xI?").pack


def seal_stream(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The sealed blocks of the bytes that ``pieces``, of any sizes, make together."""
    aead = AESGCM(key)
    for number, (block, is_last) in enumerate(_blocks(pieces, BLOCK_BYTES)):
        yield aead.encrypt(_nonce(number, is_last), block, None)


def open_stream(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What `seal_stream` sealed, however it was cut since. A block is yielded when its own seal
    held; whether it is all is known at the end only. Raises InvalidTag."""
    aead = AESGCM(key)
    for number, (block, is_last) in enumerate(_blocks(pieces, BLOCK_BYTES + TAG_BYTES)):
        yield aead.decrypt(_nonce(number, is_last), block, None)


def _blocks(pieces: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Blocks of ``size`` bytes and whether each is the last, which may be shorter, or empty."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size:
            yield bytes(held[:size]), False
            del held[:size]
    yield bytes(held), True
