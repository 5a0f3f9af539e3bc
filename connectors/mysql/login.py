"""How the driver may log in, where it would be too trusting or does not know how.

PyMySQL speaks mysql_native_password, caching_sha2_password, sha256_password and MariaDB's ed25519
by itself. A server chooses the plugin, so whoever stands in its place could ask for the password in
clear: it is given over TLS only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pymysql.connections import Connection

from connectors.mysql.errors import error

SCRAMBLE_BYTES: Final = 32
KEY_BYTES: Final = 32
FACTOR_MAX: Final = 10
"""Of the rounds that a server may ask for: a million take a second."""


def plugins(facts: Mapping[str, object]) -> dict[str, Callable[[Connection[Any]], Any]]:
    """What the driver calls when a server asks for an authentication plugin. ``facts`` are what
    errors may name."""

    def in_clear(connection: Connection[Any]) -> None:
        # The driver's own answer follows.
        if not getattr(connection, "_secure", False):
            raise error("password_in_clear", **facts)

    def unsupported(connection: Connection[Any]) -> None:
        raise error("auth_unsupported", **facts)

    def parsec(connection: Connection[Any]) -> Parsec:
        return Parsec(connection, facts)

    return {
        "mysql_clear_password": in_clear,
        "dialog": in_clear,
        "mysql_old_password": unsupported,
        "parsec": parsec,
    }


class Parsec:
    """MariaDB's plugin parsec: a signature under a key that follows from the password. Source of
    the exchange: MariaDB documentation, "Authentication Plugin - PARSEC"."""

    def __init__(self, connection: Connection[Any], facts: Mapping[str, object]) -> None:
        self._connection: Any = connection
        self._facts = facts

    def authenticate(self, packet: Any) -> Any:
        """Answer the server's scramble; the packet by which it says what it thinks of that."""
        scramble = packet.read_all()[:SCRAMBLE_BYTES]
        self._connection.write_packet(b"")
        salted = self._connection._read_packet().read_all().removeprefix(b"\x01")
        # P for PBKDF2, the logarithm of 1024ths of its rounds, the salt.
        if salted[:1] != b"P" or len(salted) < 2 or salted[1] > FACTOR_MAX:
            raise error("auth_unsupported", **self._facts)
        password, rounds = self._connection.password, 1024 << salted[1]
        key = hashlib.pbkdf2_hmac("sha512", password, salted[2:], rounds, KEY_BYTES)
        ours = os.urandom(SCRAMBLE_BYTES)
        signature = Ed25519PrivateKey.from_private_bytes(key).sign(scramble + ours)
        self._connection.write_packet(ours + signature)
        return self._connection._read_packet()
