"""What becomes of a pipeline's dead letters, and single events looked up to work on them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ulid import ULID

from ensign_core.broker.access import Access
from ensign_core.broker.vault import Vault, about_letter
from ensign_core.change import Batch, Offset, Op
from ensign_core.engine import Replayed
from ensign_core.errors import EnsignError

ASK_MAX = 1000
"""Letters that one transaction takes up."""


DEAD_LETTERS_SUFFIX = ".dead-letters"
"""How the names of topics of dead letters end."""


def dead_letter_topic(pipeline: str) -> str:
    """Where a pipeline's dead letters lie."""
    return pipeline + DEAD_LETTERS_SUFFIX


class Fate(NamedTuple):
    """What became of a dead letter that is not done with. ``code`` and ``error`` are those of the
    last attempt to replay it, None if there was none."""

    replaying: bool = False
    attempts: int = 0
    code: str | None = None
    error: str | None = None


class Letters:
    """The dead letters of a pipeline as operators and the pipeline's parts deal with them. Made by
    `Broker.letters`; belongs to one thread. A pipeline that never set anything aside has none."""

    def __init__(self, vault: Vault, pipeline: str) -> None:
        self.pipeline = pipeline
        self.topic = dead_letter_topic(pipeline)
        self._vault = vault
        self._records = vault.keys.record_sealer()

    def _topic_id(self) -> bytes:
        """Looked up each time, since the topic may be deleted and made again."""
        return self._vault.engine.topic_ids([self.topic]).get(self.topic, b"")

    def done(self) -> set[Offset]:
        """Those that were dropped, or replayed."""
        return self._vault.engine.letters.dropped(self._topic_id())

    def drop(self, offsets: Iterable[Offset]) -> None:
        """An operator is done with these."""
        self._vault.engine.letters.drop(self._topic_id(), offsets)

    def replayed(self, offsets: Sequence[Offset]) -> Replayed:
        """For `Writer.append`: what it replays is done with in the same commit."""
        return self._topic_id(), offsets

    def ask(self, part: str, offsets: Iterable[Offset]) -> None:
        """Ask a part of the pipeline to replay these, now or when it runs next."""
        topic_id, left = self._topic_id(), iter(offsets)
        while some := list(islice(left, ASK_MAX)):
            self._vault.engine.letters.ask(topic_id, self.pipeline, part, some)

    def asked(self, part: str, count_max: int) -> list[Offset]:
        """The first of those that a part is to replay, by rising offset."""
        return self._vault.engine.letters.asked(self._topic_id(), part, count_max)

    def failed(self, errors: Mapping[Offset, EnsignError]) -> None:
        """Replaying these failed: they stay, each with its error, and are not tried again until
        somebody asks."""
        about = about_letter(self.pipeline)
        boxes = {
            offset: self._records.box(json.dumps([error.code, error.sentence]).encode(), about)
            for offset, error in errors.items()
        }
        self._vault.engine.letters.fail(self._topic_id(), boxes)

    def fates(self, first: Offset, last: Offset) -> dict[Offset, Fate]:
        """What became of those between two offsets, if anybody wanted them replayed."""
        fates: dict[Offset, Fate] = {}
        found = self._vault.engine.letters.replays(self._topic_id(), first, last)
        for offset, (asked, attempts, box) in found.items():
            code = sentence = None
            if box is not None:
                about = about_letter(self.pipeline)
                code, sentence = json.loads(self._vault.keys.open_record(box, about))
            fates[offset] = Fate(asked, attempts, code, sentence)
        return fates


class _Frame(NamedTuple):
    """An opened frame, its topic's id, and when that was made."""

    batch: Batch
    topic_id: bytes
    made_us: int

    def holds(self, topic: str, offset: Offset) -> bool:
        batch = self.batch
        return batch.topic == topic and batch.offset <= offset < batch.next_offset


_NONE = _Frame(Batch(), b"", 0)


class Lookup:
    """Finds single events. It keeps the last frame that it opened, since those looked up one after
    another mostly lie together, until some key is revoked: use it for a while, and by one
    thread."""

    def __init__(self, vault: Vault, access: Access) -> None:
        self._vault = vault
        self._access = access
        self._last = _NONE
        self._revocations = 0

    def event(self, topic: str, offset: Offset, known_us: int | None = None) -> Batch | None:
        """The event as a batch of its own; None if the topic has none at this offset, or if it is
        another topic than had this name at ``known_us``, since it was made later. Raises what
        `Access.check` does."""
        revocations = self._vault.revocations()
        if revocations != self._revocations or not self._last.holds(topic, offset):
            self._last = _NONE
            self._last = self._open(topic, offset)
            self._revocations = revocations
        batch, topic_id, made_us = self._last
        if not self._last.holds(topic, offset) or (known_us is not None and made_us > known_us):
            return None
        self._access.check({topic_id: topic})
        index = offset - batch.offset
        return None if batch.ops[index] == Op.REMOVED else batch.part(index, index + 1)

    def _open(self, topic: str, offset: Offset) -> _Frame:
        """The frame that has the event or comes next; an empty one if there is none."""
        engine = self._vault.engine
        topic_id = engine.topic_ids([topic]).get(topic)
        sequence = None if topic_id is None else engine.sequence_at(topic_id, offset)
        if topic_id is None or sequence is None:
            return _NONE
        self._access.check({topic_id: topic})
        (stored,) = engine.frames([topic_id], sequence - 1, 0)
        made_us = ULID.from_bytes(topic_id).milliseconds * 1000
        return _Frame(self._vault.open_frame(stored, topic), topic_id, made_us)
