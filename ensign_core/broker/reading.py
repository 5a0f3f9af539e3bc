"""How a broker's topics are read: in order, with a promise, or shared by members of a group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ensign_core.broker.access import Access
from ensign_core.broker.delivery import Processor, Promise, Subscription
from ensign_core.broker.events import Received
from ensign_core.broker.large import LARGE_BYTES_MAX, Assembler, Store
from ensign_core.broker.letters import Lookup
from ensign_core.broker.names import unknown_topic
from ensign_core.broker.reader import Reader, Start, Starts
from ensign_core.broker.vault import Vault
from ensign_core.broker.work import WorkMember, WorkOptions
from ensign_core.broker.writer import Writer
from ensign_core.change import Offset
from ensign_core.engine import Topic
from ensign_core.engine.sqlite import SqliteEngine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reading(ABC):
    """What `Broker` can do as far as it reads."""

    def __init__(self, engine: SqliteEngine, vault: Vault) -> None:
        self._engine = engine
        self._vault = vault

    @abstractmethod
    def writer(self, pipeline: str | None = None) -> Writer: ...

    @abstractmethod
    def audit(self, kind: str, **fields: str) -> None: ...

    def _find(self, name: str) -> Topic:
        for topic in self._engine.topics([name]):
            return topic
        raise unknown_topic(name)

    def assembler(
        self, stores: Sequence[Store] = (), large_bytes_max: int = LARGE_BYTES_MAX
    ) -> Assembler:
        """What gives large events as they were published, for the calling thread."""
        return Assembler(self.lookup(), stores, large_bytes_max)

    def whole(self, events: Iterable[Received], stores: Sequence[Store] = ()) -> Iterator[Received]:
        """Events as they were published, large ones too, as `Assembler.each` gives them."""
        return self.assembler(stores).each(events)

    def reader(
        self,
        topics: Sequence[str],
        start: Start = "start",
        group: str | None = None,
        *,
        skip_revoked: bool = False,
        as_reader: str | None = None,
    ) -> Reader:
        """Read topics in append order. A ``group`` goes on where it last committed and begins at
        ``start``. ``skip_revoked`` passes over what was sealed under revoked keys. With
        ``as_reader``, the name of whom it is for, what the reader has no grant for is refused, now
        and when a grant is taken away. Without, all is read that the project's key opens: whoever
        holds it could do so anyhow. Raises ``topic.unknown``, ``topic.not_granted`` and, for what
        is client-sealed, ``topic.client_sealed`` without an identity."""
        return self._begin(topics, start, group, as_reader, skip_revoked=skip_revoked)[0]

    def _begin(
        self,
        topics: Sequence[str],
        start: Starts,
        group: str | None,
        as_reader: str | None,
        *,
        skip_revoked: bool = False,
    ) -> tuple[Reader, dict[bytes, Offset]]:
        """A reader, and where its group stands."""
        ids, access = self._readable(topics, as_reader)
        committed = self._engine.groups.offsets().get(group, {}) if group else {}
        starts = self._starts(ids, start) | committed
        reader = Reader(
            self._vault, lambda: ids, starts.__getitem__, access, skip_revoked=skip_revoked
        )
        return reader, committed

    def _readable(
        self, topics: Sequence[str], as_reader: str | None
    ) -> tuple[dict[bytes, str], Access]:
        ids = {self._find(name).topic_id: name for name in topics}
        access = self._access(as_reader)
        access.check(ids)
        return ids, access

    def _starts(self, ids: Mapping[bytes, str], start: Starts) -> dict[bytes, Offset]:
        def of(name: str) -> Start:
            return start.get(name, "start") if isinstance(start, Mapping) else start

        return {key: self.offset(name, of(name)) for key, name in ids.items()}

    def subscribe(
        self,
        topics: Sequence[str],
        group: str | None = None,
        start: Starts = "start",
        delivery: Promise = "at_least_once",
        *,
        as_reader: str | None = None,
    ) -> Subscription:
        """Events of topics in append order, one by one, with what is promised for a ``group``,
        which goes on where it committed and begins at ``start`` (of each topic, if that is a
        mapping). Raises what `reader` does."""
        return Subscription(self._begin(topics, start, group, as_reader)[0], group, delivery)

    def processor(
        self,
        group: str,
        topics: Sequence[str],
        start: Starts = "start",
        *,
        as_reader: str | None = None,
    ) -> Processor:
        """Consume topics, produce to others and commit both at once: exactly once inside this
        broker. Raises what `reader` does."""
        return Processor(self.writer(), group, lambda: self._begin(topics, start, group, as_reader))

    def work(
        self,
        group: str,
        topics: Sequence[str],
        *,
        member: str | None = None,
        start: Starts = "start",
        lease_s: float = 20.0,
        attempts_max: int = 10,
        backoff: tuple[float, float] = (1.0, 300.0),
        in_flight_max: int = 1000,
        unfinished_max: int = 10_000,
        key_order: bool = True,
        as_reader: str | None = None,
    ) -> WorkMember:
        """Join a group whose members share the events of topics, as ``member`` (any name). A member
        that does not finish an event within ``lease_s`` loses it to another; after a `nack` it
        comes again with a wait that doubles from the first to the second of ``backoff``, and after
        ``attempts_max`` times it is set aside in the topic ``GROUP.dead-letters``. A member holds
        at most ``in_flight_max`` events, and the group has at most ``unfinished_max`` that it has
        looked at and is not done with. With ``key_order`` an event is not given out before earlier
        ones of its key are done with. A new group begins at ``start``, one that read in order
        before where that committed. Raises what `reader` does."""
        ids, access = self._readable(topics, as_reader)
        options = WorkOptions(
            lease_s, attempts_max, *backoff, in_flight_max, unfinished_max, key_order
        )
        starts = self._starts(ids, start)
        return WorkMember(self._vault, self.writer, group, member, ids, starts, access, options)

    def offset(self, topic: str, start: Start) -> Offset:
        """The offset in a topic that ``start`` means. A time means the first event from which on
        the running maximum of commit times has reached it, or the end."""
        found = self._find(topic)
        if start == "start":
            return found.first_offset
        if start == "end":
            return found.next_offset
        if not isinstance(start, datetime):
            return start
        time_us = (start.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
        base = self._engine.offset_at(found.topic_id, time_us)
        if base is None:
            return found.next_offset
        sequence = self._engine.sequence_at(found.topic_id, base) or 0
        (stored,) = self._engine.frames([found.topic_id], sequence - 1, 0)
        for change in self._vault.open_frame(stored, topic):
            committed = change.tx.committed_at if change.tx else None
            if committed is None or committed >= time_us:
                return change.offset
        return base

    def commit(self, group: str, offsets: Mapping[str, Offset]) -> None:
        """Remember where a group goes on: the next offset of each topic."""
        ids = self._engine.topic_ids(list(offsets))
        self._engine.groups.commit(group, {ids[name]: offsets[name] for name in ids})

    def lookup(self, as_reader: str | None = None) -> Lookup:
        """What finds single events, for the calling thread; of what the reader may read, if
        ``as_reader`` names one."""
        return Lookup(self._vault, self._access(as_reader))

    def _access(self, as_reader: str | None) -> Access:
        return Access(self._vault, as_reader, self.audit)
