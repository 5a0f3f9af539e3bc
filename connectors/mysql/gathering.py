"""The events of one batch, as they come, with their transactions' runs and ordinals."""

from __future__ import annotations

from array import array
from typing import Final

from connectors.mysql import gathered
from ensign_core.change import Batch, Op, Position, Run, Schema, Tx

NO_BODY: Final = b""


class Gathering:
    """The base of `connectors.mysql.stream.Stream`, whose hot path fills the columns itself.

    The ordinal of event N is ``_base`` + N: rows that are no events raise ``_base``, and events
    that are no rows lower it. ``_skip`` are rows still to come that an earlier batch covers.
    """

    def __init__(self) -> None:
        self._tx: Tx | None = None
        self._skip = 0
        self._base = 0
        self._runs: list[Run] = []
        self._bodies = gathered.Gathered()
        self._reset()

    def _reset(self) -> None:
        self._ops = bytearray()
        self._schema_ids = array("H")
        self._letters = 0
        self._schemas: dict[Schema, int] = {}

    def __len__(self) -> int:
        """What the next batch covers: events, and rows set aside, which are none."""
        return len(self._ops) + self._letters

    def take(self, position: Position) -> Batch:
        """The events so far as a batch that moves the source to ``position``."""
        count = len(self._ops)
        runs = self._runs
        if runs and runs[-1].start == count:
            runs.pop()
        body, ends = self._bodies.take()
        batch = Batch(
            self._ops, self._schema_ids, ends, body, runs, list(self._schemas), position
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

    def _extra(self, op: Op, schema: Schema) -> None:
        """An event that is no captured row: its ordinal is that of the row behind it."""
        self._add(op, schema, NO_BODY)
        self._base -= 1
        self._next_run()

    def _leave_out(self, rows: int = 1) -> None:
        """Rows that are no events: they count all the same, so that ordinals are the server's."""
        self._base += rows
        self._next_run()

    def _next_run(self) -> None:
        assert self._tx is not None
        start = len(self._ops)
        run = Run(start, self._base + start, self._tx)
        if self._runs and self._runs[-1].start == start:
            self._runs[-1] = run
        else:
            self._runs.append(run)
