"""The two ways to publish large events: `Chunked` and `ClaimCheck`."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO, Protocol

from ensign_core.broker.events import EVENT_BYTES_MAX, Event, event_batch
from ensign_core.broker.large.claim import CHUNKED, CLAIM_CHECK, Measured, Parts, Stored, part
from ensign_core.broker.large.stores import Store
from ensign_core.broker.writer import Writer
from ensign_core.change import Offset
from ensign_core.crypto import seal_stream
from ensign_core.errors import EnsignError

CHUNK_BYTES_MAX = EVENT_BYTES_MAX - 1024
"""What its mark and the frame's own words take of a part is less than the rest."""

PARTS_MAX = 200_000
"""Of one event, so that its claim is no large event itself."""

READ_BYTES = 1 << 20

Append = Callable[[Event], Offset]
"""Appends a part to the topic; its offset, once it is durable."""


class Large(Protocol):
    """Puts an event's data elsewhere if it takes more than ``over_bytes``. One thread uses it at a
    time."""

    @property
    def over_bytes(self) -> int: ...

    def claim(self, event: Event, pieces: Iterator[bytes], append: Append) -> Event:
        """The event to publish in the place of ``event``, whose data ``pieces`` are, once they are
        durable. Nothing can be read of them before it is published."""


@dataclass(frozen=True)
class Chunked:
    """Data in parts: events of the same topic, of ``chunk_bytes`` each, in an append each."""

    chunk_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if not 0 < self.chunk_bytes <= CHUNK_BYTES_MAX:
            raise ValueError(f"a part has 1 to {CHUNK_BYTES_MAX} bytes")

    @property
    def over_bytes(self) -> int:
        return self.chunk_bytes

    def claim(self, event: Event, pieces: Iterator[bytes], append: Append) -> Event:
        run, measured, offsets = secrets.token_hex(16), Measured(), list[Offset]()
        for chunk in measured.through(_chunks(pieces, self.chunk_bytes)):
            if len(offsets) == PARTS_MAX:
                raise EnsignError(
                    "event.too_large",
                    f"An event has at most {PARTS_MAX} parts, which this one has filled.",
                    "Give a greater chunk_bytes, or put its data into a store with ClaimCheck.",
                )
            offsets.append(append(part(run, len(offsets), chunk)))
        claim = Parts(
            data_bytes=measured.bytes, sha256=measured.sha256, mimetype=event.mimetype, run=run,
            offsets=tuple(offsets),
        )  # fmt: skip
        return replace(event, data=claim.encode(), mimetype=CHUNKED)


@dataclass(frozen=True)
class ClaimCheck:
    """Data as an object of ``store``, encrypted with a key of its own, which only the event has:
    whoever cannot read the topic cannot read the object, and a revoked key takes both."""

    store: Store
    over_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if not 0 <= self.over_bytes <= CHUNK_BYTES_MAX:
            raise ValueError(f"an event by itself has at most {CHUNK_BYTES_MAX} bytes")

    def claim(self, event: Event, pieces: Iterator[bytes], append: Append) -> Event:
        name, key, measured = secrets.token_hex(16), secrets.token_bytes(32), Measured()
        self.store.put(name, seal_stream(key, measured.through(pieces)))
        claim = Stored(
            data_bytes=measured.bytes, sha256=measured.sha256, mimetype=event.mimetype,
            store=self.store.location, name=name, key=key.hex(),
        )  # fmt: skip
        return replace(event, data=claim.encode(), mimetype=CLAIM_CHECK)


class Lifter:
    """Makes events small enough to be published to ``topic``. Belongs to one thread; ``writer``
    makes what appends parts, if there are any."""

    def __init__(self, large: Large, topic: str, writer: Callable[[], Writer]) -> None:
        self._large = large
        self._topic = topic
        self._make = writer
        self._writer: Writer | None = None

    def event(self, event: Event) -> Event:
        """An event that is small, or the claim in its place."""
        if len(event.data) <= self._large.over_bytes:
            return event
        return self.file(event, io.BytesIO(event.data))

    def file(self, event: Event, file: BinaryIO) -> Event:
        """As `event`, with the data that ``file`` has up to its end."""
        head = b"".join(_pieces(file, self._large.over_bytes + 1))
        if len(head) <= self._large.over_bytes:
            return replace(event, data=head)
        return self._large.claim(event, chain([head], _pieces(file)), self._append)

    def _append(self, event: Event) -> Offset:
        self._writer = self._writer or self._make()
        (offset,) = self._writer.append([(self._topic, event_batch(self._topic, [event]))])
        return offset


def _pieces(file: BinaryIO, bytes_max: int | None = None) -> Iterator[bytes]:
    """What a file gives up to its end, or ``bytes_max`` bytes of it."""
    left = bytes_max
    while piece := file.read(READ_BYTES if left is None else min(READ_BYTES, left)):
        yield piece
        if left is not None:
            left -= len(piece)


def _chunks(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces cut anew, each of ``size`` bytes but for the last."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
