"""JSON (RFC 8259) in UTF-8, taken apart one level deep; what is inside is checked too.

A value's kind is ``s`` string, ``i`` number without fraction and exponent, ``f`` any other number,
``b`` true or false, ``n`` null, ``{`` object, ``[`` array, ``S`` a string that is no Unicode, for
it has half of a surrogate pair. With it goes its text: of a string what it says, in UTF-8, of
``b`` a ``t`` or ``f``, of all others exactly what stands there.

Both raise ValueError for what is no JSON or not in UTF-8, RecursionError for arrays and objects in
each other deeper than `DEPTH_MAX`, UnicodeError, which is a ValueError, for a name of kind ``S``.
"""

DEPTH_MAX: int

def members(data: bytes) -> tuple[tuple[str, ...], bytes, list[bytes]] | None:
    """Names, kinds and texts of an object's members as they come, repeated names too; None for
    JSON that is no object."""

def items(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """Kinds and texts of an array's items; None for JSON that is no array."""
