"""Keys and seals: nonces, bindings, rings, and the four ways in which a key can be no good."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from ulid import ULID

from ensign_core.broker import Broker, Event
from ensign_core.broker.events import event_batch
from ensign_core.broker.vault import Vault, about_status, record_key
from ensign_core.broker.writer import Writer
from ensign_core.crypto import (
    PROJECT,
    FileProvider,
    KeyRing,
    Opener,
    Sealer,
    default_key_file,
    seal,
)
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from tests.processes import Processes

KEY = bytes(range(32))


class Recorder:
    """An AEAD that remembers under which subkey and nonce it sealed."""

    used: list[tuple[bytes, bytes]]

    def __init__(self, subkey: bytes) -> None:
        self._subkey, self._real = subkey, AESGCM(subkey)

    def encrypt(self, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
        self.used.append((self._subkey, nonce))
        return self._real.encrypt(nonce, plain, aad)

    def decrypt(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        return self._real.decrypt(nonce, sealed, aad)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Subkey and nonce of everything that is sealed from here on."""
    Recorder.used = []
    monkeypatch.setattr(seal, "AESGCM", Recorder)
    return Recorder.used


def refused(call: object, *args: object, **options: object) -> EnsignError:
    assert callable(call)
    with pytest.raises(EnsignError) as raised:
        call(*args, **options)
    return raised.value


def test_no_nonce_is_used_twice_within_and_across_sessions(used: list[tuple[bytes, bytes]]) -> None:
    for _ in range(50):
        sealer = Sealer(KEY, b"frames")
        for _ in range(20):
            sealer.seal(b"plain", b"aad")
    assert len(used) == len(set(used)) == 1000
    assert len({subkey for subkey, _ in used}) == 50


def test_no_nonce_is_used_twice_by_a_broker(
    tmp_path: Path, used: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restarts, several writers of one topic, failed appends and stale retries included."""
    for round_ in range(3):
        with Broker.open(tmp_path / "b") as broker:
            writers = [broker.writer("p"), broker.writer()]
            for number in range(3):
                broker.publish("t", [Event(b"%d" % number)])
                broker.pipelines.set_status("p", {"n": number})
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(SqliteEngine, "append", _fails)
                    with pytest.raises(OSError, match="disk"):
                        broker.publish("t", [Event(b"x")])
                for writer in writers:
                    writer.append([("t", event_batch("t", [Event(b"y")]))])
            broker.delete_topic("t")
            broker.publish("t", [Event(b"%d" % round_)])
    assert len(used) == len(set(used)) > 40


def _fails(*_: object) -> None:
    raise OSError("disk")


def test_a_fork_may_not_seal() -> None:
    """Two processes with one session would seal under one nonce."""
    script = (
        "import os\nfrom ensign_core.crypto import Sealer\n"
        "from ensign_core.errors import EnsignError\n"
        "sealer = Sealer(bytes(32), b'frames')\nif os.fork(): os.wait()\n"
        "try: sealer.seal(b'', b'')\nexcept EnsignError as error: print(error.code, flush=True)\n"
        "else: print('sealed', flush=True)\n"
    )
    with Processes() as processes:
        assert processes.start(script).lines() == ["broker.forked", "sealed"]


def test_a_seal_is_bound_to_all_that_it_names() -> None:
    sealer = Sealer(KEY, b"frames")
    sealed = sealer.seal(b"plain", b"aad")
    opener = Opener(KEY, b"frames")
    assert opener.open(sealer.session, 0, sealed, b"aad") == b"plain"
    for session, counter, data, aad in [
        (b"\0" * 16, 0, sealed, b"aad"),
        (sealer.session, 1, sealed, b"aad"),
        (sealer.session, 0, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"aad"),
        (sealer.session, 0, sealed, b"aaD"),
        (sealer.session, 0, b"", b"aad"),
    ]:
        assert refused(opener.open, session, counter, data, aad).code == "frame.tampered"
    other = Opener(KEY, b"records")
    assert refused(other.open, sealer.session, 0, sealed, b"aad").code == "frame.tampered"


def test_a_box_is_bound_to_what_it_is_about() -> None:
    sealer, opener = Sealer(KEY, b"records"), Opener(KEY, b"records")
    boxes = [sealer.box(b"plain", b"position:p") for _ in range(2)]
    assert boxes[0] != boxes[1]
    assert [opener.unbox(box, b"position:p") for box in boxes] == [b"plain", b"plain"]
    assert refused(opener.unbox, boxes[0], b"position:q").code == "frame.tampered"
    for size in range(len(boxes[0])):
        assert refused(opener.unbox, boxes[0][:size], b"position:p").code == "frame.tampered"
    for place, flip in itertools.product(range(len(boxes[0])), (1, 128)):
        data = bytearray(boxes[0])
        data[place] ^= flip
        assert refused(opener.unbox, bytes(data), b"position:p").code == "frame.tampered"


def test_openers_forget_old_sessions_and_open_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "_SESSIONS_CACHED_MAX", 2)
    opener = Opener(KEY, b"frames")
    sealers = [Sealer(KEY, b"frames") for _ in range(5)]
    sealed = [sealer.seal(b"%d" % i, b"") for i, sealer in enumerate(sealers)]
    for _ in range(2):
        for number, sealer in enumerate(sealers):
            assert opener.open(sealer.session, 0, sealed[number], b"") == b"%d" % number
            assert len(opener._sessions) <= 2


def ring(tmp_path: Path, name: str = "keys") -> KeyRing:
    return KeyRing(FileProvider(tmp_path / name), create=True, check=None)


def test_a_data_key_is_bound_to_its_id_topic_and_kek(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    key = keys.new_data_key(b"t" * 16, 1)
    keys.frame_opener(key)
    again = ring(tmp_path)
    sealer = again.frame_sealer(key)
    sealed = sealer.seal(b"plain", b"")
    assert keys.frame_opener(key).open(sealer.session, 0, sealed, b"") == b"plain"
    for wrong in (
        replace(key, topic_id=b"u" * 16),
        replace(key, key_id=b"k" * 16),
        replace(key, wrapped=key.wrapped[:-1] + bytes([key.wrapped[-1] ^ 1])),
        replace(key, wrapped=b""),
    ):
        assert refused(keys.frame_opener, wrong).code == "key.damaged"
    assert refused(ring(tmp_path, "other").frame_opener, key).code == "key.damaged"


def test_a_revoked_key_opens_and_seals_nothing(tmp_path: Path) -> None:
    keys = ring(tmp_path)
    key = replace(keys.new_data_key(b"t" * 16, 1), wrapped=b"", state="revoked")
    assert refused(keys.frame_opener, key).code == "key.revoked"
    assert refused(keys.frame_sealer, key).code == "key.revoked"


def test_reading_what_a_revoked_key_sealed_says_so(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "b")
    keys = ring(tmp_path)
    keys.use_records(keys.new_record_key(0))
    vault = Vault(engine, keys)
    Writer(vault).append([("t", event_batch("t", [Event(b"x")]))])
    (topic,) = engine.topics()
    engine.database.connection().execute(
        "UPDATE keys.data_keys SET state = 'revoked', wrapped = x''"
    )
    (stored,) = engine.frames([topic.topic_id], 0, 1)
    fresh = Vault(engine, ring(tmp_path))
    error = refused(fresh.open_frame, stored, "t")
    assert (error.code, "offsets 0 to 0" in error.sentence) == ("key.revoked", True)
    engine.close()


def test_a_ring_takes_the_key_that_the_data_is_of(tmp_path: Path) -> None:
    old, new = KeyRing.of(b"o" * 32), KeyRing.of(b"n" * 32)
    path = tmp_path / "keys"
    path.touch(0o600)
    lines = [b"ensign-key-v1 " + base64.b64encode(kek * 32) for kek in (b"n", b"o")]
    path.write_bytes(b"\n".join(lines))
    provider = FileProvider(path)
    assert KeyRing(provider, create=False, check=old.check).check == old.check
    assert KeyRing(provider, create=False, check=new.check).check == new.check
    assert KeyRing(provider, create=True, check=None).check == new.check
    other = KeyRing.of(b"x" * 32).check
    error = refused(KeyRing, provider, create=False, check=other)
    assert (error.code, str(path) in error.sentence) == ("key.wrong", True)


def test_a_rewrapped_key_opens_what_it_sealed_and_for_the_new_kek_only() -> None:
    old, new = KeyRing.of(b"o" * 32), KeyRing.of(b"n" * 32)
    key = old.new_data_key(b"t" * 16, 7)
    sealer = old.frame_sealer(key)
    sealed = sealer.seal(b"plain", b"")
    moved = old.rewrap(key, new)
    assert replace(moved, wrapped=key.wrapped) == key
    assert new.frame_opener(moved).open(sealer.session, 0, sealed, b"") == b"plain"
    assert refused(old.frame_opener, moved).code == "key.damaged"
    assert refused(new.rewrap, key, old).code == "key.damaged"
    gone = replace(key, wrapped=b"", state="revoked")
    assert old.rewrap(gone, new) == gone


def test_records_are_sealed_under_a_key_of_the_project_that_outlives_the_kek() -> None:
    old, new = KeyRing.of(b"o" * 32), KeyRing.of(b"n" * 32)
    key = old.new_record_key(7)
    assert key.topic_id == PROJECT
    old.use_records(key)
    box = old.record_sealer().box(b"plain", b"position:p")
    new.use_records(old.rewrap(key, new))
    assert new.open_record(box, b"position:p") == b"plain"
    other = KeyRing.of(b"o" * 32)
    other.use_records(other.new_record_key(7))
    assert refused(other.open_record, box, b"position:p").code == "frame.tampered"


def test_records_of_a_project_of_before_are_still_opened(tmp_path: Path) -> None:
    """Their key was derived from the KEK and not stored."""
    kek = b"o" * 32
    derived = HKDF(SHA256(), length=32, salt=None, info=b"ensign v1 kek records").derive(kek)
    box = Sealer(derived, b"records").box(json.dumps({"n": 1}).encode(), about_status("p"))
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(f"ensign-key-v1 {base64.b64encode(kek).decode()}\n")
    engine = SqliteEngine(tmp_path / "b")
    engine.set_meta({"kek": KeyRing.of(kek).check, "project": bytes(ULID())})
    engine.pipelines.set_status("p", box)
    for _ in range(2):
        with Broker.open(tmp_path / "b", FileProvider(path)) as broker:
            assert broker.pipelines.statuses()["p"] == {"n": 1}
            broker.pipelines.set_status("q", {"n": 2})
            assert broker.pipelines.statuses()["q"] == {"n": 2}
            assert broker.topics() == []
    (key,) = engine.keys.stored()
    assert key.topic_id == PROJECT
    engine.close()


def test_the_records_of_a_new_project_have_a_key_of_their_own(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "b") as broker:
        broker.pipelines.set_status("p", {"n": 1})
    with Broker.open(tmp_path / "b") as broker:
        assert broker.pipelines.statuses() == {"p": {"n": 1}}
    engine = SqliteEngine(tmp_path / "b")
    ring = KeyRing(FileProvider(default_key_file(tmp_path / "b")), create=False, check=None)
    box = engine.pipelines.statuses()["p"]
    ring.use_records(ring.legacy_record_key(0))
    assert refused(ring.open_record, box, about_status("p")).code == "frame.tampered"
    ring.use_records(record_key(engine, ring, fresh=False))
    assert ring.open_record(box, about_status("p")) == b'{"n": 1}'
    engine.close()


def test_a_broker_refuses_a_wrong_and_a_missing_key(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with Broker.open(folder) as broker:
        broker.publish("t", [Event(b"x")])
        assert str(default_key_file(folder)) in str(broker.notice)
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.suffix == ".db"}
    wrong = FileProvider(tmp_path / "wrong")
    wrong.keys(create=True)
    assert refused(Broker.open, folder, wrong).code == "key.wrong"
    default_key_file(folder).rename(tmp_path / "away")
    assert refused(Broker.open, folder).code == "key.missing"
    assert not default_key_file(folder).exists()
    assert {path: path.read_bytes() for path in kept} == kept
    (tmp_path / "away").rename(default_key_file(folder))
    with Broker.open(folder) as broker:
        assert broker.notice is None
        assert broker.topic("t").events == 1


def test_a_broker_without_its_keys_db_is_not_a_new_one(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "b") as broker:
        broker.publish("t", [Event(b"x")])
    (tmp_path / "b" / "keys.db").rename(tmp_path / "away.db")
    assert refused(Broker.open, tmp_path / "b").code == "key.missing"
    (tmp_path / "away.db").replace(tmp_path / "b" / "keys.db")
    with Broker.open(tmp_path / "b") as broker, broker.reader(["t"]) as reader:
        assert len(reader.fetch()) == 1
