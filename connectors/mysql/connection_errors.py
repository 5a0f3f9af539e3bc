"""Errors of reaching a server and logging in: parts of `connectors.mysql.errors.ERRORS`."""

from __future__ import annotations

from typing import Final

CONNECTION_ERRORS: Final[dict[str, tuple[str, str]]] = {
    "unreachable": (
        "The server at {where} cannot be reached: {reason}.",
        (
            "Check host and port in the config, that the server runs and listens there "
            "(bind_address, skip_networking), and firewalls on the way."
        ),
    ),
    "too_many_connections": (
        "The server has no free connection for user {user}.",
        "Raise max_connections or the account's limits, or end connections that nobody needs.",
    ),
    "host_blocked": (
        "The server at {where} blocks this machine after too many broken connections.",
        "FLUSH HOSTS (MySQL 8.0.23 and later: TRUNCATE TABLE performance_schema.host_cache).",
    ),
    "protocol_damaged": (
        "What answers at {where} does not follow the protocol of MySQL.",
        "Check that host and port are those of a MySQL or MariaDB server, and proxies on the way.",
    ),
    # The login.
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
    "password_rejected": (
        "The server at {where} refused user {user} or its password.",
        (
            "Correct user and password in the config, or the variable they are taken from; check "
            "that the account may come from this host, and over TLS (tls.mode, tls.cert) where it "
            "has REQUIRE SSL or X509."
        ),
    ),
    "password_missing": (
        "The server at {where} asks for a password of user {user}, and the config has none.",
        "Add it to the config, best as ${{VARIABLE}}.",
    ),
    "password_expired": (
        "The password of user {user} has expired.",
        "Give the account a new one with ALTER USER, and put it into the config.",
    ),
    "password_in_clear": (
        (
            "The server at {where} asks for the password in clear, and the connection is not "
            "encrypted: nothing was sent."
        ),
        "Set tls.mode to required or verify_identity, and have the server offer TLS.",
    ),
    "account_locked": (
        "The account of user {user} is locked.",
        "ALTER USER ... ACCOUNT UNLOCK, or FLUSH PRIVILEGES after too many wrong passwords.",
    ),
    "login_refused": (
        "The server does not let user {user} in, from this host or to database {database}.",
        "CREATE USER for this host, or GRANT it SELECT on the tables to capture.",
    ),
    "database_missing": (
        "Database {database} does not exist on this server.",
        "Correct the name in the config or create the database.",
    ),
    "auth_unsupported": (
        "The account of user {user} logs in by a plugin that Ensign does not speak.",
        (
            "Look at it with SHOW CREATE USER; those spoken are caching_sha2_password, "
            "sha256_password, mysql_native_password, ed25519, parsec, and over TLS pam and "
            "mysql_clear_password."
        ),
    ),
    # TLS.
    "tls_needed": (
        "The server at {where} takes connections with TLS only.",
        "Set tls.mode in the config to required, or to verify_identity with tls.ca.",
    ),
    "tls_refused": (
        "The server at {where} does not offer TLS, and tls.mode is {mode}: nothing was sent.",
        (
            "Turn it on there (ssl_ca, ssl_cert, ssl_key), or set tls.mode to preferred where the "
            "network can be trusted."
        ),
    ),
    "tls_failed": (
        "TLS with the server at {where} failed ({reason}).",
        "Check for a proxy on the way, and which versions the server allows (tls_version).",
    ),
    "tls_file": (
        "{option} is {file}, which {lack}.",
        "Correct {option} in the config, or put a file in PEM format there.",
    ),
    "certificate_untrusted": (
        "The certificate of the server at {where} is not signed by an authority in {file}.",
        (
            "Set tls.ca to the certificate of the authority that signed it, such as your "
            "provider's bundle or ca.pem in the server's data folder."
        ),
    ),
    "certificate_name": (
        "The certificate of the server at {where} is for another name.",
        "Use a host in the config that the certificate names, or tls.mode verify_ca.",
    ),
    "certificate_expired": (
        "The certificate of the server at {where} is not valid now.",
        "Renew it on the server, and check the clocks of both machines.",
    ),
    "client_certificate_refused": (
        "The server at {where} does not accept the client's certificate {file} ({reason}).",
        (
            "Set tls.cert and tls.key to a certificate that the authority in the server's ssl_ca "
            "signed, and that is valid now."
        ),
    ),
}
