"""What takes events out of topics, in the embedded engine: frames trimmed off their start, and
frames rewritten in place. Transactions are small, so that appends wait for none of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

import apsw

from ensign_core.change import Offset
from ensign_core.engine.database import Database
from ensign_core.engine.kept import Compacted, Trimmed
from ensign_core.engine.running import hold
from ensign_core.errors import EnsignError

TRIM_FRAMES_MAX = 256
TRIM_BYTES_MAX = 16 << 20
"""Frames, and bytes of them, that end a transaction of `KeepingStore.trim`."""

BY_OFFSET = ("dropped", "replays", "dedup", "superseded")
"""Tables about single events: rows before a topic's first offset go with the events."""

_HOLDER = ".keeping"
"""A pipeline's name has no dot."""

_FLOOR = """
SELECT min(offset) FROM (
    SELECT offset FROM offsets WHERE topic = ?1
    UNION ALL
    SELECT 0 FROM pipeline_topics JOIN pipeline_groups USING (pipeline)
    WHERE topic = ?1 AND pipeline IS NOT ?2
    AND NOT EXISTS (SELECT 1 FROM offsets WHERE name = pipeline_groups.name AND topic = ?1)
)
"""
_OLDEST = (
    "SELECT seq, body, base + events, events - removed, length(data), content_bytes FROM frames "
    "CROSS JOIN bodies ON bodies.id = body WHERE topic = ? AND base < ? ORDER BY base LIMIT ?"
)


class KeepingStore:
    """Implements `ensign_core.engine.kept.Keeping`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hold(self) -> Callable[[], None] | None:
        try:
            return hold(self._database.path / "running", _HOLDER)
        except EnsignError:
            return None

    def floor(self, topic_id: bytes, besides: str | None = None) -> Offset | None:
        rows = self._database.rows("SELECT id FROM topics WHERE ulid = ?", topic_id)
        return _floor(self._database.connection(), rows[0][0], besides) if rows else None

    def trim(
        self,
        topic_id: bytes,
        upto: Offset,
        bytes_max: int | None = None,
        *,
        unread: bool = False,
        besides: str | None = None,
    ) -> Trimmed:
        with self._database.transaction() as db:
            found = list(db.execute("SELECT id, bytes FROM topics WHERE ulid = ?", (topic_id,)))
            if not found:
                return Trimmed(0, 0, False)
            ((number, size),) = found
            floor = None if unread else _floor(db, number, besides)
            if floor is not None:
                upto = min(upto, floor)
            gone: list[tuple[int, int]] = []
            events = freed = content = end = 0
            for seq, body, last, kept, taken, opened in db.execute(
                _OLDEST, (number, upto, TRIM_FRAMES_MAX)
            ):
                enough = bytes_max is not None and size - freed <= bytes_max
                if last > upto or enough or freed >= TRIM_BYTES_MAX:
                    break
                gone.append((seq, body))
                end, events = last, events + kept
                freed, content = freed + taken, content + opened
            if gone:
                _remove(db, gone)
                db.execute("UPDATE topics SET trimmed = max(trimmed, ?) WHERE id = ?",
                           (end, number))  # fmt: skip
                _count(db, number, -events, -freed, -content)
                for table in BY_OFFSET:
                    db.execute(f"DELETE FROM {table} WHERE topic = ? AND offset < ?",  # noqa: S608
                               (number, end))  # fmt: skip
        return Trimmed(events, freed, len(gone) == TRIM_FRAMES_MAX or freed >= TRIM_BYTES_MAX)

    def replace(
        self,
        topic_id: bytes,
        sequence: int,
        frame: bytes | None,
        removed: int,
        content_bytes: int,
        gone: Sequence[Offset] = (),
    ) -> bool:
        with self._database.transaction() as db:
            found = list(
                db.execute(
                    "SELECT topic, body, events, removed, length(data), content_bytes "
                    "FROM frames CROSS JOIN bodies ON bodies.id = body WHERE seq = ? "
                    "AND topic = (SELECT id FROM topics WHERE ulid = ?) AND EXISTS (SELECT 1 "
                    "FROM keys.data_keys WHERE id = key_id AND state <> 'revoked')",
                    (sequence, topic_id),
                )
            )
            if not found:
                return False
            ((number, body, events, before, size, content),) = found
            db.executemany("DELETE FROM dedup WHERE topic = ? AND offset = ?",
                           [(number, offset) for offset in gone])  # fmt: skip
            if frame is None:
                _remove(db, [(sequence, body)])
                _count(db, number, before - events, -size, -content)
                return True
            db.execute("UPDATE bodies SET data = ? WHERE id = ?", (frame, body))
            db.execute("UPDATE frames SET removed = ?, content_bytes = ? WHERE seq = ?",
                       (removed, content_bytes, sequence))  # fmt: skip
            _count(db, number, before - removed, len(frame) - size, content_bytes - content)
        return True

    def compacted(self, topic_id: bytes) -> Compacted:
        rows = self._database.rows(
            "SELECT clean_to, tombstone, passed_us FROM compactions "
            "WHERE topic = (SELECT id FROM topics WHERE ulid = ?)",
            topic_id,
        )
        return Compacted(*rows[0]) if rows else Compacted()

    def set_compacted(self, topic_id: bytes, compacted: Compacted) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO compactions SELECT id, ?, ?, ? FROM topics WHERE ulid = ?",
                (*compacted, topic_id),
            )

    def bounds(self, topic_ids: Iterable[bytes]) -> dict[bytes, tuple[Offset, Offset]]:
        return {
            topic_id: (trimmed, following)
            for topic_id, trimmed, following in self._database.rows(
                "SELECT ulid, trimmed, next_offset FROM topics "
                "WHERE ulid IN (SELECT unhex(value) FROM json_each(?))",
                json.dumps([topic_id.hex() for topic_id in topic_ids]),
            )
        }


def _floor(db: apsw.Connection, number: int, besides: str | None) -> Offset | None:
    ((offset,),) = db.execute(_FLOOR, (number, besides))
    return None if offset is None else int(offset)


def _remove(db: apsw.Connection, frames: Iterable[tuple[int, int]]) -> None:
    """Remove frames, given with their bodies."""
    sequences, bodies = zip(*((seq, body) for seq, body in frames), strict=True)
    db.executemany("DELETE FROM bodies WHERE id = ?", [(body,) for body in bodies])
    db.executemany("DELETE FROM frames WHERE seq = ?", [(seq,) for seq in sequences])


def _count(db: apsw.Connection, number: int, events: int, size: int, content: int) -> None:
    """Change what a topic has by so much. Frames of an earlier Ensign do not know their content."""
    db.execute(
        "UPDATE topics SET events = events + ?, bytes = bytes + ?, "
        "content_bytes = max(0, content_bytes + ?) WHERE id = ?",
        (events, size, content, number),
    )
