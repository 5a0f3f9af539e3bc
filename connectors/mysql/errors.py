"""Every error of this connector: its code, sentence and remedy, and which error number leads to it.

Numbers are those of the "MySQL Error Message Reference" (server and client) and of MariaDB's
"Error Codes". Messages of the server are never looked at and never passed on: they may hold values
of rows. The last word of a code decides whether a pipeline waits or stops (I10,
`ensign_core.run.retry`).
"""

from __future__ import annotations

from typing import Final

from connectors.mysql.check_errors import CHECK_ERRORS
from connectors.mysql.connection_errors import CONNECTION_ERRORS
from connectors.mysql.log_errors import LOG_ERRORS
from ensign_core.errors import EnsignError, worded

WAIT_FOR_SERVER = "Nothing to do: the pipeline goes on when the server answers again."

ERRORS: Final[dict[str, tuple[str, str]]] = {
    **CONNECTION_ERRORS,
    **LOG_ERRORS,
    **CHECK_ERRORS,
    # Waited out.
    "connection_lost": ("The connection to the server was lost.", WAIT_FOR_SERVER),
    "restarting": ("The server is starting up or shutting down.", WAIT_FOR_SERVER),
    "timeout": (
        "The server did not answer in time while Ensign was {doing}.",
        "Look in SHOW PROCESSLIST for long statements and locks; the pipeline tries again.",
    ),
    "disk_full": ("The server's disk is full.", "Make room on the server, then run again."),
    # Privileges.
    "privilege_missing": (
        "User {user} lacks a privilege for {doing} (error {number}).",
        "GRANT it SELECT on the captured tables, REPLICATION SLAVE and REPLICATION CLIENT ON *.*.",
    ),
    # Position.
    "position_damaged": (
        "The stored position is not one of this connector's.",
        "Check that the pipeline's name was not used for another source before.",
    ),
    "refused": (
        "The server refused a statement (error {number}) while Ensign was {doing}.",
        "Look up the number in the server's documentation, and the statement in its logs.",
    ),
}

NUMBERS: Final[dict[int, str]] = {
    0: "connection_lost",  # the driver's, for a connection that it has closed
    1021: "disk_full",
    1040: "too_many_connections",
    1042: "login_refused",  # the client's address has no name
    1043: "protocol_damaged",  # bad handshake
    1044: "privilege_missing",  # on a database
    1045: "password_rejected",
    1049: "database_missing",
    1053: "restarting",  # shutdown in progress
    1077: "restarting",
    1129: "host_blocked",
    1130: "login_refused",  # no account for this host
    1135: "too_many_connections",  # no thread for it
    1142: "privilege_missing",  # on a table
    1143: "privilege_missing",  # on a column
    1152: "connection_lost",
    1158: "connection_lost",
    1159: "connection_lost",
    1160: "connection_lost",
    1161: "connection_lost",
    1184: "connection_lost",
    1203: "too_many_connections",
    1205: "timeout",  # waiting for a lock
    1213: "timeout",  # deadlock
    1226: "too_many_connections",  # the account's limit
    1227: "privilege_missing",
    1236: "log_refused",
    1251: "auth_unsupported",
    1275: "auth_unsupported",  # mysql_old_password, which the server itself refuses
    1317: "timeout",  # KILL QUERY
    1370: "privilege_missing",  # on a routine
    1524: "auth_unsupported",  # the plugin is not loaded there
    1698: "password_rejected",  # by unix_socket
    1820: "password_expired",
    1862: "password_expired",
    1927: "restarting",  # MariaDB: the connection was killed
    1969: "timeout",  # MariaDB: max_statement_time
    2002: "unreachable",
    2003: "unreachable",
    2005: "unreachable",
    2006: "connection_lost",
    2013: "connection_lost",
    2026: "tls_failed",
    2055: "connection_lost",
    2059: "auth_unsupported",
    3024: "timeout",  # MySQL: max_execution_time
    3032: "restarting",  # offline_mode
    3118: "account_locked",
    3159: "tls_needed",
    3168: "restarting",
    3169: "connection_lost",  # the session was killed
    3955: "account_locked",  # MySQL: FAILED_LOGIN_ATTEMPTS
    4031: "connection_lost",  # MySQL: wait_timeout
    4052: "log_refused",  # MariaDB: another reader has this server id
    4151: "account_locked",  # MariaDB
}


def error(word: str, **facts: object) -> EnsignError:
    """The error ``mysql.WORD``, its sentence filled in with ``facts``."""
    return worded("mysql", ERRORS, word, facts)


def name_facts(place: tuple[str, str]) -> dict[str, object]:
    """A table, for errors about how it is called."""
    database, table = place
    return {"database": database, "table": table, "name": f"{database}.{table}"}


def by_number(number: int, **facts: object) -> EnsignError:
    """The error for a number; ``mysql.refused`` for one that is not in the table."""
    return error(NUMBERS.get(number, "refused"), number=number, **facts)


def by_exception(failed: BaseException, **facts: object) -> EnsignError:
    """The error for what the driver or the operating system raised on an open connection."""
    # The driver says of a timeout that the connection was lost.
    if isinstance(failed, TimeoutError) or isinstance(failed.__context__, TimeoutError):
        return error("timeout", **facts)
    if isinstance(failed, OSError):
        return error("connection_lost", **facts)
    number = failed.args[0] if failed.args else None
    if isinstance(number, int):
        return by_number(number, **facts)
    return error("protocol_damaged", **facts)
