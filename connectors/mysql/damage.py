"""What the compiled codecs of this connector raise; who calls them makes the error code.

None of these carries a value: a message names a column at most.
"""

from __future__ import annotations


class DamagedError(ValueError):
    """Bytes that do not follow the format, or metadata of a column that no server writes."""


class MismatchError(ValueError):
    """A row that is well-formed but not of the columns that were given: their number differs, or
    an ENUM or SET has more labels than were told."""


class NoBaseError(ValueError):
    """Changes to a value whose old one the log leaves out: the new one is not to be had."""


class ServerError(Exception):
    """The server's answer to a statement is an error: its number and SQLSTATE, without its text,
    which may have values."""

    def __init__(self, number: int, sqlstate: str) -> None:
        super().__init__(f"error {number} ({sqlstate})")
        self.number = number
        self.sqlstate = sqlstate
