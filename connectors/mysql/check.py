"""The preflight: what `ensign check` says of a server and of privileges. Changes nothing, and waits
for no lock longer than `LOCK_S_MAX`.

The account's privileges are found by trying: roles and partial revokes make SHOW GRANTS hard to
read. Tables are in `connectors.mysql.preflight`, settings in `connectors.mysql.log_check`.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, Final

from connectors.mysql import log_check, preflight
from connectors.mysql.config import MysqlConfig
from connectors.mysql.errors import error
from connectors.mysql.findings import failed, found, passed, warned
from connectors.mysql.log import enrol
from connectors.mysql.session import Server, Session, server
from connectors.mysql.start import check_version, free_id, replicas
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding

LOCK_S_MAX: Final = 1
"""How long a look at a table waits for whoever alters it just now."""


def check(config: MysqlConfig, pipeline: str) -> Sequence[Finding]:
    """Connect, look, disconnect. What fails is a finding, not an exception."""
    try:
        session = Session(config, pipeline)
    except EnsignError as problem:
        return [failed(problem)]
    looked: list[Finding] = []
    try:
        # What was found before something fails is told too.
        looked.extend(_findings(session, config, pipeline))
    except EnsignError as problem:
        looked.append(failed(problem))
    finally:
        session.close()
    return looked


def _findings(session: Session, config: MysqlConfig, pipeline: str) -> Iterator[Finding]:
    session.query(f"SET SESSION lock_wait_timeout = {LOCK_S_MAX}", doing="setting up")
    known = server(session)
    account = _account(session)
    session.facts["to"] = account
    try:
        check_version(known)
    except EnsignError as problem:
        yield failed(problem)
        return
    yield passed("server", f"The server is {known.title}.")
    yield from _encryption(session)
    filters = preflight.Filters((), ())
    if known.log_bin:
        yield from _may_stream(session, known, account)
        try:
            filters = _filters(session, known)
        except EnsignError as problem:
            yield _unseen(problem, session, known, account)
    yield from log_check.findings(session, config, known)
    yield from _server_id(session, config, known, pipeline)
    yield from preflight.findings(session, config, known, filters)


def _account(session: Session) -> str:
    """The account that the server takes the user for, as GRANT takes it."""
    user, _, host = str(session.rows("SELECT CURRENT_USER()")[0][0]).rpartition("@")
    return f"'{user}'@'{host}'"


def _filters(session: Session, known: Server) -> preflight.Filters:
    """The databases that are in the log alone, and those that it leaves out: beside the log's end,
    which a source has to see."""
    rows = session.rows(known.status_statement, doing="reading the end of the binary log")
    only, never = (
        tuple(filter(None, str(text or "").split(","))) for text in (*rows[0][2:4],)
    )  # fmt: skip
    return preflight.Filters(only, never)


def _encryption(session: Session) -> Iterator[Finding]:
    sock: Any = session.conn._sock  # type: ignore[attr-defined]  # the driver has no public name for it
    if isinstance(sock, ssl.SSLSocket):
        yield passed("tls", f"The connection is encrypted ({sock.version()}).")
    elif not is_loopback(str(sock.getpeername()[0])):
        yield warned("unencrypted", **session.facts)


def is_loopback(address: str) -> bool:
    """Whether what is sent to an IP address stays on this machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _may_stream(session: Session, known: Server, account: str) -> Iterator[Finding]:
    """Whether the user may read the log: by enrolling, which hurts no dump that is under way, since
    the id is nobody else's."""
    try:
        enrol(session, free_id(session, known), "ensign check")
    except EnsignError as problem:
        if problem.code != "mysql.replication_privilege":
            raise
        remedy = f"GRANT REPLICATION SLAVE ON *.* TO {account}."
        yield Finding("error", problem.code, problem.sentence, remedy)
    else:
        yield passed("replication", f"User {session.facts['user']} may read the binary log.")


def _unseen(problem: EnsignError, session: Session, known: Server, account: str) -> Finding:
    """What it means that the end of the log cannot be seen."""
    if problem.code != "mysql.privilege_missing":
        return failed(problem)
    sentence = error("status_privilege", **session.facts).sentence
    renamed = known.mariadb and known.version >= (10, 5, 2)
    name = "BINLOG MONITOR" if renamed else "REPLICATION CLIENT"
    remedy = f"GRANT {name} ON *.* TO {account}."
    return Finding("error", "mysql.status_privilege", sentence, remedy)


def _server_id(
    session: Session, config: MysqlConfig, known: Server, pipeline: str
) -> Iterator[Finding]:
    """Whether somebody else reads the log under the id that is configured."""
    if config.server_id is None:
        return
    holders = replicas(session, known)
    holder = holders.get(config.server_id) if holders is not None else None
    if holders is None:
        sentence = f"Whether server_id {config.server_id} is in use may not be seen."
        yield passed("server_id", sentence)
    elif holder is None:
        yield passed("server_id", f"server_id {config.server_id} is free.")
    elif holder == f"ensign {pipeline}":
        yield passed("server_id", f"server_id {config.server_id} is in use by this pipeline.")
    else:
        yield found("server_id_taken", server_id=config.server_id)
