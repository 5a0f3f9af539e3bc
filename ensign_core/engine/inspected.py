"""What is asked of an engine to look at its data as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from ensign_core.change import Offset


class Flaw(NamedTuple):
    """Something in the tables that cannot be as it is, and which offsets of which topic it
    concerns, as far as that can be said."""

    code: str
    sentence: str
    topic_id: bytes | None = None
    first: Offset | None = None
    last: Offset | None = None


class Record(NamedTuple):
    """A sealed value that is not a frame: of what kind, and what it belongs to."""

    kind: Literal["position", "kept", "status", "signal", "letter", "schema", "policy"]
    of: tuple[str | int | bytes, ...]
    box: bytes


class Inspection(Protocol):
    """What can be said of the stored data without a key, while it is in use."""

    def flaws(self, topic_id: bytes | None = None) -> list[Flaw]:
        """What is wrong with the files, and with how the frames of a topic, or of all, lie; of each
        kind some."""

    def records(self) -> Iterator[Record]: ...

    def copy(self, folder: Path, progress: Callable[[int, int], None]) -> set[bytes]:
        """Copy everything but what only lives while it is in use into an empty folder, as of one
        moment, but for the keys: they come last, so that one destroyed meanwhile is not in the
        copy. Nobody waits for it. ``progress`` is told how much of how much is done. Returns the
        ids of the topics that there still were at the end; the keys of others may be missing."""
