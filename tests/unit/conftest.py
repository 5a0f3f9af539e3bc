"""Fixtures that several unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.engine import deliveries
from ensign_core.run import retry


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.open(tmp_path / "b") as made:
        yield made


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
