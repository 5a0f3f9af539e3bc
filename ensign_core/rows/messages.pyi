from collections.abc import Sequence

from ensign_core.change import Batch

def records(
    batch: Batch, op: int, places: Sequence[Sequence[int]]
) -> tuple[
    list[bytes | None],
    list[bytes | None],
    list[int],
    list[bytes | None] | None,
    list[int] | None,
    list[int] | None,
]:
    """Keys, values, indexes, texts of headers, partitions and timestamps of the events of a batch
    with that ``op``. ``places`` has, for each schema of the batch, the columns of key, data,
    headers, partition and timestamp, each once, -1 for one that it lacks. The last three lists are
    None where no event has any. A partition that is null is -1; so is a timestamp, but 0 for a
    schema without the column. Raises ``rows.damaged``."""

def largest(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> int:
    """The most bytes that a key and its value have together; 0 for none."""
