"""The crash run that is part of every test run; ``python -m tests.crash`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import kinesis
from tests.services.kinesis import KinesisServer

SEED = 20261125


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("kinesis_here")
def test_nothing_is_lost_and_keys_keep_their_order(tmp_path: Path) -> None:
    with KinesisServer() as server:
        verdict = kinesis.run(server, tmp_path, kills=5, restarts=0, seed=SEED)
    print(verdict)
    assert verdict.faults == []
    assert verdict.records == kinesis.RECORDS
    assert verdict.shards == 5
    assert verdict.throttled
