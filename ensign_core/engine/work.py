"""What an engine keeps of work groups, whose members share the events of topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ensign_core.change import Offset


class Leased(NamedTuple):
    """An event as a member of a work group holds it; ``lease`` is the number of the claim."""

    topic_id: bytes
    offset: Offset
    lease: int


@dataclass(frozen=True)
class Finished:
    """Events that a work group is done with by an append: those that a member holds, and others
    that none has looked at yet, as where the group's front stood in a topic and stands then."""

    group: int
    leased: Sequence[Leased] = ()
    passed: Mapping[bytes, tuple[Offset, Offset]] = field(default_factory=dict)


class Front(NamedTuple):
    """Where a work group has yet to look at a topic: at the events from ``offset`` on, the first of
    which lies in the frame ``sequence``."""

    topic_id: bytes
    name: str
    offset: Offset
    sequence: int


class Scan(NamedTuple):
    """Events from ``start`` to ``stop`` that a member has looked at for its group: their offsets,
    rising, each with what stands for its key (None: it has no order). Offsets that are left out
    have no event."""

    topic_id: bytes
    start: Offset
    stop: Offset
    events: Sequence[tuple[Offset, bytes | None]]


class Claimed(NamedTuple):
    """An event that a member got, for the ``attempt``-th time (from 1)."""

    held: Leased
    attempt: int


class Claims(NamedTuple):
    """What `Deliveries.claim` gave: events again, and events for the first time. ``full``: the
    group has as many unfinished events as it may."""

    again: list[Claimed]
    fresh: list[Claimed]
    full: bool


class WorkState(NamedTuple):
    """A work group's events that are not done with, by what they wait for: a member's word, a time
    or a member that takes them, an earlier event of their key. ``full``: none is taken up before
    some are done with. ``members``: those that were heard of lately."""

    in_flight: int
    waiting: int
    parked: int
    full: bool
    members: int

    @property
    def unfinished(self) -> int:
        return self.in_flight + self.waiting + self.parked


class Deliveries(Protocol):
    """Events of work groups, whose members share them. Groups are given by their number. The floor,
    before which all is done with, is the group's offset in `Groups`."""

    def join(self, group: str, member: str, starts: Mapping[bytes, Offset]) -> int:
        """The group's number, made if need be. Of topics that it does not know it begins where a
        reader of that name stands, else at ``starts``."""

    def fronts(self, group: int, topics: Sequence[str]) -> list[Front]:
        """The topics of these names that have events which nobody looked at yet, in the order in
        which those were appended. A topic made since `join` is read from its start."""

    def due_us(self, group: int, member: str) -> int | None:
        """In how many µs the next event is due that waits for a time; None if none does."""

    def claim(
        self,
        group: int,
        member: str,
        scans: Sequence[Scan],
        count_max: int,
        unfinished_max: int,
        lease_us: int,
    ) -> Claims:
        """Give a member at most ``count_max`` events for ``lease_us``: first those that are due
        again, then those of ``scans`` that nobody else has looked at meanwhile. Events with an
        earlier one of their key that is not done with are parked."""

    def beat(self, group: int, member: str) -> None:
        """The member is there."""

    def ack(self, group: int, held: Sequence[Leased]) -> set[Leased]:
        """These are done with; returns those whose lease was lost, of which nothing changes."""

    def nack(self, group: int, held: Mapping[Leased, int], avoid: str | None = None) -> set[Leased]:
        """Deliver these again after so many µs each, to another member than ``avoid`` if there is
        one; returns those whose lease was lost."""

    def extend(self, group: int, held: Sequence[Leased], lease_us: int) -> set[Leased]:
        """Leases end ``lease_us`` from now; returns those that were lost."""

    def leave(self, group: int, member: str, held: Sequence[Leased]) -> None:
        """The member is gone, and others may have what it holds at once, as if it never had."""

    def state(self, group: int) -> WorkState: ...
