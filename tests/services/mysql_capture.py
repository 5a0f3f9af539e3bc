"""Drives the MySQL source without a broker: opens, reads and acks it as the core does, and keeps
what would be durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from connectors.mysql.config import MysqlConfig
from connectors.mysql.source import MysqlSource
from ensign_core.change import Batch, Op, Position, Schema, Stage
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT, Value, decode, encode
from tests.services.mysql import CDC, MysqlServer
from tests.services.postgres_capture import ROWS, Seen, Told

WAIT_S_MAX = 60.0
BUSY = (
    "mysql.restarting", "mysql.unreachable", "mysql.connection_lost", "mysql.commits_busy",
)  # fmt: skip


class Capture:
    """What a pipeline would have made durable: `seen`, `position` and `kept`. `held` waits for a
    release and is void when the source is opened again."""

    def __init__(self, server: MysqlServer, database: str, **options: Any) -> None:
        options = {"tables": [f"{database}.*"], "heartbeat_s": 0.1, **options}
        self.config = MysqlConfig(
            type="mysql", host=server.host, port=server.port, user=CDC, password=CDC, **options
        )
        self.told = Told()
        self.position: Position | None = None
        self.seen: list[Seen] = []
        self.held: list[Seen] = []
        self.batches = 0
        self.source: MysqlSource | None = None
        self.told.compare = lambda schema: FoldedTopic(self, schema)

    def open(self) -> MysqlSource:
        """Open a new source at the durable position; a server that restarts is waited for, as the
        core does."""
        self.close()
        self.held = []
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            source = MysqlSource(self.config, self.told)
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

    def step(self, timeout_s: float = 0.2) -> Batch | None:
        """One read; what it returns is durable and acked."""
        source = self.source or self.open()
        batch = source.read(timeout_s)
        if batch is None:
            return None
        self.batches += 1
        seen = [Seen.of(change) for change in batch]
        if batch.stage is Stage.HOLD:
            assert not batch.kept
            self.held += seen
            return batch
        if batch.stage is Stage.RELEASE:
            self.seen += self.held
            self.held = []
        self.seen += seen
        assert batch.position is not None
        self.position = batch.position
        for name, piece in batch.kept.items():
            self.told.pieces[name] = piece
            if not piece:
                del self.told.pieces[name]
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
            self.step(0.02)
            if reopen_each and self.batches - before >= reopen_each and not done():
                before = self.batches
                self.open()

    def caught_up(self, **options: Any) -> list[Seen]:
        """Open, read to the end as it is now, and return what came."""
        start = len(self.seen)
        self.open()
        self.until(lambda: self.source is not None and self.source.caught_up(), **options)
        return self.seen[start:]


def captures(
    server: MysqlServer, database: str, **defaults: Any
) -> Iterator[Callable[..., Capture]]:
    """For fixtures: what makes captures with these options, and closes them afterwards."""
    made: list[Capture] = []

    def make(**options: Any) -> Capture:
        made.append(Capture(server, database, **{**defaults, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


Row = dict[str, Value]


def state(seen: Sequence[Seen]) -> dict[tuple[Value, ...], Row]:
    """The rows of one table that its events make, by key, where rows of a snapshot may replace
    others: it was read again. Raises where another event does not fit."""
    found: dict[tuple[Value, ...], Row] = {}
    for event in seen:
        names = [event.schema.columns[i].name for i in event.schema.key]
        if event.op is Op.TRUNCATE:
            found.clear()
        if event.op not in ROWS:
            continue
        new = event.new or {}
        old = event.old or new
        before = tuple(old[name] for name in names)
        if event.op in (Op.UPDATE, Op.DELETE):
            assert before in found, f"{event} has no base"
            base = found.pop(before)
            new = {name: base[name] if v is ABSENT else v for name, v in new.items()}
        if event.op is not Op.DELETE:
            key = tuple(new[name] for name in names)
            assert key not in found or event.op is Op.SNAPSHOT, f"{event} has a base already"
            found[key] = dict(new)
    return found


class FoldedTopic:
    """A `Comparison` with what a capture has seen."""

    def __init__(self, capture: Capture, schema: Schema) -> None:
        self._capture = capture
        self._schema = schema
        self._start = len(capture.of(schema.name))
        self._done: set[tuple[Value, ...]] = set()

    def advance(self, timeout_s: float) -> bool:
        return True

    def _key(self, row: Row, schema: Schema) -> tuple[Value, ...]:
        return tuple(row[schema.columns[i].name] for i in schema.key)

    def differing(self, schema: Schema, bodies: Sequence[bytes]) -> list[bytes]:
        topic = state(self._capture.of(schema.name))
        found = []
        for body in bodies:
            names = [column.name for column in schema.columns]
            row = dict(zip(names, decode(body[1:]), strict=True))
            key = self._key(row, schema)
            self._done.add(key)
            if topic.get(key) != row:
                found.append(body)
        return found

    def absent(self, rows_max: int) -> list[bytes]:
        seen = self._capture.of(self._schema.name)
        for event in seen[self._start :]:
            for row in filter(None, (event.old, event.new)):
                self._done.add(self._key(row, event.schema))
        found: list[bytes] = []
        for key, row in state(seen).items():
            if key not in self._done and len(found) < rows_max:
                self._done.add(key)
                values = [row.get(column.name) for column in self._schema.columns]
                found.append(b"O" + encode(values))
        return found

    def close(self) -> None:
        pass
