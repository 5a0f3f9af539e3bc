from collections.abc import Sequence

from ensign_core.change import Batch

def columns(
    batch: Batch, ops: bytes, places: Sequence[Sequence[int]]
) -> tuple[list[tuple[bytes | None, ...]], list[int]]:
    """Some columns of the new rows of a batch's events with one of the ``ops``, and the indexes of
    those events. ``places`` has, for each schema of the batch, the columns' indexes in it, at most
    255 and each once, -1 for one that it lacks; those are None, as nulls and unchanged values are.
    Other events are passed over. Raises ``rows.damaged``, for an event with an old image too."""
