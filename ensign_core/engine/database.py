"""The embedded engine's databases as its stores share them: a connection per thread, transactions
that wait for each other here rather than poll."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from ensign_core.engine.checkpoint import Checkpointer
from ensign_core.engine.connection import classified, connect, not_writable


class Database:
    """``ensign.db`` and ``keys.db`` in the folder ``path``, made at first use."""

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
        self.connection()

    def connection(self) -> apsw.Connection:
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
    def reading(self) -> Iterator[apsw.Connection]:
        """This thread's connection, for queries that belong together."""
        with classified(self.path):
            yield self.connection()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A transaction that writes, rolled back by any exception."""
        db = self.connection()
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

    def scrub_keys(self) -> None:
        """Rewrite ``keys.db``: where pages were split or merged, copies of keys that lay there
        before stay in their free parts, which secure_delete does not reach."""
        db = self.connection()
        with self._writing, classified(self.path):
            db.execute("VACUUM keys")

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with classified(self.path):
            return list(self.connection().execute(sql, values))

    def close(self) -> None:
        self._checkpointer.close()
        with self._lock:
            for db in list(self._connections):
                db.close()
            self._connections.clear()
        self._local = threading.local()
