"""What published events are known by, so that none is stored twice: what an append claims, and what
an engine keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ensign_core.change import Offset


class Numbers(NamedTuple):
    """Sequences of a producer's session, one per event, from ``first`` on, and where the events
    lie: from the index ``at`` on in the frame that is appended, or, if that is negative, from the
    ``offset`` on in the topic."""

    session: bytes
    first: int
    events: int
    at: int
    offset: Offset = 0


@dataclass(frozen=True)
class Claims:
    """What the events published to a topic are known by. The claims hold or nothing is written:
    ``topic_id`` (None: there is no such topic) still has the ``policy``, no session's number is
    taken or forgotten, and no event of the topic has any of the ``hashes``.

    ``frame`` is the index of the topic's frame in the append, -1 if it has none. With ``latest``
    hashes may be taken: the events that had them are superseded. ``duplicates`` were left out."""

    topic: str
    topic_id: bytes | None
    policy: bytes | None
    at_us: int
    frame: int = -1
    numbers: Sequence[Numbers] = ()
    hashes: Sequence[tuple[bytes, int]] = ()
    latest: bool = False
    duplicates: int = 0


class ClaimedError(Exception):
    """What an append claimed does not hold any more, since another was faster. Nothing was written:
    look again and claim what is left."""


class Window(NamedTuple):
    """What is known of a producer's session in a topic: the ``newest`` of its sequences (-1: none),
    up to which of them all are forgotten, and offsets of some as runs ``(first, last, offset)``."""

    newest: int = -1
    forgotten: int = -1
    runs: Sequence[tuple[int, int, Offset]] = ()


class Publishing(Protocol):
    """What published events are known by, so that none is stored twice. `Engine.append` adds to it,
    with `Claims`."""

    def window(self, topic_id: bytes, session: bytes, first: int, last: int) -> Window:
        """What is known of the session's sequences, with the runs between two of them."""

    def duplicates(self, topic_id: bytes, hashes: Sequence[bytes]) -> dict[bytes, Offset]:
        """The events that have these hashes, of those that can still be read."""

    def superseded(self, topic_id: bytes, first: Offset, last: Offset) -> list[Offset]:
        """The events between two offsets that later ones took the place of."""

    def seed(
        self, topic_id: bytes, hashes: Sequence[tuple[bytes, Offset]], *, latest: bool
    ) -> None:
        """Remember hashes of events that the topic has, where none is known or, if ``latest``, an
        earlier one is."""

    def seeded(self, topic_id: bytes, policy: bytes, end: Offset) -> bool:
        """Give the topic its policy if ``end`` still is its end; whether it was."""

    def keep_hashes(self, topic_id: bytes, prefix: bytes | None) -> None:
        """Forget the topic's hashes but those that begin with ``prefix``, some at a time."""
