"""How long events stay: topics are trimmed and compacted as their policies say, by one process at a
time, in steps so small that appends and readers do not notice.

Age is told by the running maximum of commit times (of appends, where a source has none), so an
event is never taken for older than one before it: a clock that was set back, or a source that
catches up, makes events stay longer, never go sooner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ensign_core.broker.compaction import Pass, StoppedError
from ensign_core.broker.letters import DEAD_LETTERS_SUFFIX
from ensign_core.broker.policy import Retention, TopicPolicy
from ensign_core.broker.vault import Vault, now_us
from ensign_core.change import Offset
from ensign_core.engine import Topic
from ensign_core.engine.kept import Trimmed
from ensign_core.errors import EnsignError, unexpected

KEEP_EVERY_S = 30.0
"""How often a broker that writes looks whether something is to be trimmed or compacted."""

HOLD_WAIT_S_MAX = 30.0
"""How long `Keeping.keep` waits for another process that is at it."""

DIRTY_MIN = 0.5
"""What part of a topic's events must have come since the last compaction before it is compacted
again: each pass reads all of the topic."""

_PAUSE_S_MAX = 1.0
_TRY_AGAIN_S = 0.05
_logger = logging.getLogger("ensign")


@dataclass(frozen=True)
class Kept:
    """What was done to a topic: events trimmed off its start, and events that compaction took out
    because later ones superseded them."""

    topic: str
    trimmed: int
    compacted: int


class Keeping:
    """Keeps a broker's topics. `keep` may be called from any thread; `start` makes one that does
    so now and then until `close`."""

    def __init__(
        self, vault: Vault, policy: Callable[[Topic], TopicPolicy], every_s: float = KEEP_EVERY_S
    ) -> None:
        self._vault = vault
        self._policy = policy
        self._every_s = every_s
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._said: str | None = None

    def start(self) -> None:
        """Begin to keep the topics in a thread, if that does not happen yet."""
        if self._thread is None and not self._closing.is_set():
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Return when the thread has ended."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._closing.wait(self._every_s):
            release = None
            try:
                release = self._vault.engine.keeping.hold()
                if release is not None:
                    self._keep(None, self._pause)
                self._said = None
            except Exception as error:  # noqa: BLE001 - the next round may go well
                self._say(error if isinstance(error, EnsignError) else unexpected(error))
            finally:
                if release is not None:
                    release()

    def _pause(self, took_s: float) -> bool:
        """Leave the processor and the database to others for as long as was worked."""
        return self._closing.wait(min(took_s, _PAUSE_S_MAX))

    def _say(self, error: EnsignError) -> None:
        if error.code != self._said:
            self._said = error.code
            _logger.warning("keeping: %s: %s %s", error.code, error.sentence, error.remedy)

    def keep(self, names: Sequence[str] | None = None) -> list[Kept]:
        """Do now what is to be done, for some topics or all, however little it is; those topics of
        which events went. ``engine.busy`` if another process does not come to an end with it."""
        deadline = time.monotonic() + HOLD_WAIT_S_MAX
        while (release := self._vault.engine.keeping.hold()) is None:
            if time.monotonic() >= deadline or self._closing.wait(_TRY_AGAIN_S):
                raise EnsignError(
                    "engine.busy",
                    "Another process is trimming and compacting the topics.",
                    "Wait until it is done: what is due happens by itself.",
                )
        try:
            return self._keep(names, None)
        finally:
            release()

    def _keep(
        self, names: Sequence[str] | None, pause: Callable[[float], bool] | None
    ) -> list[Kept]:
        done: list[Kept] = []
        for topic in self._vault.engine.topics(names):
            policy = self._policy(topic)
            trimmed = self._trim(topic, policy.retention, pause or _at_once)
            compacted = 0
            if policy.retention.compact and policy.sealing == "server":
                compacted = self._compact(topic, policy.retention, pause)
            if trimmed or compacted:
                done.append(Kept(topic.name, trimmed, compacted))
        return done

    def _trim(self, topic: Topic, retention: Retention, pause: Callable[[float], bool]) -> int:
        """Trim a topic by age, then by size; how many events went."""
        limits: list[tuple[Offset, int | None]] = []
        if retention.age_s is not None:
            limits.append((self._older(topic, retention.age_s), None))
        if retention.bytes_max is not None and topic.bytes > retention.bytes_max:
            limits.append((topic.next_offset, retention.bytes_max))
        events = 0
        for upto, bytes_max in limits:
            trimmed = Trimmed(0, 0, True)
            while trimmed.more:
                began = time.monotonic()
                trimmed = self._vault.engine.keeping.trim(
                    topic.topic_id, upto, bytes_max, unread=retention.trim_unread,
                    besides=_pipeline_of_letters(topic.name),
                )  # fmt: skip
                events += trimmed.events
                if pause(time.monotonic() - began):
                    return events
        return events

    def _older(self, topic: Topic, age_s: float) -> Offset:
        """The first offset of a frame that is not older than ``age_s``, or the topic's end."""
        offset = self._vault.engine.offset_at(topic.topic_id, now_us() - int(age_s * 1e6))
        return topic.next_offset if offset is None else offset

    def _compact(
        self, topic: Topic, retention: Retention, pause: Callable[[float], bool] | None
    ) -> int:
        """Compact a topic in as many passes as it takes; ``pause`` is None for at once."""
        removed = 0
        while True:
            for topic in self._vault.engine.topics([topic.name]):  # noqa: B020 - as it is now
                before = self._vault.engine.keeping.compacted(topic.topic_id)
                seen = self._seen(topic, retention)
                if not self._due(topic, retention, seen, now=pause is None):
                    return removed
                try:
                    taken = Pass(self._vault, topic, seen, pause or _at_once).run()
                except StoppedError:
                    return removed
                removed += taken
                after = self._vault.engine.keeping.compacted(topic.topic_id)
                if not taken and after.clean_to == before.clean_to:
                    return removed

    def _seen(self, topic: Topic, retention: Retention) -> Offset:
        """Deletes before this offset are old enough, and all groups have read them."""
        older = self._older(topic, retention.tombstone_s)
        floor = self._vault.engine.keeping.floor(topic.topic_id, _pipeline_of_letters(topic.name))
        return older if floor is None or retention.trim_unread else min(older, floor)

    def _due(self, topic: Topic, retention: Retention, seen: Offset, *, now: bool) -> bool:
        clean_to, delete, passed_us = self._vault.engine.keeping.compacted(topic.topic_id)
        dirty = topic.next_offset - clean_to
        if dirty > 0 and (now or dirty >= DIRTY_MIN * topic.events):
            return True
        since_s = (now_us() - passed_us) / 1e6
        rested = now or not 0 <= since_s < retention.tombstone_s / 2
        return delete is not None and delete < seen and rested


def _at_once(_took_s: float) -> bool:
    return False


def _pipeline_of_letters(topic: str) -> str | None:
    """The pipeline whose sinks do not read a topic, since it has their dead letters."""
    return topic.removesuffix(DEAD_LETTERS_SUFFIX) if topic.endswith(DEAD_LETTERS_SUFFIX) else None
