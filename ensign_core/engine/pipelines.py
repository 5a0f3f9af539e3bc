"""What the embedded engine keeps of pipelines: positions and what sources keep beside them, the
topics that they write to, signals to them, their status, and who runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ensign_core.engine import Epoch
from ensign_core.engine.append import void
from ensign_core.engine.database import Database
from ensign_core.engine.running import held, hold


class PipelineStore:
    """Implements `ensign_core.engine.Pipelines`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, pipeline: str) -> Epoch:
        with self._database.transaction() as db:
            ((number,),) = db.execute(
                "INSERT INTO pipelines (name, epoch) VALUES (?, 1) "
                "ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (pipeline,),
            )
            void(db, pipeline)
        return Epoch(pipeline, number)

    def position(self, pipeline: str) -> bytes | None:
        rows = self._database.rows("SELECT position FROM pipelines WHERE name = ?", pipeline)
        return rows[0][0] if rows else None

    def kept(self, pipeline: str) -> dict[str, bytes]:
        return dict(
            self._database.rows("SELECT name, value FROM kept WHERE pipeline = ?", pipeline)
        )

    def topics(self, pipeline: str) -> dict[bytes, str]:
        return dict(
            self._database.rows(
                "SELECT ulid, name FROM pipeline_topics JOIN topics ON topic = id "
                "WHERE pipeline = ? ORDER BY id",
                pipeline,
            )
        )

    def give_topics(self, pipeline: str, topic_ids: Sequence[bytes]) -> None:
        if self.topics(pipeline).keys() == set(topic_ids):
            return
        with self._database.transaction() as db:
            db.execute("DELETE FROM pipeline_topics WHERE pipeline = ?", (pipeline,))
            db.executemany(
                "INSERT INTO pipeline_topics SELECT ?, id FROM topics WHERE ulid = ?",
                [(pipeline, topic_id) for topic_id in topic_ids],
            )

    def give_groups(self, pipeline: str, groups: Sequence[str]) -> None:
        found = self._database.rows("SELECT name FROM pipeline_groups WHERE pipeline = ?", pipeline)
        if {name for (name,) in found} == set(groups):
            return
        with self._database.transaction() as db:
            db.execute("DELETE FROM pipeline_groups WHERE pipeline = ?", (pipeline,))
            db.executemany("INSERT INTO pipeline_groups VALUES (?, ?)",
                           [(pipeline, name) for name in set(groups)])  # fmt: skip

    def add_signal(self, pipeline: str, signal: bytes) -> int:
        with self._database.transaction() as db:
            ((number,),) = db.execute(
                "INSERT INTO signals (pipeline, signal) VALUES (?, ?) RETURNING number",
                (pipeline, signal),
            )
        return int(number)

    def signals(self, pipeline: str) -> list[tuple[int, bytes]]:
        return [
            (number, signal)
            for number, signal in self._database.rows(
                "SELECT number, signal FROM signals WHERE pipeline = ? ORDER BY number", pipeline
            )
        ]

    def forget_signals(self, pipeline: str, upto: int) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM signals WHERE pipeline = ? AND number <= ?", (pipeline, upto))

    def set_status(self, pipeline: str, status: bytes) -> None:
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO statuses VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET status = ?2",
                (pipeline, status),
            )

    def statuses(self) -> dict[str, bytes]:
        return dict(self._database.rows("SELECT name, status FROM statuses"))

    def hold(self, pipeline: str) -> Callable[[], None]:
        return hold(self._database.path / "running", pipeline)

    def held(self, pipeline: str) -> bool:
        return held(self._database.path / "running", pipeline)

    def remove(self, pipeline: str) -> None:
        with self._database.transaction() as db:
            void(db, pipeline)
            db.execute("UPDATE pipelines SET position = NULL, epoch = epoch + 1 WHERE name = ?",
                       (pipeline,))  # fmt: skip
            db.execute("DELETE FROM statuses WHERE name = ?", (pipeline,))
            db.execute("UPDATE replays SET asked = 0 WHERE pipeline = ?", (pipeline,))
            for table in ("kept", "pipeline_topics", "pipeline_groups", "signals"):
                db.execute(f"DELETE FROM {table} WHERE pipeline = ?", (pipeline,))  # noqa: S608
