"""What a format is: from a batch to lines, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ensign_core.change import Batch, Op
from ensign_core.errors import EnsignError
from ensign_core.rows import lines

SILENT = frozenset({Op.SCHEMA, Op.BEGIN, Op.COMMIT, Op.REMOVED})
"""Ops of which no format writes a line."""


class Lines(NamedTuple):
    """``texts[i]`` is a line of the event ``indexes[i]`` of the batch. Indexes never fall: an event
    may have no line (the ops in `SILENT`) or two (a changed key in the format ``debezium``)."""

    texts: Sequence[bytes]
    indexes: Sequence[int]

    @property
    def text(self) -> bytes:
        """All of them in one piece, each with its newline: what sinks write in bulk. Costs nothing
        but in the format ``raw``."""
        if isinstance(self.texts, lines.Texts):
            return self.texts.block
        return b"".join(text + b"\n" for text in self.texts)


class Messages(NamedTuple):
    """What a broker takes: a key and a value per message, each None where there is none.
    ``indexes[i]`` is the index in the batch of the event of message i and never falls;
    ``deletes[i]`` is 1 where the message says that what its key names is gone, so that a compacted
    topic wants a tombstone behind it, else 0.

    A message that has no value and 1 in ``deletes`` is itself the tombstone of a key that an update
    changed, and comes before the update: a target that takes no tombstones leaves it out. Any other
    message without value, of the format ``raw``, is what its publisher sent."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    indexes: Sequence[int]
    deletes: bytes


class Formatter(Protocol):
    """Turns the batches of a topic into lines, or messages of a broker. It keeps what it compiled
    from the schemas it saw, so a reader or sink makes one and uses it from one thread (I1)."""

    def lines(self, batch: Batch) -> Lines:
        """The batch's lines, in the order of its events, each without the newline: JSON in UTF-8,
        except in the format ``raw``. Reads ``batch.topic`` and ``batch.offset``. Raises
        ``rows.damaged``, or ``format.*`` for an event that the format cannot express."""

    def messages(self, batch: Batch) -> Messages:
        """The same lines as messages of a broker. The key is a JSON object of the row's key columns
        as the format writes them, ``{"id":7}``: that of the new row, or of the old one after a
        delete; of a published event it is its own key, byte for byte. None for what has no key:
        tables without one, TRUNCATE, MESSAGE."""


def inexpressible(name: str, needs: str, remedy: str) -> EnsignError:
    """The error for an event that a format has no form for."""
    return EnsignError(
        f"format.{name}_needs_{needs}",
        f"The format {name} writes only {needs}, and this topic holds something else.",
        remedy,
    )
