"""Published events as rows, and as JSON for the compiled lines (`ensign_core.rows.json`)."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

STRING: int
RAW: int
ONE_LINE: int
PAYLOAD: int
MIMETYPE: int
"""How a column is written: as a string, as it is, as JSON on one line, as data by what the column
of the code MIMETYPE says."""

class EventTable:
    """A schema of events, whose first column is their key. ``labels`` are the names of its columns
    as JSON, each with a colon."""

    def __init__(self, codes: bytes, labels: Sequence[bytes]) -> None: ...

class Published(Protocol):
    """What is published of an event."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def data(self) -> bytes: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    @property
    def mimetype(self) -> str | None: ...
    @property
    def type(self) -> str | None: ...

def bodies(
    events: Iterable[Published], to_json: Callable[[Mapping[str, str]], str]
) -> tuple[bytes, array[int]]:
    """The bodies of events of the fixed event schema in one piece, and their ends in it. Raises
    TypeError for what is neither text nor bytes, OverflowError for more than a batch can hold."""
