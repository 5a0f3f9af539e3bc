"""Wrapped data keys in ``keys.db``, a database of their own beside the embedded engine's: a
rollback journal and secure_delete, so that a destroyed key leaves no copy behind in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple

from ensign_core.crypto import DataKey
from ensign_core.engine.database import Database

_COLUMNS = "id, topic, wrapped, created, state, sealing"


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
                f"SELECT {_COLUMNS} FROM keys.data_keys "  # noqa: S608
                f"{chosen}ORDER BY created",
                *([] if marks is None else [marks]),
            )
        ]

    def key(self, key_id: bytes) -> DataKey | None:
        sql = f"SELECT {_COLUMNS} FROM keys.data_keys WHERE id = ?"  # noqa: S608
        for row in self._database.rows(sql, key_id):
            return DataKey(*row)
        return None

    def add(self, keys: Sequence[DataKey]) -> list[DataKey]:
        with self._database.transaction() as db:
            db.executemany(
                f"INSERT OR IGNORE INTO keys.data_keys ({_COLUMNS}) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?)",
                map(astuple, keys),
            )
        found = self.stored([key.topic_id for key in keys])
        active = {
            key.topic_id: key for key in found if (key.state, key.sealing) == ("active", "server")
        }
        return [active[key.topic_id] for key in keys]
