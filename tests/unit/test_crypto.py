"""Keys and seals: nonces, bindings, providers, and the four ways in which a key can be no good."""

from __future__ import annotations

import base64
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensign_core.broker import Broker, Event
from ensign_core.broker.events import event_batch
from ensign_core.broker.vault import Vault
from ensign_core.broker.writer import Writer
from ensign_core.crypto import (
    EnvironmentProvider,
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
    return KeyRing(FileProvider(tmp_path / name), create=True)


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
    vault = Vault(engine, ring(tmp_path))
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


def test_a_key_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        provider = FileProvider(tmp_path / "deep" / "keys")
        key = provider.key(create=True)
    finally:
        os.umask(before)
    assert provider.created
    assert provider.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in provider.path.parent.iterdir()] == ["keys"]
    again = FileProvider(provider.path)
    assert again.key(create=True) == again.key(create=False) == key
    assert not again.created
    assert key not in provider.path.read_bytes()
    assert base64.b64encode(key) in provider.path.read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_an_exposed_key_file_is_refused(tmp_path: Path, mode: int) -> None:
    provider = FileProvider(tmp_path / "keys")
    provider.key(create=True)
    provider.path.chmod(mode)
    error = refused(provider.key, create=False)
    assert (error.code, error.remedy) == ("key.file_exposed", f"Run: chmod 600 {provider.path}")


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"ensign-key-v1", b"ensign-key-v1 ", b"ensign-key-v1 AAAA", b"other-key-v1 AAAA",
     b"ensign-key-v1 " + base64.b64encode(b"x" * 33), b"ensign-key-v1 !!!!", b"\xff\xfe",
     base64.b64encode(KEY)],
)  # fmt: skip
def test_a_malformed_key_file_is_refused_and_kept(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_bytes(text)
    for create in (True, False):
        assert refused(FileProvider(path).key, create=create).code == "key.malformed"
    assert path.read_bytes() == text


def test_a_missing_key_file_is_not_made_where_data_exists(tmp_path: Path) -> None:
    assert refused(FileProvider(tmp_path / "keys").key, create=False).code == "key.missing"
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = FileProvider(tmp_path / "file" / "keys")
    assert refused(below.key, create=True).code in {"key.file_unwritable", "key.malformed"}
    (tmp_path / "folder").mkdir(mode=0o700)
    assert refused(FileProvider(tmp_path / "folder").key, create=True).code == "key.malformed"
    missing = FileProvider(Path("/proc/nowhere/keys"))
    assert refused(missing.key, create=True).code == "key.file_unwritable"


def test_creators_at_the_same_time_get_one_key(tmp_path: Path) -> None:
    for number in range(20):
        start = threading.Barrier(4)

        def create(path: Path, start: threading.Barrier = start) -> bytes:
            start.wait()
            return FileProvider(path).key(create=True)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(create, [tmp_path / f"keys{number}"] * 4))
        assert len(set(found)) == 1
    assert len(list(tmp_path.iterdir())) == 20


def test_the_environment_gives_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = EnvironmentProvider("ENSIGN_TEST_KEY")
    monkeypatch.setenv("ENSIGN_TEST_KEY", base64.b64encode(KEY).decode() + "\n")
    assert provider.key(create=False) == KEY
    for wrong in ("AAAA", "not base64", "ключ", base64.b64encode(KEY + b"x").decode()):
        monkeypatch.setenv("ENSIGN_TEST_KEY", wrong)
        error = refused(provider.key, create=True)
        assert (error.code, wrong in str(error)) == ("key.malformed", False)
    for missing in (True, False):
        monkeypatch.setenv("ENSIGN_TEST_KEY", "")
        assert refused(provider.key, create=missing).code == "key.missing"
    monkeypatch.delenv("ENSIGN_TEST_KEY")
    assert refused(provider.key, create=False).code == "key.missing"


def test_a_broker_refuses_a_wrong_and_a_missing_key(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with Broker.open(folder) as broker:
        broker.publish("t", [Event(b"x")])
        assert str(default_key_file(folder)) in str(broker.notice)
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.suffix == ".db"}
    wrong = FileProvider(tmp_path / "wrong")
    wrong.key(create=True)
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
