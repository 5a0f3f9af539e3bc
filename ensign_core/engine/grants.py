"""Grants and what is sealed for readers, in ``keys.db``: a reader who is let in or shut out and the
keys that are retired for it are one commit to one database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import apsw

from ensign_core.change import Offset
from ensign_core.crypto import DataKey
from ensign_core.engine import Grant, StaleWriteError
from ensign_core.engine.database import Database
from ensign_core.engine.keys import count_revocation, retire_client_keys
from ensign_core.errors import EnsignError

_BOXES = (
    "SELECT key_id, reader_keys.wrapped FROM keys.reader_keys "
    "JOIN keys.readers ON name = reader AND public_key = ?1 "
    "JOIN keys.data_keys ON id = key_id AND topic = ?2"
)


class GrantStore:
    """Implements `ensign_core.engine.Grants`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, topic_ids: Iterable[bytes]) -> list[Grant]:
        return [
            Grant(topic_id, reader, public_key, created, bool(granted))
            for topic_id, reader, public_key, created, granted in self._database.rows(
                "SELECT topic, reader, public_key, created, granted FROM keys.grants "
                "JOIN keys.readers ON name = reader "
                "WHERE topic IN (SELECT unhex(value) FROM json_each(?)) ORDER BY reader",
                json.dumps([topic_id.hex() for topic_id in topic_ids]),
            )
        ]

    def public_key(self, reader: str) -> str | None:
        rows = self._database.rows("SELECT public_key FROM keys.readers WHERE name = ?", reader)
        return rows[0][0] if rows else None

    def add(self, grant: Grant, boxes: Mapping[bytes, bytes], giver: str | None = None) -> bool:
        topic_id, reader, public_key, created, _ = grant
        with self._database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO keys.readers (name) VALUES (?)", (reader,))
            if public_key is not None:
                _set_public_key(db, reader, public_key)
            db.execute(
                "INSERT INTO keys.grants VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE "
                "SET created = ?3, granted = 1 WHERE granted = 0",
                (topic_id, reader, created),
            )
            fresh = db.changes() > 0
            if fresh:
                retire_client_keys(db, topic_id)
            if giver is not None:
                held = {key_id for key_id, _ in db.execute(_BOXES, (giver, topic_id))}
                if held != boxes.keys():
                    raise StaleWriteError
            db.executemany(
                "INSERT OR REPLACE INTO keys.reader_keys VALUES (?, ?, ?)",
                [(key_id, reader, box) for key_id, box in boxes.items()],
            )
        return fresh

    def remove(self, topic_id: bytes, reader: str) -> bool:
        with self._database.transaction() as db:
            db.execute(
                "UPDATE keys.grants SET granted = 0 WHERE topic = ? AND reader = ? AND granted = 1",
                (topic_id, reader),
            )
            if not db.changes():
                return False
            db.execute(
                "DELETE FROM keys.reader_keys WHERE reader = ? "
                "AND key_id IN (SELECT id FROM keys.data_keys WHERE topic = ?)",
                (reader, topic_id),
            )
            retire_client_keys(db, topic_id)
            count_revocation(db)
        self._database.scrub_keys()
        return True

    def add_key(self, key: DataKey, boxes: Mapping[str, bytes]) -> None:
        with self._database.transaction() as db:
            readers: dict[str, str] = dict(
                db.execute(
                    "SELECT public_key, name FROM keys.readers JOIN keys.grants ON reader = name "
                    "WHERE topic = ? AND granted = 1",
                    (key.topic_id,),
                )
            )
            if readers.keys() != boxes.keys():
                raise StaleWriteError
            db.execute(
                "INSERT INTO keys.data_keys (id, topic, wrapped, created, state, sealing) "
                "VALUES (?, ?, x'', ?, 'active', 'client')",
                (key.key_id, key.topic_id, key.created),
            )
            db.executemany(
                "INSERT INTO keys.reader_keys VALUES (?, ?, ?)",
                [(key.key_id, readers[public], box) for public, box in boxes.items()],
            )

    def boxes(
        self, public_key: str, topic_id: bytes, key_id: bytes | None = None
    ) -> dict[bytes, bytes]:
        if key_id is None:
            return dict(self._database.rows(_BOXES, public_key, topic_id))
        one = f"{_BOXES} WHERE key_id = ?3"
        return dict(self._database.rows(one, public_key, topic_id, key_id))

    def readable_from(self, public_key: str, topic_id: bytes, offset: Offset) -> Offset:
        rows = self._database.rows(
            "SELECT coalesce((SELECT min(base) FROM frames WHERE topic = topics.id AND base > ?3 "  # noqa: S608
            f"AND key_id IN (SELECT key_id FROM ({_BOXES}))), next_offset) "
            "FROM topics WHERE ulid = ?2",
            public_key, topic_id, offset,
        )  # fmt: skip
        return rows[0][0] if rows else offset


def _set_public_key(db: apsw.Connection, reader: str, public_key: str) -> None:
    """Note a reader's key. Another one takes its place only while the reader may read nothing, so
    that all that is sealed for a reader is sealed for the one key."""
    for (other,) in db.execute(
        "SELECT name FROM keys.readers WHERE public_key = ? AND name != ?", (public_key, reader)
    ):
        raise EnsignError(
            "reader.key_taken",
            f"The public key is that of the reader {other}.",
            "Let each reader make an identity: ensign grants identity FILE",
        )
    if list(
        db.execute(
            "SELECT 1 FROM keys.readers JOIN keys.grants ON reader = name AND granted = 1 "
            "WHERE name = ? AND public_key != ?",
            (reader, public_key),
        )
    ):
        raise EnsignError(
            "reader.key_differs",
            f"The reader {reader} is known with another public key.",
            "Remove the reader's grants first, or give the new key another reader's name.",
        )
    db.execute("UPDATE keys.readers SET public_key = ? WHERE name = ?", (public_key, reader))
