"""Disks that are full, folders that cannot be written, processes that are killed, clocks that are
set back: what a project, its backups and what is restored from them come to."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ensign_core.broker import Broker, DiskBudget, Event, restore
from ensign_core.crypto import FileProvider
from ensign_core.errors import EnsignError
from tests.processes import Process

EVENTS = [Event(b"%d" % number) for number in range(10)]
Start = Callable[..., Process]


@pytest.fixture
def keys(tmp_path: Path) -> FileProvider:
    return FileProvider(tmp_path / "b.keys")


def events(broker: Broker) -> dict[str, int]:
    return {info.name: info.events for info in broker.topics()}


def outcome(call: Callable[..., object], *arguments: object) -> str:
    """The code of what goes wrong, or nothing."""
    try:
        call(*arguments)
    except EnsignError as error:
        return error.code
    return ""


@pytest.mark.parametrize("doing", ["backup", "restore"])
def test_a_disk_that_is_full_leaves_nothing_that_looks_whole(
    broker: Broker, keys: FileProvider, tmp_path: Path, small_disk: Path, doing: str
) -> None:
    noise = random.Random(7)
    for _ in range(10):
        broker.publish("t", [Event(noise.randbytes(60_000))])
    broker.backup(tmp_path / "k")
    filler, made = small_disk / "filler", small_disk / "deep" / "made"
    made.parent.mkdir()
    codes = []
    for room in (0, 5_000, 20_000, 100_000, 400_000, 640_000, 660_000, 690_000, 720_000, 760_000):
        free = os.statvfs(small_disk).f_bavail * 4096
        filler.write_bytes(bytes(max(0, free - room)))
        if doing == "backup":
            codes.append(outcome(broker.backup, made))
        else:
            codes.append(outcome(restore, tmp_path / "k", made, keys))
        filler.unlink()
        assert made.exists() == (not codes[-1])
        if made.exists():
            shutil.rmtree(made)
        assert list(made.parent.iterdir()) == []
        broker.publish("t", EVENTS)
    assert set(codes[:-1]) <= {f"{doing}.disk_full", ""}
    assert codes[:4] == [f"{doing}.disk_full"] * 4
    broker.backup(made)
    restore(made, tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        assert events(again) == events(broker) == {"t": 110}


def test_a_project_on_a_full_disk_keeps_what_was_acked(
    small_disk: Path, tmp_path: Path, keys: FileProvider
) -> None:
    keys.keys(create=True)
    noise = random.Random(3)
    filler = small_disk / "filler"
    with Broker.open(small_disk / "b", keys, disk=DiskBudget(free_bytes_min=0)) as broker:
        acked = broker.publish("t", EVENTS) + 1
        free = os.statvfs(small_disk).f_bavail * 4096
        filler.write_bytes(bytes(free - 300_000))
        codes = []
        for _ in range(60):
            code = outcome(broker.publish, "t", [Event(noise.randbytes(20_000))])
            codes.append(code)
            acked += not code
        refused = set(codes) - {""}
        assert refused
        assert refused <= {"engine.disk_full", "engine.disk_budget"}
        assert broker.verify().problems == []
        filler.unlink()
        assert broker.publish("t", EVENTS) == acked + len(EVENTS) - 1
        assert broker.verify().events == acked + len(EVENTS)
        broker.backup(tmp_path / "k")


def test_a_disk_that_can_only_be_read(
    broker: Broker, keys: FileProvider, tmp_path: Path, small_disk: Path
) -> None:
    """Nothing can be made there; a backup that is there is as good as any."""
    broker.publish("t", EVENTS)
    broker.backup(small_disk / "k")
    restore(small_disk / "k", small_disk / "r", keys)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (small_disk / "new", small_disk / "deep" / "new"):
        assert outcome(broker.backup, folder) == "backup.not_writable"
        assert outcome(restore, small_disk / "k", folder, keys) == "restore.not_writable"
    assert outcome(Broker.open, small_disk / "r", keys) == "engine.not_writable"
    restore(small_disk / "k", tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        assert events(again) == {"t": 10}
    assert sorted(path.name for path in small_disk.iterdir()) == ["k", "r"]
    assert outcome(broker.publish, "t", EVENTS) == ""


KILLED = """
import os, signal, sys
from pathlib import Path
from ensign_core.broker import Broker, restore
from ensign_core.crypto import FileProvider
doing, project, backup, target, keys = sys.argv[1:]
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.chmod", "fcntl.flock", "os.rmdir"}
left = 0

def step(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    if event in STEPS and left > 0:
        step()

def run():
    global left
    provider = FileProvider(Path(keys))
    if doing == "backup":
        with Broker.open(project, provider) as broker:
            sys.addaudithook(audit)
            left = place
            broker.backup(backup, step)
            left = -1
    else:
        sys.addaudithook(audit)
        left = place
        restore(backup, target, provider, step)
        left = -1

place = 0
while True:
    sys.stdin.readline()
    place += 1
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("done" if status == 0 else "killed" if status == signal.SIGKILL else status, flush=True)
"""


def lives(python: Start, *arguments: object) -> Iterator[str]:
    """What becomes of a process that is killed at its first step, then at its second, and so on,
    until it comes to its end."""
    process = python(KILLED, *arguments)
    while True:
        process.go()
        how = process.line()
        yield how
        if how == "done":
            return


def test_a_backup_that_is_killed_at_any_step_is_none_or_whole(
    broker: Broker, keys: FileProvider, tmp_path: Path, python: Start
) -> None:
    for _ in range(3):
        broker.publish("t", [Event(bytes(100_000))])
    made, partial, restored = tmp_path / "k", tmp_path / ".k.partial", tmp_path / "r"
    counted = {"none": 0, "whole": 0, "partial": 0}
    for how in lives(python, "backup", tmp_path / "b", made, "-", keys.path):
        assert how in ("killed", "done")
        counted["partial"] += partial.exists()
        counted["whole" if made.exists() else "none"] += 1
        if made.exists():
            restore(made, restored, keys)
            with Broker.open(restored, keys) as again:
                assert events(again) == events(broker)
            for folder in (made, restored):
                shutil.rmtree(folder)
        broker.publish("t", EVENTS)
        assert outcome(broker.verify) == ""
    print(counted)
    assert counted["none"] > 10
    assert counted["whole"] > 1
    assert counted["partial"] > 5
    assert not partial.exists()


def test_a_restoration_that_is_killed_at_any_step_is_none_or_whole(
    broker: Broker, keys: FileProvider, tmp_path: Path, python: Start
) -> None:
    for _ in range(3):
        broker.publish("t", [Event(bytes(100_000))])
    broker.backup(tmp_path / "k")
    made, partial = tmp_path / "r", tmp_path / ".r.partial"
    counted = {"none": 0, "whole": 0, "partial": 0}
    for how in lives(python, "restore", "-", tmp_path / "k", made, keys.path):
        assert how in ("killed", "done")
        counted["partial"] += partial.exists()
        counted["whole" if made.exists() else "none"] += 1
        if made.exists():
            with Broker.open(made, keys, create=False) as again:
                assert (events(again), again.verify().problems) == (events(broker), [])
            shutil.rmtree(made)
    print(counted)
    assert counted["none"] > 10
    assert counted["whole"] > 0
    assert counted["partial"] > 5
    assert not partial.exists()


def test_a_clock_that_is_set_back_loses_nothing(
    tmp_path: Path, keys: FileProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of commits are then not in order; a time means the running maximum."""

    def set_clock(seconds: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: seconds * 10**9)

    made = []
    for life in range(2):
        with Broker.open(tmp_path / "b", keys) as broker:
            for seconds in (1000, 2000, 500, 1500, 100, 2500, 10):
                set_clock(seconds)
                made.append(broker.publish("t", EVENTS))
            assert broker.verify().problems == []
            broker.publish(f"made.{life}", EVENTS)
    assert made == [10 * number + 9 for number in range(14)]
    with Broker.open(tmp_path / "b", keys) as broker:
        for moment_s, expected in (
            (0, 0), (1000, 0), (1001, 10), (2000, 10), (2001, 50), (2500, 50), (2501, 140),
        ):  # fmt: skip
            moment = datetime.fromtimestamp(moment_s, UTC)
            assert broker.offset("t", moment) == expected
        with broker.reader(["t"]) as reader:
            found = [change.offset for batch in reader.fetch() for change in batch]
        assert found == list(range(140))
        broker.backup(tmp_path / "k")
        set_clock(1)
        restore(tmp_path / "k", tmp_path / "r", keys)
    with Broker.open(tmp_path / "r", keys) as again:
        assert again.publish("t", EVENTS) == 149
        assert again.publish("new", EVENTS) == 9
        assert again.verify().problems == []
