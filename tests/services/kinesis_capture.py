"""Drives the Kinesis source without a broker: opens and reads it as the core does, and keeps what
would be durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from connectors.kinesis.config import KinesisSourceConfig
from connectors.kinesis.source import KinesisSource
from ensign_core.change import Batch, Change, Op, Position
from ensign_core.rows import Value, decode
from tests.services.kinesis import ACCESS_KEY, REGION, KinesisServer
from tests.services.postgres_capture import Told

WAIT_S_MAX = 60.0


class Seen(NamedTuple):
    """An event of a record. ``sub`` is None where it was not aggregated."""

    key: bytes
    data: bytes
    shard: str
    sequence: str
    sub: int | None

    @classmethod
    def of(cls, change: Change) -> Seen:
        row = named(change)
        key, data = row["key"], row["data"]
        assert isinstance(key, bytes)
        assert isinstance(data, bytes)
        sub = row["sub_offset"]
        return cls(
            key, data, str(row["partition"]), str(row["source_offset"]),
            None if sub is None else int(str(sub)),
        )  # fmt: skip


def named(change: Change) -> dict[str, Value]:
    """An event's row by the names of its columns."""
    image = change.images()[1]
    assert image is not None
    names = [column.name for column in change.schema.columns]
    return dict(zip(names, decode(image), strict=True))


def connection(server: KinesisServer) -> dict[str, Any]:
    """Options that both halves of the connector take."""
    return {
        "type": "kinesis", "region": REGION, "endpoint_url": server.endpoint_url,
        "access_key_id": ACCESS_KEY, "secret_access_key": ACCESS_KEY,
    }  # fmt: skip


class Capture:
    """What a pipeline would have made durable: `seen`, `gaps` and `position`."""

    def __init__(self, server: KinesisServer, stream: str, **options: Any) -> None:
        given = {
            **connection(server),
            "stream": stream,
            "poll_s": 0.2,
            "discover_s": 0.3,
            **options,
        }
        self.config = KinesisSourceConfig.model_validate(given)
        self.told = Told()
        self.position: Position | None = None
        self.seen: list[Seen] = []
        self.gaps: list[str] = []
        self.batches: list[Batch] = []
        self.source: KinesisSource | None = None

    def open(self) -> KinesisSource:
        """Open a new source at the durable position."""
        self.close()
        self.source = KinesisSource(self.config, self.told)
        self.source.open(self.position)
        return self.source

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None

    def step(self, timeout_s: float = 0.2) -> Batch | None:
        """One read; what it returns is durable and acked."""
        source = self.source or self.open()
        batch = source.read(timeout_s)
        if batch is None:
            return None
        self.batches.append(batch)
        for change in batch:
            if change.op is Op.MESSAGE:
                self.gaps.append(str(named(change)["content"]))
            else:
                self.seen.append(Seen.of(change))
        assert batch.position is not None
        self.position = batch.position
        source.ack(batch.position)
        return batch

    def until(self, done: Callable[[], object], *, reopen_each: int = 0) -> None:
        """Read until ``done``; with ``reopen_each`` N the source is replaced every N batches, as
        after a crash."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        before = len(self.batches)
        while not done():
            assert time.monotonic() < deadline_s, "waited too long"
            self.step(0.1)
            if reopen_each and len(self.batches) - before >= reopen_each:
                before = len(self.batches)
                self.open()

    def caught_up(self) -> list[Seen]:
        """Open, read to the end as it is now, and return what came."""
        start = len(self.seen)
        self.open()
        self.until(lambda: self.source is not None and self.source.caught_up())
        return self.seen[start:]

    def data(self) -> list[bytes]:
        """The data of all events so far."""
        return [event.data for event in self.seen]


def captures(server: KinesisServer) -> Iterator[Callable[..., Capture]]:
    """For a fixture: makes captures, which are closed afterwards."""
    with ExitStack() as stack:

        def make(stream: str, **options: Any) -> Capture:
            capture = Capture(server, stream, **options)
            stack.callback(capture.close)
            return capture

        yield make
