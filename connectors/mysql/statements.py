"""Statements in the binlog: QUERY, and MariaDB's QUERY_COMPRESSED.

Formats: MySQL Source Code Documentation, "Query_event" with its status variables; MariaDB Knowledge
Base, "QUERY_EVENT" and "Binlog compression"; codes from 128 on are MariaDB's
(``sql/log_event.h``, ``Q_HRNOW`` and following).
"""

from __future__ import annotations

import re
import struct
from typing import Final, NamedTuple

from connectors.mysql import charsets
from connectors.mysql.bounds import parses, part
from connectors.mysql.collations import charset_of
from connectors.mysql.compressed import inflated
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import (
    EXECUTE_LOAD_QUERY,
    HEADER_SIZE,
    QUERY_COMPRESSED,
    TYPE_AT,
)

_head = struct.Struct("<IIBHH")
_SAVEPOINT = re.compile(
    rb"(SAVEPOINT|ROLLBACK)(?:\s+TO)?(?:\s+SAVEPOINT)?\s+`?(.+?)`?", re.IGNORECASE | re.DOTALL
)
_charset = struct.Struct("<HHH")
_uint64 = struct.Struct("<Q")

_SQL_MODE, _CHARSET, _MICROSECONDS, _HRNOW = 1, 4, 13, 128
_TERMINATED_CATALOG, _INVOKER, _DATABASES = 2, 11, 12
_ALTER, _COLLATIONS = 130, 131
_SIZES: Final = {
    0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2, 19: 1, 20: 1,
    128: 3, 129: 8,
}  # fmt: skip
"""How many bytes a status variable has, of those that always have as many."""
_COUNTED: Final = {5, 6}
"""Status variables that begin with their length in one byte."""

_OF_A_FILE: Final = 13
"""Bytes of an EXECUTE_LOAD_QUERY that tell where in the statement the file's name stands."""

_NO_DATABASES: Final = 254


class Statement(NamedTuple):
    """``statement`` is in ``charset``, the session's ``character_set_client``: empty where the
    event does not tell it, or tells of one that nobody knows. ``sql_mode`` has the server's bits: 4
    is ANSI_QUOTES. ``error`` is what it failed with at the server, after it changed something; 0
    else."""

    database: str
    statement: bytes
    charset: str
    sql_mode: int | None
    error: int
    thread_id: int

    @property
    def text(self) -> str:
        """The statement in letters, as far as it can be read."""
        try:
            return charsets.decode(self.charset or "utf8mb4", self.statement).decode()
        except (ValueError, LookupError):
            return self.statement.decode("utf-8", "replace")


def begins_transaction(event: bytes) -> bool:
    """Whether the statement of a QUERY event is BEGIN, which costs less to ask than `query`."""
    if not event.endswith(b"\0BEGIN"):
        return False
    _, _, database_size, _, status_size = _head.unpack_from(event, HEADER_SIZE)
    end: int = HEADER_SIZE + _head.size + status_size + database_size + 6
    return len(event) == end


@parses("a QUERY")
def query(event: bytes) -> Statement:
    """The statement of a QUERY, QUERY_COMPRESSED or EXECUTE_LOAD_QUERY event."""
    thread_id, _, database_size, error, status_size = _head.unpack_from(event, HEADER_SIZE)
    at = HEADER_SIZE + _head.size
    if event[TYPE_AT] == EXECUTE_LOAD_QUERY:
        at += _OF_A_FILE
    sql_mode, collation = _session(part(event, at, status_size))
    at += status_size
    database = part(event, at, database_size).decode()
    at += database_size
    if event[at]:
        raise DamagedError("a QUERY whose database's name does not end")
    statement = event[at + 1 :]
    if event[TYPE_AT] == QUERY_COMPRESSED:
        statement = inflated(statement)
    return Statement(database, statement, _charset_of(collation), sql_mode, error, thread_id)


def of_savepoint(statement: bytes) -> bool:
    """Whether it makes a savepoint, or returns to one, or to where the transaction begins."""
    return statement.lstrip()[:9].upper().startswith((b"SAVEPOINT", b"ROLLBACK"))


def savepoint(statement: bytes) -> tuple[bytes, bytes]:
    """The verb of a SAVEPOINT, ROLLBACK TO or ROLLBACK, as both servers log them, and the name
    behind it in small letters, since case does not count; empty for a ROLLBACK of everything."""
    found = _SAVEPOINT.fullmatch(statement.strip())
    if found is None:
        return b"ROLLBACK", b""
    return found[1].upper(), found[2].replace(b"``", b"`").lower()


def _charset_of(collation: int) -> str:
    try:
        return charset_of(collation)
    except LookupError:
        return ""


def _session(status: bytes) -> tuple[int | None, int]:
    """The session's sql_mode, and the collation of its character_set_client (0: not told). As the
    servers do, it reads up to the first status variable that it does not know."""
    at, sql_mode, collation = 0, None, 0
    while at < len(status):
        code = status[at]
        at += 1
        if code == _SQL_MODE:
            sql_mode = _uint64.unpack_from(status, at)[0]
        elif code == _CHARSET:
            collation = _charset.unpack_from(status, at)[0]
        size = _SIZES[code] if code in _SIZES else _size(code, status, at)
        if size is None:
            break
        at += size
    return sql_mode, collation


def _size(code: int, status: bytes, at: int) -> int | None:
    """The size of a status variable whose size differs; None for a code that is not known."""
    if code in _COUNTED:
        return 1 + status[at]
    if code == _TERMINATED_CATALOG:
        return 2 + status[at]
    if code == _INVOKER:
        user_size = 1 + status[at]
        return user_size + 1 + status[at + user_size]
    if code == _DATABASES:
        end = at + 1
        for _ in range(status[at] if status[at] != _NO_DATABASES else 0):
            end = status.find(b"\0", end) + 1
            if not end:
                raise DamagedError("a QUERY whose list of databases does not end")
        return end - at
    if code == _ALTER:
        # A number follows where the statement ends an ALTER that was logged in two parts.
        return 9 if status[at] & 0x0C else 1
    if code == _COLLATIONS:
        return 1 + 4 * status[at]
    return None
