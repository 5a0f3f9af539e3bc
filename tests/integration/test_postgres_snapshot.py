"""Snapshots of the PostgreSQL source meet its stream exactly: under a concurrent load, with a
restart at every batch, and in the corners where the two could miss each other."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from connectors.postgres.position import decode
from tests.conftest import Database
from tests.services.postgres_capture import Capture, captures, fold

pytestmark = pytest.mark.every_version

SEED = int(os.environ.get("ENSIGN_SEED") or random.randrange(1 << 32))
LONG = "repeat(md5(random()::text), 150)"

COLUMNS = "id, part, v, note"
PLANS = {
    "int": "id int PRIMARY KEY, part int NOT NULL, v int, note text",
    "composite": "id int, part int, v int, note text, PRIMARY KEY (part, id)",
    "text": 'id varchar COLLATE "C" PRIMARY KEY, part int, v int, note text',
    "unordered": "id varchar PRIMARY KEY, part int, v int, note text",
    "full": "id int PRIMARY KEY, part int NOT NULL, v int, note text",
}


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's database; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", workers=3)


class Load:
    """Writers that change a table at random until they are stopped: inserts, updates that leave a
    long value alone, moved keys, deletes, savepoints, rollbacks, and truncates where asked."""

    def __init__(self, database: Database, seed: int, *, writers: int, truncates: bool) -> None:
        self._database = database
        self._truncates = truncates
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self._permits = threading.Semaphore(0)
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(seed + n),))
            for n in range(writers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert self.failures == []

    def go_on(self) -> None:
        """Allow a few transactions more, so that the load keeps step with the reader."""
        self._permits.release(6)

    def _write(self, dice: random.Random) -> None:
        try:
            with self._database.server.connect(self._database.name) as connection:
                while not self._stop.is_set():
                    if self._permits.acquire(timeout=0.1):
                        self._transaction(connection, dice)
        except BaseException as failure:
            self.failures.append(failure)
            raise

    def _transaction(self, connection: psycopg.Connection[Any], dice: random.Random) -> None:
        try:
            with connection.transaction():
                for _ in range(dice.choice((1, 1, 1, 3, 12))):
                    connection.execute(self._statement(dice).encode())
                if dice.random() < 0.05:
                    raise psycopg.Rollback
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            return

    def _statement(self, dice: random.Random) -> str:
        key, other, n = dice.randrange(400), dice.randrange(400), dice.randrange(1000)
        kind = dice.random()
        if self._truncates and kind < 0.004:
            return "TRUNCATE t"
        if kind < 0.3:
            note = LONG if dice.random() < 0.4 else "'short'"
            return f"INSERT INTO t VALUES ('{key}', {key % 3}, {n}, {note}) ON CONFLICT DO NOTHING"
        if kind < 0.6:
            return f"UPDATE t SET v = {n} WHERE id = '{key}'"
        if kind < 0.8:
            return f"UPDATE t SET id = '{other}', part = {other % 3}, v = {n} WHERE id = '{key}'"
        return f"DELETE FROM t WHERE id = '{key}'"


def filled(database: Database, plan: str) -> None:
    database.run(
        f"CREATE TABLE t ({PLANS[plan]})",
        "INSERT INTO t SELECT g, g % 3, 0, CASE WHEN g % 4 = 0 THEN "
        f"{LONG} ELSE 'short' END FROM generate_series(0, 399, 2) g",
    )
    if plan == "full":
        database.run("ALTER TABLE t REPLICA IDENTITY FULL")


def settled(capture: Capture) -> bool:
    """Whether the snapshot is over as far as is durable."""
    return capture.position is not None and not decode(capture.position).snapshots.tables


def assert_equal_to_table(database: Database, capture: Capture) -> None:
    """The state folded from the events is the table's, value by value."""
    rows = database.run("SELECT id::text, part::text, v::text, note FROM t ORDER BY 1")
    state = [(s["id"], s["part"], s["v"], s["note"]) for s in fold(capture.seen).values()]
    assert sorted(state, key=str) == sorted(rows, key=str)


def assert_ordered(capture: Capture) -> None:
    """No change of a transaction comes twice, and ordinals rise within each."""
    places = [(e.tx.id, e.ordinal) for e in capture.seen if e.tx is not None and e.tx.id]
    assert len(set(places)) == len(places)
    last: dict[str | None, int] = {}
    for tx, ordinal in places:
        assert ordinal > last.get(tx, -1)
        last[tx] = ordinal


@pytest.mark.parametrize(
    ("plan", "reopen_each", "truncates"),
    [
        ("int", 1, False),
        ("int", 1, True),
        ("composite", 0, True),
        ("composite", 2, False),
        ("text", 1, True),
        ("full", 1, False),
        ("full", 0, True),
        ("unordered", 25, True),
    ],
)
def test_snapshot_meets_stream_under_load(
    database: Database,
    capture: Callable[..., Capture],
    plan: str,
    reopen_each: int,
    truncates: bool,
) -> None:
    print(f"seed {SEED}")
    filled(database, plan)
    one = capture(tables=["public.t"], chunk_rows=7, batch_bytes_max=40_000)
    with Load(database, SEED, writers=2, truncates=truncates) as load:
        one.open()
        if plan == "unordered":
            # Before the load, which may truncate the table to less than is held back.
            one.until(lambda: bool(one.held))
            load.go_on()
            one.open()
        one.until(lambda: settled(one), reopen_each=reopen_each, meanwhile=load.go_on)
        seen = len(one.seen)
        one.until(lambda: len(one.seen) > seen + 200, meanwhile=load.go_on)
    one.caught_up()
    assert_ordered(one)
    assert_equal_to_table(database, one)
