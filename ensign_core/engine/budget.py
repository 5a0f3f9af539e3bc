"""How much disk a project may take: frames are refused before the disk is full, so that there is
room left for positions, offsets and what trims topics."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from ensign_core.engine.connection import PAGE_BYTES
from ensign_core.errors import EnsignError

LOOK_EVERY_S = 0.1
"""The disk is looked at this often at most, unless what was left is used up before. Each process
looks for itself: several may go over a budget by what they append between two looks."""


@dataclass(frozen=True)
class DiskBudget:
    """``bytes_max`` is what the topics of a project may take, the log beside them (up to 128 MB)
    not counted; ``free_bytes_min`` what must stay free on its disk (0: the disk may be filled).
    What was trimmed counts as free: its room is used again."""

    bytes_max: int | None = None
    free_bytes_min: int = 256 << 20


AUDIT_TOPIC = "ensign.audit"
"""What it notes has happened already: its events, few and small, are not refused for want of room
while the disk takes them."""


class Room:
    """What is left of a budget. Called within the engine's transactions, by one thread at a
    time."""

    def __init__(self, path: Path, budget: DiskBudget) -> None:
        self._path = path
        self._budget = budget
        self._left = 0.0
        self._short: EnsignError | None = None
        self._look_at = -math.inf

    def take(self, db: apsw.Connection, sizes: Sequence[int]) -> None:
        """Take room for frames; ``engine.disk_budget`` if there is not enough."""
        wanted = sum(sizes) + PAGE_BYTES * len(sizes)
        now = time.monotonic()
        if now >= self._look_at or wanted > self._left:
            self._look_at = now + LOOK_EVERY_S
            self._look(db)
        if wanted > self._left and self._short is not None:
            raise self._short
        self._left -= wanted

    def _look(self, db: apsw.Connection) -> None:
        pages, unused = (
            next(db.execute(f"PRAGMA main.{name}"))[0] for name in ("page_count", "freelist_count")
        )
        self._left, self._short = math.inf, None
        if self._budget.bytes_max is not None:
            self._left = self._budget.bytes_max - (pages - unused) * PAGE_BYTES
            self._short = _short(
                f"The topics in {self._path} take all of the {self._budget.bytes_max} bytes that "
                "they may"
            )
        if not self._budget.free_bytes_min:
            return
        try:
            disk = os.statvfs(self._path)
            size = (self._path / "ensign.db").stat().st_size
        except OSError:
            return  # The append itself meets what is wrong with the disk.
        # Pages that are in the log only make the database grow when they are moved there.
        growth = max(0, pages * PAGE_BYTES - size)
        free = disk.f_bavail * disk.f_frsize - growth + unused * PAGE_BYTES
        free -= self._budget.free_bytes_min
        if free < self._left:
            self._left = free
            self._short = _short(
                f"The disk that holds {self._path} has less than {self._budget.free_bytes_min} "
                "bytes left"
            )


def _short(what: str) -> EnsignError:
    return EnsignError(
        "engine.disk_budget",
        f"{what}; nothing was written.",
        "Let topics keep less with `ensign topics set TOPIC --keep-bytes` or --keep-age, delete "
        "some, or raise `broker: disk:`; a pipeline goes on by itself.",
    )
