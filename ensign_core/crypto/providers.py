"""Where the key-encryption key (KEK) comes from: 32 random bytes that wrap all data keys."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Protocol

from ensign_core.errors import EnsignError

KEY_BYTES = 32
_LABEL = "ensign-key-v1"


class KeyProvider(Protocol):
    """Gives the KEK, once, when a broker opens."""

    def key(self, *, create: bool) -> bytes:
        """The 32 bytes. ``create`` says that no data exists yet, so a new key may be made; without
        it a missing key is ``key.missing``, never a new one."""

    def describe(self) -> str:
        """Where the key comes from, for messages."""


class FileProvider:
    """The KEK in a file of one line, mode 0600, made at first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False

    def describe(self) -> str:
        return f"the file {self.path}"

    def key(self, *, create: bool) -> bytes:
        try:
            text = self._read()
        except FileNotFoundError:
            if not create:
                raise _missing(self.describe(), "Put the key file back from your backup") from None
            return self._create()
        label, _, encoded = text.strip().partition(" ")
        if label != _LABEL:
            raise _malformed(self.describe())
        return _decode(encoded, self.describe())

    def _read(self) -> str:
        try:
            mode = self.path.stat().st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise EnsignError(
                    "key.file_exposed",
                    f"The key file {self.path} can be read by others (mode {mode & 0o777:04o}).",
                    f"Run: chmod 600 {self.path}",
                )
            return self.path.read_text("ascii")
        except (PermissionError, IsADirectoryError, NotADirectoryError, UnicodeDecodeError) as e:
            if isinstance(e, PermissionError):
                raise EnsignError(
                    "key.file_unreadable",
                    f"The key file {self.path} may not be read by this user.",
                    "Run as the user who owns it, or change its owner.",
                ) from None
            raise _malformed(self.describe()) from None

    def _create(self) -> bytes:
        key = os.urandom(KEY_BYTES)
        line = f"{_LABEL} {base64.b64encode(key).decode()}\n"
        made = self.path.with_name(f"{self.path.name}.{os.urandom(8).hex()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            os.link(made, self.path)
        except FileExistsError:
            return self.key(create=False)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        finally:
            made.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.created = True
        return key


class EnvironmentProvider:
    """The KEK in an environment variable, base64 of 32 bytes."""

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def describe(self) -> str:
        return f"the environment variable {self.variable}"

    def key(self, *, create: bool) -> bytes:
        encoded = os.environ.get(self.variable)
        if not encoded:
            make = "openssl rand -base64 32" if create else "the key that sealed the data"
            raise _missing(self.describe(), f"Set it to the output of: {make}")
        return _decode(encoded, self.describe())


def default_key_file(folder: Path) -> Path:
    """``PATH.keys``: beside the data folder, not in it, so a copy of the data is not the key."""
    return folder.with_name(folder.name + ".keys")


def _decode(encoded: str, where: str) -> bytes:
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        raise _malformed(where) from None
    if len(key) != KEY_BYTES:
        raise _malformed(where)
    return key


def _missing(where: str, remedy: str) -> EnsignError:
    return EnsignError(
        "key.missing",
        f"The key that the data is sealed with is not there: {where}.",
        f"{remedy}; without it the data cannot be read, and no new key is made over existing data.",
    )


def _unwritable(path: Path, error: OSError) -> EnsignError:
    return EnsignError(
        "key.file_unwritable",
        f"The key file {path} cannot be made: {error.strerror}.",
        "Give a path that this user may write to, in `broker: keys:` or --keys.",
    )


def _malformed(where: str) -> EnsignError:
    return EnsignError(
        "key.malformed",
        f"There is no Ensign key in {where}.",
        "A key file is one line, `ensign-key-v1` and base64 of 32 bytes; a variable is the base64.",
    )
