"""Where groups stand, in the embedded engine."""

from __future__ import annotations

from collections.abc import Mapping

import apsw

from ensign_core.change import Offset
from ensign_core.engine import Consumed
from ensign_core.engine.database import Database
from ensign_core.errors import EnsignError


def step(db: apsw.Connection, consumed: Consumed) -> None:
    """Move a group in the transaction of an append, ``group.moved`` unless it stands where it was
    when what it consumed was read."""
    _refuse_shared(db, consumed.group)
    for topic_id, (expected, offset) in consumed.steps.items():
        found = list(
            db.execute(
                "SELECT id, offset FROM topics LEFT JOIN offsets ON topic = id AND "
                "offsets.name = ? WHERE ulid = ?",
                (consumed.group, topic_id),
            )
        )
        if not found or found[0][1] != expected:
            raise EnsignError(
                "group.moved",
                f"The group {consumed.group} was moved on by another, or a topic that it reads was "
                "deleted; nothing was written.",
                "Stop one of the two, or go back to where the group stands with rewind().",
            )
        db.execute("INSERT OR REPLACE INTO offsets (name, topic, offset) VALUES (?, ?, ?)",
                   (consumed.group, found[0][0], offset))  # fmt: skip


def _refuse_shared(db: apsw.Connection, group: str) -> None:
    """The offsets of a work group are what its members have done."""
    if list(db.execute("SELECT 1 FROM work_groups WHERE name = ?", (group,))):
        raise EnsignError(
            "group.shared",
            f"The events of the group {group} are shared by members who finish them one by one.",
            "Read in order under another group's name.",
        )


class GroupStore:
    """Implements `ensign_core.engine.Groups`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, group: str, offsets: Mapping[bytes, Offset]) -> None:
        with self._database.transaction() as db:
            _refuse_shared(db, group)
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
            for table in ("work_members", "work_fronts", "deliveries"):
                db.execute(
                    f"DELETE FROM {table} WHERE work IN "  # noqa: S608
                    "(SELECT id FROM work_groups WHERE name = ?)",
                    (group,),
                )
            db.execute("DELETE FROM work_groups WHERE name = ?", (group,))

    def offsets(self) -> dict[str, dict[bytes, Offset]]:
        groups: dict[str, dict[bytes, Offset]] = {}
        for name, topic_id, offset in self._database.rows(
            "SELECT offsets.name, ulid, offset FROM offsets JOIN topics ON topic = id"
        ):
            groups.setdefault(name, {})[topic_id] = offset
        return groups
