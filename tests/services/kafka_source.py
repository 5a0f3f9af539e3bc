"""Sources of Kafka as the tests open and read them, and what records look like when they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from connectors.kafka import SOURCE
from ensign_core.change import Batch, Change, Op, Position
from ensign_core.formats.headers import header_pairs
from ensign_core.plugin import Source
from ensign_core.rows import split
from tests.conformance.driver import RecordingContext
from tests.services.kafka import KafkaServer
from tests.services.kafka_records import Record

READ_S = 0.1
WAIT_S_MAX = 60.0


def make(server: KafkaServer, /, **options: object) -> Source:
    """A source that is not open."""
    given = {"type": "kafka", "bootstrap": server.bootstrap, "discover_s": 0.2, **options}
    source: Source = SOURCE.make(SOURCE.config.model_validate(given), RecordingContext())
    return source


@contextmanager
def opened(
    server: KafkaServer, resume: Position | None = None, /, **options: object
) -> Iterator[Source]:
    """A source that is open behind ``resume``."""
    with closing(make(server, **options)) as source:
        source.open(resume)
        yield source


def read_until(source: Source, done: Callable[[list[Batch]], bool]) -> list[Batch]:
    """Batches up to a condition; fails when it does not hold in time."""
    batches: list[Batch] = []
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not done(batches):
        assert time.monotonic() < deadline_s, "what should come did not"
        batch = source.read(READ_S)
        if batch is not None:
            batches.append(batch)
    return batches


def caught_up(source: Source) -> list[Batch]:
    """All up to the end as it was when the source was opened."""
    return read_until(source, lambda _batches: source.caught_up())


def some(source: Source, count: int) -> list[Batch]:
    """Batches with ``count`` events at least."""
    return read_until(source, lambda batches: sum(map(len, batches)) >= count)


def position_of(batches: Sequence[Batch]) -> Position:
    found = batches[-1].position
    assert found is not None
    return found


def record(change: Change) -> Record:
    """A record as it was written, of the event that it became."""
    assert change.op is Op.EVENT
    kinds, values = split(change.images()[1] or b"")
    found = [None if kind == ord("n") else value for kind, value in zip(kinds, values, strict=True)]
    key, data, _, _, _, headers, partition, offset, timestamp_ms = found
    return Record(
        key, data, tuple(header_pairs(headers)) if headers is not None else (),
        None if timestamp_ms is None else int(timestamp_ms), int(partition or b""),
        int(offset or b""),
    )  # fmt: skip


def records(batches: Sequence[Batch]) -> list[Record]:
    """The records in batches by partition and offset, as `KafkaServer.consume` gives them."""
    found = [record(change) for batch in batches for change in batch if change.op is Op.EVENT]
    return sorted(found, key=lambda each: (each.partition, each.offset))
