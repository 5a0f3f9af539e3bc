"""Records to rows, where a config says ``decode``: what was read, and what was set aside and comes
again. Imports no driver."""

from __future__ import annotations

from collections.abc import Callable

from connectors.kafka.config import KafkaSourceConfig
from ensign_core.change import RECORD_COLUMNS, Batch, BatchBuilder, Change, Op, Tx
from ensign_core.errors import EnsignError
from ensign_core.formats.decoding import Decoder, Row, decoder
from ensign_core.rows import split

_NO_TX = Tx(None, "", None)
"""Of a row without transaction behind one that has one, whose it would seem to be."""


class _Rows(BatchBuilder):
    """Rows whose transactions are told one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._last: Tx | None = None
        self._following = 0

    def row(self, row: Row) -> None:
        """Append a row; one that goes on where the last one was needs no run of its own."""
        tx = row.tx if row.tx is not None or self._last is None else _NO_TX
        if tx is not None and (tx != self._last or row.ordinal != self._following):
            self.begin(tx, row.ordinal)
        self._last, self._following = tx, row.ordinal + 1
        self.add(row.op, row.schema, row.body)


def decoded(
    batch: Batch, by: Decoder, refused: Callable[[Change, EnsignError], None] | None = None
) -> Batch:
    """The rows of a batch of records, with its position. What cannot be decoded is given to
    ``refused`` as it is; without that, its error is raised (``decode.*``). Events that are no
    records stay."""
    rows = _Rows()
    for change in batch:
        schema = change.schema
        if change.op is not Op.EVENT or schema.columns != RECORD_COLUMNS:
            rows.row(Row(change.op, schema, change.body, change.tx, change.ordinal))
            continue
        kinds, values = split(change.body[1:])
        key, value = (None if kinds[at] == b"n"[0] else values[at] for at in (0, 1))
        try:
            row = by.row(schema.name, key, value)
        except EnsignError as fault:
            if refused is None:
                raise
            refused(change, fault)
            continue
        if row is not None:
            rows.row(row)
    return rows.take(batch.position)


def replay(config: KafkaSourceConfig, batch: Batch) -> Batch:
    """Records that were set aside, decoded as the source would decode them now. Without ``decode``,
    what was set aside is what a transform refused: it is as it was."""
    return batch if config.decode == "none" else decoded(batch, decoder(config.decode))
