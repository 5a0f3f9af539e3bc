"""What a running connector may tell Ensign, and where that goes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

from ensign_core.broker import Event
from ensign_core.change import Change, Schema
from ensign_core.errors import EnsignError
from ensign_core.metrics import DEAD_LETTERS, SOURCE_LAG_BYTES
from ensign_core.plugin import Comparison, Signal, SnapshotProgress, State


def dead_letter_topic(pipeline: str) -> str:
    """Where a pipeline's dead letters lie."""
    return f"{pipeline}.dead-letters"


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
        self.error: EnsignError | None = None

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


class RunContext:
    """Implements `ensign_core.plugin.Context` for one source or sink of a pipeline."""

    def __init__(self, pipeline: str, progress: Progress) -> None:
        self.pipeline = pipeline
        self._progress = progress
        self._letters: list[Event] = []
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

    def signals(self, done: int) -> Sequence[Signal]:
        return ()

    def comparison(self, schema: Schema) -> Comparison:
        raise NotImplementedError

    def dead_letter(self, event: Change | bytes, error: EnsignError) -> None:
        metadata = {"code": error.code, "error": error.sentence}
        if isinstance(event, Change):
            metadata["topic"] = event.batch.topic
            metadata["offset"] = str(event.offset)
            metadata["op"] = event.op.name.lower()
            metadata["schema"] = event.schema.name
            data = event.body
        else:
            data = event
        DEAD_LETTERS.labels(self.pipeline).inc()
        with self._lock:
            self._letters.append(
                Event(data, metadata=metadata, mimetype="application/octet-stream")
            )

    def take_letters(self) -> list[Event]:
        """The dead letters since the last call, for the append or commit that covers them."""
        with self._lock:
            letters, self._letters = self._letters, []
        return letters
