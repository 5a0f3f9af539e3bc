"""A private MySQL or MariaDB server for the tests: own folder, port, socket and process, loopback
only.

``root`` has no password and comes in over the socket, `CDC` with a password over TCP and with the
privileges that a source needs. Statements of the tests themselves go through PyMySQL's ordinary
connections.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import pymysql

from tests.services.mysql_programs import NOBODY, Programs, client, copy_fresh
from tests.services.mysql_programs import installations as installations
from tests.services.postgres import free_port
from tests.services.service import Service

READY_S_MAX = 30.0
PURGED_S_MAX = 5.0

if TYPE_CHECKING:
    Connection = pymysql.connections.Connection[Any]
Shutdown = Literal["fast", "kill"]
SIGNALS = {"fast": signal.SIGTERM, "kill": signal.SIGKILL}

CDC: Final = "cdc"
"""The user of the connectors, and its password."""
PRIVILEGES: Final = "SELECT, REPLICATION SLAVE, REPLICATION CLIENT"

DEFAULTS: Mapping[str, str] = {
    "server_id": "1",
    "bind_address": "127.0.0.1",
    "skip_name_resolve": "ON",
    "character_set_server": "utf8mb4",
    "log_bin": "binlog",
    "binlog_row_metadata": "FULL",
    "binlog_row_image": "FULL",
    "sync_binlog": "0",
    # A killed server loses nothing of this: only a machine without power would.
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_doublewrite": "OFF",
    "innodb_buffer_pool_size": "24M",
    "key_buffer_size": "1M",
    "max_allowed_packet": "64M",
    "performance_schema": "OFF",
}
OF_PRODUCT: Mapping[str, Mapping[str, str]] = {
    "mariadb": {
        "binlog_format": "ROW",
        "gtid_strict_mode": "ON",
        "innodb_log_file_size": "32M",
        "innodb_use_native_aio": "OFF",
        "aria_pagecache_buffer_size": "1M",
        "aria_recover_options": "BACKUP,FORCE",
    },
    "mysql": {
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "innodb_redo_log_capacity": "32M",
        "innodb_use_native_aio": "OFF",
        "mysqlx": "OFF",
        "secure_file_priv": "NULL",
    },
}
WITHOUT_TLS: Mapping[str, Mapping[str, str]] = {
    "mariadb": {"ssl": "OFF"},
    "mysql": {"tls_version": ""},
}


class Certificates(NamedTuple):
    """Files of a server's TLS: whom it trusts, what it shows, and its key."""

    authority: Path
    certificate: Path
    key: Path


class MysqlServer(Service):
    """One server. ``settings`` are lines of its configuration file, over `DEFAULTS`; None makes an
    option without a value, such as ``skip_log_bin``. It offers TLS only with ``tls``."""

    def __init__(
        self,
        programs: Programs,
        *,
        settings: Mapping[str, str | None] | None = None,
        tls: Certificates | None = None,
    ) -> None:
        self.programs = programs
        self.host = "127.0.0.1"
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-my-"))
        self.socket = self.folder / "socket"
        self.log = self.folder / "log"
        self.settings: dict[str, str | None] = {**DEFAULTS, **OF_PRODUCT[programs.product]}
        if tls is None:
            self.settings |= WITHOUT_TLS[programs.product]
        self.settings |= settings or {}
        self.tls = tls
        self.passwords = {CDC: CDC}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def begin(self) -> None:
        copy_fresh(self.programs, self.folder / "data")
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        if self.tls is not None:
            self._bring(self.tls)
        self.write_settings()
        self.start()
        self.new_user(CDC, CDC)

    def close(self) -> None:
        """End the server and forget its data."""
        self.stop("kill")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def is_mariadb(self) -> bool:
        return self.programs.product == "mariadb"

    @property
    def version(self) -> tuple[int, ...]:
        """Such as ``(10, 11, 19)``."""
        return self.programs.version

    def _bring(self, tls: Certificates) -> None:
        """Copy the files of TLS to where the server may read them."""
        for name, file in zip(("ssl_ca", "ssl_cert", "ssl_key"), tls, strict=True):
            brought = self.folder / f"{name}.pem"
            shutil.copy(file, brought)
            if os.geteuid() == 0:
                os.chown(brought, NOBODY, NOBODY)
            self.settings[name] = str(brought)

    def renew(self, tls: Certificates) -> None:
        """Show another certificate from now on."""
        self._bring(tls)
        self.run("FLUSH SSL" if self.is_mariadb else "ALTER INSTANCE RELOAD TLS")

    def write_settings(self) -> None:
        """Write `settings` into the configuration file; they hold from the next start on."""
        places = {
            **self.programs.folders(),
            "datadir": str(self.folder / "data"),
            "tmpdir": str(self.folder),
            "socket": str(self.socket),
            "pid_file": str(self.folder / "pid"),
            "log_error": str(self.log),
            "port": str(self.port),
        }
        lines = [
            name if value is None else f"{name}={value}"
            for name, value in (self.settings | places).items()
        ]
        (self.folder / "my.cnf").write_text("\n".join(["[mysqld]", *lines, ""]))

    def start(self) -> None:
        """Start the server and return when it answers."""
        command = self.programs.as_nobody(f"--defaults-file={self.folder / 'my.cnf'}")
        said = self.log.open("ab")
        if os.geteuid() == 0:
            os.chown(self.log, NOBODY, NOBODY)
        self._process = subprocess.Popen(command, stdout=said, stderr=said)
        said.close()
        deadline = time.monotonic() + READY_S_MAX
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(self.log.read_text(errors="replace"))
            time.sleep(0.02)

    def _greets(self) -> bool:
        """Whether somebody who connects is answered. PyMySQL leaves the socket of a failed attempt
        open."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(READY_S_MAX)
            try:
                asking.connect(str(self.socket))
                return bool(asking.recv(1))
            except OSError:
                return False

    def stop(self, mode: Shutdown = "fast") -> None:
        """Stop this server by its own process id and wait for its end."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(SIGNALS[mode])
        process.wait(READY_S_MAX)

    def restart(self, mode: Shutdown = "fast") -> None:
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """Change variables of the running server, for new connections; a restart forgets them.
        Values are written as in SQL."""
        for name, value in settings.items():
            self.run(f"SET GLOBAL {name} = {value}")

    def connect(
        self, database: str | None = None, *, user: str = "root", **given: Any
    ) -> Connection:
        """An autocommit connection: root's over the socket, that of another user over TCP, with the
        password that `new_user` gave it. ``given`` goes to PyMySQL."""
        if user == "root":
            given = {"unix_socket": str(self.socket), "ssl_disabled": True, **given}
        else:
            place = {"host": self.host, "port": self.port, "password": self.passwords.get(user, "")}
            given = {**place, **given}
        connection = pymysql.connect(
            user=user, database=database, charset="utf8mb4", autocommit=True, defer_connect=True,
            **{"connect_timeout": 5, **given},
        )  # fmt: skip
        if user != "root":
            connection.connect()
            return connection
        # The driver leaves its socket open where nobody listens.
        own = socket.socket(socket.AF_UNIX)
        try:
            own.settimeout(5)
            own.connect(str(self.socket))
            own.settimeout(None)
            connection.connect(own)
        except OSError as refused:
            own.close()
            raise pymysql.OperationalError(2003, "refused") from refused
        except BaseException:
            own.close()
            raise
        return connection

    def run(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements as root on a connection of their own; the rows of the last one."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def client(self, *args: str, database: str = "") -> list[str]:
        """The ``mariadb`` command line client as root of this server; empty where there is none
        on this machine."""
        program = client()
        if not program:
            return []
        options = ["--skip-ssl", f"--socket={self.socket}", "--user=root"]
        return [*program, *options, *args, *filter(None, [database])]

    def new_database(self) -> str:
        """Make a database with a name of its own."""
        self._databases += 1
        name = f"d{self._databases}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS `{name}`")

    def new_user(
        self, name: str, password: str, *, privileges: str = PRIVILEGES, plugin: str = "",
        options: str = "",
    ) -> None:  # fmt: skip
        """Make a user with privileges on everything, outside the binary log; ``plugin`` checks its
        password, ``options`` end its CREATE USER, such as ``REQUIRE SSL``."""
        identified = f"IDENTIFIED BY '{password}'"
        if plugin and self.is_mariadb:
            identified = f"IDENTIFIED VIA {plugin} USING PASSWORD('{password}')"
        elif plugin:
            identified = f"IDENTIFIED WITH {plugin} BY '{password}'"
        self.run(
            "SET SESSION sql_log_bin = 0",
            f"DROP USER IF EXISTS '{name}'@'%'",
            f"CREATE USER '{name}'@'%' {identified} {options}",
            f"GRANT {privileges} ON *.* TO '{name}'@'%'",
        )
        self.passwords[name] = password

    def position(self) -> tuple[str, int]:
        """The binary log's file and offset now."""
        renamed = not self.is_mariadb and self.version >= (8, 2)
        row = self.run(f"SHOW {'BINARY LOG' if renamed else 'MASTER'} STATUS")[0]
        return row[0], row[1]

    def gtids(self) -> str:
        """The transactions in the binary log and those that were purged from it."""
        variable = "gtid_binlog_pos" if self.is_mariadb else "gtid_executed"
        return str(self.run(f"SELECT @@GLOBAL.{variable}")[0][0]).replace("\n", "")

    def logs(self) -> list[str]:
        """Names of the binary log's files, oldest first."""
        return [row[0] for row in self.run("SHOW BINARY LOGS")]

    def rotate(self) -> str:
        """Begin a new file of the binary log; its name."""
        self.run("FLUSH BINARY LOGS")
        return self.logs()[-1]

    def purge(self, to: str = "") -> None:
        """Delete the binary log's files before ``to``, or all but the newest. MariaDB keeps a file
        until its storage engines are done with it; a file that is being read stays."""
        first = to or self.logs()[-1]
        deadline = time.monotonic() + PURGED_S_MAX
        while True:
            self.run(f"PURGE BINARY LOGS TO '{first}'")
            kept = self.logs()
            if kept[0] == first:
                return
            assert time.monotonic() < deadline, f"{kept[0]} is in use"
            time.sleep(0.01)
