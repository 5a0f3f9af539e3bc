"""Folders that exist only complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ensign_core.errors import EnsignError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


@contextlib.contextmanager
def made_whole(folder: Path, doing: str) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` (``.NAME.partial``) to put files in. When the block
    is done they are synced, and it takes the name ``folder``; if it fails it is removed. What a
    process left there that was killed is removed by the next one.

    ``doing`` is the first word of the codes of errors: ``exists`` for a folder with something in
    it, which is not touched, ``running`` while another process is at it, ``disk_full``,
    ``not_writable`` and ``io_error``."""
    folder = folder.absolute()
    partial = folder.parent / f".{folder.name}.partial"
    with _classified(folder, doing), contextlib.ExitStack() as stack:
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise _exists(folder, doing)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, lock)
        _take(lock, partial, folder, doing)
        try:
            for left in partial.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield partial
            for file in partial.iterdir():
                sync(file)
            os.fsync(lock)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(folder.parent)


def sync(path: Path) -> None:
    """See a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(lock: int, partial: Path, folder: Path, doing: str) -> None:
    """Lock an open folder, which the kernel lets go of when the process ends, however it ends."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), partial.stat()):
            return
    raise EnsignError(
        f"{doing}.running",
        f"Another process is making {folder}.",
        "Wait until it is done, or give another folder.",
    )


@contextlib.contextmanager
def _classified(folder: Path, doing: str) -> Iterator[None]:
    """Errors of the file system, by errno, and the engine's of the folder that is being made."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            raise _exists(folder, doing) from None
        if error.errno in _FULL:
            raise _full(folder, doing) from None
        if error.errno in _FORBIDDEN:
            raise EnsignError(
                f"{doing}.not_writable",
                f"The folder {folder} cannot be made: {error.strerror}.",
                "Give one where this user may write, and files that this user may read.",
            ) from None
        raise EnsignError(
            f"{doing}.io_error",
            f"Files for {folder} cannot be read or written: {error.strerror}.",
            "Look at the disks and the kernel's log, and try again; nothing was kept.",
        ) from None
    except EnsignError as error:
        if error.code == "engine.disk_full":
            raise _full(folder, doing) from None
        raise


def _full(folder: Path, doing: str) -> EnsignError:
    return EnsignError(
        f"{doing}.disk_full",
        f"The disk has no room for {folder}; nothing of it was kept.",
        "Free some space, or give a folder on another disk.",
    )


def _exists(folder: Path, doing: str) -> EnsignError:
    return EnsignError(
        f"{doing}.exists",
        f"There is something in {folder} already; it was not touched.",
        "Give a folder that there is not yet, or an empty one.",
    )
