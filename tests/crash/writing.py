"""Writing beside the worker that is killed."""

from __future__ import annotations

import threading
import traceback
from abc import abstractmethod

from tests.services.service import Service


class Writing(Service):
    """Writes in a thread of its own, until it has written all; `close` waits for that and raises
    what went wrong."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._failed: str | None = None

    @abstractmethod
    def write(self) -> None:
        """Write all."""

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._thread.join()
        assert self._failed is None, self._failed

    def _run(self) -> None:
        try:
            self.write()
        except BaseException:
            self._failed = traceback.format_exc()
            raise
