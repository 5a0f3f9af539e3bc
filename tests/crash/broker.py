"""Random histories of a project against a model: what was acknowledged is there, in order and byte
for byte, and what was under way when the process was killed is there as a whole or not at all."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from ensign_core.broker import Broker
from ensign_core.errors import EnsignError
from tests.crash.broker_model import Frames, Seen, State, differences, seen
from tests.crash.broker_victim import CLEAN, live
from tests.crash.histories import Kill, Life, Step, drawn

SHARED = Path("/dev/shm")
PASSING = shutil.ignore_patterns("wake*", "running", "*-shm")
"""What only lives while processes do."""


@dataclass
class Verdict:
    """What was found, and how much was looked at."""

    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Verdict) -> None:
        self.faults += other.faults
        self.counts += other.counts

    def __str__(self) -> str:
        return ", ".join(f"{number} {what}" for what, number in self.counts.most_common())


@dataclass
class Under:
    """A step that was begun and of which nobody knows what came of it."""

    step: Step
    frames: Frames | None


class History:
    """One history in a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        self._state = State()
        self._under: Under | None = None
        self.verdict = Verdict(counts=Counter(histories=1))

    def run(self) -> Verdict:
        """Live it to its end, or to the first thing that is wrong."""
        for number, life in enumerate(drawn(self._seed)):
            try:
                wrong = self._live(life) or self._check()
            except EnsignError as error:
                wrong = [f"{error.code}: {error.sentence}"]
            if wrong:
                told = f"seed {self._seed}, life {number} ({life.kill}), under way {self._under}"
                self.verdict.faults += [f"{told}: {one}" for one in wrong]
                break
        return self.verdict

    def _live(self, life: Life) -> list[str]:
        """Let a process live a life, and take up what it acknowledged."""
        self._state.held.clear()
        self._under = None
        unsynced = mmap(-1, 8)
        struct.pack_into("q", unsynced, 0, CLEAN)
        ours, theirs = multiprocessing.Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            ours.close()
            live(self._folder / "b", life, theirs, unsynced)
        theirs.close()
        wrong = self._listen(ours, pid, life)
        _, status = os.waitpid(pid, 0)
        ours.close()
        self.verdict.counts["lives"] += 1
        self.verdict.counts["kills"] += os.WIFSIGNALED(status)
        if life.kill is not None:
            (low,) = struct.unpack_from("q", unsynced, 0)
            self.verdict.counts["torn logs"] += tear(self._folder / "b", low, life.kill)
        if (status == 0) == (life.kill is not None) and not wrong:
            wrong = [f"the process ended with {status}"]
        return wrong

    def _listen(self, teller: Connection, pid: int, life: Life) -> list[str]:
        wrong: list[str] = []
        while not wrong:
            try:
                what, number, told = teller.recv()
            except (EOFError, OSError):
                break
            step = life.steps[number] if number >= 0 else None
            if what == "begun":
                self._under = Under(step, told) if step is not None else None
                if life.kill is not None and (number, "moment") == (life.kill.at, life.kill.seam):
                    _kill_in(pid, life.kill.count / 1e6)
            elif what == "broken":
                wrong = [told]
            elif step is not None and self._under is not None:
                wrong = self._took(step, self._under.frames, what == "refused", told)
                self._under = None
        return wrong

    def _took(self, step: Step, frames: Frames | None, refused: bool, told: object) -> list[str]:
        """A step came to its end."""
        self.verdict.counts["steps"] += 1
        expected = self._state.refusal(step)
        if expected != (told if refused else None):
            return [f"{step}: {told if refused else 'done'} instead of {expected}"]
        if refused:
            self._state.refused(step)
            return []
        for _ in self._state.step(step, frames, told):
            pass
        return differences(self._state, told) if isinstance(told, Seen) else []

    def _check(self) -> list[str]:
        """Compare a copy, so that the next process comes upon all as it was left."""
        copy = self._folder / "copy"
        shutil.copytree(self._folder, copy, ignore=_besides(copy.name))
        try:
            with Broker.open(copy / "b", keep_every_s=1e6) as broker:
                found = seen(broker)
                problems = broker.verify().problems
        finally:
            shutil.rmtree(copy)
        wrong = [f"verify: {problem}" for problem in problems]
        return wrong + self._settle(found)

    def _settle(self, found: Seen) -> list[str]:
        """Take up what came of the step that was under way."""
        wrong = differences(self._state, found)
        under, self._under = self._under, self._under
        if not wrong or under is None or self._state.refusal(under.step) == "topic.unknown":
            return wrong
        loose = {item.topic for item in under.step.items}
        state = deepcopy(self._state)
        stops = iter(state.step(under.step, under.frames, None))
        tries = [self._state]
        if self._state.refusal(under.step) is not None:
            stops = iter(())
        for number in count():
            tried = self._state if number == 0 else state
            if number and next(stops, StopIteration) is StopIteration:
                tries.append(state)
            if not differences(tried, found, loose):
                self._state = tried
                for name in loose & found.topics.keys():
                    if "active" in found.topics[name].keys:
                        tried.topic(name).key()
                self.verdict.counts["done though not acknowledged"] += number > 0
                return []
            if len(tries) > 1:
                break
        return [*wrong, *(f"or {one}" for one in differences(state, found, loose))]


def _besides(copy: str) -> Callable[[str, list[str]], set[str]]:
    """What is not copied: what only lives while processes do, and the copy itself."""
    return lambda folder, names: {copy, *PASSING(folder, names)}


def _kill_in(pid: int, delay_s: float) -> None:
    """Kill a process after some time, whatever it tells meanwhile."""
    deadline = time.perf_counter() + delay_s
    while time.perf_counter() < deadline:
        pass
    os.kill(pid, 9)


def tear(folder: Path, low: int, kill: Kill) -> bool:
    """Make of the log's end what may be there after a loss of power: of what was not synced some,
    none or something else, and garbage behind it. Whether anything was done."""
    log = folder / "ensign.db-wal"
    random = Random(kill.tear)
    way = random.choice(["leave", "cut", "overwrite", "garbage", "cut and garbage"])
    if way == "leave" or not log.exists():
        return False
    size = log.stat().st_size
    if low < size and way != "garbage":
        place = random.randrange(low, size)
        with log.open("r+b") as file:
            if way == "overwrite":
                file.seek(place)
                file.write(random.randbytes(min(size - place, random.randrange(1, 6000))))
            else:
                file.truncate(place)
    if "garbage" in way:
        with log.open("ab") as file:
            file.write(random.randbytes(random.randrange(1, 9000)))
    return True


def one(seed: int, root: Path) -> Verdict:
    """The history of a seed."""
    folder = root / str(seed)
    folder.mkdir()
    try:
        return History(seed, folder).run()
    finally:
        shutil.rmtree(folder)


def run(histories: int, seed: int, jobs: int) -> Verdict:
    """The histories of the seeds from ``seed`` on, some at a time."""
    verdict = Verdict()
    with tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as root:
        _warm(Path(root))
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            seeds = range(seed, seed + histories)
            for each in pool.imap(partial(one, root=Path(root)), seeds, chunksize=4):
                verdict.add(each)
    return verdict


def _warm(root: Path) -> None:
    """Load what a broker uses, for all forks."""
    with Broker.open(root / "warm") as broker:
        seen(broker)
    gc.collect()
    gc.freeze()
