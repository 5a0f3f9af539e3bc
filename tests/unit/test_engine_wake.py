"""Bells: whoever waits is woken by the append, not by the clock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ensign_core.change import Stage
from ensign_core.crypto import DataKey
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.engine.wake import FifoBell, ring
from tests.processes import Processes
from tests.unit.test_engine import KEY, TOPIC, Start, python, write

__all__ = ["python"]

LONG_S = 60.0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    made = SqliteEngine(tmp_path / "b")
    made.keys.add([DataKey(KEY, TOPIC, b"wrapped", 0, "active")])
    yield made
    made.close()


def test_a_ring_before_the_wait_is_not_missed(tmp_path: Path) -> None:
    bell = FifoBell(tmp_path / "wake")
    for _ in range(3):
        ring(tmp_path / "wake")
    assert bell.wait(LONG_S)
    assert not bell.wait(0), "all rings before a wait count as one"
    bell.wake()
    assert bell.wait(LONG_S)
    bell.close()


def test_an_append_in_the_same_process_wakes(engine: SqliteEngine) -> None:
    bell = engine.bell()
    rang: list[bool] = []
    thread = threading.Thread(target=lambda: rang.append(bell.wait(LONG_S)))
    thread.start()
    engine.append([write()], {})
    thread.join()
    assert rang == [True]
    bell.close()


def test_an_append_in_another_process_wakes(engine: SqliteEngine, python: Start) -> None:
    bell = engine.bell()
    script = 'engine.append([Write(b"t" * 16, "t", b"k" * 16, 1, 0, b"x")], {})'
    process = python(script, engine.path)
    assert bell.wait(LONG_S)
    assert process.wait() == 0
    bell.close()


def test_a_bell_in_another_process_is_rung(engine: SqliteEngine, python: Start) -> None:
    script = (
        "bell = engine.bell()\nprint('waiting', flush=True)\n"
        "print(bell.wait(60), len(engine.topics()), flush=True)\nbell.close()"
    )
    process = python(script, engine.path)
    assert process.line() == "waiting"
    engine.append([write()], {})
    assert process.line() == "True 1"
    assert process.wait() == 0


def test_what_is_readable_only_later_rings_later(engine: SqliteEngine) -> None:
    bell, epoch = engine.bell(), engine.pipelines.claim("p")
    engine.append([write()], {}, epoch, None, Stage.HOLD)
    engine.append([], {}, epoch, b"heartbeat")
    assert not bell.wait(0)
    engine.append([], {}, epoch, b"done", Stage.RELEASE)
    assert bell.wait(LONG_S)
    assert [s.events for s in engine.frames([TOPIC], 0, 1)] == [1]
    bell.close()


def test_abandoned_bells_are_removed(engine: SqliteEngine, python: Start) -> None:
    process = python(
        "bell = engine.bell()\nprint(1, flush=True)\nsys.stdin.readline()", engine.path
    )
    assert process.line() == "1"
    mine = engine.bell()
    folder = engine.path / "wake"
    assert len(list(folder.iterdir())) == 2
    process.kill()
    engine.append([write()], {})
    assert [name.split("-")[0] for name in os.listdir(folder)] == [str(os.getpid())]
    mine.close()
    mine.close()
    assert os.listdir(folder) == []


def test_a_bell_that_is_not_open_yet_is_not_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkfifo

    def mkfifo(path: Path, mode: int) -> None:
        real(path, mode)
        ring(tmp_path / "wake")

    monkeypatch.setattr(os, "mkfifo", mkfifo)
    bell = FifoBell(tmp_path / "wake")
    ring(tmp_path / "wake")
    assert bell.wait(LONG_S)
    bell.close()


def test_bells_survive_being_made_while_others_ring(tmp_path: Path) -> None:
    """A bell that a ringer took for abandoned while it was made would never ring again."""
    folder = tmp_path / "wake"
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom ensign_core.engine.wake import ring\n"
        "print('up', flush=True)\nparent = os.getppid()\n"
        "while os.getppid() == parent: ring(Path(sys.argv[1]))\n"
    )
    with Processes() as processes:
        ringers = [processes.start(script, folder) for _ in range(2)]
        assert [ringer.line() for ringer in ringers] == ["up", "up"]
        for _ in range(300):
            bell = FifoBell(folder)
            assert bell.wait(LONG_S)
            bell.close()
    assert os.listdir(folder) == []


def test_a_bell_that_nobody_holds_any_more_lets_go_of_its_file(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    for _ in range(5):
        FifoBell(tmp_path / "wake")
    assert psutil.Process().num_fds() == before
    assert list((tmp_path / "wake").iterdir()) == []


def test_waking_what_was_closed_writes_nowhere(tmp_path: Path) -> None:
    bell = FifoBell(tmp_path / "wake")
    descriptor = bell._descriptor
    bell.close()
    victim = os.open(tmp_path / "victim", os.O_RDWR | os.O_CREAT)
    assert victim == descriptor, "the number is taken again"
    bell.wake()
    assert os.fstat(victim).st_size == 0
    os.close(victim)


def test_a_full_bell_does_not_hold_up_who_rings(tmp_path: Path) -> None:
    bell = FifoBell(tmp_path / "wake")
    os.write(bell._descriptor, bytes(1 << 16))
    ring(tmp_path / "wake")
    bell.wake()
    assert bell.wait(LONG_S)
    bell.close()


def test_ringing_where_nobody_ever_waited_is_no_error(tmp_path: Path) -> None:
    ring(tmp_path / "nowhere")


def test_a_wait_ends_by_itself(tmp_path: Path) -> None:
    bell = FifoBell(tmp_path / "wake")
    started = time.monotonic()
    assert not bell.wait(0.01)
    assert time.monotonic() - started >= 0.009
    assert not bell.wait(-1)
    bell.close()
