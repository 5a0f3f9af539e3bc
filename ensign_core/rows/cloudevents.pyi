"""Whole batches as lines or messages of the format ``cloudevents``, as `ensign_core.rows.json` has
them for other formats. ``head`` stands before the offset, ``source`` behind it, a mark of an op is
all between the subject and the key, and ``published`` gives all behind the subject."""

from collections.abc import Callable, Sequence

from ensign_core.change import Batch
from ensign_core.rows.json import Sent
from ensign_core.rows.lines import Texts
from ensign_core.rows.table import RowTable

def lines(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    head: bytes,
    source: bytes,
    published: Callable[[int, bytes], str],
) -> tuple[Texts, Sequence[int]]: ...
def messages(
    batch: Batch,
    tables: Sequence[RowTable],
    marks: Sequence[bytes | None],
    head: bytes,
    source: bytes,
    published: Callable[[int, bytes], str],
    event_key: Callable[[int, bytes], tuple[bytes | None, bool]],
) -> Sent: ...
