"""Why TLS with a server failed: libpq says so in words only, hence the server is asked again, with
Python's TLS, whose errors have codes. Runs only after a connection has failed.

The exchange before TLS is that of the PostgreSQL documentation, "Message Flow", "SSL Session
Encryption"; the codes of verification are those of OpenSSL's ``X509_STORE_CTX_get_error``.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from connectors.postgres.errors import error
from ensign_core.errors import EnsignError

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
DEMANDING: Final = ("require", "verify-ca", "verify-full")
VERIFYING: Final = ("verify-ca", "verify-full")
ANSWER_S_MAX: Final = 5.0

NAME_CODES: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
TIME_CODES: Final = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
CERTIFICATE_ALERTS: Final = (
    "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REQUIRED", "DECRYPT_ERROR",
)  # fmt: skip
"""How the names of alerts about the client's certificate end (RFC 8446, section 6)."""

FILES: Final = {
    "sslrootcert": ("PGSSLROOTCERT", "root.crt"),
    "sslcert": ("PGSSLCERT", "postgresql.crt"),
    "sslkey": ("PGSSLKEY", "postgresql.key"),
}
"""Variables and files in ``~/.postgresql`` that libpq takes where the dsn says nothing."""


def diagnose(
    given: Mapping[str, object], name: str, at: tuple[str, str], facts: Mapping[str, object]
) -> EnsignError | None:
    """What is wrong with TLS to the host ``name``, ``at`` an address and a port, where the dsn
    (``given``) demands it; None where nothing is. Each step waits for `ANSWER_S_MAX` at most."""
    host, port = at
    mode = str(given.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer")
    if mode not in DEMANDING or not host or host.startswith("/"):
        return None
    files = {option: _file(given, option) for option in FILES}
    found = _of_files(files, mode)
    if found is not None:
        return found
    try:
        with socket.create_connection((host, int(port or 5432)), ANSWER_S_MAX) as plain:
            plain.sendall(SSL_REQUEST)
            if plain.recv(1) != b"S":
                return error("tls_refused", **facts, sslmode=mode)
            return _of_handshake(plain, files, mode, name or host, facts)
    except (OSError, ValueError):
        return None


def _file(given: Mapping[str, object], option: str) -> str:
    variable, name = FILES[option]
    found = str(given.get(option) or os.environ.get(variable) or "")
    default = Path.home() / ".postgresql" / name
    return found or (str(default) if default.exists() else "")


def _of_files(files: Mapping[str, str], mode: str) -> EnsignError | None:
    """A file that libpq would not take."""
    for option, given in files.items():
        path = given
        if not path and option == "sslrootcert" and mode in VERIFYING:
            path = str(Path.home() / ".postgresql" / FILES[option][1])
        if not path or path == "system":
            continue
        if not os.access(path, os.R_OK):
            lack = "is not there" if not Path(path).exists() else "cannot be read"
            return error("tls_file", option=option, file=path, lack=lack)
        status = Path(path).stat()
        # What libpq asks of a key: nobody else may read it, but root's may be read by its group.
        exposed = status.st_mode & (0o037 if status.st_uid == 0 else 0o077)
        if option == "sslkey" and exposed:
            return error("tls_file", option=option, file=path, lack="others may read")
    return None


def _of_handshake(
    plain: socket.socket,
    files: Mapping[str, str],
    mode: str,
    host: str,
    facts: Mapping[str, object],
) -> EnsignError | None:
    try:
        context = _context(files, mode)
    except (ssl.SSLError, OSError) as failed:
        named = files["sslcert"] or files["sslrootcert"]
        option = "sslcert" if files["sslcert"] else "sslrootcert"
        lack = f"is not what it should be ({getattr(failed, 'reason', None) or 'unreadable'})"
        return error("tls_file", option=option, file=named, lack=lack)
    try:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            # A server says what it thinks of the client's certificate after the handshake, and
            # ends the connection when it sees that nothing will come.
            secure.settimeout(ANSWER_S_MAX)
            # Of the socket below: that of Python's TLS would read on without TLS. The server may
            # be gone by then, and what it said is still to be read.
            with suppress(OSError):
                socket.socket.shutdown(secure, socket.SHUT_WR)
            secure.recv(1)
        return None
    except ssl.SSLCertVerificationError as failed:
        if failed.verify_code in NAME_CODES:
            return error("certificate_name", **facts)
        if failed.verify_code in TIME_CODES:
            return error("certificate_expired", **facts)
        return error("certificate_untrusted", **facts, file=files["sslrootcert"])
    except ssl.SSLError as failed:
        reason = str(failed.reason or "no reason given")
        if reason.endswith(CERTIFICATE_ALERTS):
            file = files["sslcert"] or "(none)"
            return error("client_certificate_refused", **facts, file=file, reason=reason)
        if reason in ("UNEXPECTED_EOF_WHILE_READING", "SHUTDOWN_WHILE_IN_INIT"):
            return None
        return error("tls_failed", **facts, reason=reason)


def _context(files: Mapping[str, str], mode: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    root = files["sslrootcert"]
    # With a file of authorities libpq's require is verify-ca.
    verified = mode in VERIFYING or bool(root)
    context.check_hostname = mode == "verify-full" or root == "system"
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    if root == "system":
        context.set_default_verify_paths()
    elif root:
        context.load_verify_locations(root)
    if files["sslcert"]:
        context.load_cert_chain(files["sslcert"], files["sslkey"] or None)
    return context
