"""What the operating system's refusals mean, by errno (POSIX, <errno.h>)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from ensign_core.errors import EnsignError

_MEANINGS: Final[dict[int, tuple[str, str, str]]] = {
    errno.ENOSPC: (
        "file.disk_full",
        "There is no space left for",
        "Free space on that disk; nothing is lost, what was not flushed is written again.",
    ),
    errno.EDQUOT: (
        "file.disk_full",
        "The disk quota is used up for",
        "Free space or raise the quota; nothing is lost, what was not flushed is written again.",
    ),
    errno.EFBIG: (
        "file.too_large",
        "The file system or a limit of the process allows no more bytes in",
        "Set rotate_bytes_max, or raise the limit (ulimit -f).",
    ),
    errno.EROFS: (
        "file.read_only",
        "The file system is read-only that holds",
        "Mount it for writing, or choose another path.",
    ),
    errno.EISDIR: (
        "file.not_a_file",
        "There is a folder in the place of",
        "Choose the path of a file.",
    ),
    errno.ENOTDIR: (
        "file.not_a_folder",
        "A part of the path is no folder in",
        "Choose a path whose folders are folders.",
    ),
    errno.EMFILE: (
        "file.too_many_open",
        "The process has no file descriptor left for",
        "Raise the limit (ulimit -n).",
    ),
    errno.EAGAIN: (
        "file.busy",
        "Another process is writing to",
        "End the other pipeline or process that writes there, or choose another path.",
    ),
}
_DENIED = (
    "file.permission_denied",
    "The worker is not allowed to use",
    "Give the user that runs the worker permission for it, or choose another path.",
)


def from_os(error: OSError, path: Path) -> EnsignError:
    """The error for an OSError met at ``path``."""
    number = error.errno or 0
    if number in (errno.EACCES, errno.EPERM):
        code, sentence, remedy = _DENIED
    elif number in _MEANINGS:
        code, sentence, remedy = _MEANINGS[number]
    else:
        code, remedy = "file.failed", "Check the disk and the path, then run the pipeline again."
        sentence = f"The system reports '{os.strerror(number)}' for"
    return EnsignError(code, f"{sentence} {path}.", remedy)
