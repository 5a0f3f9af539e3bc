"""The log of the embedded engine under a load that never pauses."""

from __future__ import annotations

import random
from pathlib import Path

from ensign_core.broker import Broker, Event
from ensign_core.engine.checkpoint import PAGES_MAX
from ensign_core.engine.connection import PAGE_BYTES

ROUNDS = 400


def test_the_log_starts_over_without_a_pause(tmp_path: Path) -> None:
    """What is written in all is more than the log may hold."""
    limit = 2 * PAGES_MAX * PAGE_BYTES
    with Broker.open(tmp_path / "b") as broker:
        written = 0
        for number in range(ROUNDS):
            event = Event(number.to_bytes(4) + _noise(number))
            broker.publish("t", [event])
            written += len(event.data)
        assert (tmp_path / "b" / "ensign.db-wal").stat().st_size < limit
        assert written > limit
        with broker.reader(["t"]) as reader:
            count = 0
            while batches := reader.fetch():
                count += sum(map(len, batches))
    assert count == ROUNDS


def _noise(seed: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(200_000)
