"""Records with every oddity that a broker takes, and what came out compared with what went in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from tests.services.kafka_records import Record

START_MS = 1_750_000_000_000
LARGE_BYTES = 200_000
LARGE, NUMBERED = 0.001, 0.8
"""The shares of records that are large, and of those whose value begins with their number."""


def odd_record(rng: random.Random, number: int, partitions: int) -> Record:
    """The record of that number: null and empty keys, tombstones, headers repeated and null, bytes
    that are no text, timestamps that go back."""
    key = rng.choice((None, b"", b"k%d" % rng.randrange(50), rng.randbytes(6), "é☃".encode()))
    value = rng.choice((None, b"", b"{}", b"\xff\x00" + rng.randbytes(30), b"x" * 700))
    if rng.random() < LARGE:
        value = rng.randbytes(LARGE_BYTES)
    elif rng.random() < NUMBERED:
        value = b"%d " % number + (value or b"")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(rng.choice((0, 0, 0, 1, 2, 5))):
        name = rng.choice(("a", "a", "é", "trace-id"))
        headers.append((name, rng.choice((None, b"", b"x", b"\xfe\xff", b'{"j":1}'))))
    at = START_MS + number * 7 - rng.randrange(5000)
    return Record(key, value, tuple(headers), at, rng.randrange(partitions))


def differences(topic: str, expected: Iterable[Record], found: Iterable[Record]) -> list[str]:
    """A sentence for each partition whose copy is not the same, byte by byte and in order; where a
    record lies in its partition is the broker's."""
    before, after = _by_partition(expected), _by_partition(found)
    sentences: list[str] = []
    for partition in sorted({*before, *after}):
        one, other = before.get(partition, []), after.get(partition, [])
        if one != other:
            lost, more = Counter(one) - Counter(other), Counter(other) - Counter(one)
            order = "" if lost or more else ", order changed"
            sentences.append(
                f"{topic}/{partition}: {lost.total()} lost, {more.total()} too many{order}"
            )
    return sentences


def _by_partition(records: Iterable[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        found.setdefault(record.partition or 0, []).append(record._replace(offset=None))
    return found
