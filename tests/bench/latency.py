"""From the commit at the server to the sync of the topic, under a steady rate of transactions."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ensign_core.change import Batch
from tests.services.postgres import PostgresServer

RATE, SECONDS, CLIENTS, WARM_S = 2_000, 20, 8, 3.0
TABLE = "CREATE TABLE ticks (id bigserial PRIMARY KEY, at timestamptz DEFAULT now(), note text)"
SCRIPT = "INSERT INTO ticks (note) VALUES ('a transaction of one row');\n"
CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  ticks:
    source: {{type: postgres, dsn: "{dsn}", tables: [public.ticks], snapshot: never}}
"""


def measure(server: PostgresServer) -> None:
    """Run the load and the worker, each in a process of its own, and print the percentiles."""
    database = server.new_database()
    with server.connect(database) as db:
        db.execute(TABLE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, script = folder / "ensign.yaml", folder / "script.sql"
        config.write_text(CONFIG.format(folder=folder, dsn=server.dsn(database)))
        script.write_text(SCRIPT)
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.latency", str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        assert worker.stdin is not None
        worker.stdout.readline()
        load = subprocess.run(
            [
                str(server.programs / "pgbench"), "-n", "-f", str(script), "-R", str(RATE),
                "-c", str(CLIENTS), "-T", str(SECONDS), server.dsn(database),
            ],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        answer = json.loads(worker.communicate(b"\n")[0])
    server.drop_database(database)
    tps = next(line for line in load.stdout.splitlines() if line.startswith("tps"))
    print(f"{RATE:,} transactions/s for {SECONDS} s (pgbench, {CLIENTS} clients: {tps})")
    print(
        f"  commit to durable: p50 {answer['p50']:.1f} ms, p99 {answer['p99']:.1f} ms, "
        f"max {answer['max']:.1f} ms over {answer['transactions']:,} transactions"
    )


def worker(config: Path) -> None:
    """The worker's process: a pipeline whose batches are timed, until a line on standard input."""
    from ensign_core.cli.options import load_config, open_configured
    from ensign_core.cli.pipelines import plan
    from ensign_core.run.pipeline import Pipeline

    latencies: list[int] = []
    warm_at = time.monotonic() + WARM_S
    streaming = threading.Event()

    def observe(batch: Batch, synced_us: int) -> None:
        streaming.set()
        if time.monotonic() > warm_at:
            latencies.extend(synced_us - (run.tx.committed_at or 0) for run in batch.runs)

    loaded = load_config(config)
    with open_configured(loaded.broker, create=True) as broker:
        pipeline = Pipeline(broker, plan("ticks", loaded.pipelines["ticks"]), observer=observe)
        runner = threading.Thread(target=pipeline.run)
        runner.start()
        streaming.wait()
        print("ready", flush=True)
        sys.stdin.readline()
        pipeline.stop()
        runner.join()
    latencies.sort()
    count = len(latencies)
    answer = {
        "p50": latencies[count // 2] / 1e3,
        "p99": latencies[count * 99 // 100] / 1e3,
        "max": latencies[-1] / 1e3,
        "transactions": count,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
