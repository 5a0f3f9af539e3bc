"""``python -m tests.crash postgres [--kills N] [--restarts N] [--seed N] [--version V]``"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.crash import postgres
from tests.services.postgres import PostgresServer, installations


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash")
    parser.add_argument("scenario", choices=["postgres"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--version", default=list(installations())[-1])
    options = parser.parse_args()
    programs = installations()[options.version]
    with tempfile.TemporaryDirectory() as folder, PostgresServer(programs) as server:
        verdict = postgres.run(
            server, Path(folder), kills=options.kills, restarts=options.restarts, seed=options.seed
        )
    print(
        f"PostgreSQL {options.version}, {options.kills} kills, {options.restarts} restarts, seed "
        f"{options.seed}: {verdict}"
    )
    for fault in verdict.faults or ["nothing lost, nothing twice in the topic, order kept"]:
        print(f"  {fault}")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
