"""A small shop under load: customers, products and orders that come, change and go."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    email text NOT NULL,
    city text,
    joined timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE shop.products (
    id int PRIMARY KEY, title text NOT NULL, price numeric(10, 2) NOT NULL, stock int NOT NULL
);
CREATE TABLE shop.orders (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    customer int NOT NULL REFERENCES shop.customers,
    product int NOT NULL REFERENCES shop.products,
    quantity int NOT NULL,
    status text NOT NULL,
    note jsonb,
    placed timestamptz NOT NULL DEFAULT now()
);
"""
ORDER = """
WITH taken AS (UPDATE shop.products SET stock = stock - %s WHERE id = %s)
INSERT INTO shop.orders (customer, product, quantity, status, note)
VALUES (%s, %s, %s, 'placed', %s) RETURNING id
"""
FIRST = ("Ada", "Alan", "Barbara", "Emmy", "Edsger", "Frances", "Grace", "Hedy", "Katherine")
LAST = ("Lovelace", "Turing", "Liskov", "Shannon", "Dijkstra", "Allen", "Hopper", "Lamarr")
CITIES = ("Amsterdam", "Berlin", "Helsinki", "Lisbon", "Madrid", "Oslo", "Paris", "Vienna")
NOTES = ('{"gift": true}', '{"gift": false, "wrap": "none"}', None)
TABLES = ("customers", "products", "orders")
CUSTOMERS, PRODUCTS = 2_000, 100
WRITERS = 2
TRANSACTIONS_PER_S = 500
"""What each writer aims at, of one or two rows each."""


def known_name() -> str:
    """A customer's name that the shop surely holds: what to search the disk for."""
    return f"{FIRST[0]} {LAST[0]}"


def seed(dsn: str) -> None:
    """Make the tables and what they hold before the capture begins."""
    import psycopg

    rng = random.Random(7)  # noqa: S311
    with psycopg.connect(dsn) as db, db.cursor() as cursor:
        cursor.execute(SCHEMA)
        names = [known_name()] + [_name(rng) for _ in range(CUSTOMERS - 1)]
        cursor.executemany(
            "INSERT INTO shop.customers (name, email, city) VALUES (%s, %s, %s)",
            [(name, _email(name), rng.choice(CITIES)) for name in names],
        )
        cursor.executemany(
            "INSERT INTO shop.products VALUES (%s, %s, %s, %s)",
            [(i, f"Item {i}", rng.randrange(100, 99_999) / 100, 10_000) for i in range(PRODUCTS)],
        )


def _name(rng: random.Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def _email(name: str) -> str:
    return f"{name.lower().replace(' ', '.')}@example.com"


class Workload:
    """Writers in threads, from `start` to `stop`. ``rows`` counts the changes committed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._stopping = threading.Event()
        self._rows = [0] * WRITERS
        self._threads = [
            threading.Thread(target=self._write, args=(i,), daemon=True) for i in range(WRITERS)
        ]

    @property
    def rows(self) -> int:
        return sum(self._rows)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when the last transaction has committed or rolled back."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        import psycopg

        rng = random.Random(number)  # noqa: S311
        mine: list[int] = []
        began = time.monotonic()
        done = 0
        with psycopg.connect(self._dsn, autocommit=True) as db:
            while not self._stopping.is_set():
                self._rows[number] += _transaction(db, rng, mine)
                done += 1
                self._stopping.wait(began + done / TRANSACTIONS_PER_S - time.monotonic())


def _transaction(db: psycopg.Connection, rng: random.Random, mine: list[int]) -> int:
    """One transaction of the shop, one statement; how many rows it changed."""
    kind = rng.random()
    if kind < 0.5 or len(mine) < 10:
        product, quantity = rng.randrange(PRODUCTS), rng.randrange(1, 5)
        values = (quantity, product, rng.randrange(1, CUSTOMERS), product, quantity)
        row = db.execute(ORDER, (*values, rng.choice(NOTES))).fetchone()
        assert row is not None
        mine.append(row[0])
        return 2
    if kind < 0.85:
        status = rng.choice(["paid", "packed", "shipped", "delivered"])
        order = rng.choice(mine)
        db.execute("UPDATE shop.orders SET status = %s WHERE id = %s", (status, order))
        return 1
    if kind < 0.95:
        order = mine.pop(rng.randrange(len(mine)))
        db.execute("DELETE FROM shop.orders WHERE id = %s", (order,))
        return 1
    name = _name(rng)
    db.execute(
        "INSERT INTO shop.customers (name, email, city) VALUES (%s, %s, %s)",
        (name, _email(name), rng.choice(CITIES)),
    )
    return 1


def captured(dsn: str) -> bool:
    """Whether everything committed so far has been acked by the slot's reader, so is durable."""
    import psycopg

    with psycopg.connect(dsn) as db:
        row = db.execute(
            "SELECT bool_and(confirmed_flush_lsn >= pg_current_wal_insert_lsn()) "
            "FROM pg_replication_slots"
        ).fetchone()
    return row is not None and row[0] is True


def keys(dsn: str, table: str) -> set[str]:
    """The keys that a table of the shop holds now."""
    import psycopg

    with psycopg.connect(dsn) as db:
        return {row[0] for row in db.execute(f"SELECT id::text FROM shop.{table}")}  # noqa: S608
