"""The cases of the sink ``kafka``: at least once, and in transactions."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conformance.kafka import server


class KafkaSinkCase:
    """One partition: between several, no order is promised."""

    transactional = False

    def __init__(self, folder: Path) -> None:
        self._topic = server().new_topic()
        self._ledger = f"{self._topic}.offsets"
        self.options: dict[str, object] = {
            "type": "kafka", "bootstrap": server().bootstrap, "topic": self._topic,
            "format": "json", "transactional": self.transactional, "ledger": self._ledger,
        }  # fmt: skip

    def delivered(self) -> list[tuple[str, int]]:
        events = [json.loads(record.value or b"") for record in server().consume(self._topic)]
        return [(event["topic"], event["offset"]) for event in events]

    def close(self) -> None:
        server().delete_topic(self._topic)
        if self._ledger in server().topics():
            server().delete_topic(self._ledger)


class KafkaTransactionsCase(KafkaSinkCase):
    transactional = True
