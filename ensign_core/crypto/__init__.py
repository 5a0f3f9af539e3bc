"""Sealing: data keys per topic, wrapped by the project's key-encryption key (KEK)."""

from ensign_core.crypto.keyring import PROJECT, DataKey, KeyRing
from ensign_core.crypto.providers import (
    EnvironmentProvider,
    FileProvider,
    KeyProvider,
    RotatingProvider,
    default_key_file,
)
from ensign_core.crypto.seal import Opener, Sealer

__all__ = [
    "PROJECT",
    "DataKey",
    "EnvironmentProvider",
    "FileProvider",
    "KeyProvider",
    "KeyRing",
    "Opener",
    "RotatingProvider",
    "Sealer",
    "default_key_file",
]
