"""Fixtures that several unit tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.engine import deliveries
from ensign_core.run import retry
from tests.processes import Process, Processes


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.open(tmp_path / "b") as made:
        yield made


@pytest.fixture
def python() -> Iterator[Callable[..., Process]]:
    """Starts scripts in processes that end with the test."""
    with Processes() as processes:
        yield processes.start


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of the size that the test's parameter says, or of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={getattr(request, 'param', '2m')}",
        "tmpfs",
        str(disk),
    ]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is tried again at once."""
    monkeypatch.setattr(retry, "BACKOFF_FIRST_S", 0.001)
    monkeypatch.setattr(retry, "BACKOFF_S_MAX", 0.01)


class Clock:
    """The wall clock of work groups, moved by hand."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now_us += 1
        return self.now_us

    def step(self, seconds: float) -> None:
        self.now_us += int(seconds * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deliveries, "_now_us", made)
    return made
