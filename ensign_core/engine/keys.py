"""Wrapped data keys in ``keys.db``, a database of their own beside the embedded engine's: a
rollback journal and secure_delete, so that a destroyed key leaves no copy behind in it. The check
of the KEK that wraps them lies there too, so that both change in one commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple

import apsw

from ensign_core.change import Offset
from ensign_core.crypto import PROJECT, DataKey
from ensign_core.engine import StaleKekError
from ensign_core.engine.database import Database

_COLUMNS = "id, topic, wrapped, created, state, sealing"
_RANGES = "SELECT base, base + events FROM frames WHERE key_id = ? ORDER BY base"


class KeyStore:
    """Implements `ensign_core.engine.Keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self) -> bytes:
        ((check,),) = self._database.rows("SELECT value FROM keys.kek")
        return bytes(check)

    def begin(self, check: bytes) -> None:
        if not self.check():
            with self._database.transaction() as db:
                db.execute("UPDATE keys.kek SET value = ? WHERE value = x''", (check,))

    def stored(
        self, topic_ids: Sequence[bytes] | None = None, check: bytes | None = None
    ) -> list[DataKey]:
        chosen, marks = "", None
        if topic_ids is not None:
            chosen = "WHERE topic IN (SELECT unhex(value) FROM json_each(?1)) "
            marks = json.dumps([topic_id.hex() for topic_id in topic_ids])
        rows = self._database.rows(
            f"SELECT (SELECT value FROM keys.kek), {_COLUMNS} FROM keys.data_keys "  # noqa: S608
            f"{chosen}ORDER BY created",
            *([] if marks is None else [marks]),
        )
        if check is not None and any(row[0] != check for row in rows):
            raise StaleKekError
        return [DataKey(*row[1:]) for row in rows]

    def key(self, key_id: bytes, check: bytes | None = None) -> DataKey | None:
        sql = f"SELECT (SELECT value FROM keys.kek), {_COLUMNS} FROM keys.data_keys WHERE id = ?"  # noqa: S608
        for stored, *row in self._database.rows(sql, key_id):
            if check is not None and stored != check:
                raise StaleKekError
            return DataKey(*row)
        return None

    def add(self, keys: Sequence[DataKey], check: bytes = b"") -> list[DataKey]:
        topics = json.dumps([key.topic_id.hex() for key in keys])
        with self._database.transaction() as db:
            _compare(db, check)
            _insert(db, keys)
            found = db.execute(
                f"SELECT {_COLUMNS} FROM keys.data_keys WHERE state = 'active' "  # noqa: S608
                "AND sealing = 'server' AND topic IN (SELECT unhex(value) FROM json_each(?))",
                (topics,),
            )
            active = {row[1]: DataKey(*row) for row in found}
        return [active[key.topic_id] for key in keys]

    def rotate(self, keys: Sequence[DataKey], check: bytes = b"") -> list[DataKey]:
        with self._database.transaction() as db:
            _compare(db, check)
            replacing = [key for key in keys if _retire(db, key.topic_id)]
            _insert(db, replacing)
        return replacing

    def rewrap(self, wrap: Callable[[DataKey], DataKey], check: bytes, to: bytes) -> bool:
        with self._database.transaction() as db:
            ((stored,),) = db.execute("SELECT value FROM keys.kek")
            if stored != to:
                _compare(db, check)
                found = list(db.execute(f"SELECT {_COLUMNS} FROM keys.data_keys"))  # noqa: S608
                db.executemany(
                    "UPDATE keys.data_keys SET wrapped = ? WHERE id = ?",
                    [(wrap(DataKey(*row)).wrapped, row[0]) for row in found],
                )
                db.execute("UPDATE keys.kek SET value = ?", (to,))
        self._database.scrub_keys()
        return bool(stored != to)

    def revoke(self, key_id: bytes) -> None:
        # Of a commit over both databases the main one's part comes first: a process killed amid it
        # leaves a key without what was derived from it, never the other way round.
        with self._database.transaction() as db:
            _forget_derived(db, key_id)
            db.execute(
                "UPDATE keys.data_keys SET state = 'revoked', wrapped = x'' WHERE id = ?",
                (key_id,),
            )
            db.execute("DELETE FROM keys.reader_keys WHERE key_id = ?", (key_id,))
            count_revocation(db)
        self._database.scrub_keys()

    def revocations(self) -> int:
        ((count,),) = self._database.rows("SELECT revocations FROM keys.kek")
        return int(count)

    def frames(self) -> dict[bytes, int]:
        return dict(self._database.rows("SELECT key_id, count(*) FROM frames GROUP BY key_id"))

    def ranges(self, key_id: bytes) -> list[tuple[Offset, Offset]]:
        return list(_joined(self._database.rows(_RANGES, key_id)))


def _forget_derived(db: apsw.Connection, key_id: bytes) -> None:
    """Remove what was made of the frames of a key, and empty what is held under it."""
    for topic in db.execute("SELECT topic FROM frames WHERE key_id = ? LIMIT 1", (key_id,)):
        db.executemany(
            "DELETE FROM dedup WHERE topic = ? AND offset >= ? AND offset < ?",
            [(*topic, *one) for one in _joined(list(db.execute(_RANGES, (key_id,))))],
        )
    db.execute(
        "UPDATE bodies SET data = x'' WHERE id IN (SELECT body FROM held WHERE key_id = ?)",
        (key_id,),
    )


def count_revocation(db: apsw.Connection) -> None:
    """Tell whoever holds a key, in any process, to look again."""
    db.execute("UPDATE keys.kek SET revocations = revocations + 1")


def retire_client_keys(db: apsw.Connection, topic_id: bytes) -> None:
    """Let whoever writes to a client-sealed topic make a new key, since only a writer can."""
    db.execute(
        "UPDATE keys.data_keys SET state = 'retired' "
        "WHERE topic = ? AND sealing = 'client' AND state = 'active'",
        (topic_id,),
    )


def _compare(db: apsw.Connection, check: bytes) -> None:
    ((stored,),) = db.execute("SELECT value FROM keys.kek")
    if stored != check:
        raise StaleKekError


def _insert(db: apsw.Connection, keys: Sequence[DataKey]) -> None:
    db.executemany(
        f"INSERT OR IGNORE INTO keys.data_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
        map(astuple, keys),
    )


def _retire(db: apsw.Connection, topic_id: bytes) -> bool:
    """Retire a topic's active key; whether it had one that another can take the place of here."""
    retire_client_keys(db, topic_id)
    return topic_id != PROJECT and bool(
        list(
            db.execute(
                "UPDATE keys.data_keys SET state = 'retired' WHERE topic = ? AND state = 'active' "
                "RETURNING id",
                (topic_id,),
            )
        )
    )


def _joined(ranges: Sequence[tuple[Offset, Offset]]) -> Iterator[tuple[Offset, Offset]]:
    """Rising ranges with those that meet made one."""
    first = end = None
    for start, stop in ranges:
        if start != end:
            if first is not None and end is not None:
                yield first, end
            first = start
        end = stop
    if first is not None and end is not None:
        yield first, end
