"""PostgreSQL to a topic to a file, killed at random moments and at every named point."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ensign_core.broker import Broker
from tests.crash.ledger import Verdict, judge
from tests.crash.load import Load, prepare
from tests.crash.victim import POINTS
from tests.services.postgres import PostgresServer

CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  shop:
    source:
      type: postgres
      dsn: {dsn}
      tables: ["public.*"]
      chunk_rows: 300
      batch_bytes_max: 20000
    topic: shop
    sinks:
      lines: {{type: file, path: "{folder}/shop.jsonl", format: json, rotate_bytes_max: 3000000}}
"""
START_S_MAX = 20.0
LIFE_S_MAX = 1.5
END_S_MAX = 120.0


def run(server: PostgresServer, folder: Path, *, kills: int, restarts: int, seed: int) -> Verdict:
    """Kill a worker ``kills`` times, with ``restarts`` immediate restarts of the server among them,
    under load; then let a last one catch up, and judge."""
    print(f"crash: seed {seed}, {kills} kills, {restarts} server restarts", flush=True)
    rng = random.Random(seed)
    database = server.new_database()
    prepare(lambda: server.connect(database))
    config = folder / "ensign.yaml"
    config.write_text(CONFIG.format(folder=folder, dsn=server.dsn(database)))
    load = Load(lambda: server.connect(database), seed)
    load.start()
    try:
        points = [*POINTS, *["none"] * len(POINTS)]
        restarted = set(rng.sample(range(kills), restarts))
        for number in range(kills):
            point = points[number % len(points)]
            _life(config, point, rng)
            if number in restarted:
                server.restart("immediate")
    finally:
        load.stop()
    assert not load.failures
    ended = _ensign("none", 0, ["run", str(config), "--until-caught-up"])
    _, errors = ended.communicate(timeout=END_S_MAX)
    assert ended.returncode == 0, errors.decode()
    with Broker.open(folder / "broker", create=False) as broker, server.connect(database) as db:
        verdict = judge(db, broker, "shop", sorted(folder.glob("shop*.jsonl")))
    server.drop_database(database)
    return verdict


def _ensign(point: str, count: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.victim", point, str(count), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _life(config: Path, point: str, rng: random.Random) -> None:
    """One life of a worker: it dies at its point, or of our SIGKILL some time after it went to
    work, or had not got there in time."""
    began = time.monotonic()
    worker = _ensign(point, rng.choice((1, 2, 5, 20)), ["run", str(config)])
    assert worker.stdout is not None
    select.select([worker.stdout], [], [], START_S_MAX)
    with suppress(subprocess.TimeoutExpired):
        _, errors = worker.communicate(timeout=rng.uniform(0.0, LIFE_S_MAX))
        # It may die by its own hand only, never end by itself.
        assert worker.returncode == -9, errors.decode()
    if worker.returncode is None:
        worker.kill()
        worker.communicate()
    print(f"  {point}: lived {time.monotonic() - began:.2f} s", flush=True)
