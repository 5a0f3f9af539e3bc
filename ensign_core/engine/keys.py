"""Wrapped data keys in ``keys.db``, a database of their own beside the embedded engine's: a
rollback journal and secure_delete, so that a destroyed key leaves no copy behind in it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ensign_core.crypto import DataKey
from ensign_core.engine.database import Database


class KeyStore:
    """Implements `ensign_core.engine.Keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stored(self, topic_ids: Sequence[bytes] | None = None) -> list[DataKey]:
        chosen, marks = "", None
        if topic_ids is not None:
            chosen = "WHERE topic IN (SELECT unhex(value) FROM json_each(?1)) "
            marks = json.dumps([topic_id.hex() for topic_id in topic_ids])
        return [
            DataKey(*row)
            for row in self._database.rows(
                "SELECT id, topic, wrapped, created, state FROM keys.data_keys "  # noqa: S608
                f"{chosen}ORDER BY created",
                *([] if marks is None else [marks]),
            )
        ]

    def add(self, keys: Sequence[DataKey]) -> list[DataKey]:
        with self._database.transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO keys.data_keys VALUES (?, ?, ?, ?, ?)",
                [(k.key_id, k.topic_id, k.wrapped, k.created, k.state) for k in keys],
            )
        found = self.stored([key.topic_id for key in keys])
        active = {key.topic_id: key for key in found if key.state == "active"}
        return [active[key.topic_id] for key in keys]
