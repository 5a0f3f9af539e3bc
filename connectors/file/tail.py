"""One file that a source follows."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from connectors.file.errors import from_os
from ensign_core.errors import EnsignError

MARK_BYTES_MAX = 256
"""Bytes at a file's start by which it is known again; its inode may be given to another file."""

READ_BYTES = 1 << 20
"""Bytes read in one step; a longer line takes several."""


class Place(NamedTuple):
    """How far a file has been read: part of the source's position. ``mark`` is the CRC-32 of its
    first bytes, at most `MARK_BYTES_MAX` of those that have been read."""

    name: str
    device: int
    inode: int
    offset: int
    line: int
    mark: int


def identity(status: os.stat_result) -> tuple[int, int]:
    """What stays the same when a file is renamed: its device and inode."""
    return status.st_dev, status.st_ino


class Tail:
    """An open file and the place behind the last whole line taken from it."""

    def __init__(self, path: Path) -> None:
        """Open the file; raises OSError, since the file may be gone again."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self.identity = identity(status)
        self.offset = 0
        self.line = 0
        self.target = status.st_size
        """The file's size when it was opened: `FileSource.caught_up`."""
        self.seen = 0
        """How far the file has been looked at: beyond ``offset`` if it ends in half a line."""
        self._head = b""

    def resume(self, place: Place) -> bool:
        """Go on at ``place``. False if this is another file, or one that was written anew."""
        head = os.pread(self._fd, min(place.offset, MARK_BYTES_MAX), 0)
        if self.target < place.offset or zlib.crc32(head) != place.mark:
            return False
        self.offset = self.seen = place.offset
        self.line = place.line
        self._head = head
        return True

    def place(self) -> Place:
        return Place(self.path.name, *self.identity, self.offset, self.line, zlib.crc32(self._head))

    def take(self, bytes_max: int, line_bytes_max: int) -> list[bytes]:
        """The next whole lines without their newlines, ``bytes_max`` bytes and the rest of the last
        line, or none. Half a line at the file's end waits for its rest."""
        try:
            if os.fstat(self._fd).st_size < self.offset:
                self._restart()
            data = os.pread(self._fd, min(bytes_max, READ_BYTES), self.offset)
            while data and not data.endswith(b"\n"):
                more = os.pread(self._fd, READ_BYTES, self.offset + len(data))
                end = more.find(b"\n") + 1
                data += more[:end] if end else more
                if not more or len(data) > bytes_max + line_bytes_max:
                    break
        except OSError as error:
            raise from_os(error, self.path) from None
        self.seen = self.offset + len(data)
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split(b"\n")
        lines.pop()
        if max(map(len, lines), default=len(data)) > line_bytes_max:
            raise self._line_too_long(line_bytes_max)
        if len(self._head) < MARK_BYTES_MAX:
            self._head = (self._head + whole)[:MARK_BYTES_MAX]
        self.offset += len(whole)
        self.line += len(lines)
        return lines

    def behind(self) -> int:
        """Bytes that are in the file and have not been taken."""
        return max(0, os.fstat(self._fd).st_size - self.offset)

    def superseded(self) -> bool:
        """Whether the file has been deleted, or has lost its name to another one that has data by
        now: its writer has moved on, so it ends where it ends."""
        if os.fstat(self._fd).st_nlink == 0:
            return True
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return identity(status) != self.identity and status.st_size > 0

    def close(self) -> None:
        os.close(self._fd)

    def _restart(self) -> None:
        """The file was cut to be written anew (copytruncate); it starts over."""
        self.offset = self.line = self.seen = self.target = 0
        self._head = b""

    def _line_too_long(self, limit: int) -> EnsignError:
        return EnsignError(
            "file.line_too_long",
            f"Line {self.line + 1} of {self.path} is longer than {limit} bytes.",
            "Raise line_bytes_max, or mend the file.",
        )
