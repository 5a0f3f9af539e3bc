"""Drives connectors as the worker would, and looks at what they give."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from connectors.registry import connector
from ensign_core.change import (
    Batch,
    BatchBuilder,
    Change,
    Column,
    Op,
    Schema,
    Stage,
    Tx,
    event_schema,
)
from ensign_core.errors import EnsignError
from ensign_core.plugin import Comparison, Signal, Sink, Source
from ensign_core.rows import check_body, new_image, split

READ_S = 0.2
"""The timeout that reads are given."""

WAIT_S_MAX = 60.0
"""Seconds after which a source that has not come to its end is a failed one."""


class RecordingContext:
    """A `Context` that remembers dead letters, of a pipeline that has made batches durable."""

    pipeline = "conformance"
    name = "source"
    project = "01JDHG0000000000000000TEST"

    def __init__(self, durable: Sequence[Batch] = ()) -> None:
        self.dead: list[tuple[Change | bytes, EnsignError]] = []
        self._durable = durable

    def progress(self, **_facts: object) -> None:
        pass

    def signals(self, done: int) -> list[Signal]:
        return []

    def kept(self) -> dict[str, bytes]:
        pieces: dict[str, bytes] = {}
        for batch in self._durable:
            pieces |= batch.kept
        return {name: value for name, value in pieces.items() if value}

    def comparison(self, schema: Schema) -> Comparison:
        raise AssertionError("no comparison expected")

    def dead_letter(self, event: Change | bytes, error: EnsignError) -> None:
        self.dead.append((event, error))


def make_source(name: str, options: Mapping[str, object], durable: Sequence[Batch] = ()) -> Source:
    found = connector("source", name)
    source: Source = found.make(found.config.model_validate(options), RecordingContext(durable))
    return source


def make_sink(name: str, options: Mapping[str, object]) -> Sink:
    found = connector("sink", name)
    sink: Sink = found.make(found.config.model_validate(options), RecordingContext())
    return sink


class Event(NamedTuple):
    """What must be the same however often an event is read."""

    op: int
    schema: str
    body: bytes
    tx: Tx | None
    ordinal: int


def drain(source: Source) -> list[Batch]:
    """Read until the source has caught up and has nothing more to say."""
    batches: list[Batch] = []
    deadline_s = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline_s:
        batch = source.read(READ_S)
        if batch is not None:
            batches.append(batch)
        elif source.caught_up():
            return batches
    raise AssertionError("the source did not come to its end")


def events(batches: list[Batch]) -> list[Event]:
    return [
        Event(change.op, change.schema.name, change.body, change.tx, change.ordinal)
        for batch in batches
        for change in batch
    ]


def check_batch(batch: Batch) -> None:
    """Raise AssertionError unless the batch is as `ensign_core.change` describes it."""
    count = len(batch.ops)
    assert isinstance(batch.position, bytes)
    assert not (batch.kept and batch.stage is Stage.HOLD)
    assert len(batch.schema_ids) == len(batch.ends) == count
    assert list(batch.ends) == sorted(batch.ends)
    assert (batch.ends[-1] if count else 0) == len(batch.body)
    assert not batch.schema_ids or max(batch.schema_ids) < len(batch.schemas)
    starts = [run.start for run in batch.runs]
    assert starts == sorted(set(starts))
    assert not starts or not count or (starts[0] == 0 and starts[-1] < count)
    for change in batch:
        check_body(change.body)
        assert change.op in Op
        for image in change.images()[:2]:
            if image is not None:
                assert len(split(image)[0]) == len(change.schema.columns)


ROWS = Schema(
    "public.things",
    (("database", "shop"), ("schema", "public"), ("table", "things")),
    (Column("id", "bigint", "int", nullable=False, key=True), Column("note", "text", "text")),
)


def sample(topic: str, offset: int, count: int) -> Batch:
    """A batch as a reader of ``topic`` gives it: rows in transactions of three, then one event."""
    builder = BatchBuilder()
    for index in range(count - 1):
        if index % 3 == 0:
            builder.begin(Tx(str(offset + index), "0/1", 1_700_000_000_000_000))
        row = new_image([str(offset + index), f"line\nbreak {index} ü"])
        builder.add(Op.INSERT, ROWS, row)
    event = new_image([b"key", b'{"a": 1}', None, "application/json", None])
    builder.add(Op.EVENT, event_schema(topic), event)
    batch = builder.take(None)
    batch.topic, batch.offset = topic, offset
    return batch
