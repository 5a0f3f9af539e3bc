"""Waiting for something outside this process, by asking."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(ready: Callable[[], object], seconds_max: float, every_s: float = 0.002) -> float:
    """Ask until ``ready()`` is true; the monotonic clock at that moment."""
    deadline = time.monotonic() + seconds_max
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready within {seconds_max} s")
        time.sleep(every_s)
    return time.monotonic()
