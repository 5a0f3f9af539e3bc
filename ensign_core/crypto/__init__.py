"""Sealing: data keys per topic, wrapped by the project's key-encryption key (KEK), or for named
readers."""

from ensign_core.crypto.client_key import ClientKey
from ensign_core.crypto.identity import Identity, parse_public, public_text, seal_to
from ensign_core.crypto.keyring import PROJECT, DataKey, KeyRing
from ensign_core.crypto.kms import KmsProvider
from ensign_core.crypto.providers import (
    EnvironmentProvider,
    FileProvider,
    KeyProvider,
    RotatingProvider,
    default_key_file,
)
from ensign_core.crypto.seal import Opener, Sealer, forked
from ensign_core.crypto.stream import open_stream, seal_stream

__all__ = [
    "PROJECT",
    "ClientKey",
    "DataKey",
    "EnvironmentProvider",
    "FileProvider",
    "Identity",
    "KeyProvider",
    "KeyRing",
    "KmsProvider",
    "Opener",
    "RotatingProvider",
    "Sealer",
    "default_key_file",
    "forked",
    "open_stream",
    "parse_public",
    "public_text",
    "seal_stream",
    "seal_to",
]
