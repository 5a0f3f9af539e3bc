"""The crash run that is part of every test run; ``python -m tests.crash`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import mysql
from tests.services.mysql import MysqlServer
from tests.services.mysql_programs import installations

SEED = 20261125


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["mariadb-10", "mysql-9"])
def test_nothing_is_lost_and_nothing_comes_twice(name: str, tmp_path: Path) -> None:
    if name not in installations():
        pytest.skip(f"{name} is not on this machine")
    # A killed server must not take back what it has sent.
    settings = {"sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1"}
    with MysqlServer(installations()[name], settings=settings) as server:
        verdict = mysql.run(server, tmp_path, kills=20, restarts=2, seed=SEED)
    assert verdict.faults == []
    assert min(verdict.streamed, verdict.snapshots) > 2_000, "too short to mean anything"
