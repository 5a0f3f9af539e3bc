"""The crash run that is part of every test run; ``python -m tests.crash`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import postgres
from tests.services.postgres import PostgresServer, ends, installations

SEED = 20261123


@pytest.mark.timeout(400)
@pytest.mark.parametrize("version", ends())
def test_nothing_is_lost_and_nothing_comes_twice(version: str, tmp_path: Path) -> None:
    with PostgresServer(installations()[version]) as server:
        verdict = postgres.run(server, tmp_path, kills=20, restarts=2, seed=SEED)
    assert verdict.faults == []
    assert min(verdict.streamed, verdict.snapshots) > 2_000, "too short to mean anything"
