"""``python -m tests.crash postgres|mysql [--kills N] [--restarts N] [--seed N] [--version V]``"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.crash import mysql, postgres
from tests.crash.ledger import Verdict
from tests.services import mysql_programs
from tests.services import postgres as postgres_services
from tests.services.mysql import MysqlServer
from tests.services.postgres import PostgresServer

DURABLE = {"sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1"}
"""A killed server must not take back what it has sent."""

VERSIONS = {
    "postgres": lambda: list(postgres_services.installations()),
    "mysql": lambda: list(mysql_programs.installations()),
}


def crash(options: argparse.Namespace, folder: Path) -> Verdict:
    """Run one scenario on a server of its own."""
    times = {"kills": options.kills, "restarts": options.restarts, "seed": options.seed}
    if options.scenario == "postgres":
        found = postgres_services.installations()[options.version]
        with PostgresServer(found) as server:
            return postgres.run(server, folder, **times)
    programs = mysql_programs.installations()[options.version]
    with MysqlServer(programs, settings=DURABLE) as server:
        return mysql.run(server, folder, **times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("scenario", choices=list(VERSIONS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--version")
    options = parser.parse_args()
    options.version = options.version or VERSIONS[options.scenario]()[-1]
    with tempfile.TemporaryDirectory() as folder:
        verdict = crash(options, Path(folder))
    print(
        f"{options.scenario} {options.version}, {options.kills} kills, {options.restarts} "
        f"restarts, seed {options.seed}: {verdict}"
    )
    for fault in verdict.faults or ["nothing lost, nothing twice in the topic, order kept"]:
        print(f"  {fault}")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
