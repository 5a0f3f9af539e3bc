"""PostgreSQL to a topic to a file, killed at random moments and at every named point, while tables
are made, altered, read for the first time and read again."""

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
from ensign_core.plugin import Signal
from tests.crash.ledger import Verdict, judge
from tests.crash.load import Load, prepare
from tests.crash.victim import POINTS
from tests.services.postgres import PostgresServer

PIPELINE = "shop"
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
START_S_MAX = 20.0
LIFE_S_MAX = 1.5
END_S_MAX = 240.0
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
        points = [*POINTS, *["none"] * len(POINTS)]
        restarted = set(rng.sample(range(kills), restarts))
        for number in range(kills):
            if number % GROW_EVERY == 1:
                load.grow()
            _life(config, points[number % len(points)], rng)
            if number % ALTER_EVERY == 1:
                load.alter(rng)
            if rng.random() < ASKED:
                _ask(folder, rng)
            if number in restarted:
                server.restart("immediate")
    _signal(folder, Signal(0, "resume"))
    ended = _ensign("none", 0, ["run", str(config), "--until-caught-up"])
    _, errors = ended.communicate(timeout=END_S_MAX)
    assert ended.returncode == 0, errors.decode()
    with Broker.open(folder / "broker", create=False) as broker, server.connect(database) as db:
        verdict = judge(db, broker, "shop", sorted(folder.glob("shop*.jsonl")))
    server.drop_database(database)
    return verdict


def _ask(folder: Path, rng: random.Random) -> None:
    """What `ensign snapshot` leaves for a worker to find."""
    _signal(folder, rng.choice(SIGNALS))


def _signal(folder: Path, signal: Signal) -> None:
    with Broker.open(folder / "broker", create=False) as broker:
        broker.signal(PIPELINE, signal)


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
