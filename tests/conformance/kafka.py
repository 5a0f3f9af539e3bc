"""The case of the source ``kafka``: records of one partition, with transactions between them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record
from tests.services.service import lasting


@cache
def server() -> KafkaServer:
    """One broker for all cases, up to the end of the tests."""
    return lasting(KafkaServer())


class KafkaSourceCase:
    """One partition: between several, no order is promised. Its end is an aborted transaction's,
    which a position must get past."""

    def __init__(self, folder: Path) -> None:
        self._topic = server().new_topic()
        self._count = 0
        for _ in range(3):
            self.more()
        self.options: dict[str, object] = {
            "type": "kafka", "bootstrap": server().bootstrap, "topics": self._topic,
            "batch_bytes_max": 150,
        }  # fmt: skip

    def more(self) -> bool:
        records = [
            Record(b"%d" % n if n % 3 else None, b"x" * n if n % 5 else None, (("n", None),) * n)
            for n in range(self._count, self._count + 4)
        ]
        self._count += 4
        server().produce(self._topic, records[:2])
        server().produce(self._topic, records[2:], transaction="commit")
        server().produce(self._topic, records, transaction="abort")
        return True

    def close(self) -> None:
        server().delete_topic(self._topic)
