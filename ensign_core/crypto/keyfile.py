"""Files of keys: a line per key, newest first, each ``LABEL BASE64``, readable by their owner only.

A file is only ever replaced as a whole, by a rename of one that is synced, so whoever reads it and
whenever the machine stops, it holds all of its keys of before or all of after.
"""

from __future__ import annotations

import base64
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ensign_core.errors import EnsignError


class KeyFile:
    """The file at ``path``, whose lines begin with ``label`` and hold ``key_bytes`` each, or any
    number of bytes where that is None."""

    def __init__(self, path: Path, label: str, key_bytes: int | None) -> None:
        self.path = path
        self._label = label
        self._key_bytes = key_bytes

    def read(self) -> list[bytes]:
        """Its keys, newest first, at least one. Raises ``key.missing``, ``key.file_exposed``,
        ``key.file_unreadable`` and ``key.malformed``."""
        try:
            mode = self.path.stat().st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise EnsignError(
                    "key.file_exposed",
                    f"The key file {self.path} can be read by others (mode {mode & 0o777:04o}).",
                    f"Run: chmod 600 {self.path}",
                )
            text = self.path.read_text("ascii")
        except FileNotFoundError:
            raise missing(
                f"the file {self.path}", "Put the key file back from your backup"
            ) from None
        except PermissionError:
            raise EnsignError(
                "key.file_unreadable",
                f"The key file {self.path} may not be read by this user.",
                "Run as the user who owns it, or change its owner.",
            ) from None
        except (IsADirectoryError, NotADirectoryError, UnicodeDecodeError):
            raise self._malformed() from None
        lines = text.strip().split("\n")
        return [self._parse(line) for line in lines]

    def _parse(self, line: str) -> bytes:
        label, _, encoded = line.strip().partition(" ")
        key = decoded(encoded) if label == self._label else None
        if not key or self._key_bytes not in (None, len(key)):
            raise self._malformed()
        return key

    def _malformed(self) -> EnsignError:
        size = f" of {self._key_bytes} bytes" if self._key_bytes else ""
        return EnsignError(
            "key.malformed",
            f"The file {self.path} is not one of keys that begin with `{self._label}`.",
            f"Each of its lines is `{self._label}` and base64{size}; put it back from your backup.",
        )

    def create(self, make: Callable[[], bytes]) -> bool:
        """Make the file, with folders that it needs, unless there is one, which stays; whether it
        was made. Raises ``key.file_unwritable`` and what ``make`` raises."""
        key = None if os.path.lexists(self.path) else make()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if key is not None:
                with self._written([key], self.path) as made:
                    os.link(made, self.path)
        except FileExistsError:
            key = None
        except OSError as error:
            raise self._unwritable(error) from None
        self._sync_name()
        return key is not None

    def begin(self, make: Callable[[], bytes]) -> bytes:
        """The key that follows the present one, on the disk above it: a new one, or the one that
        is there already since it was begun and not finished. Raises what `read` and ``make``
        raise, and ``key.file_unwritable``."""
        with self._locked():
            keys = self.read()
            if len(keys) == 1:
                keys.insert(0, make())
                self._replace(keys)
            self._sync_name()
            return keys[0]

    def finish(self, begun: bytes) -> None:
        """Forget the keys that are older than ``begun``. Nothing is older than one that is not
        there any more: another process has finished and begun anew meanwhile."""
        with self._locked():
            keys = self.read()
            if begun in keys[:-1]:
                self._replace(keys[: keys.index(begun) + 1])
                self._sync_name()

    def _replace(self, keys: Sequence[bytes]) -> None:
        """Let the file hold these keys; its owner stays."""
        path = self.path.resolve()
        try:
            with self._written(keys, path) as made:
                before = path.stat()
                if before.st_uid != os.geteuid():
                    os.chown(made, before.st_uid, before.st_gid)
                made.rename(path)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextmanager
    def _written(self, keys: Sequence[bytes], path: Path) -> Iterator[Path]:
        """A new file beside ``path``, synced, for the block to give its name to."""
        made = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                for key in keys:
                    file.write(f"{self._label} {base64.b64encode(key).decode()}\n")
                file.flush()
                os.fsync(file.fileno())
            yield made
        finally:
            made.unlink(missing_ok=True)

    def _sync_name(self) -> None:
        """Make sure that the file is found by its name after a power cut, whoever gave it that."""
        with self._folder() as folder:
            os.fsync(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from replacing the file meanwhile. The lock is on its folder, since
        the file itself is another one after each replacement."""
        with self._folder() as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _folder(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path.resolve().parent, os.O_RDONLY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _unwritable(self, error: OSError) -> EnsignError:
        return EnsignError(
            "key.file_unwritable",
            f"The key file {self.path} cannot be written: {error.strerror}.",
            "Give a path that this user may write to, in `broker: keys:` or --keys.",
        )


def decoded(encoded: str) -> bytes | None:
    """The bytes of base64, None where it is none."""
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return None


def missing(where: str, remedy: str) -> EnsignError:
    return EnsignError(
        "key.missing",
        f"The key that the data is sealed with is not there: {where}.",
        f"{remedy}; without it the data cannot be read, and no new key is made over existing data.",
    )
