"""Stores: where the objects of claim checks lie. `FolderStore` is one on this machine's disks."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ensign_core.errors import EnsignError

READ_BYTES = 1 << 20
_NAME = re.compile(r"[0-9a-f]{32}")


class Store(Protocol):
    """Keeps objects by name, 32 hexadecimal digits that are given once. What it is given is
    encrypted. Ensign never deletes an object by itself: a claim may have been copied elsewhere.
    One thread uses a store at a time."""

    @property
    def location(self) -> str:
        """Where it is, for people; it stands in claims."""

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """Keep an object: durable, and under its name as a whole, when this returns. What
        ``pieces`` raises is raised, and nothing is kept then."""

    def get(self, name: str) -> Iterator[bytes]:
        """An object in pieces. ``claim.missing`` if there is none of that name."""

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""


class FolderStore:
    """Objects as files of mode 0600 in the folder ``path``, which is made at first use. What
    begins with a dot is not whole: whoever wrote it was stopped, and it may be removed."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def location(self) -> str:
        return str(self.path.absolute())

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        whole = self._file(name)
        made = whole.with_name(f".{name}")
        with self._writing():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    with self._writing():
                        file.write(piece)
                with self._writing():
                    file.flush()
                    os.fsync(descriptor)
            with self._writing():
                made.rename(whole)
                _sync_folder(self.path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise

    def get(self, name: str) -> Iterator[bytes]:
        try:
            with self._file(name).open("rb") as file:
                while piece := file.read(READ_BYTES):
                    yield piece
        except FileNotFoundError:
            raise missing(name, self.location) from None
        except OSError as error:
            raise EnsignError(
                "store.unreadable",
                f"The store in {self.path} cannot be read: {error.strerror}.",
                "Mend the folder, or run as a user who may read it.",
            ) from None

    def delete(self, name: str) -> None:
        with self._writing():
            self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        check_name(name)
        return self.path / name

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise EnsignError(
                "store.disk_full" if full else "store.unwritable",
                f"The store in {self.path} cannot be written: {error.strerror}.",
                "Make room there." if full else "Give a folder that this user may write to.",
            ) from None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_name(name: str) -> None:
    """What is not an object's name must not become a path."""
    if not _NAME.fullmatch(name):
        raise ValueError("an object's name is 32 hexadecimal digits")


def missing(name: str, where: str) -> EnsignError:
    """The error for an object that a store does not have."""
    return EnsignError(
        "claim.missing",
        f"The object {name}, which holds the data of a large event, is not in {where}.",
        "Give the store that it was put into; if it was deleted there, the data is gone.",
    )
