"""Changes in memory: what sources produce, frames hold, and sinks and readers receive.

A `Batch` is columnar in its headers and row-shaped in its body. The body of one event is a run of
images, each a marker byte and a row in the layout of pgoutput's TupleData (PostgreSQL
documentation, "Logical Replication Message Formats"):

    event  := [ ("K" | "O") row ] [ "N" row ]        old image (key only | full), new image
    row    := int16 columns, column*                 big-endian, as on the wire
    column := "n" | "u" | ("t" | "b") int32 length, bytes

``n`` is null, ``u`` a value that the source left out because it did not change, ``t`` the
database's own text in UTF-8, ``b`` raw bytes. A row of a Postgres stream is thereby a slice of the
message received. In a key-only image the columns outside the key are absent, whatever their kind
byte says.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import accumulate, chain, count, repeat
from typing import NamedTuple, NewType, Self

from ensign_core.schema import (
    EVENT_COLUMNS,
    RECORD_COLUMNS,
    SET_ASIDE,
    Column,
    Logical,
    Schema,
    event_schema,
    record_schema,
)

__all__ = [
    "BINARY", "EVENT_COLUMNS", "KEY_IMAGE", "NEW_IMAGE", "NULL", "OLD_IMAGE", "RECORD_COLUMNS",
    "SET_ASIDE", "TEXT", "UNCHANGED", "Batch", "BatchBuilder", "Change", "Column", "Logical",
    "Offset", "Op", "Position", "Run", "Schema", "Stage", "Tx", "event_schema", "image_end",
    "record_schema",
]  # fmt: skip

Position = NewType("Position", bytes)
"""Where a source stands: the source's own bytes, opaque to everybody else."""

Offset = int
"""Where an event stands in a topic: 64 bits, rising."""

NULL, UNCHANGED, TEXT, BINARY = b"n"[0], b"u"[0], b"t"[0], b"b"[0]
KEY_IMAGE, OLD_IMAGE, NEW_IMAGE = b"K"[0], b"O"[0], b"N"[0]


class Op(IntEnum):
    """What an event says.

    MESSAGE has a row of a schema ``prefix, content``, EVENT one of `event_schema`. TRUNCATE, BEGIN,
    COMMIT and SCHEMA have an empty body: the event's schema is the table's, after the change.
    REMOVED has an empty body: a transform or compaction took the event out, or a later one took its
    place by its topic's policy. It keeps its place in the batch, so that the offsets of the others
    stay. Readers and sinks pass over it.
    """

    SNAPSHOT = 0
    INSERT = 1
    UPDATE = 2
    DELETE = 3
    TRUNCATE = 4
    MESSAGE = 5
    EVENT = 6
    SCHEMA = 7
    BEGIN = 8
    COMMIT = 9
    REMOVED = 10


class Tx(NamedTuple):
    """A transaction of the source. ``position`` is the source's readable position of its commit
    (for snapshot rows: of the as-of point, and ``id`` and ``committed_at`` are None). Events
    of a source without transactions have none, and times find them by that of their append;
    ``committed_at`` is in µs since the Unix epoch."""

    id: str | None
    position: str
    committed_at: int | None


class Run(NamedTuple):
    """Events ``start`` to the next run's start belong to ``tx``; the first is its row ``ordinal``,
    the others follow without a gap."""

    start: int
    ordinal: int
    tx: Tx


class Stage(IntEnum):
    """How an append becomes visible: HOLD keeps a batch aside until a batch of the same pipeline
    with RELEASE, whose append makes all held ones readable in order, atomically. What is held when
    a pipeline starts is void. For snapshots that mean something only when they are complete."""

    NONE = 0
    HOLD = 1
    RELEASE = 2


@dataclass(slots=True)
class Batch:
    """Events in memory. All columns have one entry per event, but ``runs`` and ``schemas``.

    ``schema_ids`` are indexes into ``schemas``; ``ends`` are the ends of the events' bodies in
    ``body``, in bytes. ``position`` is the source's after the last event. A batch that was read
    from a topic also says ``topic``, the ``offset`` of its first event and ``next_offset``.

    ``kept`` are pieces, by name, of what a source keeps beside its position because it is large and
    rarely changes: those that changed with this batch, each as a whole, and an empty value for
    what is gone. They become durable with ``position``, in the same append; so a batch without
    position, and one with HOLD, whose position does not count, has none: they come with RELEASE.
    Values are sealed as positions are, names lie in clear as those of topics do.

    ``routes``, one per schema or none at all, are topics that a transform chose for the events of a
    schema; an empty one leaves it at that. A batch that a sink gets has one `target`.

    ``replayed``: dead letters that a sink gets again, behind what it was given meanwhile. Their
    offsets are old: the next offset that a target stores beside its data does not go back to them.
    """

    ops: bytes | bytearray = b""
    schema_ids: array[int] = field(default_factory=lambda: array("H"))
    ends: array[int] = field(default_factory=lambda: array("I"))
    body: bytes = b""
    runs: list[Run] = field(default_factory=list)
    schemas: list[Schema] = field(default_factory=list)
    position: Position | None = None
    stage: Stage = Stage.NONE
    topic: str = ""
    offset: Offset = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    routes: list[str] = field(default_factory=list)
    replayed: bool = False

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def next_offset(self) -> Offset:
        return self.offset + len(self.ops)

    @property
    def target(self) -> str:
        """What ``{topic}`` is in a sink's options: the route, or the topic read from."""
        return next(filter(None, self.routes), self.topic)

    def __iter__(self) -> Iterator[Change]:
        """Small views, made on demand; valid as long as the batch is."""
        start = 0
        runs = iter(self.runs)
        run = None
        following = next(runs, None)
        for index, end in enumerate(self.ends):
            while following is not None and index >= following.start:
                run, following = following, next(runs, None)
            yield Change(self, index, start, end, run)
            start = end

    def change(self, index: int) -> Change:
        """A view of one event."""
        start = self.ends[index - 1] if index else 0
        place = bisect_right(self.runs, index, key=lambda run: run.start)
        run = self.runs[place - 1] if place else None
        return Change(self, index, start, self.ends[index], run)

    def edited(self, ops: bytes, bodies: Mapping[int, bytes]) -> Batch:
        """The same events with other ops, and other bodies where ``bodies`` has one."""
        parts = list(map(self.body.__getitem__, map(slice, chain((0,), self.ends), self.ends)))
        for index, body in bodies.items():
            parts[index] = body
        ends = array("I", accumulate(map(len, parts)))
        return replace(self, ops=ops, ends=ends, body=b"".join(parts))

    def part(self, start: int, stop: int) -> Batch:
        """The events ``start`` to ``stop`` (exclusive) as a batch of their own, without
        position."""
        first = self.ends[start - 1] if start else 0
        last = self.ends[stop - 1] if stop else 0
        runs: list[Run] = []
        for run in self.runs:
            if run.start >= stop:
                break
            if run.start <= start:
                runs[:] = [Run(0, run.ordinal + start - run.start, run.tx)]
            else:
                runs.append(run._replace(start=run.start - start))
        return Batch(
            self.ops[start:stop], self.schema_ids[start:stop],
            array("I", (end - first for end in self.ends[start:stop])),
            self.body[first:last], runs, self.schemas,
            topic=self.topic, offset=self.offset + start, routes=self.routes,
            replayed=self.replayed,
        )  # fmt: skip

    def split(self, names: Sequence[str]) -> dict[str, Batch]:
        """The events by the name that each schema has in ``names``, as batches of their own with
        the schemas that they use; names without events are left out, ordinals are kept."""
        indexes: dict[str, list[int]] = {name: [] for name in names}
        schemas: dict[str, list[int]] = {name: [] for name in names}
        for schema_id, name in enumerate(names):
            schemas[name].append(schema_id)
        places = [indexes[name].append for name in names]
        for index, schema_id in enumerate(self.schema_ids):
            places[schema_id](index)
        slices = list(map(self.body.__getitem__, map(slice, chain((0,), self.ends), self.ends)))
        # One entry per event, made and looked up without a step of Python for each.
        first = self.runs[0].start if self.runs else len(self)
        txs: list[Tx | None] = [None] * first
        ordinals = [0] * first
        ends = [*(run.start for run in self.runs[1:]), len(self)]
        for (start, ordinal, tx), end in zip(self.runs, ends, strict=False):
            txs += repeat(tx, end - start)
            ordinals += range(ordinal, ordinal + end - start)
        return {
            name: self._picked(
                picked,
                schemas[name],
                list(map(slices.__getitem__, picked)),
                _runs(picked, map(ordinals.__getitem__, picked), map(txs.__getitem__, picked)),
            )
            for name, picked in indexes.items()
            if picked
        }

    def _picked(
        self, indexes: list[int], schemas: list[int], slices: list[bytes], runs: list[Run]
    ) -> Batch:
        used = schemas
        schema_ids = array("H", bytes(2 * len(indexes)))
        if len(schemas) > 1:
            places = list(map(self.schema_ids.__getitem__, indexes))
            used = list(dict.fromkeys(places))
            own = {schema_id: place for place, schema_id in enumerate(used)}
            schema_ids = array("H", map(own.__getitem__, places))
        return Batch(
            bytes(map(self.ops.__getitem__, indexes)), schema_ids,
            array("I", accumulate(map(len, slices))), b"".join(slices), runs,
            [self.schemas[schema_id] for schema_id in used],
        )  # fmt: skip


def _runs(indexes: list[int], ordinals: Iterator[int], txs: Iterator[Tx | None]) -> list[Run]:
    """Runs for the events at ``indexes``, given their ordinals and transactions; those without a
    transaction come first."""
    known = list(txs)
    if known[0] is not None and indexes[-1] - indexes[0] >= 2 * len(indexes):
        # Few are neighbours: a run for each takes no step of Python.
        return list(map(tuple.__new__, repeat(Run), zip(count(), ordinals, known, strict=False)))
    runs: list[Run] = []
    last: Tx | None = None
    following = -1
    for place, (ordinal, tx) in enumerate(zip(ordinals, known, strict=True)):
        if (ordinal != following or tx is not last) and tx is not None:
            runs.append(Run(place, ordinal, tx))
            last = tx
        following = ordinal + 1
    return runs


def image_end(body: bytes, at: int) -> int:
    """Where the row that starts at ``at`` (behind its marker) ends."""
    (columns,) = struct.unpack_from(">H", body, at)
    at += 2
    for _ in range(columns):
        kind = body[at]
        at += 1
        if kind in (TEXT, BINARY):
            at += 4 + int.from_bytes(body[at : at + 4], "big")
    return at


class Change:
    """A view of one event of a `Batch`."""

    __slots__ = ("_end", "_run", "_start", "batch", "index")

    def __init__(self, batch: Batch, index: int, start: int, end: int, run: Run | None) -> None:
        self.batch = batch
        self.index = index
        self._start = start
        self._end = end
        self._run = run

    @property
    def op(self) -> Op:
        return Op(self.batch.ops[self.index])

    @property
    def schema(self) -> Schema:
        return self.batch.schemas[self.batch.schema_ids[self.index]]

    @property
    def offset(self) -> Offset:
        return self.batch.offset + self.index

    @property
    def tx(self) -> Tx | None:
        return self._run.tx if self._run else None

    @property
    def ordinal(self) -> int:
        """The row's place in its transaction among the captured rows, from 0."""
        return self._run.ordinal + self.index - self._run.start if self._run else 0

    @property
    def body(self) -> bytes:
        """The images as they lie in the batch."""
        return self.batch.body[self._start : self._end]

    def images(self) -> tuple[bytes | None, bytes | None, bool]:
        """The old row, the new row (each without its marker, None where there is none), and whether
        the old one holds the key's columns only."""
        body = self.batch.body
        start, end = self._start, self._end
        if start == end:
            return None, None, False
        marker = body[start]
        if marker == NEW_IMAGE:
            return None, body[start + 1 : end], False
        middle = image_end(body, start + 1)
        new = body[middle + 1 : end] if middle < end else None
        return body[start + 1 : middle], new, marker == KEY_IMAGE


class BatchBuilder:
    """Collects events into a `Batch`; for sources whose hot path does not build the columns itself.

    Call `begin` when a transaction starts (or resumes, with the ordinal of its next row), `add` for
    each event, `take` to get the batch and start over.
    """

    def __init__(self) -> None:
        self._tx: tuple[Tx, int] | None = None
        self._reset()

    def _reset(self) -> None:
        self._ops = bytearray()
        self._schema_ids = array("H")
        self._bodies: list[bytes] = []
        self._runs: list[Run] = []
        self._schemas: dict[Schema, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def in_tx(self) -> bool:
        """Whether what follows belongs to a transaction."""
        return self._tx is not None

    def begin(self, tx: Tx, ordinal: int = 0) -> Self:
        """What follows belongs to ``tx``, from its row ``ordinal`` on."""
        self._tx = tx, ordinal
        if self._runs and self._runs[-1].start == len(self._ops):
            self._runs.pop()
        self._runs.append(Run(len(self._ops), ordinal, tx))
        return self

    def add(self, op: Op, schema: Schema, body: bytes) -> None:
        """Append one event; ``body`` is its images as described at the top of this module."""
        if not self._runs and self._tx is not None:
            self._runs.append(Run(0, self._tx[1], self._tx[0]))
        self._ops.append(op)
        self._schema_ids.append(self._schemas.setdefault(schema, len(self._schemas)))
        self._bodies.append(body)
        self.bytes += len(body)
        if self._tx is not None:
            self._tx = self._tx[0], self._tx[1] + 1

    def take(self, position: Position | None, stage: Stage = Stage.NONE) -> Batch:
        """The events so far as a batch that moves the source to ``position``."""
        ends = array("I", accumulate(map(len, self._bodies)))
        batch = Batch(
            bytes(self._ops), self._schema_ids, ends, b"".join(self._bodies), self._runs,
            list(self._schemas), position, stage,
        )  # fmt: skip
        self._reset()
        return batch
