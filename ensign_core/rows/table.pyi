from collections.abc import Callable, Sequence

CALL: int
STRING: int
RAW: int
ONE_LINE: int
NUMBER: int
BOOLEAN: int
HEX: int
BYTES: int
DECIMAL: int
UTC: int
SINCE_EPOCH: int
"""How a column's text (kind ``t``) becomes JSON: by its function of Python, as a JSON string, as it
is, as it is without line breaks, as a number if its last character is a digit (else a string), as a
boolean if it is ``t`` or ``f`` (else a string), as base64 of the bytes of a bytea in hex format; as
a JSON string with raw bytes (kind ``b``) by the column's function of Python. `DECIMAL` is
as the unscaled bytes of a number with so many digits behind the point, `UTC` as a timestamp with so
many digits of the fraction, `SINCE_EPOCH` as a count of so many µs, where the text is as usual,
else by the column's function of Python. Otherwise text that is
not UTF-8 and raw bytes need no code: an object with base64, and base64."""

class RowTable:
    """A schema compiled for a format. It does not change, so threads may share it."""

    columns: int

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        key: Sequence[int],
        codes: bytes,
        renders: Sequence[Callable[[str], str] | Callable[[bytes], str] | None],
        placeholders: Sequence[str],
        arguments: Sequence[int] = (),
    ) -> None:
        """``name`` of the schema and ``names`` of the columns as JSON strings, indexes of the
        ``key``'s columns, one code per column, and a function for each that has `CALL` (of text) or
        `BYTES` (of bytes).
        ``arguments`` are the numbers of the last three codes.
        ``placeholders`` are JSON for what the source left out, one per column or none at all."""
