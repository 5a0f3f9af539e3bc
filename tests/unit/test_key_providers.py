"""Where keys come from: files and the environment, their checks, and rotation of either."""

from __future__ import annotations

import base64
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ensign_core.crypto import EnvironmentProvider, FileProvider, RotatingProvider
from tests.unit.test_crypto import refused

KEY = bytes(range(32))


def test_a_key_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        provider = FileProvider(tmp_path / "deep" / "keys")
        (key,) = provider.keys(create=True)
    finally:
        os.umask(before)
    assert provider.created
    assert provider.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in provider.path.parent.iterdir()] == ["keys"]
    again = FileProvider(provider.path)
    assert again.keys(create=True) == again.keys(create=False) == [key]
    assert not again.created
    assert key not in provider.path.read_bytes()
    assert base64.b64encode(key) in provider.path.read_bytes()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_an_exposed_key_file_is_refused(tmp_path: Path, mode: int) -> None:
    provider = FileProvider(tmp_path / "keys")
    provider.keys(create=True)
    provider.path.chmod(mode)
    error = refused(provider.keys, create=False)
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
        assert refused(FileProvider(path).keys, create=create).code == "key.malformed"
    assert path.read_bytes() == text


def test_a_missing_key_file_is_not_made_where_data_exists(tmp_path: Path) -> None:
    assert refused(FileProvider(tmp_path / "keys").keys, create=False).code == "key.missing"
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = FileProvider(tmp_path / "file" / "keys")
    assert refused(below.keys, create=True).code in {"key.file_unwritable", "key.malformed"}
    (tmp_path / "folder").mkdir(mode=0o700)
    assert refused(FileProvider(tmp_path / "folder").keys, create=True).code == "key.malformed"
    missing = FileProvider(Path("/proc/nowhere/keys"))
    assert refused(missing.keys, create=True).code == "key.file_unwritable"


def test_creators_at_the_same_time_get_one_key(tmp_path: Path) -> None:
    for number in range(20):
        start = threading.Barrier(4)

        def create(path: Path, start: threading.Barrier = start) -> bytes:
            start.wait()
            (key,) = FileProvider(path).keys(create=True)
            return key

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(create, [tmp_path / f"keys{number}"] * 4))
        assert len(set(found)) == 1
    assert len(list(tmp_path.iterdir())) == 20


def test_the_environment_gives_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = EnvironmentProvider("ENSIGN_TEST_KEY")
    monkeypatch.setenv("ENSIGN_TEST_KEY", base64.b64encode(KEY).decode() + "\n")
    assert provider.keys(create=False) == [KEY]
    for wrong in ("AAAA", "not base64", "ключ", base64.b64encode(KEY + b"x").decode()):
        monkeypatch.setenv("ENSIGN_TEST_KEY", wrong)
        error = refused(provider.keys, create=True)
        assert (error.code, wrong in str(error)) == ("key.malformed", False)
    for missing in (True, False):
        monkeypatch.setenv("ENSIGN_TEST_KEY", "")
        assert refused(provider.keys, create=missing).code == "key.missing"
    monkeypatch.delenv("ENSIGN_TEST_KEY")
    assert refused(provider.keys, create=False).code == "key.missing"


def test_a_key_file_holds_both_keys_while_one_follows_the_other(tmp_path: Path) -> None:
    provider = FileProvider(tmp_path / "keys")
    (old,) = provider.keys(create=True)
    new = provider.begin()
    assert new != old
    assert provider.path.stat().st_mode & 0o777 == 0o600
    assert FileProvider(provider.path).keys(create=False) == [new, old]
    provider.finish()
    assert FileProvider(provider.path).keys(create=False) == [new]
    assert base64.b64encode(old) not in provider.path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_an_interrupted_rotation_goes_on_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    (old,) = FileProvider(path).keys(create=True)
    new = FileProvider(path).begin()
    FileProvider(path).finish()
    again = FileProvider(path)
    assert again.begin() == new
    assert again.keys(create=False) == [new, old]
    again.finish()
    assert again.keys(create=False) == [new]


def test_finishing_forgets_no_key_that_another_process_began_with_later(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    one, other, later = FileProvider(path), FileProvider(path), FileProvider(path)
    one.keys(create=True)
    first = one.begin()
    assert other.begin() == first
    one.finish()
    second = later.begin()
    other.finish()
    assert later.keys(create=False) == [second, first]
    later.finish()
    other.finish()
    assert later.keys(create=False) == [second]


def test_rotations_begun_at_the_same_time_have_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for _ in range(20):
        FileProvider(path).keys(create=True)
        start = threading.Barrier(4)

        def begin(_: int, start: threading.Barrier = start) -> bytes:
            start.wait()
            return FileProvider(path).begin()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(begin, range(4)))) == 1
        path.unlink()


def test_a_key_file_stays_its_owners(tmp_path: Path) -> None:
    """Root may rotate what a service then reads."""
    provider = FileProvider(tmp_path / "keys")
    provider.keys(create=True)
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(provider.path, owner, -1)
    provider.begin()
    found = provider.path.stat()
    assert (found.st_uid, found.st_mode & 0o777) == (owner, 0o600)


def test_a_key_file_behind_a_link_stays_there(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    FileProvider(tmp_path / "far" / "keys").keys(create=True)
    (tmp_path / "keys").symlink_to(tmp_path / "far" / "keys")
    provider = FileProvider(tmp_path / "keys")
    new = provider.begin()
    provider.finish()
    assert (tmp_path / "keys").is_symlink()
    assert FileProvider(tmp_path / "far" / "keys").keys(create=False) == [new]


def test_a_key_file_that_cannot_be_replaced_stays_as_it_is(tmp_path: Path) -> None:
    """Its folder is full: the longest name that it may have leaves no room for one beside it."""
    provider = FileProvider(tmp_path / ("k" * 255))
    line = b"ensign-key-v1 " + base64.b64encode(KEY) + b"\n"
    provider.path.touch(0o600)
    provider.path.write_bytes(line)
    assert refused(provider.begin).code == "key.file_unwritable"
    assert provider.path.read_bytes() == line
    assert refused(FileProvider(tmp_path / "none").begin).code == "key.missing"


def test_the_environment_gives_two_keys_while_one_follows_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = KEY[::-1]
    provider = EnvironmentProvider("ENSIGN_TEST_KEY", "ENSIGN_TEST_KEY_NEXT")
    assert isinstance(provider, RotatingProvider)
    monkeypatch.setenv("ENSIGN_TEST_KEY", base64.b64encode(KEY).decode())
    monkeypatch.delenv("ENSIGN_TEST_KEY_NEXT", raising=False)
    error = refused(provider.begin)
    assert (error.code, "ENSIGN_TEST_KEY_NEXT" in error.remedy) == ("key.next_missing", True)
    error = refused(EnvironmentProvider("ENSIGN_TEST_KEY").begin)
    assert (error.code, "`next:`" in error.remedy) == ("key.next_missing", True)
    monkeypatch.setenv("ENSIGN_TEST_KEY_NEXT", base64.b64encode(new).decode())
    assert provider.keys(create=False) == [new, KEY]
    assert provider.begin() == new
    provider.finish()
    assert provider.keys(create=False) == [new, KEY]
    assert provider.keys(create=True) == [KEY], "a new project begins with the key of now"
    monkeypatch.setenv("ENSIGN_TEST_KEY_NEXT", "AAAA")
    error = refused(provider.begin)
    assert (error.code, "ENSIGN_TEST_KEY_NEXT" in error.sentence) == ("key.malformed", True)
