"""What the broker keeps for pipelines: where their sources stand, which topics they write to, what
operators ask of them and what they show."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from ensign_core.broker.access import Access
from ensign_core.broker.audit import AUDIT_TOPIC
from ensign_core.broker.letters import DEAD_LETTERS_SUFFIX, Letters, dead_letter_topic
from ensign_core.broker.reader import Reader, Start, within
from ensign_core.broker.vault import Vault, about_kept, about_position, about_signal, about_status
from ensign_core.change import Offset, Position
from ensign_core.plugin import Signal


class Pipelines:
    """`Broker.pipelines`. Every method may be called from any thread."""

    def __init__(
        self, vault: Vault, offset: Callable[[str, Start], Offset], audit: Callable[..., None]
    ) -> None:
        self._vault = vault
        self._audit = audit
        self._engine = vault.engine
        self._offset = offset
        self._records = vault.keys.record_sealer()
        self._lock = threading.Lock()

    def reader(
        self,
        pipeline: str,
        group: str,
        start: Start = "start",
        known: Mapping[str, Offset] | None = None,
        *,
        skip_revoked: bool = False,
    ) -> Reader:
        """Read whatever a pipeline writes, topics that it makes later included (from their start),
        its dead letters not. A new group begins at ``start``, which is remembered at once; what a
        sink's target has ``known`` by topic name goes before what the group committed (I7). Raises
        ``sink.ahead`` where that is beyond the topic's end, or of another topic that had its name:
        groups are noted for each topic before any event of it can reach such a target."""

        def topics() -> dict[bytes, str]:
            found = self._engine.pipelines.topics(pipeline)
            found = {key: name for key, name in found.items() if name != letters}
            names.update(found)
            return found

        names: dict[bytes, str] = {}
        letters = dead_letter_topic(pipeline)
        committed = self._begin(group, start, topics)
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
                return committed[topic_id] if topic_id in committed else self._first(topic_id)
            reached = self._engine.topics([name])[0].next_offset if topic_id in committed else 0
            return within(name, known[name], reached)

        access = Access(self._vault, audit=self._audit)
        return Reader(self._vault, noted, begin, access, skip_revoked=skip_revoked)

    def _begin(
        self, group: str, start: Start, topics: Callable[[], Mapping[bytes, str]]
    ) -> dict[bytes, Offset]:
        """Where a group stands, which a new one takes up at ``start``."""
        begun = f"begun:{group}"
        if begun not in self._engine.meta():
            if start != "start" and group not in self._engine.groups.offsets():
                self._engine.groups.commit(
                    group, {key: self._offset(name, start) for key, name in topics().items()}
                )
            self._engine.set_meta({begun: b""})
        return self._engine.groups.offsets().get(group, {})

    def _first(self, topic_id: bytes) -> Offset:
        """Where a topic starts for who comes to it now: what was trimmed before is not missing."""
        return self._engine.keeping.bounds([topic_id]).get(topic_id, (0, 0))[0]

    def _note(self, group: str, committed: dict[bytes, Offset], topic_ids: set[bytes]) -> None:
        """Let a group stand at the start of the topics that it has no offset of."""
        fresh = dict.fromkeys(topic_ids - committed.keys(), 0)
        if fresh:
            self._engine.groups.commit(group, fresh)
            committed.update(fresh)

    def position(self, pipeline: str) -> Position | None:
        """The source's position as of the pipeline's last durable append."""
        box = self._engine.pipelines.position(pipeline)
        if box is None:
            return None
        return Position(self._vault.keys.open_record(box, about_position(pipeline)))

    def kept(self, pipeline: str) -> dict[str, bytes]:
        """What the source keeps beside its position, by name, as of the same append."""
        return {
            name: self._vault.keys.open_record(box, about_kept(pipeline, name))
            for name, box in self._engine.pipelines.kept(pipeline).items()
        }

    def topics(self, pipeline: str) -> list[str]:
        """The names of the topics that a pipeline has written to or was given."""
        return list(self._engine.pipelines.topics(pipeline).values())

    def give_topics(self, pipeline: str, globs: Sequence[str]) -> None:
        """Give a pipeline that writes none itself all topics whose names match one of ``globs``;
        topics of dead letters, and that of
        the audit, only where one is such a name."""
        ids = [
            topic.topic_id
            for topic in self._engine.topics()
            if topic.name in globs
            or (
                topic.name != AUDIT_TOPIC
                and not topic.name.endswith(DEAD_LETTERS_SUFFIX)
                and any(fnmatchcase(topic.name, glob) for glob in globs)
            )
        ]
        self._engine.pipelines.give_topics(pipeline, ids)

    def give_sinks(self, pipeline: str, groups: Sequence[str]) -> None:
        """Say which groups the sinks of a pipeline are: what they have not read is kept, from
        before they first connect."""
        self._engine.pipelines.give_groups(pipeline, groups)

    def letters(self, pipeline: str) -> Letters:
        """What becomes of a pipeline's dead letters, for the calling thread."""
        return Letters(self._vault, pipeline)

    def signal(self, pipeline: str, signal: Signal) -> int:
        """Ask something of a pipeline's source, now or when it runs next; the number given."""
        asked = {name: value for name, value in vars(signal).items() if name != "number"}
        with self._lock:
            box = self._records.box(json.dumps(asked).encode(), about_signal(pipeline))
        return self._engine.pipelines.add_signal(pipeline, box)

    def signals(self, pipeline: str) -> list[Signal]:
        """What was asked of a pipeline's source and is not forgotten, oldest first."""
        found: list[Signal] = []
        for number, box in self._engine.pipelines.signals(pipeline):
            asked = json.loads(self._vault.keys.open_record(box, about_signal(pipeline)))
            asked["tables"] = tuple(asked["tables"])
            found.append(Signal(number, **asked))
        return found

    def forget_signals(self, pipeline: str, upto: int) -> None:
        """Forget signals with numbers up to ``upto``: a durable position accounts for them."""
        self._engine.pipelines.forget_signals(pipeline, upto)

    def set_status(self, pipeline: str, status: Mapping[str, Any]) -> None:
        """Leave what `ensign status` shows of a pipeline."""
        with self._lock:
            box = self._records.box(json.dumps(status).encode(), about_status(pipeline))
        self._engine.pipelines.set_status(pipeline, box)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What each pipeline last left."""
        return {
            name: json.loads(self._vault.keys.open_record(box, about_status(name)))
            for name, box in self._engine.pipelines.statuses().items()
        }

    def hold(self, pipeline: str) -> Callable[[], None]:
        """Mark a pipeline as running; ``pipeline.running`` if another worker does it already."""
        return self._engine.pipelines.hold(pipeline)

    def held(self, pipeline: str) -> bool:
        """Whether a living worker runs the pipeline."""
        return self._engine.pipelines.held(pipeline)

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline; its topics stay."""
        self._engine.pipelines.remove(pipeline)
