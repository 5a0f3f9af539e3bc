"""``python -m tests.bench postgres``: from a server's log into a durable encrypted topic.

Every run streams what was committed before it starts, from a slot of its own. The clock runs from
the moment that the server shows the slot in use to the end of the process; CPU and peak RSS are the
process's own, its start included.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import psycopg

from ensign_core.broker import Broker
from tests.bench import latency, rival_debezium
from tests.bench.measured import Run, finished, ratio, told
from tests.services.postgres import PostgresServer, installations
from tests.services.ready import wait_until

TABLE = """
CREATE TABLE bench (
    id bigint PRIMARY KEY, number int, title text, price numeric(12, 2), placed timestamptz,
    paid boolean, token uuid, detail jsonb, weight double precision, code varchar(20)
)
"""
ROWS = """
INSERT INTO bench SELECT i, i % 1000, 'title of row ' || i, (i % 100000) / 100.0,
    timestamptz '2026-11-23' + i * interval '1 second', i % 2 = 0,
    md5(i::text)::uuid, jsonb_build_object('n', i), i / 7.0, 'code' || i % 10000
FROM generate_series({first}, {last}) AS i
"""
CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  bench:
    source: {{type: postgres, dsn: "{dsn}", tables: [public.bench], slot: {slot},
      publication: bench, snapshot: never}}
"""
PUBLICATION = "bench"
SHAPES = ("one", "large", "many", "snapshot", "tables", "latency")
ONE_TRANSACTION = "rows of 10 columns in one transaction"
SETTINGS = {"fsync": "on", "max_replication_slots": "40", "max_wal_size": "8GB"}
TIMEOUT_S = 600.0
RIVAL_HEAP = "1g"
RIVAL_ROWS_MAX = 1_000_000


class Bench:
    """A server with a slot per run, made before the rows that all of them read."""

    def __init__(self, server: PostgresServer, runs: int) -> None:
        self.server = server
        self.database = server.new_database()
        self.slots = [f"bench_{i}" for i in range(runs)]
        with self.connect() as db:
            db.execute(TABLE)
            db.execute("CREATE PUBLICATION bench FOR TABLE bench")
            for slot in self.slots:
                db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))

    def connect(self) -> psycopg.Connection[Any]:
        return self.server.connect(self.database)

    def one_transaction(self, rows: int) -> None:
        with self.connect() as db:
            db.execute(ROWS.format(first=1, last=rows).encode())
            db.execute("CHECKPOINT")

    def many_transactions(self, rows: int) -> None:
        each = ROWS.format(first="n", last="n")
        with self.connect() as db:
            db.execute("SET synchronous_commit = off")
            db.execute(
                f"DO $$ BEGIN FOR n IN 1..{rows} LOOP {each}; COMMIT; END LOOP; END $$".encode()
            )
            db.execute("CHECKPOINT")

    def end(self) -> str:
        with self.connect() as db:
            row = db.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
        assert row is not None
        return str(row[0])

    def drop(self, slot: str) -> None:
        with self.connect() as db:
            db.execute("SELECT pg_drop_replication_slot(%s)", (slot,))

    def _run(self, command: list[str], slot: str, rows: int) -> Run:
        """From the moment that the server shows the slot in use to the end of the process."""
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        with self.connect() as db:
            query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
            began = wait_until(lambda: (db.execute(query, (slot,)).fetchone() or [False])[0], 30)
        cpu_s, rss = finished(process)
        assert process.returncode == 0
        return Run(rows, time.monotonic() - began, cpu_s, rss)

    def receive(self, slot: str, rows: int, end: str) -> Run:
        """The limit: pg_recvlogical to /dev/null."""
        command = [
            str(self.server.programs / "pg_recvlogical"), "-d", self.server.dsn(self.database),
            "--slot", slot, "--start", "--no-loop", "-f", "/dev/null", "--endpos", end,
            "-o", "proto_version=1", "-o", f"publication_names={PUBLICATION}",
        ]  # fmt: skip
        return self._run(command, slot, rows)

    def ensign(self, slot: str, rows: int) -> Run:
        """Us: `ensign run --until-caught-up` into a new broker."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = folder / "ensign.yaml"
            config.write_text(
                CONFIG.format(folder=folder, dsn=self.server.dsn(self.database), slot=slot)
            )
            command = [sys.executable, "-m", "ensign_core.cli", "run", str(config)]
            run = self._run([*command, "--until-caught-up"], slot, rows)
            with Broker.open(folder / "broker", create=False) as broker:
                (topic,) = broker.topics()
            assert topic.events == rows, (topic.events, rows)
        return run

    def debezium(self, slot: str, rows: int) -> Run:
        """The rival: Debezium's embedded engine, JSON, results dropped."""
        result = rival_debezium.stream(
            "127.0.0.1", self.server.port, self.database, "postgres", "postgres", slot,
            PUBLICATION, "public.bench", rows, TIMEOUT_S, heap_max=RIVAL_HEAP,
        )  # fmt: skip
        return Run(rows, result.seconds, result.cpu_s, result.rss_max_bytes)


def compare(server: PostgresServer, title: str, rows: int, times: int, options: Namespace) -> None:
    """Runs of one shape, alternating; prints them with their ratios."""
    many = options.shape == "many"
    with_rival = options.debezium and rows <= RIVAL_ROWS_MAX
    bench = Bench(server, times * (3 if with_rival else 2))
    (bench.many_transactions if many else bench.one_transaction)(rows)
    end = bench.end()
    limit: list[Run] = []
    ours: list[Run] = []
    rival: list[Run] = []
    slots = iter(bench.slots)
    for _ in range(times):
        limit.append(bench.receive(next(slots), rows, end))
        ours.append(bench.ensign(next(slots), rows))
        if with_rival:
            rival.append(bench.debezium(next(slots), rows))
    print(f"{title}, {times} times each, alternating")
    print(told("pg_recvlogical to /dev/null", limit))
    print(told("ensign, to durable encrypted topic", ours))
    if rival:
        print(told("Debezium embedded engine, dropped", rival))
    print(ratio("rows/s, ensign / pg_recvlogical", ours, limit))
    if rival:
        print(ratio("rows/s, ensign / Debezium", ours, rival))
        print(ratio("CPU per row, ensign / Debezium", ours, rival, of_cpu=True))
    server.drop_database(bench.database)


def main(arguments: list[str]) -> None:
    # They take the table and the rows from here.
    from tests.bench import snapshot, tables

    parser = ArgumentParser(prog="python -m tests.bench postgres")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=SHAPES, action="append")
    parser.add_argument("--workers", type=int, default=2, help="connections of a snapshot")
    parser.add_argument("--debezium", action="store_true", help="run Debezium too (Java, Maven)")
    parser.add_argument("--version", default=list(installations())[-1])
    options = parser.parse_args(arguments)
    if options.debezium:
        missing = rival_debezium.available()
        if missing:
            parser.error(missing)
        rival_debezium.build()
    programs = installations()[options.version]
    rows, times = options.rows, options.times
    with PostgresServer(programs, settings=SETTINGS) as server:
        for shape in options.only or SHAPES:
            options.shape = shape
            if shape == "one":
                compare(server, f"{rows:,} {ONE_TRANSACTION}", rows, times, options)
            elif shape == "large":
                compare(server, f"{5 * rows:,} {ONE_TRANSACTION}", 5 * rows, 1, options)
            elif shape == "many":
                title = f"{rows // 10:,} rows in as many transactions"
                compare(server, title, rows // 10, times, options)
            elif shape == "snapshot":
                snapshot.measure(
                    server, 2 * rows, times, workers=options.workers, rival=options.debezium
                )
            elif shape == "tables":
                tables.measure(programs, SETTINGS, rows, times)
            else:
                latency.measure(server)
