"""What is asked of an engine to take events out of topics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from ensign_core.change import Offset


class Trimmed(NamedTuple):
    """What a trim took off a topic's start: events, bytes on disk, and whether it stopped for its
    own limits only, so that there is more."""

    events: int
    bytes: int
    more: bool


class Compacted(NamedTuple):
    """How far a topic was compacted: before ``clean_to`` there is the latest event of each key
    only. ``tombstone`` is the first delete or truncate kept there, ``passed_us`` when a pass last
    ended."""

    clean_to: Offset = 0
    tombstone: Offset | None = None
    passed_us: int = 0


class Keeping(Protocol):
    """What takes events out of topics. Each call is one transaction of bounded size."""

    def hold(self) -> Callable[[], None] | None:
        """Be the one process that keeps the topics, until the returned function is called or the
        process ends; None if another is."""

    def floor(self, topic_id: bytes, besides: str | None = None) -> Offset | None:
        """The first offset that some group has not read, sinks that have not begun included, but
        for those of the pipeline ``besides``; None if there is no group."""

    def trim(
        self,
        topic_id: bytes,
        upto: Offset,
        bytes_max: int | None = None,
        *,
        unread: bool = False,
        besides: str | None = None,
    ) -> Trimmed:
        """Remove the oldest frames, whole ones that end at or before ``upto``; while the topic has
        more than ``bytes_max``, if that is given. Never behind `floor`, unless ``unread``."""

    def replace(
        self,
        topic_id: bytes,
        sequence: int,
        frame: bytes | None,
        removed: int,
        content_bytes: int,
        gone: Sequence[Offset] = (),
    ) -> bool:
        """Put a frame of the same events, ``removed`` of them taken out, in the place of one; None
        removes it. What is not there any more makes no later event a duplicate: the hashes of what
        is ``gone`` with it go. False, and nothing happens, if it is gone or its data key is."""

    def compacted(self, topic_id: bytes) -> Compacted: ...

    def set_compacted(self, topic_id: bytes, compacted: Compacted) -> None: ...

    def bounds(self, topic_ids: Iterable[bytes]) -> dict[bytes, tuple[Offset, Offset]]:
        """Where each topic that there is was trimmed to, and its next offset."""
