"""Where a Kafka source stands: the offset that comes next, by topic and partition. Pure: no I/O.

As stored (JSON, without spaces): ``{"v":1,"topics":{TOPIC:{"id":ID,"partitions":{"0":5}}}}``.
The id is the one that the cluster gave the topic when it was made (KIP-516): a topic of the same
name that was made later has another one, and offsets of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from connectors.kafka.errors import error
from ensign_core.change import Position

VERSION: Final = 1

SHOWN_MAX: Final = 8
"""Partitions that a position names for people."""


@dataclass(slots=True)
class Place:
    """Where the source stands in a topic: the offset that comes next, by partition."""

    id: str
    nexts: dict[int, int] = field(default_factory=dict)


Places = dict[str, Place]


def encode(places: Places) -> Position:
    """The position as it is stored."""
    topics = {name: {"id": at.id, "partitions": at.nexts} for name, at in places.items()}
    text = json.dumps({"v": VERSION, "topics": topics}, separators=(",", ":"))
    return Position(text.encode())


def decode(position: Position) -> Places:
    """The places of a stored position. Raises ``kafka.position_damaged``."""
    try:
        stored = json.loads(position)
        if stored["v"] != VERSION:
            raise error("position_damaged")
        return {
            name: Place(
                str(at["id"]), {int(part): int(next_) for part, next_ in at["partitions"].items()}
            )
            for name, at in stored["topics"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise error("position_damaged") from None


def shown(places: Places) -> str:
    """The position for people, such as ``orders 0:5 1:7``."""
    parts: list[str] = []
    room = SHOWN_MAX
    for name, place in places.items():
        some = sorted(place.nexts.items())[:room]
        room -= len(some)
        if some:
            parts.append(" ".join([name, *(f"{part}:{next_}" for part, next_ in some)]))
    hidden = sum(len(place.nexts) for place in places.values()) - (SHOWN_MAX - room)
    return ", ".join(parts) + (f" and {hidden} more" if hidden else "")
