"""The events of one batch, as they come, with their transactions' runs and ordinals."""

from __future__ import annotations

from array import array
from itertools import accumulate

from connectors.postgres.pgoutput import ROUTE_END
from ensign_core.change import Batch, Op, Position, Run, Schema, Tx


class Gathering:
    """The base of `connectors.postgres.stream.Stream`, whose hot path fills the columns itself.

    The ordinal of event N is ``_base`` + N: rows that are no events raise ``_base``, and events
    that are no rows lower it. ``_skip`` are rows still to come that an earlier batch covers.
    """

    def __init__(self) -> None:
        self._tx: Tx | None = None
        self._skip = 0
        self._base = 0
        self._runs: list[Run] = []
        self._reset()

    def _reset(self) -> None:
        self._ops = bytearray()
        self._schema_ids = array("H")
        self._bodies: list[bytes] = []
        self._size = 0
        self._letters = 0
        self._schemas: dict[Schema, int] = {}
        self._routes: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        """What the next batch covers: events, and rows set aside, which are none."""
        return len(self._ops) + self._letters

    def take(self, position: Position) -> Batch:
        """The events so far as a batch that moves the source to ``position``."""
        count = len(self._ops)
        runs = self._runs
        if runs and runs[-1].start == count:
            runs.pop()
        batch = Batch(
            self._ops, self._schema_ids, array("I", accumulate(map(len, self._bodies))),
            b"".join(self._bodies), runs, list(self._schemas), position,
        )  # fmt: skip
        self._base += count
        self._reset()
        self._runs = []
        if self._tx is not None:
            self._runs.append(Run(0, self._base, self._tx))
        return batch

    def _schema_id(self, schema: Schema) -> int:
        return self._schemas.setdefault(schema, len(self._schemas))

    def _add(self, op: Op, schema: Schema, body: bytes) -> None:
        self._ops.append(op)
        self._schema_ids.append(self._schema_id(schema))
        self._bodies.append(body)
        self._size += len(body) + ROUTE_END

    def _extra(self, op: Op, schema: Schema) -> None:
        """An event that is no captured row: its ordinal is that of the row behind it."""
        self._add(op, schema, b"")
        self._base -= 1
        self._next_run()

    def _skip_replayed(self) -> None:
        """A row that an earlier batch covers."""
        self._skip -= 1
        self._leave_out()

    def _leave_out(self) -> None:
        """A row that is no event: it counts all the same, so that ordinals are the server's."""
        self._base += 1
        self._next_run()

    def _next_run(self) -> None:
        assert self._tx is not None
        start = len(self._ops)
        run = Run(start, self._base + start, self._tx)
        if self._runs and self._runs[-1].start == start:
            self._runs[-1] = run
        else:
            self._runs.append(run)
