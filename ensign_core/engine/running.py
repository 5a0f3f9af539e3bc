"""Which pipelines have a living worker: a lock on a file each, which the kernel lets go of when the
process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from ensign_core.errors import EnsignError

TRIES_MAX = 5
BETWEEN_TRIES_S = 0.02


def hold(folder: Path, pipeline: str) -> Callable[[], None]:
    """Lock a pipeline; returns what unlocks it. ``pipeline.running`` if somebody else has it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / pipeline, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(descriptor):
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise EnsignError(
            "pipeline.running",
            f"The pipeline {pipeline} is already run by another process ({holder or 'unknown'}).",
            "Stop that one first.",
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return lambda: os.close(descriptor)


def _locked(descriptor: int) -> bool:
    for _ in range(TRIES_MAX):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Whoever asks `held` has the lock for an instant.
            time.sleep(BETWEEN_TRIES_S)
        else:
            return True
    return False


def held(folder: Path, pipeline: str) -> bool:
    """Whether somebody has the pipeline locked."""
    try:
        descriptor = os.open(folder / pipeline, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
