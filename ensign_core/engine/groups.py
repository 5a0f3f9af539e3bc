"""Where groups stand, in the embedded engine."""

from __future__ import annotations

from collections.abc import Mapping

from ensign_core.change import Offset
from ensign_core.engine.database import Database


class GroupStore:
    """Implements `ensign_core.engine.Groups`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, group: str, offsets: Mapping[bytes, Offset]) -> None:
        with self._database.transaction() as db:
            db.executemany(
                "INSERT INTO offsets SELECT ?, id, ? FROM topics WHERE ulid = ? "
                "ON CONFLICT (name, topic) DO UPDATE SET offset = excluded.offset",
                [(group, offset, topic_id) for topic_id, offset in offsets.items()],
            )

    def remove(self, group: str) -> None:
        with self._database.transaction() as db:
            for table in ("offsets", "pipeline_groups"):
                db.execute(f"DELETE FROM {table} WHERE name = ?", (group,))  # noqa: S608
            db.execute("DELETE FROM meta WHERE name = ?", (f"begun:{group}",))

    def offsets(self) -> dict[str, dict[bytes, Offset]]:
        groups: dict[str, dict[bytes, Offset]] = {}
        for name, topic_id, offset in self._database.rows(
            "SELECT offsets.name, ulid, offset FROM offsets JOIN topics ON topic = id"
        ):
            groups.setdefault(name, {})[topic_id] = offset
        return groups
