"""One file that a sink appends lines to."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

from connectors.file.errors import from_os

TAIL_BLOCK_BYTES = 1 << 16
"""Bytes looked at in one step when the end of the last whole line is searched."""


class Output:
    """A file opened for appending, locked against other writers. Methods raise `EnsignError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._dirty = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self.close()
            raise from_os(error, path) from None

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o666)
        # A second writer would cut off what this one is in the midst of writing.
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.size = self._cut_torn_line()
        self.since_s = time.monotonic()
        # Also when nothing is written: the name itself must survive a crash from here on.
        _sync_folder(self.path.parent)

    def _cut_torn_line(self) -> int:
        """A line without its newline is what a crash left of a write; it was never flushed, so its
        events come again. Returns the file's size afterwards."""
        size = os.fstat(self._fd).st_size
        whole, at = 0, size
        while at and not whole:
            start = max(0, at - TAIL_BLOCK_BYTES)
            found = os.pread(self._fd, at - start, start).rfind(b"\n")
            whole, at = (start + found + 1 if found >= 0 else 0), start
        if whole != size:
            os.ftruncate(self._fd, whole)
            self._dirty = True
        return whole

    def append(self, data: bytes) -> None:
        """Hand whole lines to the operating system."""
        view = memoryview(data)
        self._dirty = True
        try:
            while view:
                written = os.write(self._fd, view)
                self.size += written
                view = view[written:]
        except OSError as error:
            raise from_os(error, self.path) from None

    def sync(self) -> None:
        """Return when all that was appended is on the disk (I6)."""
        if not self._dirty:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise from_os(error, self.path) from None
        self._dirty = False

    def rotate(self) -> None:
        """Sync the file, move it to the next free ``NAME.000001.EXT``, and begin a new one."""
        self.sync()
        try:
            self.path.rename(_next_name(self.path))
            self.close()
            self._open()
        except OSError as error:
            raise from_os(error, self.path) from None

    def close(self) -> None:
        """Let go of the file, and of the lock with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _next_name(path: Path) -> Path:
    """Numbers rise, gaps are not filled: a number that was taken away is not used for later data
    as long as a higher one is there."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d+){re.escape(path.suffix)}")
    matches = (pattern.fullmatch(name) for name in os.listdir(path.parent))
    number = max((int(match[1]) for match in matches if match), default=0) + 1
    return path.with_name(f"{path.stem}.{number:06}{path.suffix}")


def _sync_folder(folder: Path) -> None:
    """A new or renamed file is durable when its folder is (fsync(2), "DESCRIPTION")."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
