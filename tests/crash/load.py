"""A write load whose every change can be told apart, so that a ledger can be kept."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg

TABLES = """
CREATE TABLE audit (version bigint PRIMARY KEY, worker int, account int, op text);
CREATE TABLE accounts (id int PRIMARY KEY, version bigint NOT NULL, note text);
ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
CREATE SEQUENCE versions;
"""
WORKERS = 3
ACCOUNTS_PER_WORKER = 200
RECONNECT_S = 0.05
PAUSE_S = 0.004
"""Between transactions: the machine has to run the server and the worker too."""

Connect = Callable[[], psycopg.Connection[Any]]


def prepare(connect: Connect) -> None:
    """Make the tables, with rows that a snapshot has to read."""
    with connect() as db:
        db.execute(TABLES)
        db.execute(
            "INSERT INTO accounts SELECT i, nextval('versions'), repeat('x', 3000) "
            "FROM generate_series(0, %s) AS i WHERE i %% 3 <> 0",
            (WORKERS * ACCOUNTS_PER_WORKER - 1,),
        )


class Load:
    """Workers in threads. Each change of ``accounts`` takes a new version and writes it into
    ``audit`` in the same transaction: what the database holds in the end is the ledger, whatever
    became of a commit whose answer was lost."""

    def __init__(self, connect: Connect, seed: int) -> None:
        self._connect = connect
        self._stopping = threading.Event()
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(i, random.Random(seed * 1000 + i)))
            for i in range(WORKERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, worker: int, rng: random.Random) -> None:
        while not self._stopping.is_set():
            try:
                with self._connect() as db:
                    while not self._stopping.is_set():
                        with db.transaction():
                            for _ in range(rng.choice((1, 1, 2, 5, 40))):
                                change(db, worker, rng)
                        self._stopping.wait(PAUSE_S)
            except psycopg.OperationalError:
                self._stopping.wait(RECONNECT_S)
            except BaseException as error:
                self.failures.append(error)
                raise


def change(db: psycopg.Connection[Any], worker: int, rng: random.Random) -> None:
    """Insert, update or delete one account of this worker's own."""
    account = worker * ACCOUNTS_PER_WORKER + rng.randrange(ACCOUNTS_PER_WORKER)
    kind = rng.random()
    if kind < 0.2:
        changed = db.execute("DELETE FROM accounts WHERE id = %s RETURNING id", (account,))
        op = "delete"
    elif kind < 0.6:
        changed = db.execute(
            "UPDATE accounts SET version = nextval('versions') WHERE id = %s RETURNING version",
            (account,),
        )
        op = "update"
    else:
        changed = db.execute(
            "INSERT INTO accounts VALUES (%s, nextval('versions'), %s) "
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version, note = excluded.note "
            "RETURNING version",
            (account, "n" * rng.choice((0, 10, 3000))),
        )
        op = "upsert"
    row = changed.fetchone()
    if row is not None:
        version = "nextval('versions')" if op == "delete" else str(row[0])
        db.execute(
            f"INSERT INTO audit VALUES ({version}, %s, %s, %s)".encode(), (worker, account, op)
        )
