"""Readers of client-sealed topics: their files, their public keys as text, and boxes for them."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensign_core.crypto import Identity, parse_public, seal_to
from tests.unit.test_crypto import refused

KEY = bytes(range(32))


def test_a_box_is_opened_by_its_reader_only_and_about_the_same_only(tmp_path: Path) -> None:
    reader, other = Identity.create(tmp_path / "reader"), Identity.create(tmp_path / "other")
    box = seal_to(parse_public(reader.public), KEY, b"topic:t")
    assert reader.open(box, b"topic:t") == KEY
    assert KEY not in box
    assert seal_to(parse_public(reader.public), KEY, b"topic:t") != box
    assert refused(other.open, box, b"topic:t").code == "reader.key_wrong"
    assert refused(reader.open, box, b"topic:u").code == "reader.key_wrong"
    for size in range(len(box)):
        assert refused(reader.open, box[:size], b"topic:t").code == "reader.key_wrong"
    for place, flip in itertools.product(range(len(box)), (1, 64)):
        data = bytearray(box)
        data[place] ^= flip
        assert refused(reader.open, bytes(data), b"topic:t").code == "reader.key_wrong"
    assert refused(reader.open, box + b"\0", b"topic:t").code == "reader.key_wrong"


def test_an_identity_is_kept_in_a_file_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "me"
    made = Identity.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert (text.startswith("ensign-identity-v1 "), text.count("\n")) == (True, 1)
    assert made.public.startswith("ensign-reader-v1:")
    assert made.public.partition(":")[2] not in text
    assert Identity.load(path).public == made.public
    assert refused(Identity.create, path).code == "reader.identity_exists"
    assert path.read_text() == text
    path.chmod(0o640)
    assert refused(Identity.load, path).code == "key.file_exposed"


def test_what_is_no_identity_is_told(tmp_path: Path) -> None:
    assert refused(Identity.load, tmp_path / "none").code == "reader.identity_missing"
    path = tmp_path / "me"
    path.touch(0o600)
    for text in ("", "ensign-identity-v1 AAAA", "ensign-key-v1 " + base64.b64encode(KEY).decode()):
        path.write_text(text)
        assert refused(Identity.load, path).code == "key.malformed"


@pytest.mark.parametrize(
    "text",
    ["", "ensign-reader-v1:", "ensign-reader-v1:AAAA", "ensign-reader-v1:!",
     "ensign-reader-v1:" + base64.b64encode(KEY + b"x").decode(),
     "ensign-reader-v1:" + base64.b64encode(bytes(32)).decode(),
     "ensign-reader-v1:" + base64.b64encode(b"\1" + bytes(31)).decode(),
     "ensign-reader-v2:" + base64.b64encode(KEY).decode(), base64.b64encode(KEY).decode(),
     "ensign-identity-v1 " + base64.b64encode(KEY).decode()],
)  # fmt: skip
def test_what_is_no_public_key_is_told_and_not_shown(text: str) -> None:
    error = refused(parse_public, text)
    assert error.code == "reader.key_malformed"
    assert len(text) < 20 or text not in str(error)


def test_a_box_is_one_of_rfc_9180(tmp_path: Path) -> None:
    """Opened step by step as the RFC writes it, sections 4.1, 5.1 and 5.2, with its suite 0x0020,
    0x0001, 0x0002."""
    reader = Identity.create(tmp_path / "me")
    box = seal_to(parse_public(reader.public), KEY, b"about")
    private = X25519PrivateKey.from_private_bytes(
        base64.b64decode((tmp_path / "me").read_text().split()[1])
    )
    encapsulated = box[:32]
    shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + private.public_key().public_bytes_raw()
    kem = b"KEM" + b"\x00\x20"
    secret = _expand(kem, _extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    suite = b"HPKE" + b"\x00\x20" + b"\x00\x01" + b"\x00\x02"
    schedule = b"\0" + _extract(suite, b"", b"psk_id_hash", b"")
    schedule += _extract(suite, b"", b"info_hash", b"ensign v1 reader about")
    made = _extract(suite, secret, b"secret", b"")
    key, nonce = (_expand(suite, made, name, schedule, n) for name, n in ((b"key", 32),
                  (b"base_nonce", 12)))  # fmt: skip
    assert AESGCM(key).decrypt(nonce, box[32:], b"") == KEY


def _hmac(key: bytes, data: bytes) -> bytes:
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(data)
    return made.finalize()


def _extract(suite: bytes, salt: bytes, label: bytes, data: bytes) -> bytes:
    return _hmac(salt or bytes(32), b"HPKE-v1" + suite + label + data)


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    whole = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return _hmac(key, whole + b"\1")[:size]
