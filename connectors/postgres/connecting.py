"""Connecting to a server through libpq: what is asked of it, and what a refusal means.

All connections have the same settings, so that a value has one text wherever it is read.
"""

from __future__ import annotations

import os
import re
import select
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from connectors.postgres.config import PostgresConfig
from connectors.postgres.errors import by_state, error
from connectors.postgres.password import password_of
from connectors.postgres.tls import diagnose
from ensign_core.errors import EnsignError

SETTINGS: Final = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "search_path": "",  # names of types, functions and relations come out qualified
}
"""What decides how values and names are written."""

QUERY_SETTINGS: Final = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "5000",  # while opening; longer than a vacuum takes to give way
    "row_security": "off",  # a policy must fail a snapshot, not thin it out
    "synchronous_commit": "local",  # what is written here must not wait for a standby
}

TRANSPORT: Final = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""How libpq notices a dead peer, unless the dsn says otherwise."""

TRACE_BYTES_MAX: Final = 1 << 20

PROTOCOL_VIOLATION: Final = b"08P01"

_host = re.compile(r"[A-Za-z0-9._:%\[\]-]*")
_quotation = re.compile(r' ?".*"')
_sqlstate = re.compile(rb'ErrorResponse\t.*?\bC "([0-9A-Z]{5})"')


def application_name(pipeline: str) -> str:
    """What the server calls the connections of a pipeline: as much as fits into a name there."""
    return f"ensign {pipeline}".encode()[:63].decode(errors="ignore")


def conninfo(
    config: PostgresConfig, pipeline: str, *, replication: bool
) -> tuple[str, dict[str, object]]:
    """The connection string, with a password of its own where a command gives it; and what errors
    may name."""
    dsn = config.dsn.get_secret_value()
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise error("dsn_invalid") from None
    _check_given(dsn, given)
    settings = SETTINGS if replication else {**SETTINGS, **QUERY_SETTINGS}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    before = str(given.get("options") or "")
    extra: dict[str, str] = {name: v for name, v in TRANSPORT.items() if name not in given}
    extra |= {
        "client_encoding": "UTF8",
        "options": f"{before} {options}".strip(),
        "application_name": application_name(pipeline),
    }
    if replication:
        extra["replication"] = "database"
    if config.password_command is not None:
        extra["password"] = password_of(config.password_command, config.connect_timeout_s)
    info = make_conninfo(dsn, **extra)
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
    user = given.get("user") or os.environ.get("PGUSER") or ""
    return info, {
        "where": f"{host}:{given.get('port') or os.environ.get('PGPORT') or 5432}",
        "user": user,
        "database": given.get("dbname") or os.environ.get("PGDATABASE") or user,
    }


def _check_given(dsn: str, given: Mapping[str, object]) -> None:
    """A password with @ or / that is not encoded ends a URL's login too early, so that a part of it
    passes for host, port or database: nothing of it may be printed."""
    if not dsn.lstrip().startswith(("postgresql://", "postgres://")):
        return
    hosts = str(given.get("host") or "").split(",")
    ports = str(given.get("port") or "").split(",")
    usable = all(_host.fullmatch(host) or host.startswith("/") for host in hosts)
    usable = usable and all(not port or port.isdecimal() for port in ports)
    named = f"{given.get('dbname') or ''}{given.get('host') or ''}{given.get('user') or ''}"
    if not usable or "@" in named:
        raise error("dsn_invalid")


def connect(info: str, timeout_s: float, facts: dict[str, object]) -> pq.abc.PGconn:
    """Connect, or raise what the server's SQLSTATE says. libpq keeps that of a refused login to
    itself, but its trace of the protocol shows it; the traced file has no name and is dropped."""
    deadline = time.monotonic() + timeout_s
    conn = pq.PGconn.connect_start(info.encode())
    trace = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        state = pq.PollingStatus.WRITING
        if conn.status == pq.ConnStatus.BAD:
            state = pq.PollingStatus.FAILED
        elif sys.platform == "linux":
            conn.trace(trace.fileno())
        while state not in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
            if not ready(conn.socket, reading=state == pq.PollingStatus.READING, deadline=deadline):
                raise error("unreachable", **facts, reason="no answer in time")
            state = pq.PollingStatus(conn.connect_poll())
        if sys.platform == "linux":
            conn.untrace()
        if state == pq.PollingStatus.OK:
            if conn.parameter_status(b"server_encoding") == b"SQL_ASCII":
                _take_any_bytes(conn, deadline, facts)
            return conn
        refusal = _refusal(conn, os.pread(trace.fileno(), TRACE_BYTES_MAX, 0), facts)
        if refusal.code == "postgres.unreachable":
            raise _of_tls(conn, info, facts) or refusal
        raise refusal
    except BaseException:
        conn.finish()
        raise
    finally:
        trace.close()


def _take_any_bytes(conn: pq.abc.PGconn, deadline: float, facts: dict[str, object]) -> None:
    """A database without an encoding holds any bytes, and refuses to send those that are not UTF-8
    to a client that asks for UTF-8. Asked for no encoding it sends what it has."""
    conn.send_query(b"SET client_encoding TO SQL_ASCII")
    while True:
        while conn.is_busy():
            if not ready(conn.socket, reading=True, deadline=deadline):
                raise error("unreachable", **facts, reason="no answer in time")
            conn.consume_input()
        if conn.get_result() is None:
            return


def ready(socket: int, *, reading: bool, deadline: float) -> bool:
    poll = select.poll()
    poll.register(socket, select.POLLIN if reading else select.POLLOUT)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _refusal(conn: pq.abc.PGconn, trace: bytes, facts: dict[str, object]) -> EnsignError:
    if conn.needs_password:
        return error("password_missing", **facts)
    message = conn.error_message.decode(errors="replace")
    states = _sqlstate.findall(trace)
    if states and states[-1] == PROTOCOL_VIOLATION:
        # A server knows the parameters that libpq sends: something between does not.
        return error("pooler", **facts)
    if states:
        return by_state(states[-1].decode(), **facts, doing="connecting")
    reason = message.partition("failed: ")[2] or message
    # What libpq quotes are parts of the dsn.
    reason = _quotation.sub("", reason.partition("\n")[0])
    return error("unreachable", **facts, reason=reason.strip().rstrip("."))


def _of_tls(conn: pq.abc.PGconn, info: str, facts: dict[str, object]) -> EnsignError | None:
    """What TLS has to do with a failure of which the server said nothing."""
    name, port = conn.host.decode(), conn.port.decode()
    address = conn.hostaddr.decode() or name
    return diagnose(conninfo_to_dict(info), name, (address, port), facts)
