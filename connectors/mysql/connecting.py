"""Connecting to a server, and what a refusal means.

Of PyMySQL's habits these are kept from it: it waits for the greeting without a limit, takes
passwords for latin-1, and gives a password in clear to whoever asks for it (`login`). It never
connects again by itself (I9).
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

import pymysql
from pymysql.constants import CR, ER

from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import by_exception, error
from connectors.mysql.login import plugins
from connectors.mysql.password import password_of
from connectors.mysql.tls import DEMANDING, by_tls, context_of, diagnose
from ensign_core.errors import EnsignError

if TYPE_CHECKING:
    Connection = pymysql.connections.Connection[Any]

CHARSET: Final = "utf8mb4"
LOST: Final = (CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST)

KEEPALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""How a dead peer is noticed: options of the socket, in seconds and probes."""
UNANSWERED_MS_MAX: Final = 30_000

DAMAGED: Final = (
    struct.error, LookupError, ValueError, TypeError, AssertionError, AttributeError, NameError,
)  # fmt: skip
"""What the driver raises when it reads what no server sends."""


def connect(config: MysqlConfig, *, database: str = "", pipeline: str) -> Connection:
    """A connection that commits each statement, or what kept it from being made. The server calls
    it ``ensign PIPELINE`` among its connection attributes."""
    facts: dict[str, object] = {
        "where": f"{config.host}:{config.port}",
        "user": config.user,
        "database": database or "(none)",
        "mode": config.tls.mode,
    }
    context = context_of(config.tls)
    password = config.password.get_secret_value() if config.password is not None else ""
    if config.password_command is not None:
        password = password_of(config.password_command, config.connect_timeout_s)
    connection: Connection = pymysql.connections.Connection(
        host=config.host,
        port=config.port,
        user=config.user,
        password=password.encode(),
        database=database or None,
        charset=CHARSET,
        autocommit=True,
        program_name=f"ensign {pipeline}",
        read_timeout=config.connect_timeout_s,
        write_timeout=config.connect_timeout_s,
        auth_plugin_map=plugins(facts),
        ssl=context if config.tls.mode in DEMANDING else None,
        ssl_disabled=context is None,
        defer_connect=True,
    )
    if context is not None:
        # Where TLS is preferred the driver takes one without the client's certificate.
        vars(connection).update(ctx=context)
    try:
        connection.connect(_reached(config, facts))
    except pymysql.MySQLError as failed:
        raise _refusal(failed, config, context, password, facts) from None
    except DAMAGED:
        raise error("protocol_damaged", **facts) from None
    timeout_s = config.query_timeout_s
    vars(connection).update(_read_timeout=timeout_s, _write_timeout=timeout_s)
    return connection


def _reached(config: MysqlConfig, facts: dict[str, object]) -> socket.socket:
    """A socket that the server has taken."""
    at = (config.host, config.port)
    try:
        reached = socket.create_connection(at, config.connect_timeout_s)
    except TimeoutError:
        raise error("unreachable", **facts, reason="no answer in time") from None
    except OSError as failed:
        reason = (failed.strerror or "no connection").lower()
        raise error("unreachable", **facts, reason=reason) from None
    except ValueError:
        raise error("unreachable", **facts, reason="no such name") from None
    reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reached.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for name, value in KEEPALIVE.items():
            reached.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX)
    return reached


def _refusal(
    failed: pymysql.MySQLError,
    config: MysqlConfig,
    context: ssl.SSLContext | None,
    password: str,
    facts: dict[str, object],
) -> EnsignError:
    """What it means that a connection could not be made."""
    number = failed.args[0] if failed.args else None
    # The driver keeps the operating system's error, or wraps it.
    cause = getattr(failed, "original_exception", None) or failed.__context__
    if isinstance(cause, TimeoutError):
        return error("unreachable", **facts, reason="no answer in time")
    if isinstance(cause, OSError) or number in LOST:
        found = by_tls(cause, config.tls, facts) if isinstance(cause, ssl.SSLError) else None
        if found is None and context is not None and config.tls.cert is not None:
            found = diagnose((config.host, config.port), config.tls, context, facts)
        return found or error("unreachable", **facts, reason="it ended the connection")
    if number == CR.CR_SSL_CONNECTION_ERROR:
        return error("tls_refused", **facts)
    if number == ER.ACCESS_DENIED_ERROR and not password:
        return error("password_missing", **facts)
    if number == ER.DBACCESS_DENIED_ERROR:
        return error("login_refused", **facts)
    if isinstance(failed, pymysql.OperationalError) and not isinstance(number, int):
        # Of its own in the exchange that a plugin begins; the one before plugins ends like this.
        return error("auth_unsupported", **facts)
    return by_exception(failed, **facts, doing="connecting")
