"""What a project must hold after each step of a history, in plain Python, and what it does hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ensign_core.broker import Broker, TopicPolicy, received
from ensign_core.change import Offset, Op, Stage
from ensign_core.errors import EnsignError
from tests.crash.histories import PIPELINE, TOPICS, Item, Step

AUDIT = "ensign.audit"
KeyState = Literal["active", "retired", "revoked"]
Frames = dict[str, list[tuple[Offset, int, int]]]
"""Offset, events and bytes of each frame, by topic."""


class Stored(NamedTuple):
    """An event as it lies in a topic, under the topic's key of the number ``key_number``."""

    offset: Offset
    body: bytes
    item: Item
    key_number: int


class Held(NamedTuple):
    item: Item
    key_number: int
    old: bool


@dataclass
class Topic:
    """A topic as it must be."""

    policy: TopicPolicy = field(default_factory=TopicPolicy)
    events: list[Stored] = field(default_factory=list)
    next_offset: Offset = 0
    keys: list[KeyState] = field(default_factory=list)
    young_from: Offset | None = None
    groups: dict[str, Offset] = field(default_factory=dict)

    def key(self) -> int:
        """The number of the key that seals now, made if there is none."""
        if "active" not in self.keys:
            self.keys.append("active")
        return self.keys.index("active")

    def retire(self) -> None:
        if "active" in self.keys:
            self.keys[self.keys.index("active")] = "retired"

    def put(self, item: Item, key_number: int, *, published: bool) -> None:
        body = item.body(published=published)
        self.events.append(Stored(self.next_offset, body, item, key_number))
        self.next_offset += 1

    def readable(self) -> list[Stored]:
        return [one for one in self.events if self.keys[one.key_number] != "revoked"]

    @property
    def floor(self) -> Offset:
        """What may be trimmed, as groups have read it."""
        free = self.policy.retention.trim_unread
        return min(self.groups.values(), default=self.next_offset) if not free else self.next_offset

    def superseded(self) -> list[Offset]:
        """What compaction takes out: all but the latest event of each key that can be read, and
        deletes that were kept long enough."""
        latest = {one.item.key: one for one in self.readable() if one.item.key is not None}
        buried = self.floor if self.policy.retention.tombstone_s == 0 else 0
        return [
            one.offset
            for one in self.readable()
            if one.item.key is not None
            and (latest[one.item.key] is not one or (one.item.data is None and one.offset < buried))
        ]


@dataclass
class State:
    """The project as it must be. `step` changes it."""

    topics: dict[str, Topic] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    position: bytes | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    audit: list[tuple[str, str | None]] = field(default_factory=list)

    def topic(self, name: str) -> Topic:
        return self.topics.setdefault(name, Topic())

    def refusal(self, step: Step) -> str | None:
        """The code that a step must be refused with."""
        if step.kind == "rotate" and step.topic not in self.topics:
            return "topic.unknown"
        if step.stage is Stage.RELEASE and any(
            self.topics[one.item.topic].keys[one.key_number] == "revoked" for one in self.held
        ):
            return "pipeline.interrupted"
        return None

    def refused(self, step: Step) -> None:
        """What a refused step leaves: keys it made, and nothing held any more."""
        for item in step.items:
            if item.topic in self.topics:
                self.topics[item.topic].key()
        self.held.clear()

    def step(self, step: Step, frames: Frames | None, result: object) -> Iterator[None]:
        """Do a step; stops wherever a process may be killed with just so much of it done."""
        match step.kind:
            case "policy":
                assert step.policy is not None
                self.topic(step.topic).policy = step.policy
            case "append":
                self._append(step)
            case "publish":
                yield from self._publish(step.items)
            case "rotate":
                yield from self._rotate(step.topic)
            case "revoke":
                yield from self._revoke(step)
            case "master":
                if result is not False:
                    self.audit.append(("key.master_rotated", None))
            case "keep":
                yield from self._keep(frames or {})
            case "commit":
                if step.topic in self.topics:
                    topic = self.topics[step.topic]
                    topic.groups[step.group] = min(step.number, topic.next_offset)
            case "look":
                pass

    def _append(self, step: Step) -> None:
        by_topic = sorted(
            step.items, key=lambda item: [i.topic for i in step.items].index(item.topic)
        )
        fresh = [Held(item, self.topic(item.topic).key(), step.old) for item in by_topic]
        if step.piped:
            self.position = step.position
        if step.stage is Stage.HOLD:
            self.held += fresh
            return
        if step.stage is Stage.RELEASE:
            fresh = self.held + fresh
            self.held = []
        if step.piped:
            self.kept = {"a": step.position}
        for item, key_number, old in fresh:
            topic = self.topics[item.topic]
            if topic.young_from is None and not old:
                topic.young_from = topic.next_offset
            topic.put(item, key_number, published=False)

    def _publish(self, items: Iterable[Item]) -> Iterator[None]:
        for item in items:
            topic = self.topic(item.topic)
            if topic.young_from is None:
                topic.young_from = topic.next_offset
            topic.put(item, topic.key(), published=True)
            yield

    def _rotate(self, name: str) -> Iterator[None]:
        topic = self.topics[name]
        if "active" in topic.keys:
            topic.retire()
            topic.key()
            yield
            self.audit.append(("key.rotated", name))

    def _revoke(self, step: Step) -> Iterator[None]:
        topic = self.topics.get(step.topic)
        if topic is not None and topic.keys:
            topic.keys[step.number % len(topic.keys)] = "revoked"
            yield
            self.audit.append(("key.revoked", step.topic))

    def _keep(self, frames: Frames) -> Iterator[None]:
        for name, topic in sorted(self.topics.items()):
            retention, there = topic.policy.retention, frames[name]
            size = sum(bytes_ for _, _, bytes_ in there)
            if retention.age_s is not None:
                young = [o for o, _, _ in there if o >= (topic.young_from or 0)]
                upto = min(young, default=topic.next_offset)
                there = _trim(topic, there, topic.next_offset if topic.young_from is None else upto)
                yield
            if retention.bytes_max is not None and size > retention.bytes_max:
                _trim(topic, there, topic.next_offset, retention.bytes_max)
                yield
            if retention.compact:
                for offset in topic.superseded():
                    topic.events = [one for one in topic.events if one.offset != offset]
                    yield


def _trim(
    topic: Topic,
    frames: list[tuple[Offset, int, int]],
    upto: Offset,
    bytes_max: int = -1,
) -> list[tuple[Offset, int, int]]:
    """Trim whole frames off a topic; those that are left."""
    size = sum(bytes_ for _, _, bytes_ in frames)
    left = list(frames)
    while left:
        offset, events, bytes_ = left[0]
        if offset + events > min(upto, topic.floor) or size <= bytes_max:
            break
        size -= bytes_
        del left[0]
        topic.events = [one for one in topic.events if one.offset >= offset + events]
    return left


@dataclass
class SeenTopic:
    """What a topic shows. ``stopped`` is the code that a reader ended with, behind ``read``;
    ``skipping`` is what one got that passes over revoked keys."""

    next_offset: Offset
    count: int
    keys: list[str]
    groups: dict[str, Offset]
    read: list[tuple[Offset, bytes]]
    stopped: str | None
    skipping: list[tuple[Offset, bytes]]


@dataclass
class Seen:
    """What a project shows."""

    topics: dict[str, SeenTopic]
    position: bytes | None
    kept: dict[str, bytes]
    audit: list[tuple[str, str | None]]


def seen(broker: Broker) -> Seen:
    """Read all of a project."""
    states: dict[str, list[str]] = {}
    for key in broker.keys.list():
        states.setdefault(key.topic, []).append(key.state)
    topics = {}
    for info in broker.topics(TOPICS):
        read, stopped = _read(broker, info.name, skip_revoked=False)
        skipping, code = _read(broker, info.name, skip_revoked=True)
        topics[info.name] = SeenTopic(
            info.next_offset, info.events, states.get(info.name, []), info.groups, read,
            stopped if code is None else code, skipping,
        )  # fmt: skip
    audit: list[tuple[str, str | None]] = []
    if broker.topics([AUDIT]):
        with broker.reader([AUDIT]) as reader:
            for batches in iter(reader.fetch, []):
                for one in (one for batch in batches for one in received(batch)):
                    assert one.event is not None
                    assert one.event.type is not None
                    topic = next((t for t in TOPICS if f'"topic": "{t}"'.encode() in
                                  one.event.data), None)  # fmt: skip
                    audit.append((one.event.type, topic))
    pipelines = broker.pipelines
    return Seen(topics, pipelines.position(PIPELINE), pipelines.kept(PIPELINE), audit)


def _read(
    broker: Broker, topic: str, *, skip_revoked: bool
) -> tuple[list[tuple[Offset, bytes]], str | None]:
    found: list[tuple[Offset, bytes]] = []
    with broker.reader([topic], skip_revoked=skip_revoked) as reader:
        try:
            for batches in iter(reader.fetch, []):
                found += [
                    (change.offset, change.body)
                    for batch in batches
                    for change in batch
                    if change.op is not Op.REMOVED
                ]
        except EnsignError as error:
            return found, error.code
    return found, None


def differences(state: State, found: Seen, loose: Collection[str] = ()) -> list[str]:
    """Where a project is not as it must be. Topics of ``loose`` may have an active key more."""
    wrong = [
        f"{what}: {is_!r} instead of {must!r}"
        for what, is_, must in (
            ("topics", sorted(found.topics), sorted(state.topics)),
            ("position", found.position, state.position),
            ("kept", found.kept, state.kept),
            ("audit", found.audit, state.audit),
        )
        if is_ != must
    ]
    for name in sorted(state.topics.keys() & found.topics.keys()):
        wrong += [
            f"{name}: {one}"
            for one in _of_topic(state.topics[name], found.topics[name], loose=name in loose)
        ]
    return wrong


def _of_topic(topic: Topic, found: SeenTopic, *, loose: bool) -> Iterator[str]:
    revoked = [one.offset for one in topic.events if topic.keys[one.key_number] == "revoked"]
    readable = [(one.offset, one.body) for one in topic.readable()]
    keys: list[str] = [*topic.keys]
    if loose and "active" not in keys and found.keys[-1:] == ["active"]:
        keys.append("active")
    for what, is_, must in (
        ("next offset", found.next_offset, topic.next_offset),
        ("number of events", found.count, len(topic.events)),
        ("keys", found.keys, keys),
        ("groups", found.groups, topic.groups),
        ("end of reading", found.stopped, "key.revoked" if revoked else None),
    ):
        if is_ != must:
            yield f"{what}: {is_!r} instead of {must!r}"
    until = [one for one in readable if not revoked or one[0] < revoked[0]]
    for what, got, wanted in (
        ("read", found.read, until), ("read past revoked keys", found.skipping, readable),
    ):  # fmt: skip
        if [offset for offset, _ in got] != [offset for offset, _ in wanted]:
            yield f"{what}: offsets {[o for o, _ in got]} instead of {[o for o, _ in wanted]}"
        elif got != wanted:
            other = [ours[0] for ours, theirs in zip(got, wanted, strict=True) if ours != theirs]
            yield f"{what}: other bytes at {other}"
