"""The lives of a worker that is killed: started, asked for things, dead by its own hand or ours."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ensign_core.broker import Broker
from ensign_core.plugin import Signal
from tests.crash.victim import POINTS

PIPELINE = "shop"
START_S_MAX = 20.0
LIFE_S_MAX = 1.5
END_S_MAX = 240.0
END_S_EACH = 5.0
"""How long the last life may take, and how much longer for each one before it."""


def schedule() -> list[str]:
    """The points that lives die at, in turn; half of them die at none."""
    return [*POINTS, *["none"] * len(POINTS)]


def ask(folder: Path, signal: Signal) -> None:
    """What `ensign snapshot` leaves for a worker to find."""
    with Broker.open(folder / "broker", create=False) as broker:
        broker.pipelines.signal(PIPELINE, signal)


def ensign(
    source: str, point: str, count: int, arguments: Sequence[str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.victim", source, point, str(count), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def live(source: str, config: Path, point: str, rng: random.Random) -> None:
    """One life of a worker: it dies at its point, or of our SIGKILL some time after it went to
    work, or had not got there in time."""
    began = time.monotonic()
    worker = ensign(source, point, rng.choice((1, 2, 5, 20)), ["run", str(config)])
    assert worker.stdout is not None
    select.select([worker.stdout], [], [], START_S_MAX)
    with suppress(subprocess.TimeoutExpired):
        _, errors = worker.communicate(timeout=rng.uniform(0.0, LIFE_S_MAX))
        # It may die by its own hand only, never end by itself.
        assert worker.returncode == -9, errors.decode()
    if worker.returncode is None:
        worker.kill()
        worker.communicate()
    print(f"  {point}: lived {time.monotonic() - began:.2f} s", flush=True)


def last_life(source: str, folder: Path, config: Path, kills: int) -> None:
    """A worker that is not killed catches up."""
    ask(folder, Signal(0, "resume"))
    ended = ensign(source, "none", 0, ["run", str(config), "--until-caught-up"])
    _, errors = ended.communicate(timeout=END_S_MAX + END_S_EACH * kills)
    assert ended.returncode == 0, errors.decode()
