"""What the embedded engine does inside the transaction of an append: a fixed number of statements,
however many topics a batch has, since a thousand tables must not cost a thousand lookups."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import apsw

from ensign_core.change import Offset, Stage
from ensign_core.engine import Epoch, StaleWriteError, Write
from ensign_core.errors import EnsignError


class _Topic:
    """Where a topic stands in this transaction."""

    __slots__ = ("content", "events", "high_us", "next_offset", "number", "size")

    def __init__(self, number: int, next_offset: Offset, high_us: int) -> None:
        self.number = number
        self.next_offset = next_offset
        self.high_us = high_us
        self.events = self.size = self.content = 0


class _Body(NamedTuple):
    """A stored body that is to be given its offsets."""

    topic: int
    body: int
    events: int
    last_us: int
    key_id: bytes
    size: int
    content: int


def check_epoch(db: apsw.Connection, epoch: Epoch) -> None:
    """Raise ``pipeline.fenced`` unless ``epoch`` is the pipeline's latest."""
    ((number,),) = db.execute("SELECT epoch FROM pipelines WHERE name = ?", (epoch.pipeline,))
    if number != epoch.number:
        raise EnsignError(
            "pipeline.fenced",
            f"Another worker has taken over the pipeline {epoch.pipeline}.",
            "Stop one of the two workers; the one that started last goes on.",
        )


def write_all(
    db: apsw.Connection, writes: Sequence[Write], epoch: Epoch | None, stage: Stage
) -> list[Offset]:
    """Append frames, if their topics and keys are current; the offset of each one's first event, -1
    if held."""
    if not writes:
        return []
    _check_keys(db, {write.key_id for write in writes})
    ids = {write.topic: write.topic_id for write in writes}
    if any(ids[write.topic] != write.topic_id for write in writes):
        raise StaleWriteError
    topics = _topics(db, ids, epoch)
    ((last,),) = db.execute("SELECT coalesce(max(id), 0) FROM bodies")
    db.executemany(
        "INSERT INTO bodies VALUES (?, ?)",
        [(last + place, write.frame) for place, write in enumerate(writes, 1)],
    )
    bodies = [
        _Body(
            topics[write.topic].number, last + place, write.events, write.last_us, write.key_id,
            len(write.frame), write.content_bytes,
        )
        for place, write in enumerate(writes, 1)
    ]  # fmt: skip
    if stage is Stage.HOLD:
        assert epoch is not None
        db.executemany(
            "INSERT INTO held (topic, body, events, last_us, key_id, bytes, content_bytes, "
            "pipeline) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(*body, epoch.pipeline) for body in bodies],
        )
        return [-1] * len(writes)
    return _place(db, bodies, topics.values())


def _check_keys(db: apsw.Connection, key_ids: set[bytes]) -> None:
    ((alive,),) = db.execute(
        "SELECT count(*) FROM keys.data_keys WHERE state = 'active' "
        "AND id IN (SELECT unhex(value) FROM json_each(?))",
        (json.dumps([key_id.hex() for key_id in key_ids]),),
    )
    if alive != len(key_ids):
        raise StaleWriteError


def _topics(db: apsw.Connection, ids: dict[str, bytes], epoch: Epoch | None) -> dict[str, _Topic]:
    """The topics by name, made as needed, and marked as the pipeline's."""
    pipeline = epoch.pipeline if epoch is not None else None
    names = json.dumps(list(ids))
    found = _find(db, names, pipeline)
    missing = ids.keys() - {row[0] for row in found}
    if missing:
        db.executemany(
            "INSERT OR IGNORE INTO topics (ulid, name) VALUES (?, ?)",
            [(ids[name], name) for name in ids if name in missing],
        )
        found = _find(db, names, pipeline)
    if len(found) != len(ids):
        raise StaleWriteError
    topics: dict[str, _Topic] = {}
    fresh: list[tuple[str | None, int]] = []
    for name, number, topic_id, state, next_offset, high_us, known in found:
        if topic_id != ids[name]:
            raise StaleWriteError
        if state != "ready":
            raise archived(name)
        topics[name] = _Topic(number, next_offset, high_us)
        if not known and pipeline is not None:
            fresh.append((pipeline, number))
    if fresh:
        db.executemany("INSERT INTO pipeline_topics VALUES (?, ?)", fresh)
    return topics


def archived(topic: str) -> EnsignError:
    return EnsignError(
        "topic.archived",
        f"The topic {topic} is archived and takes no more events.",
        "Write to another topic.",
    )


def _find(
    db: apsw.Connection, names: str, pipeline: str | None
) -> list[tuple[str, int, bytes, str, int, int, int]]:
    return list(
        db.execute(
            "SELECT name, topics.id, ulid, state, next_offset, high_us, EXISTS (SELECT 1 FROM "
            "pipeline_topics WHERE pipeline = ? AND topic = topics.id) FROM json_each(?) "
            "CROSS JOIN topics ON topics.name = json_each.value",
            (pipeline, names),
        )
    )


def _place(db: apsw.Connection, bodies: Sequence[_Body], topics: Iterable[_Topic]) -> list[Offset]:
    """Give stored bodies their offsets: they are readable once the transaction commits."""
    by_number = {topic.number: topic for topic in topics}
    offsets: list[Offset] = []
    frames: list[tuple[int, int, int, int, bytes, int, int]] = []
    for number, body, events, last_us, key_id, size, content in bodies:
        topic = by_number[number]
        base = topic.next_offset
        topic.next_offset = base + events
        topic.events += events
        topic.size += size
        topic.content += content
        topic.high_us = max(topic.high_us, last_us)
        offsets.append(base)
        frames.append((number, base, events, topic.high_us, key_id, body, content))
    db.executemany(
        "UPDATE topics SET next_offset = ?, events = events + ?, bytes = bytes + ?, "
        "content_bytes = content_bytes + ?, high_us = ? WHERE id = ?",
        [
            (topic.next_offset, topic.events, topic.size, topic.content, topic.high_us, number)
            for number, topic in by_number.items()
        ],
    )
    db.executemany(
        "INSERT INTO frames (topic, base, events, high_us, key_id, body, content_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        frames,
    )
    return offsets


def release(db: apsw.Connection, pipeline: str) -> None:
    """Make what a pipeline holds readable, in the order of its appends. ``pipeline.interrupted`` if
    some of it was sealed under a key that has been revoked."""
    for _ in db.execute(
        "SELECT 1 FROM held JOIN bodies ON id = body WHERE pipeline = ? AND length(data) = 0",
        (pipeline,),
    ):
        raise EnsignError(
            "pipeline.interrupted",
            f"What the pipeline {pipeline} held of a transaction was sealed under a key that has "
            "been revoked.",
            "Nothing is to be done: it reads the transaction again by itself.",
        )
    bodies = [
        _Body(*row)
        for row in db.execute(
            "SELECT topic, body, events, last_us, key_id, bytes, content_bytes FROM held "
            "WHERE pipeline = ? "
            "ORDER BY body",
            (pipeline,),
        )
    ]
    topics = [
        _Topic(*row)
        for row in db.execute(
            "SELECT id, next_offset, high_us FROM topics WHERE id IN "
            "(SELECT topic FROM held WHERE pipeline = ?)",
            (pipeline,),
        )
    ]
    _place(db, bodies, topics)
    db.execute("DELETE FROM held WHERE pipeline = ?", (pipeline,))


def keep(db: apsw.Connection, pipeline: str, pieces: Mapping[str, bytes]) -> None:
    """Replace pieces of what a pipeline's source keeps; an empty one is removed."""
    gone = [(pipeline, name) for name, value in pieces.items() if not value]
    db.executemany("DELETE FROM kept WHERE pipeline = ? AND name = ?", gone)
    db.executemany(
        "INSERT OR REPLACE INTO kept (pipeline, name, value) VALUES (?, ?, ?)",
        [(pipeline, name, value) for name, value in pieces.items() if value],
    )


def void(db: apsw.Connection, pipeline: str) -> None:
    """Forget what a pipeline holds."""
    db.execute("DELETE FROM bodies WHERE id IN (SELECT body FROM held WHERE pipeline = ?)",
               (pipeline,))  # fmt: skip
    db.execute("DELETE FROM held WHERE pipeline = ?", (pipeline,))


def delete(db: apsw.Connection, topic: int) -> None:
    """Remove a topic, by its number, with all that is of it."""
    for table in ("frames", "held"):
        db.execute(f"DELETE FROM bodies WHERE id IN (SELECT body FROM {table} WHERE topic = ?)",  # noqa: S608
                   (topic,))  # fmt: skip
    db.execute("DELETE FROM sequences WHERE producer IN (SELECT id FROM producers WHERE topic = ?)",
               (topic,))  # fmt: skip
    for table in (
        "frames", "held", "offsets", "pipeline_topics", "dropped", "replays", "dedup",
        "compactions", "producers", "superseded", "work_fronts", "deliveries",
    ):  # fmt: skip
        db.execute(f"DELETE FROM {table} WHERE topic = ?", (topic,))  # noqa: S608
    db.execute("DELETE FROM topics WHERE id = ?", (topic,))
