"""The write load of `tests.crash.load` for MySQL and MariaDB: every change can be told apart."""

from __future__ import annotations

import random
import threading
from itertools import count
from typing import Any

import pymysql

from tests.services.mysql import MysqlServer

TABLE = "(id int PRIMARY KEY, version bigint NOT NULL, note text)"
WORKERS = 3
ACCOUNTS_PER_WORKER = 200
RECONNECT_S = 0.05
PAUSE_S = 0.004
"""Between transactions: the machine has to run the server and the worker too."""
GROWN_TABLES = 3
GROWN_ROWS = 3_000
COLUMNS_ADDED_MAX = 40
OUTSIDE = "outside"
"""A database that nobody captures: tables come from there with their rows."""

Cursor = Any


class Load:
    """Workers in threads. Each change of an account takes a new version and writes it into
    ``audit`` in the same transaction: what the database holds in the end is the ledger, whatever
    became of a commit whose answer was lost. ``tables`` hold accounts, a worker's own in each."""

    def __init__(self, server: MysqlServer, database: str, seed: int) -> None:
        self._server = server
        self._database = database
        self._stopping = threading.Event()
        self._versions = count(1)
        self._altered = 0
        self.tables = ["accounts"]
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(i, random.Random(seed * 1000 + i)))
            for i in range(WORKERS)
        ]

    def prepare(self) -> None:
        """Make the tables, with rows that a snapshot has to read."""
        self._server.run(
            f"CREATE DATABASE {OUTSIDE}",
            "CREATE TABLE audit (version bigint PRIMARY KEY, name text, account int, op text)",
            f"CREATE TABLE accounts {TABLE}",
            database=self._database,
        )
        self._fill(f"{self._database}.accounts", WORKERS * ACCOUNTS_PER_WORKER, "x" * 3000)

    def _fill(self, table: str, rows: int, note: str) -> None:
        with self._server.connect() as db, db.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {table} (id, version, note) VALUES (%s, %s, %s)",
                [(i, next(self._versions), note) for i in range(rows) if i % 3],
            )

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures

    def grow(self) -> None:
        """Bring in tables full of rows, which the worker takes up and reads while they change."""
        names = [f"more_{len(self.tables) + i}" for i in range(GROWN_TABLES)]
        for name in names:
            self._server.run(f"CREATE TABLE {OUTSIDE}.{name} {TABLE}")
            self._fill(f"{OUTSIDE}.{name}", GROWN_ROWS, "grown")
            self._server.run(f"RENAME TABLE {OUTSIDE}.{name} TO {self._database}.{name}")
        self.tables += names

    def alter(self, rng: random.Random) -> None:
        """Add a column to a table, which changes are then made to."""
        name = rng.choice(self.tables[-2 * GROWN_TABLES :] + self.tables[:1])
        self._altered += 1
        if self._altered < COLUMNS_ADDED_MAX:
            self._server.run(
                f"ALTER TABLE {self._database}.{name} ADD COLUMN more_{self._altered} text"
            )

    def _work(self, worker: int, rng: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                with self._server.connect(self._database) as db, db.cursor() as cursor:
                    while not self._stopping.is_set():
                        db.begin()
                        for _ in range(rng.choice((1, 1, 2, 5, 40))):
                            self._change(cursor, self._table(rng), worker, rng)
                        db.commit()
                        self._stopping.wait(PAUSE_S)
            except (pymysql.OperationalError, pymysql.InterfaceError, pymysql.InternalError):
                self._stopping.wait(RECONNECT_S)
            except BaseException as error:
                self.failures.append(error)
                raise

    def _table(self, rng: random.Random) -> str:
        """Half of all changes are of ``accounts``, the others of tables that came last."""
        return "accounts" if rng.random() < 0.5 else rng.choice(self.tables[-GROWN_TABLES:])

    def _change(self, cursor: Cursor, table: str, worker: int, rng: random.Random) -> None:
        """Insert, update or delete one account of this worker's own."""
        account = worker * ACCOUNTS_PER_WORKER + rng.randrange(ACCOUNTS_PER_WORKER)
        version = next(self._versions)
        kind = rng.random()
        if kind < 0.2:
            op, statement = "delete", f"DELETE FROM {table} WHERE id = {account}"
        elif kind < 0.6:
            op = "update"
            statement = f"UPDATE {table} SET version = {version} WHERE id = {account}"
        else:
            op, note = "upsert", "n" * rng.choice((0, 10, 3000))
            statement = (
                f"INSERT INTO {table} (id, version, note) VALUES ({account}, {version}, '{note}') "
                f"ON DUPLICATE KEY UPDATE version = {version}, note = '{note}'"
            )
        if cursor.execute(statement):
            cursor.execute(
                "INSERT INTO audit VALUES (%s, %s, %s, %s)", (version, table, account, op)
            )
