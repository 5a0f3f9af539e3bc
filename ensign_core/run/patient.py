"""A writer that waits for room on the disk instead of failing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ensign_core.broker import Writer
from ensign_core.change import Batch, Offset, Position, Stage
from ensign_core.engine import Beside
from ensign_core.errors import EnsignError

NO_ROOM = frozenset({"engine.disk_budget", "engine.disk_full"})
"""Errors of an append that the source outlives, unread: nothing was written, and the very same
append goes well when there is room (I8)."""


class PatientWriter:
    """A `Writer` of a source's thread. ``held_up`` is called with each error of `NO_ROOM`: it waits
    a while, acks meanwhile, and returns whether to try again; if not, the error is raised."""

    def __init__(self, writer: Writer, held_up: Callable[[EnsignError], bool]) -> None:
        self._writer = writer
        self._held_up = held_up

    def append(
        self,
        batches: Sequence[tuple[str, Batch]],
        position: Position | None = None,
        stage: Stage = Stage.NONE,
        kept: Mapping[str, bytes] | None = None,
        beside: Beside | None = None,
    ) -> list[Offset]:
        """As `Writer.append`."""
        while True:
            try:
                return self._writer.append(batches, position, stage, kept, beside)
            except EnsignError as error:
                if error.code not in NO_ROOM or not self._held_up(error):
                    raise


def not_read(error: EnsignError) -> EnsignError:
    """The warning while a source is held up by ``error``."""
    return EnsignError(
        "source.held_up",
        f"The source is not read, since its topics have no room ({error.code}): its server keeps "
        "its log (the slot's WAL, the binlog, the stream) meanwhile, which grows.",
        "Make room before the server runs out of it: let topics keep less with `ensign topics set`,"
        " delete some, raise `broker: disk:`, or see which sink is behind; the pipeline goes on by "
        "itself.",
    )
