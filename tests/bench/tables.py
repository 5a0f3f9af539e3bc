"""The same rows in one transaction over a thousand tables, and over one.

Each shape has a server of its own, since a slot reads the whole server's log. Nobody else writes,
so the end of the log is the same for all runs of a shape.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ensign_core.broker import Broker
from tests.bench.measured import Run, finished, ratio, told
from tests.bench.postgres import ROWS, TABLE
from tests.services.postgres import PostgresServer
from tests.services.ready import wait_until

TABLES = 1_000
CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  bench:
    source: {{type: postgres, dsn: "{dsn}", tables: ["public.bench_*"], slot: {slot},
      publication: bench, snapshot: never}}
    topic: "{topic}"
"""
OWN, SHARED = "{table}", "bench"
"""Topics: one per table, one for all."""

SHAPES = ("one", "blockwise", "interleaved")
RUNS = (
    ("one table", "one", OWN),
    ("blockwise, a topic each", "blockwise", OWN),
    ("interleaved, a topic each", "interleaved", OWN),
    ("interleaved, one topic", "interleaved", SHARED),
)
ONE_BY_ONE = """
DO $$ DECLARE row pattern; BEGIN FOR row IN SELECT * FROM pattern ORDER BY id LOOP
  EXECUTE format('INSERT INTO bench_%s SELECT ($1).*', row.id % {tables}) USING row;
END LOOP; END $$
"""
BLOCK = "INSERT INTO bench_{table} SELECT * FROM pattern WHERE id > {first} AND id <= {last}"


def measure(programs: Path, settings: Mapping[str, str], rows: int, times: int) -> None:
    """Run all shapes, alternating, and print the rates with their ratios."""
    found: dict[str, list[Run]] = {name: [] for name, _, _ in RUNS}
    with ExitStack() as running:
        servers = {
            shape: running.enter_context(PostgresServer(programs, settings=settings))
            for shape in SHAPES
        }
        for shape, server in servers.items():
            _fill(server, shape, rows, times * len(RUNS))
        for number in range(times):
            for place, (name, shape, topic) in enumerate(RUNS):
                slot = f"bench_{number * len(RUNS) + place}"
                found[name].append(_ensign(servers[shape], slot, rows, topic))
    print(f"{rows:,} rows of 10 columns in one transaction, {times} times each, alternating")
    for name, runs in found.items():
        print(told(f"ensign, {name}", runs))
    one, *others = found
    for name in others:
        print(ratio(f"rows/s, {name} / {one}", found[name], found[one]))


def _fill(server: PostgresServer, shape: str, rows: int, slots: int) -> None:
    """Make the tables and the slots, then the one transaction that all slots have ahead of them."""
    tables = 1 if shape == "one" else TABLES
    with server.connect() as db:
        db.execute(TABLE.replace("bench", "pattern").encode())
        db.execute(ROWS.replace("bench", "pattern").format(first=1, last=rows).encode())
        for number in range(tables):
            db.execute(TABLE.replace("bench", f"bench_{number}").encode())
        names = ", ".join(f"bench_{number}" for number in range(tables))
        db.execute(f"CREATE PUBLICATION bench FOR TABLE {names}".encode())
        for number in range(slots):
            slot = f"bench_{number}"
            db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        with db.transaction():
            if shape == "interleaved":
                db.execute(ONE_BY_ONE.format(tables=tables).encode())
            for number in range(tables if shape != "interleaved" else 0):
                first, last = number * rows // tables, (number + 1) * rows // tables
                db.execute(BLOCK.format(table=number, first=first, last=last).encode())
        db.execute("CHECKPOINT")


def _ensign(server: PostgresServer, slot: str, rows: int, topic: str) -> Run:
    """`ensign run --until-caught-up` into a new broker, from the moment that the server shows the
    slot in use to the end of the process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "ensign.yaml"
        dsn = server.dsn()
        config.write_text(CONFIG.format(folder=folder, dsn=dsn, slot=slot, topic=topic))
        command = [sys.executable, "-m", "ensign_core.cli", "run", str(config)]
        process = subprocess.Popen([*command, "--until-caught-up"], stderr=subprocess.DEVNULL)
        with server.connect() as db:
            query = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
            began = wait_until(lambda: (db.execute(query, (slot,)).fetchone() or [False])[0], 60)
        cpu_s, rss = finished(process)
        assert process.returncode == 0
        run = Run(rows, time.monotonic() - began, cpu_s, rss)
        with Broker.open(folder / "broker", create=False) as broker:
            events = sum(found.events for found in broker.topics())
        assert events == rows, (events, rows)
    return run
