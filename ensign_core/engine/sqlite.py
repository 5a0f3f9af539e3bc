"""The embedded engine: one SQLite database in WAL mode with synchronous=FULL, and keys.db.

SQLite comes with apsw rather than with Python, so that the library that holds the data is the same
on every machine and has the fix of 3.51.3 for databases with several connections in WAL mode.
Every thread gets a connection of its own. ``keys.db`` is attached to each: a rollback journal and
secure_delete, so that a destroyed key leaves no copy behind in it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from ensign_core.change import Offset, Stage
from ensign_core.crypto import DataKey
from ensign_core.engine import Epoch, Replay, Replayed, Stored, Topic, Write, letters
from ensign_core.engine.append import check_epoch, delete, keep, release, void, write_all
from ensign_core.engine.checkpoint import Checkpointer
from ensign_core.engine.connection import classified, connect, not_writable
from ensign_core.engine.running import held, hold
from ensign_core.engine.wake import FifoBell, ring

FRAMES_PER_FETCH_MAX = 1024


class SqliteEngine:
    """Implements `ensign_core.engine.Engine` in the folder ``path``, made at first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._checkpointer = Checkpointer(path / "ensign.db")
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise not_writable(path, error.strerror) from None
        self._db()

    def _db(self) -> apsw.Connection:
        """This thread's connection, which is closed when the thread ends."""
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            with classified(self.path):
                db = connect(self.path, self._checkpointer)
            self._local.db = db
            with self._lock:
                self._connections.add(db)
        return db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        db = self._db()
        # Threads of this process wait here, where nobody polls; other processes are polled for.
        with self._writing, classified(self.path):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with classified(self.path):
            return list(self._db().execute(sql, values))

    def close(self) -> None:
        self._checkpointer.close()
        with self._lock:
            for db in list(self._connections):
                db.close()
            self._connections.clear()
        self._local = threading.local()

    def meta(self) -> dict[str, bytes]:
        return dict(self._rows("SELECT name, value FROM meta"))

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(values.items()))

    def topics(self, names: Sequence[str] | None = None) -> list[Topic]:
        return [
            Topic(*row)
            for row in self._rows(
                "SELECT ulid, name, state, events, bytes, "
                "coalesce((SELECT min(base) FROM frames WHERE topic = topics.id), next_offset), "
                "next_offset FROM topics "
                "WHERE ?1 IS NULL OR name IN (SELECT value FROM json_each(?1)) ORDER BY name",
                None if names is None else json.dumps(list(names)),
            )
        ]

    def topic_ids(self, names: Sequence[str]) -> dict[str, bytes]:
        return dict(
            self._rows(
                "SELECT name, ulid FROM json_each(?) CROSS JOIN topics ON name = value",
                json.dumps(list(names)),
            )
        )

    def create_topic(self, topic_id: bytes, name: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO topics (ulid, name) VALUES (?, ?)", (topic_id, name))

    def delete_topic(self, topic_id: bytes) -> None:
        with self._transaction() as db:
            for (number,) in list(db.execute("SELECT id FROM topics WHERE ulid = ?", (topic_id,))):
                delete(db, number)
            db.execute("DELETE FROM keys.data_keys WHERE topic = ?", (topic_id,))

    def claim(self, pipeline: str) -> Epoch:
        with self._transaction() as db:
            ((number,),) = db.execute(
                "INSERT INTO pipelines (name, epoch) VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (pipeline,),
            )
            void(db, pipeline)
        return Epoch(pipeline, number)

    def append(
        self,
        writes: Sequence[Write],
        schemas: Mapping[int, bytes],
        epoch: Epoch | None = None,
        position: bytes | None = None,
        stage: Stage = Stage.NONE,
        kept: Mapping[str, bytes] | None = None,
        replayed: Replayed | None = None,
    ) -> list[Offset]:
        with self._transaction() as db:
            if epoch is not None:
                check_epoch(db, epoch)
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
            if replayed is not None:
                letters.drop(db, *replayed)
        if stage is Stage.RELEASE or (writes and stage is not Stage.HOLD):
            ring(self.path / "wake")
        return offsets

    def position(self, pipeline: str) -> bytes | None:
        rows = self._rows("SELECT position FROM pipelines WHERE name = ?", pipeline)
        return rows[0][0] if rows else None

    def kept(self, pipeline: str) -> dict[str, bytes]:
        return dict(self._rows("SELECT name, value FROM kept WHERE pipeline = ?", pipeline))

    def pipeline_topics(self, pipeline: str) -> dict[bytes, str]:
        return dict(
            self._rows(
                "SELECT ulid, name FROM pipeline_topics JOIN topics ON topic = id "
                "WHERE pipeline = ? ORDER BY id",
                pipeline,
            )
        )

    def give_topics(self, pipeline: str, topic_ids: Sequence[bytes]) -> None:
        if self.pipeline_topics(pipeline).keys() == set(topic_ids):
            return
        with self._transaction() as db:
            db.execute("DELETE FROM pipeline_topics WHERE pipeline = ?", (pipeline,))
            db.executemany(
                "INSERT INTO pipeline_topics SELECT ?, id FROM topics WHERE ulid = ?",
                [(pipeline, topic_id) for topic_id in topic_ids],
            )

    def last_sequence(self) -> int:
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'frames'")
        return rows[0][0] if rows else 0

    def sequence_at(self, topic_id: bytes, offset: Offset) -> int | None:
        rows = self._rows(
            "SELECT seq FROM frames WHERE topic = (SELECT id FROM topics WHERE ulid = ?1) "
            "AND base >= coalesce((SELECT max(base) FROM frames WHERE topic = "
            "(SELECT id FROM topics WHERE ulid = ?1) AND base <= ?2), 0) "
            "AND base + events > ?2 ORDER BY base LIMIT 1",
            topic_id,
            offset,
        )
        return rows[0][0] if rows else None

    def offset_at(self, topic_id: bytes, time_us: int) -> Offset | None:
        rows = self._rows(
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
            cursor = self._db().execute(
                "SELECT seq, ulid, base, frames.events, data FROM frames "  # noqa: S608
                "CROSS JOIN topics ON topics.id = topic CROSS JOIN bodies ON bodies.id = body "
                f"WHERE seq > ? AND topic IN (SELECT id FROM topics WHERE ulid IN ({marks})) "
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
        rows = self._rows("SELECT box FROM schemas WHERE id = ?", _signed(schema_id))
        return rows[0][0] if rows else None

    def commit(self, group: str, offsets: Mapping[bytes, Offset]) -> None:
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO offsets SELECT ?, id, ? FROM topics WHERE ulid = ? "
                "ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset",
                [(group, offset, topic_id) for topic_id, offset in offsets.items()],
            )

    def groups(self) -> dict[str, dict[bytes, Offset]]:
        groups: dict[str, dict[bytes, Offset]] = {}
        for name, topic_id, offset in self._rows(
            "SELECT offsets.name, ulid, offset FROM offsets JOIN topics ON topic = id"
        ):
            groups.setdefault(name, {})[topic_id] = offset
        return groups

    def data_keys(self, topic_ids: Sequence[bytes] | None = None) -> list[DataKey]:
        chosen, marks = "", None
        if topic_ids is not None:
            chosen = "WHERE topic IN (SELECT unhex(value) FROM json_each(?1)) "
            marks = json.dumps([topic_id.hex() for topic_id in topic_ids])
        return [
            DataKey(*row)
            for row in self._rows(
                "SELECT id, topic, wrapped, created, state FROM keys.data_keys "  # noqa: S608
                f"{chosen}ORDER BY created",
                *([] if marks is None else [marks]),
            )
        ]

    def add_data_keys(self, keys: Sequence[DataKey]) -> list[DataKey]:
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO keys.data_keys VALUES (?, ?, ?, ?, ?)",
                [(k.key_id, k.topic_id, k.wrapped, k.created, k.state) for k in keys],
            )
        found = self.data_keys([key.topic_id for key in keys])
        active = {key.topic_id: key for key in found if key.state == "active"}
        return [active[key.topic_id] for key in keys]

    def add_signal(self, pipeline: str, signal: bytes) -> int:
        with self._transaction() as db:
            ((number,),) = db.execute(
                "INSERT INTO signals (pipeline, signal) VALUES (?, ?) RETURNING number",
                (pipeline, signal),
            )
        return int(number)

    def signals(self, pipeline: str) -> list[tuple[int, bytes]]:
        return [
            (number, signal)
            for number, signal in self._rows(
                "SELECT number, signal FROM signals WHERE pipeline = ? ORDER BY number", pipeline
            )
        ]

    def forget_signals(self, pipeline: str, upto: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM signals WHERE pipeline = ? AND number <= ?", (pipeline, upto))

    def drop_events(self, topic_id: bytes, offsets: Iterable[Offset]) -> None:
        with self._transaction() as db:
            letters.drop(db, topic_id, offsets)

    def dropped(self, topic_id: bytes) -> set[Offset]:
        return {
            row[0]
            for row in self._rows(
                "SELECT offset FROM dropped WHERE topic = (SELECT id FROM topics WHERE ulid = ?)",
                topic_id,
            )
        }

    def ask_replay(
        self, topic_id: bytes, pipeline: str, part: str, offsets: Iterable[Offset]
    ) -> None:
        with self._transaction() as db:
            letters.ask(db, topic_id, pipeline, part, offsets)

    def asked_replays(self, topic_id: bytes, part: str, count_max: int) -> list[Offset]:
        return [row[0] for row in self._rows(letters.ASKED, topic_id, part, count_max)]

    def fail_replays(self, topic_id: bytes, errors: Mapping[Offset, bytes]) -> None:
        with self._transaction() as db:
            letters.fail(db, topic_id, errors)

    def replays(self, topic_id: bytes, first: Offset, last: Offset) -> dict[Offset, Replay]:
        return {
            offset: Replay(bool(asked), attempts, error)
            for offset, asked, attempts, error in self._rows(letters.REPLAYS, topic_id, first, last)
        }

    def set_status(self, pipeline: str, status: bytes) -> None:
        with self._transaction() as db:
            db.execute(
                "INSERT INTO statuses VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET status = ?2",
                (pipeline, status),
            )

    def statuses(self) -> dict[str, bytes]:
        return dict(self._rows("SELECT name, status FROM statuses"))

    def hold(self, pipeline: str) -> Callable[[], None]:
        return hold(self.path / "running", pipeline)

    def held(self, pipeline: str) -> bool:
        return held(self.path / "running", pipeline)

    def remove_pipeline(self, pipeline: str) -> None:
        with self._transaction() as db:
            void(db, pipeline)
            db.execute("UPDATE pipelines SET position = NULL, epoch = epoch + 1 WHERE name = ?",
                       (pipeline,))  # fmt: skip
            db.execute("DELETE FROM statuses WHERE name = ?", (pipeline,))
            db.execute("UPDATE replays SET asked = 0 WHERE pipeline = ?", (pipeline,))
            for table in ("kept", "pipeline_topics", "signals"):
                db.execute(f"DELETE FROM {table} WHERE pipeline = ?", (pipeline,))  # noqa: S608

    def bell(self) -> FifoBell:
        try:
            return FifoBell(self.path / "wake")
        except OSError as error:
            raise not_writable(self.path, error.strerror) from None


def _signed(schema_id: int) -> int:
    """SQLite's integers are signed, fingerprints are not."""
    return schema_id - (1 << 64) if schema_id >= 1 << 63 else schema_id
