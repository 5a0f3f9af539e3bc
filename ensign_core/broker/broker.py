"""The broker: one project's topics, keys, positions and groups in one folder."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ulid import ULID

from ensign_core.broker.audit import AUDIT_TOPIC, audit_event
from ensign_core.broker.delivery import Processor, Promise, Subscription
from ensign_core.broker.events import Event, Received, check_topic_name, event_batch
from ensign_core.broker.keys import Keys
from ensign_core.broker.large import LARGE_BYTES_MAX, Assembler, Large, Store
from ensign_core.broker.large.publishing import Lifter
from ensign_core.broker.letters import Lookup
from ensign_core.broker.pipelines import Pipelines
from ensign_core.broker.policy import TopicPolicy
from ensign_core.broker.reader import Reader, Start, Starts
from ensign_core.broker.vault import Vault, about_policy, unlocked
from ensign_core.broker.work import WorkMember, WorkOptions
from ensign_core.broker.writer import Writer
from ensign_core.change import Offset
from ensign_core.crypto import FileProvider, KeyProvider, KmsProvider, default_key_file
from ensign_core.engine import Topic
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError

_EMPTY = Event(b"")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TopicInfo:
    """What is known of a topic without opening a frame; ``bytes`` are those on disk, and
    ``content_bytes`` what they were before they were compressed."""

    name: str
    id: str
    state: str
    events: int
    bytes: int
    first_offset: Offset
    next_offset: Offset
    key_ids: list[str]
    groups: dict[str, Offset]
    content_bytes: int
    duplicates: int
    policy: TopicPolicy


class Broker:
    """Open it with `Broker.open`, close it or use it in a ``with``."""

    def __init__(self, engine: SqliteEngine, vault: Vault, notice: str | None) -> None:
        self._engine = engine
        self._vault = vault
        self._publisher: Writer | None = None
        self._records = vault.keys.record_sealer()
        self._lock = threading.Lock()
        self.project = str(ULID.from_bytes(engine.meta()["project"]))
        """The id of the project."""
        self.pipelines = Pipelines(vault, self.offset)
        """What is kept for pipelines."""
        self.keys = Keys(vault, self._find, self.publish)
        """The life of the data keys."""
        self.notice = notice
        """What to tell the user after the first use: where the new key lies."""

    @classmethod
    def open(
        cls, path: str | Path, keys: KeyProvider | None = None, *, create: bool = True
    ) -> Self:
        """Open the broker in the folder ``path``, with the key in ``PATH.keys`` unless ``keys``
        says otherwise. Both are made at first use, unless ``create`` is false: then
        ``broker.not_found``. Raises ``key.missing`` and ``key.wrong`` before touching anything."""
        folder = Path(path)
        provider = keys or FileProvider(default_key_file(folder))
        if not create and not (folder / "ensign.db").exists():
            raise EnsignError(
                "broker.not_found",
                f"There is no broker in the folder {folder}.",
                "Give the folder of an existing one with --path or `broker: path:`, or `ensign run`"
                " a pipeline or `ensign publish` first.",
            )
        engine = SqliteEngine(folder)
        try:
            ring = unlocked(engine, provider)
            if "project" not in engine.meta():
                engine.set_meta({"project": bytes(ULID())})
        except BaseException:
            engine.close()
            raise
        notice = None
        if isinstance(provider, FileProvider | KmsProvider) and provider.created:
            notice = (
                f"A new key was made in {provider.path}. Keep a copy apart from the data: without "
                "it the data cannot be read."
            )
        return cls(engine, Vault(engine, ring), notice)

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    def topics(self, names: Sequence[str] | None = None) -> list[TopicInfo]:
        """All topics, or those of the names that there are; by name."""
        groups = self._engine.groups.offsets()
        topics = self._engine.topics(names)
        keys: dict[bytes, list[str]] = {}
        for key in self._engine.keys.stored([topic.topic_id for topic in topics]):
            keys.setdefault(key.topic_id, []).append(key.key_id.hex())
        return [
            TopicInfo(
                topic.name, str(ULID(topic.topic_id)), topic.state, topic.events, topic.bytes,
                topic.first_offset, topic.next_offset, keys.get(topic.topic_id, []),
                {
                    name: offsets[topic.topic_id]
                    for name, offsets in groups.items()
                    if topic.topic_id in offsets
                },
                topic.content_bytes, topic.duplicates, self._policy(topic),
            )
            for topic in topics
        ]  # fmt: skip

    def topic(self, name: str) -> TopicInfo:
        """One topic; ``topic.unknown`` if there is none of that name."""
        for info in self.topics([name]):
            return info
        raise unknown_topic(name)

    def create_topic(self, name: str, policy: TopicPolicy | None = None) -> TopicInfo:
        """Make an empty topic, or leave the one of that name as it is."""
        check_topic_name(name)
        topic_id = bytes(ULID())
        self._engine.create_topic(topic_id, name, self._box(topic_id, policy) if policy else None)
        return self.topic(name)

    def _box(self, topic_id: bytes, policy: TopicPolicy) -> bytes:
        with self._lock:
            return self._records.box(policy.encode(), about_policy(topic_id))

    def _policy(self, topic: Topic) -> TopicPolicy:
        if topic.policy is None:
            return TopicPolicy()
        about = about_policy(topic.topic_id)
        return TopicPolicy.decode(self._vault.keys.open_record(topic.policy, about))

    def archive_topic(self, name: str) -> None:
        """Let a topic take no more events: appends are refused with ``topic.archived``."""
        self._engine.set_state(self._find(name).topic_id, "archived")

    def delete_topic(self, name: str) -> None:
        """Remove a topic, its events, its keys and what groups read of it."""
        self._engine.delete_topic(self._find(name).topic_id)

    def _find(self, name: str) -> Topic:
        for topic in self._engine.topics([name]):
            return topic
        raise unknown_topic(name)

    def writer(self, pipeline: str | None = None) -> Writer:
        """A writer for the calling thread. With a pipeline's name it takes that pipeline over."""
        return Writer(self._vault, pipeline)

    def publish(self, topic: str, events: Iterable[Event], large: Large | None = None) -> Offset:
        """Append events to a topic, made if need be. Returns the last one's offset (that of the
        topic's end less one if there were none) once they are on the disk. ``large`` says what
        becomes of the data of events that are too large."""
        check_topic_name(topic)
        if large is not None:
            events = map(Lifter(large, topic, self.writer).event, events)
        batch = event_batch(topic, events)
        with self._lock:
            if not len(batch):
                return self.create_topic(topic).next_offset - 1
            self._publisher = self._publisher or self.writer()
            (first,) = self._publisher.append([(topic, batch)])
        return first + len(batch) - 1

    def publish_file(
        self, topic: str, file: BinaryIO, large: Large, event: Event = _EMPTY
    ) -> Offset:
        """Publish one event, as ``event`` says but with the data that ``file`` has up to its end;
        a few MB of it are in memory at a time. Returns as `publish`."""
        check_topic_name(topic)
        return self.publish(topic, [Lifter(large, topic, self.writer).file(event, file)])

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
    ) -> Reader:
        """Read topics in append order. A ``group`` goes on where it last committed and begins at
        ``start``. ``skip_revoked`` passes over what was sealed under revoked keys. Raises
        ``topic.unknown``."""
        return self._begin(topics, start, group, skip_revoked=skip_revoked)[0]

    def _begin(
        self,
        topics: Sequence[str],
        start: Starts,
        group: str | None,
        *,
        skip_revoked: bool = False,
    ) -> tuple[Reader, dict[bytes, Offset]]:
        """A reader, and where its group stands."""
        ids = {self._find(name).topic_id: name for name in topics}
        committed = self._engine.groups.offsets().get(group, {}) if group else {}
        starts = self._starts(ids, start) | committed
        reader = Reader(self._vault, lambda: ids, starts.__getitem__, skip_revoked=skip_revoked)
        return reader, committed

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
    ) -> Subscription:
        """Events of topics in append order, one by one, with what is promised for a ``group``,
        which goes on where it committed and begins at ``start`` (of each topic, if that is a
        mapping). Raises ``topic.unknown``."""
        return Subscription(self._begin(topics, start, group)[0], group, delivery)

    def processor(self, group: str, topics: Sequence[str], start: Starts = "start") -> Processor:
        """Consume topics, produce to others and commit both at once: exactly once inside this
        broker. Raises ``topic.unknown``."""
        return Processor(self.writer(), group, lambda: self._begin(topics, start, group))

    def work(
        self, group: str, topics: Sequence[str], *, member: str | None = None,
        start: Starts = "start", lease_s: float = 20.0, attempts_max: int = 10,
        backoff: tuple[float, float] = (1.0, 300.0), in_flight_max: int = 1000,
        unfinished_max: int = 10_000, key_order: bool = True,
    ) -> WorkMember:  # fmt: skip
        """Join a group whose members share the events of topics, as ``member`` (any name). A member
        that does not finish an event within ``lease_s`` loses it to another; after a `nack` it
        comes again with a wait that doubles from the first to the second of ``backoff``, and after
        ``attempts_max`` times it is set aside in the topic ``GROUP.dead-letters``. A member holds
        at most ``in_flight_max`` events, and the group has at most ``unfinished_max`` that it has
        looked at and is not done with. With ``key_order`` an event is not given out before earlier
        ones of its key are done with. A new group begins at ``start``, one that read in order
        before where that committed. Raises ``topic.unknown``."""
        ids = {self._find(name).topic_id: name for name in topics}
        options = WorkOptions(lease_s, attempts_max, *backoff, in_flight_max, unfinished_max,
                              key_order)  # fmt: skip
        return WorkMember(self._vault, self.writer, group, member, ids, self._starts(ids, start),
                          options)  # fmt: skip

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

    def audit(self, kind: str, **fields: str) -> None:
        """Note in the topic ``ensign.audit`` what was done, for whoever must prove it later."""
        self.publish(AUDIT_TOPIC, [audit_event(kind, **fields)])

    def lookup(self) -> Lookup:
        """What finds single events, for the calling thread."""
        return Lookup(self._vault)


def unknown_topic(name: str) -> EnsignError:
    return EnsignError(
        "topic.unknown", f"There is no topic {name!r}.", "List the topics with: ensign topics list"
    )
