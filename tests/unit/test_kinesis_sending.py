"""What the queues of the sink ``kinesis`` hold."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

from connectors.kinesis.client import Service
from connectors.kinesis.config import KinesisSinkConfig
from connectors.kinesis.sending import Sender

RECORDS = 20_000


def test_the_memory_of_many_small_records_of_many_keys_counts() -> None:
    config = KinesisSinkConfig.model_validate(
        {"type": "kinesis", "stream": "s", "region": "eu-central-1", "partition_key": "{key}"}
    )
    service = Service(config)
    with ThreadPoolExecutor(1) as executor:
        sender = Sender(service, "s", 1 << 20, executor, 1, 1.0, lambda _keys: None)
        tracemalloc.start()
        try:
            for number in range(RECORDS):
                sender.add(f"{number:032}", b"%08d" % number)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    service.close()
    assert taken < 1.2 * sender.bytes
    assert sender.bytes < 1.5 * taken
