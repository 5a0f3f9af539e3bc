"""Sealing: data keys per topic, wrapped by the project's key-encryption key (KEK)."""

from ensign_core.crypto.keyring import DataKey, KeyRing
from ensign_core.crypto.providers import (
    EnvironmentProvider,
    FileProvider,
    KeyProvider,
    default_key_file,
)
from ensign_core.crypto.seal import Opener, Sealer
from ensign_core.crypto.stream import open_stream, seal_stream

__all__ = [
    "DataKey",
    "EnvironmentProvider",
    "FileProvider",
    "KeyProvider",
    "KeyRing",
    "Opener",
    "Sealer",
    "default_key_file",
    "open_stream",
    "seal_stream",
]
