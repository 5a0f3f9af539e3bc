"""What a running connector may tell Ensign, and where that goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from ensign_core.broker import Broker, Event, dead_letter_topic
from ensign_core.change import Change, Schema
from ensign_core.errors import EnsignError
from ensign_core.metrics import (
    DEAD_LETTERS,
    SNAPSHOT_ROWS,
    SNAPSHOT_ROWS_EXPECTED,
    SOURCE_KEPT_BYTES,
    SOURCE_LAG_BYTES,
)
from ensign_core.plugin import Comparison, Signal, SnapshotProgress, State
from ensign_core.run.comparison import TopicComparison
from ensign_core.run.letters import Place, letter_event


def no_reconcile(pipeline: str) -> EnsignError:
    """The error for a comparison with a topic that does not hold a table's rows as they are."""
    return EnsignError(
        "transform.no_reconcile",
        f"The topics of {pipeline} hold what its transforms made of the rows, which cannot be "
        "compared with the tables.",
        "Read the rows again without --reconcile, or move the transforms to the sinks; what was "
        f"asked for is given up with: ensign snapshot stop {pipeline}",
    )


SIGNALS_EVERY_S = 0.25
"""A running source looks at most this often for what operators ask of it."""

PERCENT_UNDER_WAY_MAX = 99.9
"""What is expected is an estimate: more may come than that."""

RATE_SECONDS_MIN = 2.0
"""How long a snapshot is watched before its end is foretold."""

STARTING = "starting"
"""What a part does before it has read or written anything: servers may take their time."""


class Progress:
    """Where one source or sink stands: written by its thread, read by the pipeline's reporter."""

    def __init__(self) -> None:
        self.state: Literal["snapshot", "streaming", "waiting", "failed"] = "waiting"
        self.position: str | None = None
        self.lag_bytes: int | None = None
        self.detail: str | None = STARTING
        self.committed_us: int | None = None
        self.kept_bytes: int | None = None
        self.warnings: tuple[EnsignError, ...] = ()
        self._snapshot: SnapshotProgress | None = None
        self._begun: tuple[float, int] = 0.0, 0
        self.error: EnsignError | None = None

    def snapshot(self, now: SnapshotProgress) -> None:
        """How far the snapshots are: the rate counts from where they were first seen here."""
        before = self._snapshot
        if before is None or now.rows < before.rows:
            self._begun = time.monotonic(), now.rows
        self._snapshot = now if now.tables_done < now.tables else None

    def snapshot_dict(self) -> dict[str, Any] | None:
        """The snapshots under way as `ensign status` gives them, None if there are none."""
        snapshot = self._snapshot
        if snapshot is None:
            return None
        percent = eta_s = None
        if snapshot.rows_total:
            percent = round(
                min(PERCENT_UNDER_WAY_MAX, 100 * snapshot.rows / snapshot.rows_total), 1
            )
            began, rows = self._begun
            seconds = time.monotonic() - began
            if snapshot.rows > rows and seconds >= RATE_SECONDS_MIN:
                left = max(0, snapshot.rows_total - snapshot.rows)
                eta_s = round(left * seconds / (snapshot.rows - rows))
        return snapshot._asdict() | {"percent": percent, "eta_seconds": eta_s}

    def failed(self, state: Literal["waiting", "failed"], error: EnsignError) -> None:
        """It waits, or has ended, for ``error``."""
        self.state, self.error = state, error

    def recovered(self) -> None:
        """What was waited out is over."""
        if self.error is not None:
            self.error = None
        if self.detail == STARTING:
            self.detail = None
        if self.state == "waiting":
            self.state = "streaming"


class SetAside(NamedTuple):
    """A dead letter on its way to its topic; ``place`` is where a sink's event lies."""

    event: Event
    error: EnsignError
    place: Place | None


class RunContext:
    """Implements `ensign_core.plugin.Context` for one source or sink of a pipeline."""

    def __init__(
        self,
        pipeline: str,
        name: str,
        progress: Progress,
        broker: Broker,
        topic_of: Callable[[Schema], str] | None = None,
        *,
        changed: bool = False,
    ) -> None:
        self.project = broker.project
        self.pipeline = pipeline
        self.name = name
        self._progress = progress
        self._broker = broker
        self._topic_of = topic_of
        self._changed = changed
        self._signals: list[Signal] = []
        self._looked_at = -SIGNALS_EVERY_S
        self._letters: list[SetAside] = []
        self._apart: tuple[int, list[SetAside]] | None = None
        self._lock = threading.Lock()

    def progress(
        self,
        *,
        state: State | None = None,
        position: str | None = None,
        lag_bytes: int | None = None,
        detail: str | None = None,
        kept_bytes: int | None = None,
        snapshot: SnapshotProgress | None = None,
        warnings: Sequence[EnsignError] | None = None,
    ) -> None:
        if state is not None:
            self._progress.state = state
        if position is not None:
            self._progress.position = position
        if lag_bytes is not None:
            self._progress.lag_bytes = lag_bytes
            SOURCE_LAG_BYTES.labels(self.pipeline).set(lag_bytes)
        if detail is not None:
            self._progress.detail = detail
        if kept_bytes is not None:
            self._progress.kept_bytes = kept_bytes
            SOURCE_KEPT_BYTES.labels(self.pipeline).set(kept_bytes)
        if snapshot is not None:
            self._progress.snapshot(snapshot)
            SNAPSHOT_ROWS.labels(self.pipeline).set(snapshot.rows)
            SNAPSHOT_ROWS_EXPECTED.labels(self.pipeline).set(snapshot.rows_total or 0)
        if warnings is not None:
            self._progress.warnings = tuple(warnings)

    def kept(self) -> Mapping[str, bytes]:
        return self._broker.pipelines.kept(self.pipeline)

    def signals(self, done: int) -> Sequence[Signal]:
        now = time.monotonic()
        if now - self._looked_at >= SIGNALS_EVERY_S:
            self._looked_at = now
            self._signals = self._broker.pipelines.signals(self.pipeline)
        if self._signals and self._signals[0].number <= done:
            self._broker.pipelines.forget_signals(self.pipeline, done)
            self._signals = [signal for signal in self._signals if signal.number > done]
        return self._signals

    def comparison(self, schema: Schema) -> Comparison:
        assert self._topic_of is not None, "a sink has no table to compare"
        if self._changed:
            raise no_reconcile(self.pipeline)
        return TopicComparison(self._broker, self._topic_of(schema), schema)

    def dead_letter(self, event: Change | bytes, error: EnsignError) -> None:
        place = copy = None
        if isinstance(event, Change) and event.batch.topic:
            place = event.batch.topic, event.offset
            letters = dead_letter_topic(self.pipeline)
            copy = self._broker.copies.seal(letters, *place, event.body)
        else:
            self._refuse_open(event)
        letter = SetAside(letter_event(self.name, event, error, copy), error, place)
        with self._lock:
            if self._apart is not None and self._apart[0] == threading.get_ident():
                self._apart[1].append(letter)
                return
            self._letters.append(letter)
        DEAD_LETTERS.labels(self.pipeline).inc()

    def _refuse_open(self, event: Change | bytes) -> None:
        """Raise ``topic.client_sealed`` for what lies nowhere else and would be readable in a dead
        letter for whoever holds the project's key."""
        letters = dead_letter_topic(self.pipeline)
        if self._broker.client_sealed([letters]):
            return
        topics = self._broker.pipelines.topics(self.pipeline)
        if self._topic_of is not None and isinstance(event, Change):
            topics.append(self._topic_of(event.schema))
        if self._broker.client_sealed(topics):
            raise EnsignError(
                "topic.client_sealed",
                f"{self.pipeline} writes to a client-sealed topic and has a dead letter, which "
                "would not be sealed so.",
                f"Make its topic first: ensign topics create {letters} --sealing client, and grant "
                "it to those who are to see them.",
            )

    @contextmanager
    def apart(self) -> Iterator[list[SetAside]]:
        """What this thread sets aside meanwhile is in the list given, and not among the others."""
        letters: list[SetAside] = []
        with self._lock:
            self._apart = threading.get_ident(), letters
        try:
            yield letters
        finally:
            with self._lock:
                self._apart = None

    def take_letters(self) -> list[SetAside]:
        """The dead letters since the last call, for the append or commit that covers them."""
        with self._lock:
            letters, self._letters = self._letters, []
        return letters
