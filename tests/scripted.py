"""A scripted source and sink: what they give, where they fail, and what was done to them.

`Server` is what a scripted source reads and `Target` what a scripted sink writes to; both outlive
the instances made of them, as a database does. Faults are planned by seam and raised once each.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ensign_core.broker import Broker
from ensign_core.change import (
    Batch,
    BatchBuilder,
    Change,
    Column,
    Offset,
    Op,
    Position,
    Schema,
    Stage,
    Tx,
)
from ensign_core.config.transforms import AnyTransform
from ensign_core.errors import EnsignError
from ensign_core.plugin import Connector, ConnectorConfig, Context, Signal
from ensign_core.rows import decode, new_image
from ensign_core.run.pipeline import Pipeline, Plan, SinkPlan

PATIENCE_S = 30.0
"""How long a test waits for what must happen."""


class Scripted(ConnectorConfig):
    """The config of both: the script is all there is."""

    type: Literal["scripted"] = "scripted"


class Script:
    """Planned faults, calls counted by seam, and a condition to wait on."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: Counter[str] = Counter()
        self.violations: list[str] = []
        self.instances: list[Instance] = []
        self._planned: dict[str, deque[Exception | None]] = {}

    def fail(self, seam: str, *faults: Exception | None) -> None:
        """Raise these at the next calls of ``seam``, one each; None lets a call pass."""
        self._planned.setdefault(seam, deque()).extend(faults)

    def meet(self, seam: str) -> None:
        with self.changed:
            self.calls[seam] += 1
            self.changed.notify_all()
            planned = self._planned.get(seam)
            fault = planned.popleft() if planned else None
        if fault is not None:
            raise fault

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until something is true of this script; the test fails if it never is."""
        with self.changed:
            assert self.changed.wait_for(until, PATIENCE_S), "waited in vain"

    def check(self) -> None:
        """No invariant was broken that the instances watch themselves."""
        assert self.violations == []
        for instance in self.instances:
            assert instance.closed == 1, "every instance is closed, once"


class Instance:
    """What both ends of a pipeline share: one thread, no call after an exception (I1, I9)."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.closed = 0
        self._thread = 0
        self._dead = False
        script.instances.append(self)

    def meet(self, seam: str) -> None:
        here = threading.get_ident()
        self._thread = self._thread or here
        if here != self._thread:
            self.script.violations.append(f"I1: {seam} in another thread")
        if self._dead or self.closed:
            self.script.violations.append(f"I9: {seam} of a dead instance")
        try:
            self.script.meet(seam)
        except Exception:
            self._dead = True
            raise

    def close(self) -> None:
        self.closed += 1
        self.script.meet("close")


@dataclass(frozen=True)
class Step:
    """What one `read` gives: rows (table and value), how they are staged, a dead letter, pieces to
    keep."""

    rows: tuple[tuple[str, str], ...] = ()
    stage: Stage = Stage.NONE
    letter: bytes | Change | None = None
    kept: tuple[tuple[str, bytes], ...] = ()


def schema_of(table: str) -> Schema:
    names = (("schema", "public"), ("table", table))
    return Schema(f"public.{table}", names, (Column("value", "text", "text", False, True),))


def topic_of(schema: Schema) -> str:
    return dict(schema.names)["table"]


class Server(Script):
    """A log of steps; a position is how many of them have been read, and behind a colon the last
    signal that was heeded, if there was one."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        super().__init__()
        self.steps = list(steps)
        self.opened: list[int | None] = []
        self.found: list[Mapping[str, bytes]] = []
        self.acked: list[int] = []
        self.signals: list[Signal] = []
        self.on_ack: Callable[[int], None] = lambda position: None
        self.again: Callable[[Batch], Batch] = lambda batch: batch
        self.connector = Connector(
            "scripted", "source", Scripted, lambda _config, context: self._make(context),
            signals=True, replay=lambda _config, batch: self.again(batch),
        )  # fmt: skip

    def _make(self, context: Context) -> ScriptedSource:
        self.meet("make")
        return ScriptedSource(self, context)

    def add(self, *steps: Step) -> None:
        with self.changed:
            self.steps += steps
            self.changed.notify_all()

    def interrupt(self) -> None:
        """Let a `read` that waits return."""
        with self.changed:
            self.changed.notify_all()

    def read_all(self) -> bool:
        return bool(self.acked) and self.acked[-1] == len(self.steps)

    def rows(self, table: str) -> list[str]:
        """What a topic must hold when everything has been read."""
        return [value for step in self.steps for where, value in step.rows if where == table]


class ScriptedSource(Instance):
    def __init__(self, server: Server, context: Context) -> None:
        super().__init__(server)
        self.server = server
        self._context = context
        self._at = self._end = 0
        self._heeded = self._durable = 0

    def open(self, resume: Position | None) -> None:
        at, self._durable = parted(resume or Position(b"0"))
        self.server.opened.append(None if resume is None else at)
        self.server.found.append(self._context.kept())
        self.meet("open")
        self._at, self._heeded = at, self._durable
        self._end = len(self.server.steps)

    def _position(self) -> Position:
        return Position(b"%d:%d" % (self._at, self._heeded) if self._heeded else b"%d" % self._at)

    def _signalled(self) -> bool:
        """Whether there are signals that this life of the source has not heeded yet."""
        asked = self._context.signals(self._durable)
        fresh = [signal for signal in asked if signal.number > self._heeded]
        if fresh:
            self._heeded = fresh[-1].number
            with self.server.changed:
                self.server.signals += fresh
                self.server.changed.notify_all()
        return bool(fresh)

    def read(self, timeout_s: float) -> Batch | None:
        self.meet("read")
        if self._signalled():
            self.meet("give")
            return Batch(position=self._position())
        with self.server.changed:
            if self._at >= len(self.server.steps):
                self.server.changed.wait(timeout_s)
                if self._at >= len(self.server.steps):
                    return None
            step = self.server.steps[self._at]
        self._at += 1
        if step.letter is not None:
            self._context.dead_letter(step.letter, EnsignError("row.odd", "It is odd.", "Look."))
        builder = BatchBuilder().begin(Tx(str(self._at), f"0/{self._at}", 1_000_000 + self._at))
        for table, value in step.rows:
            builder.add(Op.INSERT, schema_of(table), new_image([value]))
        self.meet("give")
        batch = builder.take(self._position(), step.stage)
        batch.kept.update(step.kept)
        return batch

    def ack(self, position: Position) -> None:
        self.meet("ack")
        at, self._durable = parted(position)
        self.server.on_ack(at)
        with self.server.changed:
            self.server.acked.append(at)
            self.server.changed.notify_all()

    def caught_up(self) -> bool:
        self.meet("caught_up")
        return self._at >= self._end


def parted(position: Position) -> tuple[int, int]:
    """The steps and the signal of a position."""
    at, _, heeded = position.partition(b":")
    return int(at), int(heeded or 0)


Delivered = tuple[str, Offset, str]
"""Topic, offset and value of an event."""


class Target(Script):
    """Where scripted sinks deliver. With ``keeps_offsets`` it stores them with the events (I7).
    Values that are ``odd`` are set aside, those ``refused`` end the sink; ``again`` are those that
    came as replayed ones."""

    def __init__(self, *, keeps_offsets: bool = False) -> None:
        super().__init__()
        self.delivered: list[Delivered] = []
        self.targets: list[str] = []
        self.offsets: dict[str, Offset] | None = {} if keeps_offsets else None
        self.gate = threading.Event()
        self.gate.set()
        self.odd: set[str] = set()
        self.refused: set[str] = set()
        self.again: list[str] = []
        self.on_flush: Callable[[], None] = lambda: None
        self.connector = Connector(
            "scripted", "sink", Scripted, lambda _config, context: self._make(context)
        )

    def _make(self, context: Context) -> ScriptedSink:
        self.meet("make")
        return ScriptedSink(self, context)

    def values(self, topic: str) -> list[str]:
        return [value for where, _, value in self.delivered if where == topic]

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.delivered) >= count


class ScriptedSink(Instance):
    def __init__(self, target: Target, context: Context) -> None:
        super().__init__(target)
        self.target = target
        self._context = context
        self._pending: list[Delivered] = []
        self._next: dict[str, Offset] = {}

    def open(self) -> Mapping[str, Offset] | None:
        self.meet("open")
        return None if self.target.offsets is None else dict(self.target.offsets)

    def write(self, batch: Batch) -> None:
        self.meet("write")
        assert self.target.gate.wait(PATIENCE_S)
        for change in (change for change in batch if change.op is not Op.REMOVED):
            value = value_of(change)
            if batch.replayed:
                self.target.again.append(value)
            if value in self.target.refused:
                self._dead = True
                raise EnsignError("row.refused", "It is refused.", "Look.")
            if value in self.target.odd:
                self._context.dead_letter(change, EnsignError("row.odd", "It is odd.", "Look."))
            else:
                self._pending.append((batch.topic, change.offset, value))
        self.target.targets.append(batch.target)
        if not batch.replayed:
            self._next[batch.topic] = batch.next_offset

    def flush(self) -> None:
        self.meet("flush")
        self.target.on_flush()
        with self.target.changed:
            self.target.delivered += self._pending
            if self.target.offsets is not None:
                self.target.offsets.update(self._next)
            self._pending = []
            self.target.changed.notify_all()
        self.meet("flushed")


def value_of(change: Change) -> str:
    row = change.images()[1]
    assert row is not None
    (value,) = decode(row)
    assert isinstance(value, str)
    return value


def rows(table: str, *values: object, stage: Stage = Stage.NONE) -> Step:
    """A step with rows of one table."""
    return Step(tuple((table, str(value)) for value in values), stage)


def lost() -> EnsignError:
    """An error that is waited out."""
    return EnsignError("scripted.connection_lost", "The connection was lost.", "Wait.")


def kept(broker: Broker, topic: str) -> list[str]:
    """The values that a topic holds, in order, with dense offsets."""
    values: list[str] = []
    with broker.reader([topic]) as reader:
        while batches := reader.fetch():
            for change in (change for batch in batches for change in batch):
                assert change.offset == len(values)
                values.append(value_of(change))
    return values


@dataclass
class Running:
    """A pipeline in a thread of its own, stopped when the test is done with it."""

    broker: Broker
    server: Server
    targets: Mapping[str, Target] = field(default_factory=dict)
    name: str = "shop"
    begin: Literal["start", "end"] = "start"
    until_caught_up: bool = False
    wait_s: float | None = None
    transforms: Sequence[AnyTransform] = ()
    sink_transforms: Sequence[AnyTransform] = ()
    skip_revoked: bool = False

    def __enter__(self) -> Running:
        self.outcome: list[EnsignError | BaseException | None] = []
        rest = self.begin, self.sink_transforms, self.skip_revoked
        sinks = {
            name: SinkPlan(one.connector, Scripted(), *rest) for name, one in self.targets.items()
        }
        plan = Plan(
            self.name, self.server.connector, Scripted(), topic_of, sinks, self.transforms
        )  # fmt: skip
        self.pipeline = Pipeline(
            self.broker, plan, until_caught_up=self.until_caught_up, wait_s=self.wait_s
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.outcome.append(self.pipeline.run())
        except BaseException as error:  # noqa: BLE001
            self.outcome.append(error)
        for script in (self.server, *self.targets.values()):
            script.meet("ended")

    def ended(self) -> EnsignError | None:
        """Wait for its end; the error that ended it."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the pipeline did not end"
        (outcome,) = self.outcome
        assert outcome is None or isinstance(outcome, EnsignError), repr(outcome)
        return outcome

    def stop(self) -> EnsignError | None:
        self.pipeline.stop()
        self.server.interrupt()
        return self.ended()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.stop()
        if error is None:
            for script in (self.server, *self.targets.values()):
                script.check()
