"""Every frame, record and key of a project opened, while it is in use, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ensign_core import frame
from ensign_core.broker.vault import (
    Vault,
    about_kept,
    about_letter,
    about_policy,
    about_position,
    about_schema,
    about_signal,
    about_status,
    without_place,
)
from ensign_core.change import Offset, Op
from ensign_core.engine import Stored, Topic
from ensign_core.engine.inspected import Record
from ensign_core.errors import EnsignError

FETCH_BYTES_MAX = 4 << 20
PROBLEMS_MAX = 1000
"""Problems that are named, those of frames that follow each other as one; the rest is counted."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much of it is, in bytes."""

_ABOUT: dict[str, Callable[..., bytes]] = {
    "position": about_position,
    "kept": about_kept,
    "status": about_status,
    "signal": about_signal,
    "letter": about_letter,
    "schema": about_schema,
    "policy": about_policy,
}

_WHAT = {
    "position": "position of the pipeline {}",
    "kept": "piece that the source of the pipeline {} keeps",
    "status": "status of the pipeline {}",
    "signal": "signal to the pipeline {}",
    "letter": "error of a dead letter of the pipeline {}",
    "schema": "schema {}",
    "policy": "policy of the topic {}",
}


@dataclass
class Problem:
    """Something that is not as it was written, or cannot be read for another reason. The topic and
    its offsets are those concerned, None where that is not of one topic or not known."""

    code: str
    topic: str | None
    first_offset: Offset | None
    last_offset: Offset | None
    sentence: str


@dataclass
class Verified:
    """What was found. Events under keys that were revoked are no problem: they are gone as was
    asked for, and are neither opened nor counted."""

    topics: int = 0
    frames: int = 0
    events: int = 0
    bytes: int = 0
    keys: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_left_out: int = 0
    revoked: list[Problem] = field(default_factory=list)


def verify(
    vault: Vault, topics: Sequence[str] | None = None, progress: Progress | None = None
) -> Verified:
    """Open everything there is, or what is of these topics, up to the newest frame at the start.
    Writers are not kept waiting. Of client-sealed topics only the headers can be looked at."""
    # A vault of its own, which has not opened anything yet.
    fresh = Vault(vault.engine, vault.keys)
    return _Verification(fresh, progress or silent).run(topics)


def silent(doing: str, done: int, total: int) -> None:
    """Nobody looks on."""


class _Verification:
    def __init__(self, vault: Vault, progress: Progress) -> None:
        self._vault = vault
        self._engine = vault.engine
        self._progress = progress
        self._found = Verified()
        self._latest: dict[tuple[str, str | None], Problem] = {}

    def run(self, names: Sequence[str] | None) -> Verified:
        last = self._engine.last_sequence()
        topics = {topic.topic_id: topic for topic in self._engine.topics(names)}
        self._found.topics = len(topics)
        try:
            self._look(topics, whole=names is None)
            self._keys([t.topic_id for t in topics.values()] if names is not None else None)
            if names is None:
                self._records(topics)
            self._frames(topics, last)
        except EnsignError as error:
            if error.code != "engine.damaged":
                raise
            self._problem(error.code, None, None, None, error.sentence)
        return self._found

    def _problem(
        self, code: str, topic: str | None, first: Offset | None, last: Offset | None, sentence: str
    ) -> None:
        """Note one, or that the latest one of its kind goes on."""
        latest = self._latest.get((code, topic))
        if (
            latest is not None and latest.sentence == sentence and last is not None
            and latest.last_offset is not None and latest.last_offset + 1 == first
        ):  # fmt: skip
            latest.last_offset = last
            return
        listed = self._found.revoked if code == "key.revoked" else self._found.problems
        if len(listed) >= PROBLEMS_MAX:
            self._found.problems_left_out += listed is self._found.problems
            return
        problem = self._latest[code, topic] = Problem(code, topic, first, last, sentence)
        listed.append(problem)

    def _look(self, topics: dict[bytes, Topic], *, whole: bool) -> None:
        """What can be seen without a key."""
        self._progress("looking at the tables", 0, 0)
        for topic_id in [None] if whole else topics:
            for code, sentence, of, first, last in self._engine.inspection.flaws(topic_id):
                name = topics[of].name if of in topics else None
                self._problem(code, name, first, last, sentence)

    def _keys(self, topic_ids: Sequence[bytes] | None) -> None:
        for key in self._vault.under_kek(lambda r: self._engine.keys.stored(topic_ids, r.check)):
            self._found.keys += 1
            if key.state == "revoked":
                continue
            if key.state not in ("active", "retired"):
                sentence = f"The data key {key.key_id.hex()} is in no state that there is."
                self._problem("key.damaged", None, None, None, sentence)
            if key.sealing == "client":
                continue
            try:
                self._vault.keys.frame_opener(key)
            except EnsignError as error:
                self._problem(error.code, None, None, None, error.sentence)

    def _records(self, topics: dict[bytes, Topic]) -> None:
        self._progress("opening records", 0, 0)
        for record in self._engine.inspection.records():
            try:
                self._vault.keys.open_record(record.box, _ABOUT[record.kind](*record.of))
            except EnsignError:
                self._problem("record.tampered", None, None, None, _unopened(record, topics))

    def _frames(self, topics: dict[bytes, Topic], last: int) -> None:
        client_sealed = {key for key, topic in topics.items() if self._client_sealed(topic)}
        order = frame.Order()
        total = sum(topic.bytes for topic in topics.values())
        after = done = 0
        while after < last:
            fetched = self._engine.frames(topics, after, FETCH_BYTES_MAX)
            if not fetched:
                return
            for stored in fetched:
                if stored.sequence > last:
                    break
                name = topics[stored.topic_id].name
                self._frame(stored, name, None if stored.topic_id in client_sealed else order)
                done += len(stored.frame)
            after = fetched[-1].sequence
            self._progress("opening frames", done, total)

    def _frame(self, stored: Stored, name: str, order: frame.Order | None) -> None:
        try:
            events = stored.events
            if order is None:
                self._vault.check_header(stored, name)
            else:
                events -= self._vault.open_frame(stored, name, order).ops.count(Op.REMOVED)
        except EnsignError as error:
            if error.code == "key.missing" and self._deleted(stored, name):
                return
            end = stored.offset + stored.events - 1
            self._problem(error.code, name, stored.offset, end, without_place(error.sentence))
        else:
            self._found.frames += 1
            self._found.events += events
            self._found.bytes += len(stored.frame)

    def _deleted(self, stored: Stored, name: str) -> bool:
        """Whether a frame's topic is gone by now, and its key with it."""
        return self._engine.topic_ids([name]).get(name) != stored.topic_id

    def _client_sealed(self, topic: Topic) -> bool:
        try:
            return self._vault.policy(topic).sealing == "client"
        except EnsignError:
            # That its policy does not open is a problem of its own.
            return False


def _unopened(record: Record, topics: dict[bytes, Topic]) -> str:
    of = record.of[0]
    name = topics[of].name if isinstance(of, bytes) and of in topics else of
    what = _WHAT[record.kind].format(name)
    return f"The {what} does not open: it was changed or damaged."
