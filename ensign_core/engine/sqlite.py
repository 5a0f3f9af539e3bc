"""The embedded engine: one SQLite database in WAL mode with synchronous=FULL, and keys.db.

SQLite comes with apsw rather than with Python, so that the library that holds the data is the same
on every machine and has the fix of 3.51.3 for databases with several connections in WAL mode.
Every thread gets a connection of its own. ``keys.db`` is attached to each: a rollback journal and
secure_delete, so that a destroyed key leaves no copy behind in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import apsw

from ensign_core.change import Offset, Stage
from ensign_core.engine import (
    Beside,
    Epoch,
    Grants,
    Groups,
    Keys,
    Letters,
    Pipelines,
    Stored,
    Topic,
    Write,
    deliveries,
    groups,
    letters,
    publishing,
)
from ensign_core.engine.append import check_epoch, delete, keep, release, write_all
from ensign_core.engine.budget import AUDIT_TOPIC, DiskBudget, Room
from ensign_core.engine.claims import Publishing
from ensign_core.engine.connection import classified, not_writable
from ensign_core.engine.database import Database
from ensign_core.engine.deliveries import DeliveryStore
from ensign_core.engine.grants import GrantStore
from ensign_core.engine.groups import GroupStore
from ensign_core.engine.inspected import Inspection
from ensign_core.engine.inspection import Inspector
from ensign_core.engine.keeping import KeepingStore
from ensign_core.engine.kept import Keeping
from ensign_core.engine.keys import KeyStore
from ensign_core.engine.letters import LetterStore
from ensign_core.engine.pipelines import PipelineStore
from ensign_core.engine.publishing import PublishingStore
from ensign_core.engine.wake import FifoBell, ring
from ensign_core.engine.work import Deliveries

FRAMES_PER_FETCH_MAX = 1024


class SqliteEngine:
    """Implements `ensign_core.engine.Engine` in the folder ``path``, made at first use."""

    def __init__(self, path: Path, budget: DiskBudget | None = None) -> None:
        self.path = path
        self._room = Room(path, budget) if budget is not None else None
        self.database = Database(path)
        self.keys: Keys = KeyStore(self.database)
        self.grants: Grants = GrantStore(self.database)
        self.pipelines: Pipelines = PipelineStore(self.database)
        self.groups: Groups = GroupStore(self.database)
        self.letters: Letters = LetterStore(self.database)
        self.deliveries: Deliveries = DeliveryStore(self.database)
        self.publishing: Publishing = PublishingStore(self.database)
        self.inspection: Inspection = Inspector(self.database)
        self.keeping: Keeping = KeepingStore(self.database)

    def close(self) -> None:
        self.database.close()

    def meta(self) -> dict[str, bytes]:
        return dict(self.database.rows("SELECT name, value FROM meta"))

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        with self.database.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(values.items()))

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        return [
            Topic(*row)
            for row in self.database.rows(
                "SELECT ulid, name, state, events, bytes, "
                "coalesce((SELECT min(base) FROM frames WHERE topic = topics.id), next_offset), "
                "next_offset, content_bytes, duplicates, policy FROM topics "
                "WHERE ?1 IS NULL OR name IN (SELECT value FROM json_each(?1)) ORDER BY name",
                None if names is None else json.dumps(list(names)),
            )
        ]

    def topic_ids(self, names: Sequence[str]) -> dict[str, bytes]:
        return dict(
            self.database.rows(
                "SELECT name, ulid FROM json_each(?) CROSS JOIN topics ON name = value",
                json.dumps(list(names)),
            )
        )

    def create_topic(self, topic_id: bytes, name: str, policy: bytes | None = None) -> None:
        with self.database.transaction() as db:
            db.execute("INSERT OR IGNORE INTO topics (ulid, name, policy) VALUES (?, ?, ?)",
                       (topic_id, name, policy))  # fmt: skip

    def set_policy(self, topic_id: bytes, policy: bytes) -> None:
        with self.database.transaction() as db:
            db.execute("UPDATE topics SET policy = ? WHERE ulid = ?", (policy, topic_id))

    def set_state(self, topic_id: bytes, state: Literal["ready", "archived"]) -> None:
        with self.database.transaction() as db:
            db.execute("UPDATE topics SET state = ? WHERE ulid = ?", (state, topic_id))

    def delete_topic(self, topic_id: bytes) -> None:
        with self.database.transaction() as db:
            for (number,) in list(db.execute("SELECT id FROM topics WHERE ulid = ?", (topic_id,))):
                delete(db, number)
            for table in ("data_keys", "grants"):
                db.execute(f"DELETE FROM keys.{table} WHERE topic = ?", (topic_id,))  # noqa: S608
        self.database.scrub_keys()

    def append(
        self,
        writes: Sequence[Write],
        schemas: Mapping[int, bytes],
        epoch: Epoch | None = None,
        position: bytes | None = None,
        stage: Stage = Stage.NONE,
        kept: Mapping[str, bytes] | None = None,
        beside: Beside | None = None,
    ) -> list[Offset]:
        with self.database.transaction() as db:
            if epoch is not None:
                check_epoch(db, epoch)
            claims = beside.claims if beside is not None else ()
            publishing.check(db, claims)
            sizes = [len(write.frame) for write in writes if write.topic != AUDIT_TOPIC]
            if sizes and self._room is not None:
                self._room.take(db, sizes)
            db.executemany("INSERT OR IGNORE INTO schemas VALUES (?, ?)",
                           [(_signed(key), box) for key, box in schemas.items()])  # fmt: skip
            if stage is Stage.RELEASE and epoch is not None:
                release(db, epoch.pipeline)
            offsets = write_all(db, writes, epoch, stage)
            if position is not None and epoch is not None:
                db.execute("UPDATE pipelines SET position = ? WHERE name = ?",
                           (position, epoch.pipeline))  # fmt: skip
            if kept and epoch is not None:
                keep(db, epoch.pipeline, kept)
            if beside is not None:
                _commit_beside(db, beside)
            publishing.remember(db, claims, offsets)
        if stage is Stage.RELEASE or (writes and stage is not Stage.HOLD):
            ring(self.path / "wake")
        return offsets

    def last_sequence(self) -> int:
        rows = self.database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'frames'")
        return rows[0][0] if rows else 0

    def sequence_at(self, topic_id: bytes, offset: Offset) -> int | None:
        rows = self.database.rows(
            "SELECT seq FROM frames WHERE topic = (SELECT id FROM topics WHERE ulid = ?1) "
            "AND base >= coalesce((SELECT max(base) FROM frames WHERE topic = "
            "(SELECT id FROM topics WHERE ulid = ?1) AND base <= ?2), 0) "
            "AND base + events > ?2 ORDER BY base LIMIT 1",
            topic_id,
            offset,
        )
        return rows[0][0] if rows else None

    def offset_at(self, topic_id: bytes, time_us: int) -> Offset | None:
        rows = self.database.rows(
            "SELECT base FROM frames WHERE topic = (SELECT id FROM topics WHERE ulid = ?) "
            "AND high_us >= ? ORDER BY high_us, base LIMIT 1",
            topic_id,
            time_us,
        )
        return rows[0][0] if rows else None

    def frames(self, topics: Iterable[bytes], after: int, bytes_max: int) -> list[Stored]:
        wanted = list(topics)
        marks = ",".join("?" * len(wanted))
        found: list[Stored] = []
        size = 0
        with classified(self.path):
            # By `+` no index of topics is used: in another order than asked for, all frames that
            # are left would be sorted at each call, with their bodies.
            cursor = self.database.connection().execute(
                "SELECT seq, ulid, base, frames.events, data, key_id, superseded FROM frames "  # noqa: S608
                "CROSS JOIN topics ON topics.id = topic CROSS JOIN bodies ON bodies.id = body "
                f"WHERE seq > ? AND +topic IN (SELECT id FROM topics WHERE ulid IN ({marks})) "
                "ORDER BY seq LIMIT ?",
                (after, *wanted, FRAMES_PER_FETCH_MAX),
            )
            for row in cursor:
                found.append(Stored(*row))
                size += len(row[4])
                if size >= bytes_max:
                    break
            cursor.close()
        return found

    def schema(self, schema_id: int) -> bytes | None:
        rows = self.database.rows("SELECT box FROM schemas WHERE id = ?", _signed(schema_id))
        return rows[0][0] if rows else None

    def bell(self) -> FifoBell:
        try:
            return FifoBell(self.path / "wake")
        except OSError as error:
            raise not_writable(self.path, error.strerror) from None


def _commit_beside(db: apsw.Connection, beside: Beside) -> None:
    if beside.replayed is not None:
        letters.drop(db, *beside.replayed)
    if beside.consumed is not None:
        groups.step(db, beside.consumed)
    if beside.finished is not None:
        deliveries.finish(db, beside.finished)


def _signed(schema_id: int) -> int:
    """SQLite's integers are signed, fingerprints are not."""
    return schema_id - (1 << 64) if schema_id >= 1 << 63 else schema_id
