"""A write load whose every change can be told apart, so that a ledger can be kept."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg

TABLE = "(id int PRIMARY KEY, version bigint NOT NULL, note text)"
PREPARED = f"""
CREATE SEQUENCE versions;
CREATE TABLE audit (version bigint PRIMARY KEY, name text, account int, op text);
CREATE TABLE accounts {TABLE};
ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
"""
WORKERS = 3
ACCOUNTS_PER_WORKER = 200
RECONNECT_S = 0.05
PAUSE_S = 0.004
"""Between transactions: the machine has to run the server and the worker too."""
GROWN_TABLES = 3
GROWN_ROWS = 3_000
COLUMNS_ADDED_MAX = 40

Connect = Callable[[], psycopg.Connection[Any]]


def prepare(connect: Connect) -> None:
    """Make the tables, with rows that a snapshot has to read."""
    with connect() as db:
        db.execute(PREPARED.encode())
        db.execute(
            "INSERT INTO accounts SELECT i, nextval('versions'), repeat('x', 3000) "
            "FROM generate_series(0, %s) AS i WHERE i %% 3 <> 0",
            (WORKERS * ACCOUNTS_PER_WORKER - 1,),
        )


class Load:
    """Workers in threads. Each change of an account takes a new version and writes it into
    ``audit`` in the same transaction: what the database holds in the end is the ledger, whatever
    became of a commit whose answer was lost. ``tables`` hold accounts, a worker's own in each."""

    def __init__(self, connect: Connect, seed: int) -> None:
        self._connect = connect
        self._stopping = threading.Event()
        self.tables = ["accounts"]
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(i, random.Random(seed * 1000 + i)))
            for i in range(WORKERS)
        ]

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
        """Make tables full of rows, which the worker takes up and reads while they change."""
        names = [f"more_{len(self.tables) + i}" for i in range(GROWN_TABLES)]
        with self._connect() as db, db.transaction():
            for name in names:
                db.execute(f"CREATE TABLE {name} {TABLE}".encode())
                db.execute(
                    f"INSERT INTO {name} SELECT i, nextval('versions'), 'grown' "
                    f"FROM generate_series(1, {GROWN_ROWS}) AS i".encode()
                )
        self.tables += names

    def alter(self, rng: random.Random) -> None:
        """Add a column to a table, which changes are then made to."""
        name = rng.choice(self.tables[-2 * GROWN_TABLES :] + self.tables[:1])
        with self._connect() as db:
            number = db.execute(
                "SELECT max(attnum) FROM pg_attribute WHERE attrelid = %s::regclass", (name,)
            ).fetchone()
            if number is not None and number[0] < COLUMNS_ADDED_MAX:
                db.execute(f"ALTER TABLE {name} ADD COLUMN more_{number[0]} text".encode())

    def _work(self, worker: int, rng: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                with self._connect() as db:
                    while not self._stopping.is_set():
                        with db.transaction():
                            for _ in range(rng.choice((1, 1, 2, 5, 40))):
                                change(db, self._table(rng), worker, rng)
                        self._stopping.wait(PAUSE_S)
            except (psycopg.OperationalError, psycopg.errors.DeadlockDetected):
                self._stopping.wait(RECONNECT_S)
            except BaseException as error:
                self.failures.append(error)
                raise

    def _table(self, rng: random.Random) -> str:
        """Half of all changes are of ``accounts``, the others of tables that came last."""
        return "accounts" if rng.random() < 0.5 else rng.choice(self.tables[-GROWN_TABLES:])


def change(db: psycopg.Connection[Any], table: str, worker: int, rng: random.Random) -> None:
    """Insert, update or delete one account of this worker's own."""
    account = worker * ACCOUNTS_PER_WORKER + rng.randrange(ACCOUNTS_PER_WORKER)
    kind = rng.random()
    if kind < 0.2:
        op, statement = "delete", f"DELETE FROM {table} WHERE id = {account} RETURNING id"
    elif kind < 0.6:
        op = "update"
        statement = (
            f"UPDATE {table} SET version = nextval('versions') WHERE id = {account} "
            "RETURNING version"
        )
    else:
        op = "upsert"
        statement = (
            f"INSERT INTO {table} (id, version, note) "
            f"VALUES ({account}, nextval('versions'), '{'n' * rng.choice((0, 10, 3000))}') "
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, note = excluded.note "
            "RETURNING version"
        )
    row = db.execute(statement.encode()).fetchone()
    if row is not None:
        version = "nextval('versions')" if op == "delete" else str(row[0])
        db.execute(
            f"INSERT INTO audit VALUES ({version}, %s, %s, %s)".encode(), (table, account, op)
        )
