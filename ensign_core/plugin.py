"""The contract between Ensign and a connector. It is all that a connector sees of Ensign, beside
`ensign_core.change`, `ensign_core.errors`, `ensign_core.rows` and `ensign_core.formats`.

The invariants, cited in the code that upholds them as ``# I5``:

- **I1** One thread calls all methods of one instance. Connectors need no locks.
- **I2** ``read`` returns within ``timeout_s``: a batch that advances the position (it may hold no
  events: a heartbeat past changes that nobody captures), or None. It blocks in the driver and
  never spins.
- **I3** Commit order. ``open(resume)`` yields exactly the next change, even inside a large
  transaction: the source skips what its server replays.
- **I4** ``ack(p)``: everything up to p is synced. Cumulative and idempotent. It is the keep-alive
  too: it is called at least every heartbeat (1 s) even when nothing moved and while ``read`` is
  not being called.
- **I5** No ack before the sync, and one call site.
- **I6** ``write`` may buffer; ``flush`` returns when all that was written is durable at the target;
  the group's offset is committed only after it.
- **I7** ``Sink.open`` returns the next offset of each topic when the target stores it in its own
  transactions (exactly once), else None (at least once: topic and offset identify every event).
- **I8** Back-pressure blocks and is bounded in bytes. A slow sink delays only itself; a full topic
  stops ``read``, not ``ack``.
- **I9** After an exception an instance is dead: it is closed, and after a back-off a new one is
  made from the last durable position. Drivers that reconnect silently are prevented from it.
- **I10** Connectors do not retry connections. One table (`ensign_core.run.retry`) maps the last
  word of an error's code to wait or stop; what is not in it stops that pipeline, leaves the others
  running, and tells the operator what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from ensign_core.change import Batch, Change, Offset, Position, Schema
from ensign_core.errors import EnsignError

State = Literal["snapshot", "streaming"]


class Source(Protocol):
    """Reads changes from a server. Made by `Connector.make`, called by the ingest loop (I1)."""

    def open(self, resume: Position | None) -> None:
        """Connect and stand so that `read` yields exactly what comes after ``resume`` (I3); None
        means that this pipeline has no durable position yet."""

    def read(self, timeout_s: float) -> Batch | None:
        """The next batch, with its ``position`` set, or None if nothing came (I2)."""

    def ack(self, position: Position) -> None:
        """Everything up to ``position`` is durable here: the server may forget it (I4, I5)."""

    def caught_up(self) -> bool:
        """Whether the last position that `read` returned has passed the end of the server's log as
        it was when `open` was called, with every snapshot complete: ``--until-caught-up``."""

    def close(self) -> None:
        """Let go of everything, here and at the server. Called after an exception too, perhaps
        before `open` and more than once; must not raise."""


class Sink(Protocol):
    """Writes events elsewhere. Made by `Connector.make`, called by the egress loop (I1)."""

    def open(self) -> Mapping[str, Offset] | None:
        """Connect. The next offset by topic name if the target knows it, else None (I7)."""

    def write(self, batch: Batch) -> None:
        """Take over the events of one topic, in order; ``batch.topic`` and ``batch.offset`` are
        set. May buffer and block (I6, I8). `Batch.replayed` ones come alone, up to a flush."""

    def flush(self) -> None:
        """Return when all that was written is durable at the target (I6)."""

    def close(self) -> None:
        """Let go of everything; what was not flushed will be written again. Must not raise."""


class SnapshotProgress(NamedTuple):
    """How far the snapshots under way are; none is when ``tables_done`` equals ``tables``.
    ``rows_total`` is an estimate, None where there is none."""

    tables_done: int
    tables: int
    rows: int
    rows_total: int | None


@dataclass(frozen=True)
class Signal:
    """What an operator asks of a source with `ensign snapshot`. ``number`` rises. ``tables`` are
    globs as in the config, all captured tables if there are none; ``where`` is the server's own
    language; ``reconcile``: events only for what the topic lacks or has otherwise, and deletes."""

    number: int
    kind: Literal["snapshot", "pause", "resume", "stop"]
    tables: tuple[str, ...] = ()
    where: str | None = None
    reconcile: bool = False


class Comparison(Protocol):
    """What a table's topic holds, by key, compared with the table's rows. Each call first takes in
    what was appended since the last one, so call it when all batches have been read."""

    def advance(self, timeout_s: float) -> bool:
        """Take in what was appended, for about ``timeout_s``; whether that was all."""

    def differing(self, schema: Schema, bodies: Sequence[bytes]) -> list[bytes]:
        """Those of the rows (bodies with a new image) that the topic lacks or has otherwise."""

    def absent(self, rows_max: int) -> list[bytes]:
        """Old images of at most ``rows_max`` rows, each once, that the topic holds, that were never
        given to `differing` and that no event has touched since the comparison was made."""

    def close(self) -> None:
        """Let go of it."""


class Context(Protocol):
    """What a connector sees of Ensign. All is cheap but `kept` and `comparison`."""

    pipeline: str
    """The pipeline's name."""
    name: str
    """``source``, or the sink's name in the pipeline."""
    project: str
    """The project's id: another project may have a pipeline and a sink of the same names."""

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
        """What `ensign status` shows: only what is given changes. ``position`` is for people,
        ``lag_bytes`` how far the server's end is ahead, ``detail`` a few words, ``kept_bytes`` what
        the server keeps of its log for this source; ``warnings`` are all that hold now."""

    def kept(self) -> Mapping[str, bytes]:
        """All pieces of `Batch.kept` as of the last durable position: called by `Source.open`."""

    def signals(self, done: int) -> Sequence[Signal]:
        """What operators asked for, oldest first, with a number above ``done``: the last that a
        durable position accounts for (I5)."""

    def comparison(self, schema: Schema) -> Comparison:
        """Compare the table of ``schema``, which has a key, with what its topic holds."""

    def dead_letter(self, event: Change | bytes, error: EnsignError) -> None:
        """Set aside an event that cannot be processed: in the topic ``PIPELINE.dead-letters``, with
        the append of the position (source) or before the offset is committed (sink)."""


class ConnectorConfig(BaseModel):
    """The base of every connector's config model. ``type`` (a Literal) discriminates."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Finding:
    """What a preflight found: an ``error`` makes `ensign check` exit with 1. ``remedy`` is the
    statement or step that mends it."""

    level: Literal["pass", "warning", "error"]
    code: str
    sentence: str
    remedy: str = ""


C = TypeVar("C", bound=ConnectorConfig)


@dataclass(frozen=True)
class Connector(Generic[C]):
    """A connector as the registry knows it. ``make`` opens nothing; ``check`` connects, looks and
    disconnects; ``drop`` removes what the pipeline left on the server, and says so in sentences;
    ``signals``: a source that heeds `Context.signals`; ``ends``: whether one ends when caught up;
    ``reads``: globs of topics here that the sinks get, of a source that gives nothing itself;
    ``replay`` makes of events set aside (bytes: `SET_ASIDE`) what it would now, or raises."""

    name: str
    kind: Literal["source", "sink"]
    config: type[C]
    make: Callable[[C, Context], Any]
    signals: bool = field(default=False, kw_only=True)
    reads: Callable[[C], Sequence[str]] = field(default=lambda _config: (), kw_only=True)
    ends: Callable[[C], bool] = field(default=lambda _config: False, kw_only=True)
    replay: Callable[[C, Batch], Batch] = field(default=lambda _config, batch: batch, kw_only=True)
    check: Callable[[C, str], Sequence[Finding]] = field(default=lambda _config, _pipeline: ())
    drop: Callable[[C, str], Sequence[str]] = field(default=lambda _config, _pipeline: ())
