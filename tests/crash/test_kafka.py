"""The crash run that is part of every test run; ``python -m tests.crash`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import kafka
from tests.services.kafka import KafkaServer

SEED = 20261125


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("kafka_here")
def test_the_copy_is_the_same(tmp_path: Path) -> None:
    with KafkaServer() as server:
        verdict = kafka.run(server, tmp_path, kills=20, restarts=1, seed=SEED)
    assert verdict.faults == []
    assert verdict.records >= kafka.RECORDS
