"""A thread of a pipeline that lives as often as its connector's server allows."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

from ensign_core.errors import EnsignError
from ensign_core.metrics import RESTARTS
from ensign_core.run.context import Progress
from ensign_core.run.retry import Backoff, classified, waits


class Part(ABC):
    """Runs `live` again and again: what fails is dead (I9), and the retry table says whether a new
    one is made after a back-off (I10). ``wait_s`` limits how long it waits without any success."""

    def __init__(self, pipeline: str, name: str, wait_s: float | None) -> None:
        self.pipeline = pipeline
        self.name = name
        self.progress = Progress()
        self.error: EnsignError | None = None
        self._wait_s = wait_s
        self._backoff = Backoff()
        self._well_at = time.monotonic()

    @abstractmethod
    def live(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set or there is nothing more to do; raise what goes wrong."""

    def went_well(self) -> None:
        """The server answered and what it sent, if anything, is durable: what was waited out is
        over."""
        self.progress.recovered()
        self._backoff.reset()
        self._well_at = time.monotonic()

    def run(self, stop: threading.Event) -> None:
        """The thread's function. Sets ``error`` if it ended for one."""
        while not stop.is_set():
            try:
                self.live(stop)
            except Exception as error:  # noqa: BLE001
                failure = classified(error)
            else:
                return
            RESTARTS.labels(self.pipeline, self.name, failure.code).inc()
            waited_s = time.monotonic() - self._well_at
            if not waits(failure) or (self._wait_s is not None and waited_s > self._wait_s):
                self.error = failure
                self.progress.failed("failed", failure)
                return
            self.progress.failed("waiting", failure)
            stop.wait(self._backoff.next_s())
