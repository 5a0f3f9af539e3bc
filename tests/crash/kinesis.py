"""Kinesis to a topic to Kinesis, killed at random moments and at every named point, while shards
split and merge and both streams throttle: nothing lost, order per key kept, repeats counted."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.lives import PIPELINE, last_life, live, schedule
from tests.crash.victim import SNAPSHOT_READ
from tests.crash.writing import Writing
from tests.services.kinesis import ACCESS_KEY, REGION, KinesisServer
from tests.services.kinesis_proxy import THROTTLED

CONFIG = f"""\
broker:
  path: {{folder}}/broker
pipelines:
  {PIPELINE}:
    source: {{{{type: kinesis, stream: {{source}}, {{connection}}}}}}
    topic: crash
    sinks:
      copy: {{{{type: kinesis, stream: {{target}}, format: raw, partition_key: "{{{{key}}}}",
        {{connection}}}}}}
"""
KEYS: Final = 40
CHUNK_RECORDS: Final = 50
RECORDS: Final = 3_000
THROTTLED_SHARE: Final = 0.15


@dataclass
class Verdict:
    """What was compared, and what is wrong: ``faults`` is empty when all is well."""

    records: int = 0
    copies: int = 0
    shards: int = 0
    throttled: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def repeats(self) -> int:
        return self.copies - self.records

    def __str__(self) -> str:
        return (
            f"{self.records} records in over {self.shards} shards, {self.copies} out "
            f"({self.repeats} repeats), {self.throttled} answers throttled"
        )


class Load(Writing):
    """Writes records, numbered by key, in order per key; splits a shard
    and merges two on the way."""

    def __init__(self, server: KinesisServer, stream: str, total: int, seed: int) -> None:
        super().__init__()
        self._server = server
        self._stream = stream
        self._total = total
        self._rng = random.Random(seed)
        self.numbers: defaultdict[str, int] = defaultdict(int)

    def write(self) -> None:
        chunks = self._total // CHUNK_RECORDS
        for chunk in range(chunks):
            if chunk in (chunks // 4, chunks // 2):
                self._reshard(merge=chunk == chunks // 2)
            keys = self._rng.choices([f"key-{n}" for n in range(KEYS)], k=CHUNK_RECORDS)
            self._server.put(self._stream, [(key, self._data(key)) for key in keys])

    def _data(self, key: str) -> bytes:
        self.numbers[key] += 1
        return b"%d %b" % (self.numbers[key], self._rng.randbytes(self._rng.randrange(200)))

    def _reshard(self, *, merge: bool) -> None:
        shards = self._server.shards(self._stream, are_open=True)
        if not merge:
            self._server.split(self._stream, shards[0]["ShardId"])
            return
        # Those that lie side by side: a split's children.
        self._server.merge(self._stream, shards[-2]["ShardId"], shards[-1]["ShardId"])


def run(
    server: KinesisServer,
    folder: Path,
    *,
    kills: int,
    restarts: int,
    seed: int,
    records: int = RECORDS,
) -> Verdict:
    """Kill a worker ``kills`` times under load, then let a last one catch up, and compare. The
    server keeps streams in memory only, so that ``restarts`` must be 0."""
    assert not restarts, "this server forgets its streams when it ends"
    print(f"crash: seed {seed}, {kills} kills", flush=True)
    rng = random.Random(seed)
    source, target = server.new_stream(2), server.new_stream(2)
    connection = (
        f"region: {REGION}, endpoint_url: {server.endpoint_url}, access_key_id: {ACCESS_KEY}, "
        f"secret_access_key: {ACCESS_KEY}"
    )
    config = folder / "ensign.yaml"
    config.write_text(
        CONFIG.format(folder=folder, source=source, target=target, connection=connection)
    )
    points = [point for point in schedule() if point != SNAPSHOT_READ]
    server.proxy.fail("GetRecords", THROTTLED, fraction=THROTTLED_SHARE, seed=seed)
    server.proxy.fail("PutRecords", THROTTLED, fraction=THROTTLED_SHARE, seed=seed)
    server.proxy.refuse_records(THROTTLED, fraction=THROTTLED_SHARE, seed=seed)
    with Load(server, source, records, seed):
        for number in range(kills):
            live("kinesis", config, rng.choice(points) if number >= len(points) else points[number],
                 rng)  # fmt: skip
    last_life("kinesis", folder, config, kills)
    verdict = judge(server, source, target)
    verdict.throttled = sum(server.proxy.failed.values())
    server.proxy.heal()
    return verdict


def judge(server: KinesisServer, source: str, target: str) -> Verdict:
    """Per key: what came out, repeats dropped, is what went in."""
    expected, found = _by_key(server, source), _by_key(server, target)
    verdict = Verdict(
        records=sum(map(len, expected.values())),
        copies=sum(map(len, found.values())),
        shards=len(server.shards(source)),
    )
    for key in sorted({*expected, *found}):
        copies = list(dict.fromkeys(found[key]))
        if copies != expected[key]:
            lost = len({*expected[key]} - {*copies})
            verdict.faults.append(
                f"{key}: {lost} lost" if lost else f"{key}: order changed, repeats dropped"
            )
    return verdict


def _by_key(server: KinesisServer, stream: str) -> defaultdict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for record in server.records(stream):
        found[record.key].append(record.data)
    return found
