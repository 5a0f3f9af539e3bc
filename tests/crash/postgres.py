"""PostgreSQL to a topic to a file, killed at random moments and at every named point, while tables
are made, altered, read for the first time and read again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from ensign_core.broker import Broker
from ensign_core.plugin import Signal
from tests.crash.ledger import Event, Verdict, judge
from tests.crash.lives import PIPELINE, ask, last_life, live, schedule
from tests.crash.load import Load, prepare
from tests.services.postgres import PostgresServer

CONFIG = f"""\
broker:
  path: {{folder}}/broker
pipelines:
  {PIPELINE}:
    source:
      type: postgres
      dsn: {{dsn}}
      tables: ["public.*"]
      workers: 3
      chunk_rows: 300
      discover_s: 0.3
      batch_bytes_max: 20000
    topic: shop
    sinks:
      lines: {{{{type: file, path: "{{folder}}/shop.jsonl", format: json,
        rotate_bytes_max: 3000000}}}}
"""
GROW_EVERY, ALTER_EVERY = 6, 4
"""Lives between new tables, and between new columns."""
ASKED = 0.5
"""The share of lives in which an operator asks for something."""
SIGNALS = (
    Signal(0, "snapshot", ("public.accounts",)),
    Signal(0, "snapshot", ("public.accounts", "public.more_*")),
    Signal(0, "snapshot", ("public.more_*",), where="id % 3 = 0"),
    Signal(0, "pause"),
    Signal(0, "resume"),
    Signal(0, "resume"),
    Signal(0, "stop"),
)
"""The insert-only table is left alone, so that its rows are there once."""


class Committed:
    """See `tests.crash.ledger.Database`."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def audit(self) -> Iterator[tuple[str, int, int, str]]:
        yield from self._db.execute("SELECT name, account, version, op FROM audit ORDER BY version")

    def tables(self) -> list[str]:
        rows = self._db.execute("SELECT relname FROM pg_stat_user_tables")
        return [row[0] for row in rows if row[0] != "audit"]

    def rows(self, table: str) -> dict[int, Event]:
        rows = self._db.execute(f"SELECT id, to_jsonb(t) FROM {table} t".encode())
        return {row[0]: row[1] for row in rows}

    def place(self, position: str) -> tuple[int, int]:
        high, _, low = position.partition("/")
        return int(high, 16), int(low, 16)


def run(server: PostgresServer, folder: Path, *, kills: int, restarts: int, seed: int) -> Verdict:
    """Kill a worker ``kills`` times, with ``restarts`` immediate restarts of the server among them,
    under load; then let a last one catch up, and judge."""
    print(f"crash: seed {seed}, {kills} kills, {restarts} server restarts", flush=True)
    rng = random.Random(seed)
    database = server.new_database()
    prepare(lambda: server.connect(database))
    config = folder / "ensign.yaml"
    config.write_text(CONFIG.format(folder=folder, dsn=server.dsn(database)))
    with Load(lambda: server.connect(database), seed) as load:
        points = schedule()
        restarted = set(rng.sample(range(kills), restarts))
        for number in range(kills):
            if number % GROW_EVERY == 1:
                load.grow()
            live("postgres", config, points[number % len(points)], rng)
            if number % ALTER_EVERY == 1:
                load.alter(rng)
            if rng.random() < ASKED:
                ask(folder, rng.choice(SIGNALS))
            if number in restarted:
                server.restart("immediate")
    last_life("postgres", folder, config, kills)
    with Broker.open(folder / "broker", create=False) as broker, server.connect(database) as db:
        verdict = judge(Committed(db), broker, "shop", sorted(folder.glob("shop*.jsonl")))
    server.drop_database(database)
    return verdict
