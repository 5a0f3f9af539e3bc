"""Where the key-encryption key (KEK) comes from: 32 random bytes that wrap all data keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ensign_core.crypto.keyfile import KeyFile, decoded, missing
from ensign_core.errors import EnsignError

KEY_BYTES = 32


class KeyProvider(Protocol):
    """Gives the KEK, once, when a broker opens."""

    def keys(self, *, create: bool) -> Sequence[bytes]:
        """The KEKs of 32 bytes that the data may be wrapped under, newest first, at least one: two
        where a rotation is under way or was interrupted. ``create`` says that no data exists yet,
        so a new key may be made; without it a missing key is ``key.missing``, never a new one."""

    def describe(self) -> str:
        """Where the key comes from, for messages."""


@runtime_checkable
class RotatingProvider(KeyProvider, Protocol):
    """A provider whose KEK can be replaced: `begin`, wrap all data keys anew, `finish`."""

    def begin(self) -> bytes:
        """The KEK to wrap under from now on. It is durable beside the older when this returns, so
        `keys` gives both from then on, and whichever the data is wrapped under is found. Where a
        rotation was interrupted it is the KEK of that one: if the data is wrapped under it already,
        `finish` is all that is left to do."""

    def finish(self) -> None:
        """All data is wrapped under what `begin` gave: forget what is older than that."""


class FileProvider:
    """The KEK in a file of mode 0600, made at first use: a line ``ensign-key-v1 BASE64``, and a
    second one below with the older KEK while that is being replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False
        self._file = KeyFile(path, "ensign-key-v1", KEY_BYTES)
        self._begun: bytes | None = None

    def describe(self) -> str:
        return f"the file {self.path}"

    def keys(self, *, create: bool) -> Sequence[bytes]:
        if create:
            self.created = self._file.create(_new_key)
        return self._file.read()

    def begin(self) -> bytes:
        self._begun = self._file.begin(_new_key)
        return self._begun

    def finish(self) -> None:
        if self._begun is not None:
            self._file.finish(self._begun)


class EnvironmentProvider:
    """The KEK in an environment variable, base64 of 32 bytes. To replace it the new one is put into
    ``next_variable``, and into the first one when all data is wrapped under it."""

    def __init__(self, variable: str, next_variable: str | None = None) -> None:
        self.variable = variable
        self.next_variable = next_variable

    def describe(self) -> str:
        return f"the environment variable {self.variable}"

    def keys(self, *, create: bool) -> Sequence[bytes]:
        current, following = self._key(self.variable), self._key(self.next_variable)
        if create:
            following = None
        found = [key for key in (following, current) if key]
        if not found:
            make = "openssl rand -base64 32" if create else "the key that sealed the data"
            raise missing(self.describe(), f"Set it to the output of: {make}")
        return found

    def begin(self) -> bytes:
        following = self._key(self.next_variable)
        if following is None:
            named = self.next_variable
            raise EnsignError(
                "key.next_missing",
                f"There is no new key to go over to: {named} is not set."
                if named
                else "There is no new key to go over to: no variable is named for it.",
                f"Set {named or 'a second variable'} to the output of `openssl rand -base64 32`"
                + ("." if named else ", and name it as `next:` in `broker: keys:`."),
            )
        return following

    def finish(self) -> None:
        """Nothing: what is in the environment is not ours to change."""

    def _key(self, variable: str | None) -> bytes | None:
        encoded = os.environ.get(variable) if variable else None
        if not encoded:
            return None
        key = decoded(encoded)
        if key is None or len(key) != KEY_BYTES:
            raise EnsignError(
                "key.malformed",
                f"There is no Ensign key in the environment variable {variable}.",
                "It holds base64 of 32 bytes, as `openssl rand -base64 32` prints it.",
            )
        return key


def default_key_file(folder: Path) -> Path:
    """``PATH.keys``: beside the data folder, not in it, so a copy of the data is not the key."""
    return folder.with_name(folder.name + ".keys")


def _new_key() -> bytes:
    return os.urandom(KEY_BYTES)
