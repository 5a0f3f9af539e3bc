"""What becomes of dead letters, inside the embedded engine's transactions: a topic only grows, so
what operators want of its events, and what came of that, is kept beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import apsw

from ensign_core.change import Offset
from ensign_core.engine import Replay
from ensign_core.engine.database import Database


def drop(db: apsw.Connection, topic_id: bytes, offsets: Iterable[Offset]) -> None:
    """These letters are done with: dropped, or replayed."""
    rows = [(offset, topic_id) for offset in offsets]
    db.executemany("INSERT OR IGNORE INTO dropped SELECT id, ? FROM topics WHERE ulid = ?", rows)
    db.executemany(
        "DELETE FROM replays WHERE offset = ? AND topic = (SELECT id FROM topics WHERE ulid = ?)",
        rows,
    )


def ask(
    db: apsw.Connection, topic_id: bytes, pipeline: str, part: str, offsets: Iterable[Offset]
) -> None:
    """Want letters replayed, but those that are done with by now."""
    db.executemany(
        "INSERT INTO replays (topic, offset, pipeline, part, asked) "
        "SELECT id, ?1, ?3, ?4, 1 FROM topics WHERE ulid = ?2 "
        "AND NOT EXISTS (SELECT 1 FROM dropped WHERE topic = id AND offset = ?1) "
        "ON CONFLICT (topic, offset) DO UPDATE SET asked = 1",
        [(offset, topic_id, pipeline, part) for offset in offsets],
    )


def fail(db: apsw.Connection, topic_id: bytes, errors: Mapping[Offset, bytes]) -> None:
    """These were tried again in vain: what was asked is over."""
    db.executemany(
        "UPDATE replays SET asked = 0, attempts = attempts + 1, error = ? "
        "WHERE offset = ? AND topic = (SELECT id FROM topics WHERE ulid = ?)",
        [(error, offset, topic_id) for offset, error in errors.items()],
    )


ASKED = (
    "SELECT offset FROM replays WHERE topic = (SELECT id FROM topics WHERE ulid = ?) "
    "AND part = ? AND asked = 1 ORDER BY offset LIMIT ?"
)
REPLAYS = (
    "SELECT offset, asked, attempts, error FROM replays "
    "WHERE topic = (SELECT id FROM topics WHERE ulid = ?) AND offset BETWEEN ? AND ?"
)


class LetterStore:
    """Implements `ensign_core.engine.Letters`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def drop(self, topic_id: bytes, offsets: Iterable[Offset]) -> None:
        with self._database.transaction() as db:
            drop(db, topic_id, offsets)

    def dropped(self, topic_id: bytes) -> set[Offset]:
        return {
            row[0]
            for row in self._database.rows(
                "SELECT offset FROM dropped WHERE topic = (SELECT id FROM topics WHERE ulid = ?)",
                topic_id,
            )
        }

    def ask(self, topic_id: bytes, pipeline: str, part: str, offsets: Iterable[Offset]) -> None:
        with self._database.transaction() as db:
            ask(db, topic_id, pipeline, part, offsets)

    def asked(self, topic_id: bytes, part: str, count_max: int) -> list[Offset]:
        return [row[0] for row in self._database.rows(ASKED, topic_id, part, count_max)]

    def fail(self, topic_id: bytes, errors: Mapping[Offset, bytes]) -> None:
        with self._database.transaction() as db:
            fail(db, topic_id, errors)

    def replays(self, topic_id: bytes, first: Offset, last: Offset) -> dict[Offset, Replay]:
        return {
            offset: Replay(bool(asked), attempts, error)
            for offset, asked, attempts, error in self._database.rows(
                REPLAYS, topic_id, first, last
            )
        }
