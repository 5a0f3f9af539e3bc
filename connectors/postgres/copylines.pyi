from array import array
from collections.abc import Sequence

def bodies(lines: Sequence[bytes], columns: int) -> tuple[bytes, array[int]]:
    """The bodies (new images, one behind the other) of the rows in ``lines``, each one row of
    ``columns`` columns with its newline, and their ends (``I``), as a `Batch` has them. Raises
    ``postgres.protocol_damaged`` for another number of columns, a missing newline, or an escape
    that ``COPY TO`` does not write."""
