"""The rows that are there already: our initial snapshot beside COPY to /dev/null, and Debezium's.

Each run of ours makes its own slot and publication. The clock of every run goes from the start of
its process to its end; Debezium's as `tests.bench.rival_debezium` says, without its start.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ensign_core.broker import Broker
from tests.bench import rival_debezium
from tests.bench.measured import Run, finished, ratio, told
from tests.bench.postgres import RIVAL_HEAP, ROWS, TABLE
from tests.services.postgres import PostgresServer

CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  bench:
    source: {{type: postgres, dsn: "{dsn}", tables: [public.bench], slot: {slot},
      publication: {slot}, snapshot: only, workers: {workers}}}
"""
RIVAL_SLOT = "rival"
TIMEOUT_S = 600.0


def measure(server: PostgresServer, rows: int, times: int, *, workers: int, rival: bool) -> None:
    """Run all of them, alternating, and print the rates with their ratios."""
    database = server.new_database()
    with server.connect(database) as db:
        db.execute(TABLE)
        db.execute(ROWS.format(first=1, last=rows).encode())
        db.execute("VACUUM (FREEZE, ANALYZE) bench")
        db.execute("CHECKPOINT")
        db.execute("CREATE PUBLICATION bench FOR TABLE bench")
    limit, ours, theirs = [], [], []
    for number in range(times):
        limit.append(_copy(server, database, rows))
        ours.append(_ensign(server, database, rows, workers, f"bench_{number}"))
        if rival:
            theirs.append(_debezium(server, database, rows))
    print(f"the {rows:,} rows of a table of 10 columns, {times} times each, alternating")
    print(told("COPY TO STDOUT to /dev/null", limit))
    print(told(f"ensign, snapshot by {workers} workers", ours))
    if theirs:
        print(told("Debezium embedded engine, dropped", theirs))
    print(ratio("rows/s, ensign / COPY", ours, limit))
    if theirs:
        print(ratio("rows/s, ensign / Debezium", ours, theirs))
        print(ratio("CPU per row, ensign / Debezium", ours, theirs, of_cpu=True))
    server.drop_database(database)


def _timed(command: list[str], rows: int) -> Run:
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cpu_s, rss = finished(process)
    assert process.returncode == 0
    return Run(rows, time.monotonic() - began, cpu_s, rss)


def _copy(server: PostgresServer, database: str, rows: int) -> Run:
    """The limit: one COPY of the whole table through psql."""
    psql = [str(server.programs / "psql"), "-X", "-d", server.dsn(database)]
    return _timed([*psql, "-c", "COPY bench TO STDOUT"], rows)


def _ensign(server: PostgresServer, database: str, rows: int, workers: int, slot: str) -> Run:
    """Us: `ensign run` of a pipeline that captures the rows only, into a new broker."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "ensign.yaml"
        dsn = server.dsn(database)
        config.write_text(CONFIG.format(folder=folder, dsn=dsn, slot=slot, workers=workers))
        run = _timed([sys.executable, "-m", "ensign_core.cli", "run", str(config)], rows)
        with Broker.open(folder / "broker", create=False) as broker:
            (topic,) = broker.topics()
        assert topic.events == rows, (topic.events, rows)
    with server.connect(database) as db:
        db.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    return run


def _debezium(server: PostgresServer, database: str, rows: int) -> Run:
    """The rival: its initial snapshot, in JSON, results dropped."""
    with server.connect(database) as db:
        db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (RIVAL_SLOT,))
    result = rival_debezium.stream(
        "127.0.0.1", server.port, database, "postgres", "postgres", RIVAL_SLOT, "bench",
        "public.bench", rows, TIMEOUT_S, heap_max=RIVAL_HEAP,
        tuning={**rival_debezium.RAISED, "snapshot.mode": "initial"},
    )  # fmt: skip
    with server.connect(database) as db:
        db.execute("SELECT pg_drop_replication_slot(%s)", (RIVAL_SLOT,))
    return Run(rows, result.seconds, result.cpu_s, result.rss_max_bytes)
