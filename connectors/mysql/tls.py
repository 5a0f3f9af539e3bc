"""TLS with a server: what is demanded of it, and what a failure means.

The codes of verification are those of OpenSSL's ``X509_STORE_CTX_get_error``.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from connectors.mysql.config import TlsConfig
from connectors.mysql.errors import error
from ensign_core.errors import EnsignError

DEMANDING: Final = ("required", "verify_ca", "verify_identity")
VERIFYING: Final = ("verify_ca", "verify_identity")
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

SSL_REQUEST: Final = struct.pack("<I", 32 | 1 << 24) + struct.pack(
    "<IIB23x", 0x0008AA00, 1 << 24, 45
)
"""The packet that asks for TLS: CLIENT_SSL with the flags of protocol 4.1, the longest packet, the
charset (MySQL documentation, "Protocol::SSLRequest")."""


def context_of(tls: TlsConfig) -> ssl.SSLContext | None:
    """What the driver makes TLS with; None where it is disabled. Raises for a file that it cannot
    take."""
    if tls.mode == "disabled":
        return None
    for option, path in (("tls.ca", tls.ca), ("tls.cert", tls.cert), ("tls.key", tls.key)):
        if path is not None and not os.access(path, os.R_OK):
            lack = "cannot be read" if os.path.exists(path) else "is not there"
            raise error("tls_file", option=option, file=path, lack=lack)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = tls.mode == "verify_identity"
    context.verify_mode = ssl.CERT_REQUIRED if tls.mode in VERIFYING else ssl.CERT_NONE
    option, file = "tls.ca", tls.ca
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        elif tls.mode in VERIFYING:
            context.load_default_certs()
        if tls.cert is not None:
            option, file = "tls.cert", tls.cert
            # Without a passphrase given OpenSSL asks for one on the terminal.
            context.load_cert_chain(tls.cert, tls.key, password=lambda: b"")
    except (ssl.SSLError, OSError) as failed:
        lack = f"is not what it should be ({getattr(failed, 'reason', None) or 'unreadable'})"
        raise error("tls_file", option=option, file=file, lack=lack) from None
    return context


def by_tls(failed: ssl.SSLError, tls: TlsConfig, facts: Mapping[str, object]) -> EnsignError | None:
    """What an error of TLS means while a connection is made; None where the server just ended the
    connection."""
    if isinstance(failed, ssl.SSLCertVerificationError):
        if failed.verify_code in NAME_CODES:
            return error("certificate_name", **facts)
        if failed.verify_code in TIME_CODES:
            return error("certificate_expired", **facts)
        return error("certificate_untrusted", **facts, file=tls.ca or "the system's store")
    if isinstance(failed, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    reason = str(failed.reason or "no reason given")
    if reason.endswith(CERTIFICATE_ALERTS):
        file = tls.cert or "(none)"
        return error("client_certificate_refused", **facts, file=file, reason=reason)
    return error("tls_failed", **facts, reason=reason)


def diagnose(
    at: tuple[str, int], tls: TlsConfig, context: ssl.SSLContext, facts: Mapping[str, object]
) -> EnsignError | None:
    """Whether it is the client's certificate for which a server ended the connection: what it says
    of that gets lost where the login is under way already, so it is asked again, without a login.
    Each step waits for `ANSWER_S_MAX` at most."""
    try:
        with socket.create_connection(at, ANSWER_S_MAX) as plain:
            with plain.makefile("rb") as greeting:
                greeting.read(int.from_bytes(greeting.read(4)[:3], "little"))
            plain.sendall(SSL_REQUEST)
            with context.wrap_socket(plain, server_hostname=at[0]) as secure:
                # The server answers when it sees that nothing will come. Of the socket below: that
                # of Python's TLS would read on without TLS.
                with suppress(OSError):
                    socket.socket.shutdown(secure, socket.SHUT_WR)
                secure.recv(1)
    except ssl.SSLError as failed:
        return by_tls(failed, tls, facts)
    except (OSError, ValueError):
        pass
    return None
