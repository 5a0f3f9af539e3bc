"""Whole batches as lines of JSON. ``tables`` are the batch's schemas, compiled. ``marks`` has what
an op, its index, puts into its lines, or None for ops without lines. ``published(number, body)``
writes the body of an event of the op EVENT and the schema ``number`` where ``events[number]`` does
not. The lines are complete and in
UTF-8; with them come the indexes of their events.

The functions for messages give keys, values, the indexes of the events, and a 1 for each message
that says that what its key names is gone, see `ensign_core.formats.lines.Messages`. Their
``event_key(number, body)`` gives the key of an event of the op EVENT, and whether it says so.

All raise ``rows.damaged`` for a body that does not follow the row layout, whatever its bytes.
"""

from collections.abc import Callable, Sequence

from ensign_core.change import Batch, Run
from ensign_core.rows.lines import Texts
from ensign_core.rows.published import EventTable
from ensign_core.rows.table import RowTable

Sent = tuple[list[bytes | None], list[bytes | None], list[int], bytes]

def json_lines(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    events: Sequence[EventTable | None],
    published: Callable[[int, bytes], str],
) -> tuple[Texts, Sequence[int]]:
    """Lines of the format ``json``. A mark is what stands between the offset and the key;
    ``published`` gives all from the key to ``unchanged``."""

def json_messages(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    events: Sequence[EventTable | None],
    published: Callable[[int, bytes], str],
    event_key: Callable[[int, bytes], tuple[bytes | None, bool]],
) -> Sent: ...
def flat_lines(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    events: Sequence[EventTable | None],
    published: Callable[[int, bytes], str],
) -> tuple[Texts, Sequence[int]]:
    """Lines of the format ``flat``. A mark is what stands between the row and ``__ts_ms``;
    ``published`` gives the inside of the row's object."""

def flat_messages(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    events: Sequence[EventTable | None],
    published: Callable[[int, bytes], str],
    event_key: Callable[[int, bytes], tuple[bytes | None, bool]],
) -> Sent: ...
def debezium_lines(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    source: Callable[[int, Run | None], bytes],
    tail: bytes,
) -> tuple[Texts, Sequence[int]]:
    """Lines of the format ``debezium``. A mark is the op's letter, ``source(number, run)`` the
    source's object for the rows of one schema and run, ``tail`` what follows the op."""

def debezium_messages(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    source: Callable[[int, Run | None], bytes],
    tail: bytes,
) -> Sent: ...
