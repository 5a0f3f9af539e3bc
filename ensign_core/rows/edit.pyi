from array import array
from collections.abc import Callable, Sequence

Edit = bytes | int | Callable[[bytes], bytes] | None
"""What becomes of a value that is there: this text, its first so many characters, the text that the
function gives, or (None) what it was. Null and unchanged values stay what they are."""

class Plan:
    """How rows of ``columns`` columns are rewritten: the columns ``picked``, in that order, with
    one edit each. It does not change, so threads may share it."""

    def __init__(self, columns: int, picked: Sequence[int], edits: Sequence[Edit]) -> None: ...

def edited(
    body: bytes, ends: array[int], schema_ids: array[int], plans: Sequence[Plan | None]
) -> tuple[bytes, array[int]]:
    """Body and ends of a batch whose events' images are all rewritten by the plans of their
    schemas, None for events that stay. Raises ``rows.damaged``, and what an edit raises."""

def column(
    body: bytes,
    ends: array[int],
    schema_ids: array[int],
    schema_id: int,
    columns: int,
    place: int,
    in_key: bool,
    old_first: bool,
    convert: Callable[[str], object] | None,
) -> tuple[list[object], list[int]]:
    """The values of column ``place`` (of so many ``columns``) in the events of one schema, in
    order, and where in that list no value is known.

    The new image's value, that of the old one where there is no new one or it left the column out;
    the other way round if ``old_first``. An old image of the key only knows the columns ``in_key``.
    Null and unknown are None, all else is the value's text or what ``convert`` makes of it: `int`
    is done here. Raises ``rows.damaged``, and what ``convert`` raises.
    """

def check(body: bytes, ends: array[int], schema_ids: array[int], columns: Sequence[int]) -> None:
    """Raise ``rows.damaged`` unless all events consist of well-formed images, with as many columns
    as their schema has."""
