"""The position of a Kinesis source: where it stands in each shard.

It is JSON: the stream's name and time of creation (a stream of the same name may be another one),
the time that the pipeline started at (null for the trim horizon), a place for each shard that has
been begun, and the ended shards whose children have not all been begun, with the time until which
their records had been read while they were open. Shards that are listed and in neither are new,
unless they are ancestors of one that is: those were read.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from connectors.kinesis.errors import error
from ensign_core.change import Position


class Place(NamedTuple):
    """How far a shard is read. ``sequence`` is the last record's number, None where none has been
    read; ``sub`` the index of the last one taken of the records that were aggregated in it, None
    if all were. ``arrived_ms`` is when that record arrived; whatever arrived until ``through_ms``
    has been read (None: unknown yet, since the shard is read from its oldest record)."""

    sequence: str | None = None
    sub: int | None = None
    arrived_ms: int | None = None
    through_ms: int | None = None


class Standing(NamedTuple):
    """A position, decoded."""

    stream: str
    created_ms: int
    from_ms: int | None
    places: dict[str, Place]
    ended: dict[str, int | None]

    def encode(self) -> Position:
        """The position's bytes."""
        # A `Place` is a tuple, so JSON has it as a list.
        return Position(json.dumps(self._asdict(), separators=(",", ":")).encode())


def decode(position: Position) -> Standing:
    """A position of its bytes. Raises ``kinesis.position_malformed``."""
    try:
        fields = json.loads(position)
        places = {shard: Place(*place) for shard, place in fields.pop("places").items()}
        return Standing(places=places, **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise error("position_malformed") from None
