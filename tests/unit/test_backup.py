"""Backups of projects in use, and projects made again from them."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from ensign_core.broker import Broker, Event, restore
from ensign_core.broker.backup import FILES, MANIFEST
from ensign_core.change import Position
from ensign_core.crypto import FileProvider
from ensign_core.errors import EnsignError
from ensign_core.frame import parse
from tests.processes import Process

EVENTS = [Event(b"%d" % number) for number in range(10)]
Start = Callable[..., Process]


@pytest.fixture
def filled(broker: Broker) -> Broker:
    writer = broker.writer("p")
    for number in range(20):
        broker.publish(f"t{number % 3}", EVENTS)
        writer.append([], Position(b"%d" % number), kept={"x": b"%d" % number})
    broker.commit("g", {"t0": 30})
    return broker


@pytest.fixture
def keys(tmp_path: Path) -> FileProvider:
    return FileProvider(tmp_path / "b.keys")


def refusal(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(EnsignError) as raised:
        call(*arguments)
    assert raised.value.sentence.count("\n") == raised.value.remedy.count("\n") == 0
    assert raised.value.remedy
    return raised.value.code


def contents(broker: Broker) -> dict[str, list[tuple[int, bytes]]]:
    found: dict[str, list[tuple[int, bytes]]] = {}
    for info in broker.topics():
        with broker.reader([info.name]) as reader:
            batches = [batch for fetched in iter(reader.fetch, []) for batch in fetched]
        found[info.name] = [(c.offset, c.body) for batch in batches for c in batch]
    return found


def sessions(broker: Broker) -> list[bytes]:
    rows = broker._engine.database.rows("SELECT data FROM bodies ORDER BY id")
    return [parse(data)[0].session for (data,) in rows]


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_what_is_restored_is_what_was_backed_up(
    filled: Broker, keys: FileProvider, tmp_path: Path
) -> None:
    made = filled.backup(tmp_path / "k")
    assert {path.name for path in (tmp_path / "k").iterdir()} == {*FILES, MANIFEST, "README"}
    assert (made.project, made.topics, made.events) == (filled.project, 3, 200)
    as_it_was = contents(filled)
    filled.publish("t0", EVENTS)
    filled.publish("later", EVENTS)
    assert restore(tmp_path / "k", tmp_path / "deep" / "r", keys) == made
    with Broker.open(tmp_path / "deep" / "r", keys) as again:
        assert contents(again) == as_it_was
        assert (again.project, again.pipelines.position("p")) == (filled.project, b"19")
        assert again.pipelines.kept("p") == {"x": b"19"}
        assert again.topic("t0").groups == {"g": 30}
        assert again.verify().problems == []
        again.publish("t0", EVENTS)
    assert hidden(tmp_path) == hidden(tmp_path / "deep") == []
    for folder in ("k", "deep/r"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
        for name in FILES:
            assert (tmp_path / folder / name).stat().st_mode & 0o777 == 0o600


def test_the_key_that_opens_it_is_not_in_it(
    filled: Broker, keys: FileProvider, tmp_path: Path
) -> None:
    (kek,) = keys.keys(create=False)
    filled.backup(tmp_path / "k")
    for path in (tmp_path / "k").iterdir():
        assert kek not in path.read_bytes()
    readme = (tmp_path / "k" / "README").read_text()
    assert readme.count("\n") == 1
    assert "revoked later" in readme


def test_sessions_never_come_again(filled: Broker, keys: FileProvider, tmp_path: Path) -> None:
    """The project and what was restored from its backup go on apart, under the same data keys."""
    filled.backup(tmp_path / "k")
    backed_up = set(sessions(filled))
    met = set(backed_up)
    for number in range(3):
        restore(tmp_path / "k", tmp_path / f"r{number}", keys)
        with Broker.open(tmp_path / f"r{number}", keys) as again:
            assert set(sessions(again)) == backed_up
            again.publish("t0", EVENTS)
            filled.publish("t0", EVENTS)
            for broker in (again, filled):
                # The publisher of the first broker goes on with its session; the other is new.
                met |= set(sessions(broker))
    assert len(met) == len(backed_up) + 3


BUSY = """
import sys
from pathlib import Path
from ensign_core.broker import Broker, Event
from ensign_core.broker.events import event_batch
from ensign_core.change import Position
with Broker.open(sys.argv[1]) as broker:
    for number in range(1, 1 << 30):
        broker.publish("q", [Event(b"%d" % number)] * 3)
        print(number, flush=True)
"""


def test_nobody_waits_for_a_backup(
    filled: Broker, keys: FileProvider, tmp_path: Path, python: Start
) -> None:
    """While a step of it is under way, another process goes on, and what was synced before is in
    it, up to some moment."""
    process = python(BUSY, filled._engine.path)
    before = int(process.line())
    during = 0

    def progress(doing: str, done: int, total: int) -> None:
        nonlocal during
        filled.publish("t0", EVENTS)
        if doing == "copying":
            during = max(int(process.line()) for _ in range(20))

    filled.backup(tmp_path / "k", progress)
    process.kill()
    assert during >= before + 19
    restore(tmp_path / "k", tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        found = [body for _, body in contents(again)["q"]]
        live = [body for _, body in contents(filled)["q"]]
    assert found == live[: len(found)]
    assert 3 * before <= len(found) < len(live)


def test_threads_append_while_one_backs_up(
    filled: Broker, keys: FileProvider, tmp_path: Path
) -> None:
    """Positions and what they cover are of one moment."""
    ended = threading.Event()

    def capture() -> None:
        with Broker.open(filled._engine.path) as other:
            writer = other.writer("c")
            from ensign_core.broker.events import event_batch

            number = 0
            while not ended.is_set():
                number += 1
                batch = event_batch("c", [Event(b"%d" % number)])
                writer.append([("c", batch)], Position(b"%d" % number))

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        for number in range(5):
            filled.backup(tmp_path / f"k{number}")
    finally:
        ended.set()
        thread.join()
    for number in range(5):
        restore(tmp_path / f"k{number}", tmp_path / f"r{number}", keys)
        with Broker.open(tmp_path / f"r{number}", keys) as again:
            names = [info.next_offset for info in again.topics(["c"])]
            assert int(again.pipelines.position("c") or 0) == (names or [0])[0]


def test_topics_that_are_deleted_and_keys_that_are_revoked_meanwhile(
    filled: Broker, keys: FileProvider, tmp_path: Path
) -> None:
    db = filled._engine.database.connection()
    ((wrapped,),) = db.execute(
        "SELECT wrapped FROM keys.data_keys "
        "WHERE topic = (SELECT ulid FROM topics WHERE name = 't1')"
    )

    def progress(doing: str, done: int, total: int) -> None:
        if doing == "copying" and filled.topics(["t0"]):
            filled.delete_topic("t0")
            (key_id,) = filled.topic("t1").key_ids
            filled.keys.revoke(key_id)

    filled.backup(tmp_path / "k", progress)
    assert wrapped not in (tmp_path / "k" / "keys.db").read_bytes()
    restore(tmp_path / "k", tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        assert "t0" not in [info.name for info in again.topics()]
        assert "ensign.audit" not in [info.name for info in again.topics()]
        found = again.verify()
        assert (found.problems, [p.topic for p in found.revoked]) == ([], ["t1"])


def test_a_folder_with_something_in_it_is_not_touched(
    filled: Broker, keys: FileProvider, tmp_path: Path
) -> None:
    full, empty, file = tmp_path / "full", tmp_path / "empty", tmp_path / "file"
    for folder in (full, empty):
        folder.mkdir()
    (full / "letter").write_text("dear")
    file.write_text("mine")
    for taken in (full, file, filled._engine.path):
        assert refusal(filled.backup, taken) == "backup.exists"
    filled.backup(empty)
    assert refusal(filled.backup, empty) == "backup.exists"
    as_it_was = {p.name: p.read_bytes() for p in filled._engine.path.iterdir() if p.is_file()}
    for taken in (full, file, filled._engine.path):
        assert refusal(restore, empty, taken, keys) == "restore.exists"
    assert (full / "letter").read_text() + file.read_text() == "dearmine"
    assert {
        p.name: p.read_bytes() for p in filled._engine.path.iterdir() if p.is_file()
    } == as_it_was
    assert hidden(tmp_path) == []


def test_one_at_a_time(filled: Broker, tmp_path: Path) -> None:
    codes = []

    def progress(doing: str, done: int, total: int) -> None:
        codes.append(refusal(filled.backup, tmp_path / "k"))

    filled.backup(tmp_path / "k", progress)
    assert set(codes) == {"backup.running"}
    assert (tmp_path / "k" / MANIFEST).exists()


def test_what_does_not_open_is_no_backup(filled: Broker, tmp_path: Path) -> None:
    db = filled._engine.database.connection()
    db.execute("UPDATE bodies SET data = zeroblob(length(data)) WHERE id = 5")
    with pytest.raises(EnsignError) as raised:
        filled.backup(tmp_path / "k")
    assert raised.value.code == "backup.damaged"
    assert "frame.damaged (topic t1)" in raised.value.sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.keys"]


def test_a_kek_that_is_replaced_meanwhile_opens_the_backup(
    filled: Broker, keys: FileProvider, tmp_path: Path, python: Start
) -> None:
    """By another process: this one gets the new one when it needs it."""
    script = (
        "import sys\nfrom ensign_core.broker import Broker\n"
        "with Broker.open(sys.argv[1]) as broker: print(broker.keys.rotate_master(), flush=True)"
    )
    rotated: list[str] = []

    def progress(doing: str, done: int, total: int) -> None:
        if not rotated:
            rotated.append(python(script, filled._engine.path).line())

    old = keys.path.read_text()
    made = filled.backup(tmp_path / "k", progress)
    assert rotated == ["True"]
    (tmp_path / "old.keys").write_text(old)
    (tmp_path / "old.keys").chmod(0o600)
    assert refusal(
        restore, tmp_path / "k", tmp_path / "r", FileProvider(tmp_path / "old.keys")
    ) == ("key.wrong")
    assert restore(tmp_path / "k", tmp_path / "r", keys) == made


@pytest.fixture
def backup(filled: Broker, tmp_path: Path) -> Path:
    filled.backup(tmp_path / "k")
    return tmp_path / "k"


def rewrite(folder: Path, **fields: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | fields))


def test_a_wrong_or_missing_key_is_told_at_once(backup: Path, tmp_path: Path) -> None:
    other = FileProvider(tmp_path / "other.keys")
    other.keys(create=True)
    (backup / "ensign.db").write_bytes(b"not even looked at")
    assert refusal(restore, backup, tmp_path / "r", other) == "key.wrong"
    assert refusal(restore, backup, tmp_path / "r") == "key.missing"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["b", "b.keys", "k", "other.keys"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_is_told(
    backup: Path, keys: FileProvider, tmp_path: Path, name: str
) -> None:
    as_it_was = (backup / name).read_bytes()
    flipped = bytearray(as_it_was)
    flipped[len(flipped) // 2] ^= 1
    for changed in (bytes(flipped), as_it_was[:-1], as_it_was + b"\0", b""):
        (backup / name).write_bytes(changed)
        assert refusal(restore, backup, tmp_path / "r", keys) == "backup.damaged"
    (backup / name).unlink()
    assert refusal(restore, backup, tmp_path / "r", keys) == "backup.damaged"
    (backup / name).write_bytes(as_it_was)
    restore(backup, tmp_path / "r", keys)


def test_a_frame_that_was_changed_with_its_digest_is_told(
    backup: Path, keys: FileProvider, tmp_path: Path
) -> None:
    db = apsw.Connection(str(backup / "ensign.db"))
    db.execute("UPDATE bodies SET data = zeroblob(length(data)) WHERE id = 5")
    db.close()
    digests = {n: hashlib.sha256((backup / n).read_bytes()).hexdigest() for n in FILES}
    rewrite(backup, sha256=digests)
    assert refusal(restore, backup, tmp_path / "r", keys) == "backup.damaged"
    assert not (tmp_path / "r").exists()
    assert hidden(tmp_path) == []


def test_what_is_no_backup_is_told(backup: Path, keys: FileProvider, tmp_path: Path) -> None:
    def code() -> str:
        return refusal(restore, backup, tmp_path / "r", keys)

    assert refusal(restore, tmp_path / "none", tmp_path / "r", keys) == "backup.not_found"
    text = (backup / MANIFEST).read_text()
    for fields in ({"version": 2}, {"tables": 99}):
        rewrite(backup, **fields)
        assert code() == "backup.version_unknown"
        (backup / MANIFEST).write_text(text)
    for name in json.loads(text):
        found = json.loads(text)
        del found[name]
        (backup / MANIFEST).write_text(json.dumps(found))
        assert code() == "backup.damaged", name
    for other in ("", "[]", "{", text[:-20], json.dumps(json.loads(text) | {"kek": "x"}),
                  json.dumps(json.loads(text) | {"sha256": {}}),
                  json.dumps(json.loads(text) | {"project": "x"})):  # fmt: skip
        (backup / MANIFEST).write_text(other)
        assert code() == "backup.damaged"
    (backup / MANIFEST).unlink()
    assert code() == "backup.not_found"
    assert not (tmp_path / "r").exists()


def test_a_backup_of_an_earlier_ensign_is_restored(
    filled: Broker, backup: Path, keys: FileProvider, tmp_path: Path
) -> None:
    db = apsw.Connection(str(backup / "ensign.db"))
    for statement in (
        "ALTER TABLE topics DROP COLUMN policy",
        "ALTER TABLE topics DROP COLUMN duplicates",
        "DROP TABLE replays",
        "PRAGMA user_version = 2",
    ):
        db.execute(statement)
    db.close()
    digests = {n: hashlib.sha256((backup / n).read_bytes()).hexdigest() for n in FILES}
    rewrite(backup, sha256=digests, tables=2)
    restore(backup, tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        assert contents(again) == contents(filled)
        again.publish("t0", EVENTS)
        assert again.verify().problems == []


def test_a_backup_can_be_moved_and_copied(backup: Path, keys: FileProvider, tmp_path: Path) -> None:
    shutil.copytree(backup, tmp_path / "copied")
    restore(tmp_path / "copied", tmp_path / "r", keys)
