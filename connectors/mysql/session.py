"""One connection to the server for statements, each with a deadline, and what the server is.

All of a source's connections belong to its one thread (I1). Nothing here reconnects (I9): whatever
fails leaves a session that can only be closed, but for the `tolerate`d errors of `query`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import pymysql

from connectors.mysql.config import MysqlConfig
from connectors.mysql.connecting import connect
from connectors.mysql.errors import by_exception
from ensign_core.errors import EnsignError

LOCK_S_MAX: Final = 5
"""How long a statement waits for a table's lock."""

IDLE_S_MAX: Final = 28_800
"""How long a connection may be idle while its pipeline waits for something else."""

SETTINGS: Final = (
    "SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = 'utf8mb4', "
    f"sql_big_selects = 1, sql_select_limit = {2**64 - 1}, completion_type = 0, "
    f"lock_wait_timeout = {LOCK_S_MAX}, wait_timeout = {IDLE_S_MAX}"
    "/*!50708 , max_execution_time = 0 */"
    "/*M!100100 , max_statement_time = 0 */"
    "/*M!100300 , idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0 */"
)
"""What every connection has, so that a value has one text wherever it is read, and no statement is
cut short by what an administrator has set for applications. In comments is what only one of the
servers has: MariaDB does not read those of MySQL 5.7 and later."""

Row = tuple[Any, ...]


class Session:
    """A connection and its ``facts``, which its errors may name: user, where."""

    def __init__(self, config: MysqlConfig, pipeline: str) -> None:
        self.facts: dict[str, object] = {
            "user": config.user, "where": f"{config.host}:{config.port}", "pipeline": pipeline
        }  # fmt: skip
        self.conn = connect(config, pipeline=pipeline)
        self.query(SETTINGS, doing="setting the connection up")

    def query(
        self,
        sql: str,
        *,
        doing: str = "reading the catalog",
        tolerate: Sequence[int] = (),
        statement: str = "",
    ) -> list[Row] | int:
        """Run one statement; its rows. An error number in ``tolerate`` is returned instead of
        raised. Facts for errors: ``doing`` and ``statement``, what an administrator could run
        instead."""
        try:
            with self.conn.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        except (pymysql.Error, OSError) as failed:
            number = failed.args[0] if failed.args else 0
            if isinstance(failed, pymysql.Error) and number in tolerate:
                return int(number)
            raise self.failure(failed, doing=doing, statement=statement) from None

    def rows(self, sql: str, *, doing: str = "reading the catalog") -> list[Row]:
        """The rows of a statement of which no error is tolerated."""
        found = self.query(sql, doing=doing)
        assert not isinstance(found, int)
        return found

    def failure(self, failed: Exception, **facts: object) -> EnsignError:
        """What the driver raised, as an error for people."""
        return by_exception(failed, **{**self.facts, **facts})

    def close(self) -> None:
        """Close it, whatever it does."""
        with suppress(pymysql.Error, OSError):
            self.conn.close()


def literal(text: str) -> str:
    """A string literal that means the same in every sql_mode and charset."""
    return f"_utf8mb4 X'{text.encode().hex()}'" if text else "''"


def quoted(name: str) -> str:
    """An identifier."""
    return "`" + name.replace("`", "``") + "`"


class Server(NamedTuple):
    """What a server is. ``identity`` tells it from any other: its uuid, on MariaDB its server id
    and the time of its first start as far as that can be told."""

    mariadb: bool
    version: tuple[int, int, int]
    identity: str
    log_bin: bool
    log_format: str
    row_image: str
    row_metadata: str
    gtids: bool
    partial_json: bool

    @property
    def title(self) -> str:
        """As people call it."""
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {'.'.join(map(str, self.version))}"

    @property
    def status_statement(self) -> str:
        """What shows the end of the binary log."""
        if self.mariadb:
            return "SHOW MASTER STATUS"
        return "SHOW BINARY LOG STATUS" if self.version >= (8, 2, 0) else "SHOW MASTER STATUS"


_VARIABLES: Final = (
    "log_bin", "binlog_format", "binlog_row_image", "binlog_row_metadata", "gtid_mode",
    "server_uuid", "server_id", "version", "server_uid", "binlog_row_value_options",
)  # fmt: skip


def server(session: Session) -> Server:
    """Ask what the server is."""
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = session.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    found = {str(name).lower(): str(value) for name, value in rows}
    version = found.get("version", "")
    mariadb = "mariadb" in version.lower()
    numbers = version.split("-")[0].split(".")
    parsed = tuple(int(part) if part.isdigit() else 0 for part in [*numbers, "0", "0"][:3])
    uuid = found.get("server_uuid") or found.get("server_uid") or ""
    return Server(
        mariadb,
        (parsed[0], parsed[1], parsed[2]),
        uuid or f"server {found.get('server_id', '0')}",
        found.get("log_bin", "OFF").upper() in ("ON", "1"),
        # MySQL 9 knows no other any more.
        found.get("binlog_format", "ROW").upper(),
        found.get("binlog_row_image", "FULL").upper(),
        found.get("binlog_row_metadata", "NO_LOG").upper(),
        mariadb or found.get("gtid_mode", "OFF").upper() == "ON",
        "PARTIAL_JSON" in found.get("binlog_row_value_options", "").upper(),
    )


class Status(NamedTuple):
    """Where the binary log ends: its file, the offset in it, and on MySQL the set of GTIDs that
    have been executed."""

    file: str
    offset: int
    executed: str


def status(session: Session, known: Server) -> Status | None:
    """The end of the log; None on a server without one."""
    rows = session.rows(known.status_statement, doing="reading the end of the binary log")
    if not rows:
        return None
    row = rows[0]
    executed = str(row[4] or "").replace("\n", "") if len(row) > 4 else ""
    return Status(str(row[0]), int(row[1]), executed)
