"""Processes and signals: one pipeline runs in this process, several in a process each."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from ensign_core.run.retry import Backoff

LIFELINE = "ENSIGN_LIFELINE_FD"
"""Environment variable: a pipe's end that closes when the parent is gone, however it went."""

STEADY_S = 60.0
"""A worker that lived this long starts over with the shortest back-off."""


@contextlib.contextmanager
def signals(stop: Callable[[], None]) -> Iterator[None]:
    """While in here, the first SIGTERM or SIGINT calls ``stop``, in a thread of its own, and a
    second one exits at once: what is durable stays so, and what is not was not acked. Main thread
    only."""
    seen: list[int] = []
    reading, writing = os.pipe()

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        # No lock may be taken here: the code that was interrupted may hold it.
        os.write(writing, b"\0")

    def listen() -> None:
        if os.read(reading, 1):
            stop()
        os.close(reading)

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        listener.join()


def follow_parent(stop: Callable[[], None]) -> bool:
    """In a worker: drain when the supervisor is gone. Whether there is one."""
    descriptor = os.environ.pop(LIFELINE, None)
    if descriptor is None:
        return False

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(int(descriptor), 1)
        stop()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
    return True


class Supervisor:
    """Runs one worker process per pipeline with ``commands``, a command line each. A worker that
    was killed is started again after a back-off; one that failed says why itself and stays down."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._workers: set[subprocess.Popen[bytes]] = set()
        self._lifeline = os.pipe()

    def stop(self) -> None:
        """Tell the workers to drain, each of them once. Safe in any thread."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
            for worker in self._workers:
                worker.send_signal(signal.SIGTERM)

    def run(self) -> int:
        """Block until all workers have ended; the exit code: 1 if any of them failed."""
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda c=command: codes.append(self._keep(c)), daemon=True)
            for command in self._commands
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
        for descriptor in self._lifeline:
            os.close(descriptor)
        return max(codes, default=0)

    def _keep(self, command: Sequence[str]) -> int:
        backoff = Backoff()
        while True:
            started = time.monotonic()
            code = self._once(command)
            if code == -signal.SIGTERM and self._stopping.is_set():
                return 0  # told to stop before it had begun
            if code >= 0 or self._stopping.is_set():
                return code if 0 <= code <= 2 else 1
            if time.monotonic() - started >= STEADY_S:
                backoff.reset()
            self._stopping.wait(backoff.next_s())

    def _once(self, command: Sequence[str]) -> int:
        """One life of a worker; its exit code. A worker that cannot be started (no memory, no
        process to be had) counts as killed."""
        reading, _ = self._lifeline
        with self._lock:
            if self._stopping.is_set():
                return 0
            try:
                worker = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(reading,),
                    env=os.environ | {LIFELINE: str(reading)},
                    start_new_session=True,
                )
            except OSError:
                return -signal.SIGKILL
            self._workers.add(worker)
        code = worker.wait()
        with self._lock:
            self._workers.discard(worker)
        return code
