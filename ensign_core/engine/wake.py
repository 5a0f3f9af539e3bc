"""Bells between processes: each waiting reader owns a FIFO in ``wake/``, and whoever appends writes
a byte into every one of them. One mechanism for readers in the same process and in others; a FIFO
that nobody has open any more is removed by the next who rings."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import threading
from pathlib import Path

_number = itertools.count()
_UNREADY = "."


class FifoBell:
    """A reader's FIFO, open from creation to `close`, so that no ring is missed in between."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        self._closing = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{os.getpid()}-{os.urandom(4).hex()}-{next(_number)}"
        self._path = folder / name
        # Who rings takes a FIFO that nobody has open for abandoned, so it gets its name afterwards.
        made = folder / f"{_UNREADY}{name}"
        os.mkfifo(made, 0o600)
        self._descriptor = os.open(made, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        made.rename(self._path)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        ready = self._poll.poll(max(0.0, timeout_s) * 1000)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, 65536)
        return bool(ready)

    def wake(self) -> None:
        # Under a lock: a descriptor that was closed may be another file's by now.
        with self._closing:
            if self._descriptor >= 0:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._descriptor, b"\0")

    def close(self) -> None:
        with self._closing:
            if self._descriptor < 0:
                return
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


def ring(folder: Path) -> None:
    """Wake every reader that waits on ``folder``. Never fails: a reader looks again by itself."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.startswith(_UNREADY):
            continue
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\0")
        os.close(descriptor)
