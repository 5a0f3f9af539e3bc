"""What becomes of dead letters, inside the embedded engine's transactions: a topic only grows, so
what operators want of its events, and what came of that, is kept beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import apsw

from ensign_core.change import Offset


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
