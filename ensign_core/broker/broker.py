"""The broker: one project's topics, keys, positions and groups in one folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ulid import ULID

from ensign_core.broker.letters import DEAD_LETTERS_SUFFIX, Letters, Lookup, dead_letter_topic
from ensign_core.broker.reader import Reader, within
from ensign_core.broker.vault import (
    Vault,
    about_kept,
    about_position,
    about_signal,
    about_status,
    now_us,
    record_key,
)
from ensign_core.broker.writer import Writer
from ensign_core.change import Batch, BatchBuilder, Offset, Op, Position, Tx, event_schema
from ensign_core.crypto import FileProvider, KeyProvider, KeyRing, KmsProvider, default_key_file
from ensign_core.engine import Topic
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from ensign_core.rows import new_image

Start = Literal["start", "end"] | Offset | datetime
"""Where to read from: an end of the topic, an offset (included), or a time."""

TOPIC_BYTES_MAX = 512
_CHECK = "kek"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """Something to publish. ``data`` is up to the publisher; ``mimetype`` says what it is."""

    data: bytes
    key: bytes | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    mimetype: str | None = None
    type: str | None = None


@dataclass(frozen=True)
class TopicInfo:
    """What is known of a topic without opening a frame; ``bytes`` are those on disk."""

    name: str
    id: str
    state: str
    events: int
    bytes: int
    first_offset: Offset
    next_offset: Offset
    key_ids: list[str]
    groups: dict[str, Offset]


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
            check = engine.meta().get(_CHECK)
            ring = KeyRing(provider, create=check is None, check=check)
            if check is None:
                engine.set_meta({_CHECK: ring.check, "project": bytes(ULID())})
                ring.verify(engine.meta()[_CHECK], provider.describe())
            ring.use_records(record_key(engine, ring, fresh=check is None))
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
        groups = self._engine.groups()
        topics = self._engine.topics(names)
        keys: dict[bytes, list[str]] = {}
        for key in self._engine.data_keys([topic.topic_id for topic in topics]):
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
            )
            for topic in topics
        ]  # fmt: skip

    def topic(self, name: str) -> TopicInfo:
        """One topic; ``topic.unknown`` if there is none of that name."""
        for info in self.topics([name]):
            return info
        raise unknown_topic(name)

    def create_topic(self, name: str) -> TopicInfo:
        """Make an empty topic, or leave the one of that name as it is."""
        check_topic_name(name)
        self._engine.create_topic(bytes(ULID()), name)
        return self.topic(name)

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

    def publish(self, topic: str, events: Iterable[Event]) -> Offset:
        """Append events to a topic, made if need be. Returns the last one's offset (that of the
        topic's end less one if there were none) once they are on the disk."""
        check_topic_name(topic)
        batch = event_batch(topic, events)
        with self._lock:
            if not len(batch):
                return self.create_topic(topic).next_offset - 1
            self._publisher = self._publisher or self.writer()
            (first,) = self._publisher.append([(topic, batch)])
        return first + len(batch) - 1

    def reader(
        self, topics: Sequence[str], start: Start = "start", group: str | None = None
    ) -> Reader:
        """Read topics in append order. A ``group`` goes on where it last committed and begins at
        ``start``. Raises ``topic.unknown``."""
        ids = {self._find(name).topic_id: name for name in topics}
        committed = self._engine.groups().get(group, {}) if group else {}
        starts = {key: self.offset(name, start) for key, name in ids.items()} | committed
        return Reader(self._vault, lambda: ids, starts.__getitem__)

    def pipeline_reader(
        self,
        pipeline: str,
        group: str,
        start: Start = "start",
        known: Mapping[str, Offset] | None = None,
    ) -> Reader:
        """Read whatever a pipeline writes, topics that it makes later included (from their start),
        its dead letters not. A new group begins at ``start``, which is remembered at once; what a
        sink's target has ``known`` by topic name goes before what the group committed (I7). Raises
        ``sink.ahead`` where that is beyond the topic's end, or of another topic that had its name:
        groups are noted for each topic before any event of it can reach such a target."""

        def topics() -> dict[bytes, str]:
            found = self._engine.pipeline_topics(pipeline)
            found = {key: name for key, name in found.items() if name != letters}
            names.update(found)
            return found

        names: dict[bytes, str] = {}
        letters = dead_letter_topic(pipeline)
        begun = f"begun:{group}"
        if begun not in self._engine.meta():
            if start != "start" and group not in self._engine.groups():
                self._engine.commit(
                    group, {key: self.offset(name, start) for key, name in topics().items()}
                )
            self._engine.set_meta({begun: b""})
        committed = self._engine.groups().get(group, {})
        taken: set[str] = set()

        def noted() -> dict[bytes, str]:
            found = topics()
            if known is not None:
                others = known.keys() | taken
                self._note(group, committed, {key for key in found if names[key] not in others})
            return found

        def begin(topic_id: bytes) -> Offset:
            name = names[topic_id]
            # What the target knew was of the topic that had this name when it was asked.
            again = name in taken
            taken.add(name)
            if known is None or name not in known or again:
                return committed.get(topic_id, 0)
            reached = self._find(name).next_offset if topic_id in committed else 0
            return within(name, known[name], reached)

        return Reader(self._vault, noted, begin)

    def _note(self, group: str, committed: dict[bytes, Offset], topic_ids: set[bytes]) -> None:
        """Let a group stand at the start of the topics that it has no offset of."""
        fresh = dict.fromkeys(topic_ids - committed.keys(), 0)
        if fresh:
            self._engine.commit(group, fresh)
            committed.update(fresh)

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
        self._engine.commit(group, {ids[name]: offsets[name] for name in ids})

    def position(self, pipeline: str) -> Position | None:
        """The source's position as of the pipeline's last durable append."""
        box = self._engine.position(pipeline)
        if box is None:
            return None
        return Position(self._vault.keys.open_record(box, about_position(pipeline)))

    def kept(self, pipeline: str) -> dict[str, bytes]:
        """What the source keeps beside its position, by name, as of the same append."""
        return {
            name: self._vault.keys.open_record(box, about_kept(pipeline, name))
            for name, box in self._engine.kept(pipeline).items()
        }

    def set_status(self, pipeline: str, status: Mapping[str, Any]) -> None:
        """Leave what `ensign status` shows of a pipeline."""
        with self._lock:
            box = self._records.box(json.dumps(status).encode(), about_status(pipeline))
        self._engine.set_status(pipeline, box)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What each pipeline last left."""
        return {
            name: json.loads(self._vault.keys.open_record(box, about_status(name)))
            for name, box in self._engine.statuses().items()
        }

    def signal(self, pipeline: str, signal: Signal) -> int:
        """Ask something of a pipeline's source, now or when it runs next; the number given."""
        asked = {name: value for name, value in vars(signal).items() if name != "number"}
        with self._lock:
            box = self._records.box(json.dumps(asked).encode(), about_signal(pipeline))
        return self._engine.add_signal(pipeline, box)

    def signals(self, pipeline: str) -> list[Signal]:
        """What was asked of a pipeline's source and is not forgotten, oldest first."""
        found: list[Signal] = []
        for number, box in self._engine.signals(pipeline):
            asked = json.loads(self._vault.keys.open_record(box, about_signal(pipeline)))
            asked["tables"] = tuple(asked["tables"])
            found.append(Signal(number, **asked))
        return found

    def forget_signals(self, pipeline: str, upto: int) -> None:
        """Forget signals with numbers up to ``upto``: a durable position accounts for them."""
        self._engine.forget_signals(pipeline, upto)

    def letters(self, pipeline: str) -> Letters:
        """What becomes of a pipeline's dead letters, for the calling thread."""
        return Letters(self._vault, pipeline)

    def lookup(self) -> Lookup:
        """What finds single events, for the calling thread."""
        return Lookup(self._vault)

    def pipeline_topics(self, pipeline: str) -> list[str]:
        """The names of the topics that a pipeline has written to or was given."""
        return list(self._engine.pipeline_topics(pipeline).values())

    def give_topics(self, pipeline: str, globs: Sequence[str]) -> None:
        """Give a pipeline that writes none itself all topics whose names match one of ``globs``;
        topics of dead letters only where one is such a name."""
        ids = [
            topic.topic_id
            for topic in self._engine.topics()
            if topic.name in globs
            or (
                not topic.name.endswith(DEAD_LETTERS_SUFFIX)
                and any(fnmatchcase(topic.name, glob) for glob in globs)
            )
        ]
        self._engine.give_topics(pipeline, ids)

    def hold(self, pipeline: str) -> Callable[[], None]:
        """Mark a pipeline as running; ``pipeline.running`` if another worker does it already."""
        return self._engine.hold(pipeline)

    def held(self, pipeline: str) -> bool:
        """Whether a living worker runs the pipeline."""
        return self._engine.held(pipeline)

    def remove_pipeline(self, pipeline: str) -> None:
        """Forget a pipeline; its topics stay."""
        self._engine.remove_pipeline(pipeline)


def event_batch(topic: str, events: Iterable[Event]) -> Batch:
    """Events as a batch of the fixed event schema, committed now."""
    builder = BatchBuilder().begin(Tx(None, "", now_us()))
    schema = event_schema(topic)
    for event in events:
        metadata = json.dumps(dict(event.metadata)) if event.metadata else None
        values = [event.key, event.data, metadata, event.mimetype, event.type]
        builder.add(Op.EVENT, schema, new_image(values))
    return builder.take(None)


def check_topic_name(name: str) -> None:
    """Raise ``topic.name_invalid`` unless ``name`` may name a topic."""
    legal = name.isascii() and all(c.isalnum() or c in "._-" for c in name)
    if not name or len(name) > TOPIC_BYTES_MAX or not legal:
        raise EnsignError(
            "topic.name_invalid",
            "A topic's name is 1 to 512 letters, digits, dots, underscores and hyphens.",
            "Choose another name.",
        )


def unknown_topic(name: str) -> EnsignError:
    return EnsignError(
        "topic.unknown", f"There is no topic {name!r}.", "List the topics with: ensign topics list"
    )
