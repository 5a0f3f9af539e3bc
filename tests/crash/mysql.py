"""MySQL or MariaDB to a topic to a file, killed at random moments and at every named point, while
tables come, are altered, read for the first time and read again, and the log rotates."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pymysql.cursors

from ensign_core.broker import Broker
from ensign_core.plugin import Signal
from tests.crash.ledger import Event, Verdict, judge
from tests.crash.lives import PIPELINE, ask, last_life, live, schedule
from tests.crash.load_mysql import Load
from tests.services.mysql import CDC, MysqlServer

CONFIG = f"""\
broker:
  path: {{folder}}/broker
pipelines:
  {PIPELINE}:
    source:
      type: mysql
      host: {{host}}
      port: {{port}}
      user: {CDC}
      password: {CDC}
      databases: ["{{database}}"]
      chunk_rows: 300
      batch_bytes_max: 20000
    topic: shop
    sinks:
      lines: {{{{type: file, path: "{{folder}}/shop.jsonl", format: json,
        rotate_bytes_max: 3000000}}}}
"""
GROW_EVERY, ALTER_EVERY, ROTATE_EVERY = 6, 4, 3
"""Lives between new tables, new columns, and new files of the log."""
ASKED = 0.5
"""The share of lives in which an operator asks for something."""


def signals(database: str) -> tuple[Signal, ...]:
    """What an operator asks for. The insert-only table is left alone, so that its rows are there
    once."""
    accounts, more = f"{database}.accounts", f"{database}.more_*"
    return (
        Signal(0, "snapshot", (accounts,)),
        Signal(0, "snapshot", (accounts, more)),
        Signal(0, "snapshot", (more,), where="id % 3 = 0"),
        Signal(0, "pause"),
        Signal(0, "resume"),
        Signal(0, "resume"),
        Signal(0, "stop"),
    )


class Committed:
    """See `tests.crash.ledger.Database`."""

    def __init__(self, server: MysqlServer, database: str) -> None:
        self._server = server
        self._database = database

    def audit(self) -> Iterator[tuple[str, int, int, str]]:
        query = "SELECT name, account, version, op FROM audit ORDER BY version"
        yield from self._server.run(query, database=self._database)

    def tables(self) -> list[str]:
        rows = self._server.run("SHOW TABLES", database=self._database)
        return [row[0] for row in rows if row[0] != "audit"]

    def rows(self, table: str) -> dict[int, Event]:
        with (
            self._server.connect(self._database) as db,
            db.cursor(pymysql.cursors.DictCursor) as cursor,
        ):
            cursor.execute(f"SELECT * FROM {table}")
            return {row["id"]: row for row in cursor.fetchall()}

    def place(self, position: str) -> tuple[int, int]:
        file, _, offset = position.partition(":")
        return int(file.rpartition(".")[2]), int(offset)


def run(server: MysqlServer, folder: Path, *, kills: int, restarts: int, seed: int) -> Verdict:
    """Kill a worker ``kills`` times, with ``restarts`` of the server, killed too, among them, under
    load; then let a last one catch up, and judge."""
    print(f"crash: seed {seed}, {kills} kills, {restarts} server restarts", flush=True)
    rng = random.Random(seed)
    database = server.new_database()
    load = Load(server, database, seed)
    load.prepare()
    config = folder / "ensign.yaml"
    config.write_text(
        CONFIG.format(folder=folder, host=server.host, port=server.port, database=database)
    )
    with load:
        points = schedule()
        restarted = set(rng.sample(range(kills), restarts))
        for number in range(kills):
            if number % GROW_EVERY == 1:
                load.grow()
            live("mysql", config, points[number % len(points)], rng)
            if number % ALTER_EVERY == 1:
                load.alter(rng)
            if number % ROTATE_EVERY == 1:
                server.rotate()
            if rng.random() < ASKED:
                ask(folder, rng.choice(signals(database)))
            if number in restarted:
                server.restart("kill")
    last_life("mysql", folder, config, kills)
    with Broker.open(folder / "broker", create=False) as broker:
        verdict = judge(
            Committed(server, database), broker, "shop", sorted(folder.glob("shop*.jsonl"))
        )
    server.drop_database(database)
    return verdict
