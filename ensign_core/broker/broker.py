"""The broker: one project's topics, keys, positions and groups in one folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ulid import ULID

from ensign_core.broker.audit import AUDIT_TOPIC, audit_event
from ensign_core.broker.backup import Manifest, backup
from ensign_core.broker.committer import Committer
from ensign_core.broker.copies import Copies
from ensign_core.broker.events import Event
from ensign_core.broker.grants import Grants
from ensign_core.broker.keeping import KEEP_EVERY_S, Keeping, Kept
from ensign_core.broker.keys import Keys
from ensign_core.broker.large import Large
from ensign_core.broker.large.publishing import Lifter
from ensign_core.broker.names import check_topic_name, unknown_topic
from ensign_core.broker.pipelines import Pipelines
from ensign_core.broker.policy import TopicPolicy, check_policy
from ensign_core.broker.policy_change import set_policy
from ensign_core.broker.publisher import Publisher
from ensign_core.broker.reading import Reading
from ensign_core.broker.vault import Vault, about_policy, unlocked
from ensign_core.broker.verify import Progress, Verified, silent, verify
from ensign_core.broker.writer import Writer
from ensign_core.change import Offset
from ensign_core.crypto import FileProvider, Identity, KeyProvider, KmsProvider, default_key_file
from ensign_core.engine.budget import DiskBudget
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError

_EMPTY = Event(b"")
_logger = logging.getLogger("ensign")


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


class Broker(Reading):
    """Open it with `Broker.open`, close it or use it in a ``with``."""

    def __init__(
        self,
        engine: SqliteEngine,
        vault: Vault,
        notice: str | None,
        keep_every_s: float = KEEP_EVERY_S,
    ) -> None:
        super().__init__(engine, vault)
        self._records = vault.keys.record_sealer()
        self._lock = threading.Lock()
        self._committer = Committer(vault)
        self._publisher = Publisher(vault, self._committer)
        self._keeping = Keeping(vault, vault.policy, keep_every_s)
        self.project = str(ULID.from_bytes(engine.meta()["project"]))
        """The id of the project."""
        self.grants = Grants(vault, self._find, self.audit)
        """Who may read what."""
        self.pipelines = Pipelines(vault, self.offset, self.audit)
        self.copies = Copies(vault)
        """What is kept for pipelines."""
        self.keys = Keys(vault, self._find, self._note)
        """The life of the data keys."""
        self.notice = notice
        """What to tell the user after the first use: where the new key lies."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        keys: KeyProvider | None = None,
        *,
        create: bool = True,
        disk: DiskBudget | None = None,
        keep_every_s: float = KEEP_EVERY_S,
        identity: Identity | None = None,
    ) -> Self:
        """Open the broker in the folder ``path``, with the key in ``PATH.keys`` unless ``keys``
        says otherwise. Both are made at first use, unless ``create`` is false: then
        ``broker.not_found``. ``disk`` limits what appends of this process may take; a broker that
        writes trims and compacts topics every ``keep_every_s``. What is client-sealed is read with
        the ``identity`` of a reader. Raises ``key.missing`` and ``key.wrong`` before touching
        anything."""
        folder = Path(path)
        provider = keys or FileProvider(default_key_file(folder))
        if not create and not (folder / "ensign.db").exists():
            raise EnsignError(
                "broker.not_found",
                f"There is no broker in the folder {folder}.",
                "Give the folder of an existing one with --path or `broker: path:`, or `ensign run`"
                " a pipeline or `ensign publish` first.",
            )
        engine = SqliteEngine(folder, disk or DiskBudget())
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
        return cls(engine, Vault(engine, ring, identity), notice, keep_every_s)

    def close(self) -> None:
        """Commit what was sent to publish, and close."""
        self._committer.close()
        self._keeping.close()
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
                topic.content_bytes, topic.duplicates, self._vault.policy(topic),
            )
            for topic in topics
        ]  # fmt: skip

    def topic(self, name: str) -> TopicInfo:
        """One topic; ``topic.unknown`` if there is none of that name."""
        for info in self.topics([name]):
            return info
        raise unknown_topic(name)

    def create_topic(self, name: str, policy: TopicPolicy | None = None) -> TopicInfo:
        """Make an empty topic, or leave the one of that name as it is. Raises
        ``topic.sealing_fixed`` if that is not client-sealed and ``policy`` says so."""
        check_topic_name(name)
        topic_id = bytes(ULID())
        self._engine.create_topic(topic_id, name, self._box(topic_id, policy) if policy else None)
        made = self.topic(name)
        if policy is not None and policy.sealing == "client":
            check_policy(policy, made.policy)
        return made

    def set_policy(self, name: str, policy: TopicPolicy) -> None:
        """Replace a topic's policy. Where that changes which events are duplicates, those that
        there are are read first, so that later ones are compared with them too.
        ``topic.sealing_fixed`` if it would change the sealing, ``topic.client_sealed`` for what
        needs to see inside such a topic."""
        set_policy(self._vault, self._find(name), policy, self._box)

    def _box(self, topic_id: bytes, policy: TopicPolicy) -> bytes:
        with self._lock:
            return self._records.box(policy.encode(), about_policy(topic_id))

    def client_sealed(self, topics: Iterable[str]) -> bool:
        """Whether any of the topics is client-sealed; one that there is not yet is not."""
        ids = self._engine.topic_ids(list(topics))
        return bool(self._vault.client_sealed({key: name for name, key in ids.items()}))

    def archive_topic(self, name: str) -> None:
        """Let a topic take no more events: appends are refused with ``topic.archived``."""
        self._engine.set_state(self._find(name).topic_id, "archived")

    def unarchive_topic(self, name: str) -> None:
        """Let an archived topic take events again."""
        self._engine.set_state(self._find(name).topic_id, "ready")

    def keep(self, topics: Sequence[str] | None = None) -> list[Kept]:
        """Trim and compact now what policies say, in some topics or all; those of which events
        went. It happens by itself in a broker that writes. ``topic.unknown``, ``engine.busy``."""
        for name in topics or ():
            self._find(name)
        return self._keeping.keep(topics)

    def forget_group(self, group: str) -> None:
        """Forget where a group stands in all topics: it no longer holds back what is kept, and
        begins anew if it reads again."""
        self._engine.groups.remove(group)

    def delete_topic(self, name: str) -> None:
        """Remove a topic, its events, its keys and what groups read of it."""
        self._engine.delete_topic(self._find(name).topic_id)

    def writer(self, pipeline: str | None = None) -> Writer:
        """A writer for the calling thread. With a pipeline's name it takes that pipeline over."""
        self._keeping.start()
        return Writer(self._vault, pipeline)

    def publisher(
        self, session: bytes | str | None = None, *, create_topics: bool = True
    ) -> Publisher:
        """What publishes for any number of threads, with acks. In a ``session`` events are numbered
        and a retry is stored once. Topics are made as needed, or, without ``create_topics``,
        refused as ``topic.unknown``."""
        self._keeping.start()
        return Publisher(self._vault, self._committer, session, create_topics=create_topics)

    def publish(self, topic: str, events: Iterable[Event], large: Large | None = None) -> Offset:
        """Append events to a topic, made if need be, in one commit. Returns the last one's offset
        (that of the topic's end less one if there were none; that of the event it repeats if the
        topic's policy makes it a duplicate) once they are on the disk. ``large`` says what becomes
        of the data of events that are too large. Raises ``event.too_large``, ``topic.archived`` and
        the engine's errors: then none of them was stored."""
        if large is not None:
            check_topic_name(topic)
            events = map(Lifter(large, topic, self.writer).event, events)
        self._keeping.start()
        offset = self._publisher.publish_all(topic, events)
        return self.create_topic(topic).next_offset - 1 if offset is None else offset

    def publish_file(
        self, topic: str, file: BinaryIO, large: Large, event: Event = _EMPTY
    ) -> Offset:
        """Publish one event, as ``event`` says but with the data that ``file`` has up to its end;
        a few MB of it are in memory at a time. Returns as `publish`."""
        check_topic_name(topic)
        return self.publish(topic, [Lifter(large, topic, self.writer).file(event, file)])

    def backup(self, folder: str | Path, progress: Progress | None = None) -> Manifest:
        """Copy the project into ``folder``, where there must be nothing, while it is in use, and
        open every frame of the copy before it has that name. The key-encryption key is not in it,
        and data keys that are revoked later are. Raises ``backup.exists``, ``backup.running``,
        ``backup.damaged``, ``backup.disk_full`` and others; then nothing of it is left."""
        return backup(self._vault, self.project, Path(folder), progress or silent)

    def verify(
        self, topics: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Verified:
        """Open every frame, record and key, or what is of these topics, while they are in use, and
        say what is not as it was written. Raises ``topic.unknown``."""
        for name in topics or ():
            self._find(name)
        return verify(self._vault, topics, progress)

    def audit(self, kind: str, **fields: str) -> None:
        """Note in the topic ``ensign.audit`` what was done, for whoever must prove it later."""
        self._note([audit_event(kind, **fields)])

    def _note(self, events: Iterable[Event]) -> None:
        # What it tells of has happened: that it cannot be noted must not look as if it had not.
        try:
            self.publish(AUDIT_TOPIC, events)
        except EnsignError as error:
            _logger.error("the audit could not be written: %s %s", error.code, error.sentence)
