"""Kafka to topics to Kafka, in transactions there, killed at random moments and at every named
point, and the broker with it: the copy is the same, byte by byte, in order, exactly once."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from confluent_kafka import KafkaException

from ensign_core.broker import Broker
from tests.crash.lives import PIPELINE, last_life, live, schedule
from tests.crash.records import differences, odd_record
from tests.crash.victim import SNAPSHOT_READ
from tests.crash.writing import Writing
from tests.services.kafka import KafkaServer

CONFIG = f"""\
broker:
  path: {{folder}}/broker
pipelines:
  {PIPELINE}:
    source:
      type: kafka
      bootstrap: "{{bootstrap}}"
      topics: ["^crash[.]"]
      batch_bytes_max: 100000
    topic: "{{{{topic}}}}"
    sinks:
      copy:
        type: kafka
        bootstrap: "{{bootstrap}}"
        topic: "copy.{{{{topic}}}}"
        format: raw
        transactional: true
        create: {{{{partitions: {{partitions}}}}}}
"""
TOPICS: Final = ("crash.orders", "crash.lines")
PARTITIONS: Final = 3
RECORDS: Final = 50_000
CHUNK_RECORDS: Final = 500
FATES: Final[tuple[Literal["commit", "abort"] | None, ...]] = (None, None, "commit", "abort")


@dataclass
class Verdict:
    """What was compared, and what is wrong: ``faults`` is empty when all is well."""

    records: int = 0
    kept: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.records} records in, {self.kept} events kept, compared byte by byte"


class Load(Writing):
    """Writes records, some in transactions, some of those aborted, until
    there are ``total``; what a broker that died did not take is not counted."""

    def __init__(self, server: KafkaServer, total: int, seed: int) -> None:
        super().__init__()
        self._server = server
        self._total = total
        self._rng = random.Random(seed)

    def write(self) -> None:
        written = 0
        while written < self._total:
            fate = self._rng.choice(FATES)
            chunk = [odd_record(self._rng, written + n, PARTITIONS) for n in range(CHUNK_RECORDS)]
            with suppress(KafkaException, AssertionError):
                self._server.produce(self._rng.choice(TOPICS), chunk, transaction=fate)
                written += 0 if fate == "abort" else len(chunk)


def run(
    server: KafkaServer,
    folder: Path,
    *,
    kills: int,
    restarts: int,
    seed: int,
    records: int = RECORDS,
) -> Verdict:
    """Kill a worker ``kills`` times, with ``restarts`` of the broker, killed too, among them, under
    load; then let a last one catch up, and compare."""
    print(f"crash: seed {seed}, {kills} kills, {restarts} broker restarts", flush=True)
    rng = random.Random(seed)
    for topic in TOPICS:
        server.create_topic(topic, PARTITIONS)
    config = folder / "ensign.yaml"
    config.write_text(
        CONFIG.format(folder=folder, bootstrap=server.bootstrap, partitions=PARTITIONS)
    )
    points = [point for point in schedule() if point != SNAPSHOT_READ]
    restarted = set(rng.sample(range(kills), restarts))
    with Load(server, records, seed):
        for number in range(kills):
            live("kafka", config, points[number % len(points)], rng)
            if number in restarted:
                server.restart("kill")
    last_life("kafka", folder, config, kills)
    return judge(server, folder)


def judge(server: KafkaServer, folder: Path) -> Verdict:
    verdict = Verdict()
    with Broker.open(folder / "broker", create=False) as broker:
        kept = Counter({topic.name: topic.events for topic in broker.topics()})
    for topic in TOPICS:
        expected = server.consume(topic)
        verdict.records += len(expected)
        verdict.kept += kept[topic]
        if kept[topic] != len(expected):
            verdict.faults.append(f"{topic}: {kept[topic]} events kept of {len(expected)} records")
        verdict.faults += differences(topic, expected, server.consume(f"copy.{topic}"))
    return verdict
