"""Errors of passwords, TLS and what stands between Ensign and a server: parts of
`connectors.postgres.errors.ERRORS`."""

from __future__ import annotations

from typing import Final

CONNECTION_ERRORS: Final[dict[str, tuple[str, str]]] = {
    "password_command.timeout": (
        "The password_command {program} did not end within {timeout_s} s.",
        "Run it by hand as the user that runs Ensign; the pipeline tries again.",
    ),
    "password_command.unreachable": (
        "The password_command {program} gave no password (exit status {status}).",
        "Run it by hand as the user that runs Ensign; the pipeline tries again.",
    ),
    "password_command_invalid": (
        "The password_command {program} cannot be run: {reason}.",
        "Correct the program's path in the config, and see that it may be executed.",
    ),
    "pooler": (
        (
            "What listens at {where} is a connection pooler or proxy, which does not pass on what "
            "replication needs."
        ),
        "Point the dsn at the database server itself.",
    ),
    "tls_refused": (
        "The server at {where} does not speak TLS, and sslmode is {sslmode}.",
        (
            "Turn it on there (ssl = on, ssl_cert_file, ssl_key_file), or set sslmode=prefer where "
            "the network can be trusted."
        ),
    ),
    "tls_failed": (
        "TLS with the server at {where} failed ({reason}).",
        "Check for a proxy on the way, and which TLS versions the server allows.",
    ),
    "tls_file": (
        "{option} is {file}, which {lack}.",
        (
            "Correct {option} in the dsn, or put the file there: owned by the user that runs "
            "Ensign, a key with mode 0600."
        ),
    ),
    "certificate_untrusted": (
        "The certificate of the server at {where} is not signed by an authority in {file}.",
        (
            "Set sslrootcert in the dsn to the certificate of the authority that signed it, such "
            "as your provider's bundle."
        ),
    ),
    "certificate_name": (
        "The certificate of the server at {where} is for another name.",
        "Use a host in the dsn that the certificate names, or sslmode=verify-ca.",
    ),
    "certificate_expired": (
        "The certificate of the server at {where} is not valid now.",
        "Renew it on the server, and check the clocks of both machines.",
    ),
    "client_certificate_refused": (
        "The server at {where} does not accept the client's certificate {file} ({reason}).",
        (
            "Set sslcert and sslkey in the dsn to a certificate that the authority in the server's "
            "ssl_ca_file signed, and that is valid now."
        ),
    ),
}
