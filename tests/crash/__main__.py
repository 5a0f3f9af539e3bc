"""``python -m tests.crash postgres|mysql|kafka|kinesis [--kills N] [--restarts N] [--seed N]
[--version V]``, and ``python -m tests.crash broker [--histories N] [--seed N] [--jobs N]``"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.crash import broker, kafka, kinesis, mysql, postgres
from tests.services import mysql_programs
from tests.services import postgres as postgres_services
from tests.services.kafka import KafkaServer
from tests.services.kinesis import KinesisServer
from tests.services.mysql import MysqlServer
from tests.services.postgres import PostgresServer

DURABLE = {"sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1"}
"""A killed server must not take back what it has sent."""

VERSIONS: dict[str, Callable[[], list[str]]] = {
    "postgres": lambda: list(postgres_services.installations()),
    "mysql": lambda: list(mysql_programs.installations()),
    "kafka": lambda: ["4"],
    "kinesis": lambda: ["local"],
}

RESTARTS = {"postgres": 2, "mysql": 2, "kafka": 1, "kinesis": 0}
"""How often the server is killed too, unless told otherwise."""


class Verdict(Protocol):
    """What a scenario found."""

    faults: list[str]


def crash(options: argparse.Namespace, folder: Path) -> Verdict:
    """Run one scenario on a server of its own."""
    times = {"kills": options.kills, "restarts": options.restarts, "seed": options.seed}
    if options.scenario == "postgres":
        found = postgres_services.installations()[options.version]
        with PostgresServer(found) as server:
            return postgres.run(server, folder, **times)
    if options.scenario == "kafka":
        with KafkaServer() as server:
            return kafka.run(server, folder, **times)
    if options.scenario == "kinesis":
        with KinesisServer() as streams:
            return kinesis.run(streams, folder, **times)
    programs = mysql_programs.installations()[options.version]
    with MysqlServer(programs, settings=DURABLE) as server:
        return mysql.run(server, folder, **times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("scenario", choices=[*VERSIONS, "broker"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--version")
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.scenario == "broker":
        return told(
            f"broker, seed {options.seed}",
            broker.run(options.histories, options.seed, options.jobs),
        )
    if options.restarts is None:
        options.restarts = RESTARTS[options.scenario]
    options.version = options.version or VERSIONS[options.scenario]()[-1]
    with tempfile.TemporaryDirectory() as folder:
        verdict = crash(options, Path(folder))
    return told(
        f"{options.scenario} {options.version}, {options.kills} kills, {options.restarts} "
        f"restarts, seed {options.seed}",
        verdict,
    )


def told(what: str, verdict: Verdict) -> int:
    """Say what was found; the status to exit with."""
    print(f"{what}: {verdict}")
    for fault in verdict.faults or ["nothing lost, order kept"]:
        print(f"  {fault}")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
