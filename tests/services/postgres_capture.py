"""Drives the PostgreSQL source without a broker: opens, reads and acks it as the core does, keeps
what would be durable, and folds events into a state that can be compared with the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from connectors.postgres.config import PostgresConfig
from connectors.postgres.source import PostgresSource
from ensign_core.change import Batch, Change, Op, Position, Schema, Stage, Tx
from ensign_core.errors import EnsignError
from ensign_core.plugin import Comparison, Signal
from ensign_core.rows import ABSENT, Value, decode

WAIT_S_MAX = 60.0
BUSY = ("postgres.slot_in_use", "postgres.restarting", "postgres.unreachable")


class Seen(NamedTuple):
    """A change with its images decoded."""

    op: Op
    schema: Schema
    old: dict[str, Value] | None
    new: dict[str, Value] | None
    key_only: bool
    tx: Tx | None
    ordinal: int

    @classmethod
    def of(cls, change: Change) -> Seen:
        old, new, key_only = change.images()
        names = [column.name for column in change.schema.columns]
        return cls(
            change.op, change.schema,
            None if old is None else dict(zip(names, decode(old), strict=True)),
            None if new is None else dict(zip(names, decode(new), strict=True)),
            key_only, change.tx, change.ordinal,
        )  # fmt: skip


class SameTopic:
    """A `Comparison` with a topic that has all that the table has."""

    def __init__(self, _schema: Schema) -> None:
        pass

    def advance(self, timeout_s: float) -> bool:
        return True

    def differing(self, schema: Schema, bodies: Sequence[bytes]) -> list[bytes]:
        return []

    def absent(self, rows_max: int) -> list[bytes]:
        return []

    def close(self) -> None:
        pass


class Told:
    """A `Context` that remembers what it was told."""

    pipeline = "test"
    name = "source"
    project = "01JDHG0000000000000000TEST"

    def __init__(self) -> None:
        self.facts: dict[str, object] = {}
        self.asked: list[Signal] = []
        self.compare: Callable[[Schema], Comparison] | None = None
        self.letters: list[tuple[Change | bytes, EnsignError]] = []
        self.pieces: dict[str, bytes] = {}

    def progress(self, **facts: object) -> None:
        self.facts.update({k: v for k, v in facts.items() if v is not None})

    def signals(self, done: int) -> list[Signal]:
        return [signal for signal in self.asked if signal.number > done]

    def kept(self) -> dict[str, bytes]:
        return self.pieces

    def comparison(self, schema: Schema) -> Comparison:
        assert self.compare is not None, "no comparison expected"
        return self.compare(schema)

    def dead_letter(self, event: Change | bytes, error: EnsignError) -> None:
        self.letters.append((event, error))


class Capture:
    """What a pipeline would have made durable: `seen` and `position`. `held` waits for a release
    and is void when the source is opened again."""

    def __init__(self, dsn: str, **options: Any) -> None:
        options = {"heartbeat_s": 0.1, "discover_s": 3600.0, "workers": 1, **options}
        self.config = PostgresConfig(type="postgres", dsn=dsn, **options)
        self.told = Told()
        self.position: Position | None = None
        self.seen: list[Seen] = []
        self.held: list[Seen] = []
        self.batches = 0
        self.source: PostgresSource | None = None

    def open(self) -> PostgresSource:
        """Open a new source at the durable position; a slot still held by the last is waited for,
        as the core does."""
        self.close()
        self.held = []
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            source = PostgresSource(self.config, self.told)
            try:
                source.open(self.position)
                self.source = source
                return source
            except EnsignError as error:
                source.close()
                if error.code not in BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
            self.source = None

    def step(self, timeout_s: float = 0.2, *, ack: bool = True) -> Batch | None:
        """One read; what it returns is durable and acked."""
        source = self.source or self.open()
        batch = source.read(timeout_s)
        if batch is None:
            return None
        self.batches += 1
        seen = [Seen.of(change) for change in batch]
        if batch.stage is Stage.HOLD:
            self.held += seen
            return batch
        if batch.stage is Stage.RELEASE:
            self.seen += self.held
            self.held = []
        self.seen += seen
        assert batch.position is not None
        self.position = batch.position
        if ack:
            source.ack(batch.position)
        return batch

    def of(self, name: str) -> list[Seen]:
        """The events of one table."""
        return [event for event in self.seen if event.schema.name == name]

    def until(
        self,
        done: Callable[[], bool],
        *,
        reopen_each: int = 0,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Read until ``done``, calling ``meanwhile`` before each read; with ``reopen_each`` N the
        source is replaced every N batches, as after a crash: what was read is durable, nothing else
        survives."""
        deadline = time.monotonic() + WAIT_S_MAX
        before = self.batches
        while not done():
            assert time.monotonic() < deadline, "waited too long"
            meanwhile()
            self.step(0.02, ack=not reopen_each)
            if reopen_each and self.batches - before >= reopen_each and not done():
                before = self.batches
                self.open()

    def caught_up(self, **options: Any) -> list[Seen]:
        """Open, read to the end as it is now, and return what came."""
        start = len(self.seen)
        self.open()
        self.until(lambda: self.source is not None and self.source.caught_up(), **options)
        return self.seen[start:]


def captures(dsn: str, **defaults: Any) -> Iterator[Callable[..., Capture]]:
    """For fixtures: what makes captures with these options, and closes them afterwards."""
    made: list[Capture] = []

    def make(dsn: str = dsn, **options: Any) -> Capture:
        made.append(Capture(dsn, **{**defaults, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


Row = tuple[Value, ...]

ROWS = (Op.SNAPSHOT, Op.INSERT, Op.UPDATE, Op.DELETE)


def fold(seen: list[Seen]) -> dict[Row, dict[str, Value]]:
    """The state that the events make, by key. Raises where an event does not fit: a base for a key
    that has one, a change or a delete of a key that has none."""
    state: dict[Row, dict[str, Value]] = {}
    for event in seen:
        names = [event.schema.columns[i].name for i in event.schema.key]
        if event.op is Op.TRUNCATE:
            state.clear()
            continue
        if event.op not in ROWS:
            continue
        after = event.new
        before = event.old if event.old is not None else after
        assert before is not None
        old_key = tuple(before[name] for name in names)
        if event.op in (Op.SNAPSHOT, Op.INSERT):
            assert after is not None
            assert old_key not in state, f"{event} has a base already"
            assert ABSENT not in after.values(), f"{event} is no base"
            state[old_key] = dict(after)
            continue
        assert old_key in state, f"{event} has no base"
        base = state.pop(old_key)
        if event.op is Op.UPDATE:
            assert after is not None
            row = {n: base[n] if v is ABSENT else v for n, v in after.items()}
            new_key = tuple(row[name] for name in names)
            assert new_key not in state, f"{event} moves onto another row"
            state[new_key] = row
    return state
