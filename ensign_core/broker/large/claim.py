"""What a small event says of the large one that it stands for, and how its parts are marked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ensign_core.broker.events import Event
from ensign_core.change import Offset
from ensign_core.errors import EnsignError

CLAIM_CHECK = "application/vnd.ensign.claim-check+json"
CHUNKED = "application/vnd.ensign.chunked+json"
"""Mimetypes of claims: on an object of a store, and on parts."""

PART_MIMETYPE = "application/vnd.ensign.part"
PART = "ensign.part"
"""The metadata that makes an event a part: its run and its number there, from 0, as ``RUN/N``. Keys
of metadata that begin with ``ensign.`` are reserved."""

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Claim(BaseModel):
    """``data_bytes``, ``sha256`` and ``mimetype`` are those of the large event's data."""

    model_config = ConfigDict(frozen=True)

    data_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    mimetype: str | None

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


class Parts(Claim):
    """A claim on parts: events of the claim's topic."""

    run: Id
    offsets: tuple[Offset, ...]


class Stored(Claim):
    """A claim on an object. ``store`` says for people where it was put, and a reader looks into its
    own stores for ``name``; ``key`` is of this object alone."""

    store: str
    name: Id
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]


_KINDS: dict[str | None, type[Parts | Stored]] = {CHUNKED: Parts, CLAIM_CHECK: Stored}


def claim_of(event: Event) -> Parts | Stored | None:
    """The claim that an event is; None for all others. ``event.damaged`` for what is marked as one
    and is none."""
    kind = _KINDS.get(event.mimetype)
    if kind is None:
        return None
    try:
        return kind.model_validate_json(event.data)
    except ValidationError:
        # What it is chained to would show the key.
        raise damaged("its claim cannot be read") from None


def part(run: str, number: int, data: bytes) -> Event:
    """A part of a large event."""
    return Event(data, metadata={PART: f"{run}/{number}"}, mimetype=PART_MIMETYPE)


def is_part(event: Event) -> bool:
    """Whether an event is a part, and so nothing by itself: neither a duplicate of another nor
    something to be handed to a subscriber."""
    return PART in event.metadata


class Measured:
    """Pieces of bytes, counted and hashed as they pass."""

    def __init__(self) -> None:
        self.bytes = 0
        self._digest = hashlib.sha256()

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            self._digest.update(piece)
            yield piece

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def damaged(how: str) -> EnsignError:
    return EnsignError(
        "event.damaged",
        f"A large event does not come back as it was published: {how}.",
        "Publish it again; what comes before and behind it is not concerned.",
    )
