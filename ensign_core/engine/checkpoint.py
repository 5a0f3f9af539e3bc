"""Moves SQLite's log back into the database in a thread of its own, so that appends go on
meanwhile (https://sqlite.org/wal.html, "Checkpointing")."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import apsw

PAGES = 2048
"""Pages in the log at which the thread begins to move them."""

PAGES_MAX = 8192
"""Pages at which the one that appends moves what is left: only then can the log start over, which
under a load that never pauses the thread alone would not achieve."""


class Checkpointer:
    """Told of every commit by the connections' hooks; starts its thread when it first has work."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def committed(self, db: apsw.Connection, name: str, pages: int) -> int:
        """A hook for `apsw.Connection.set_wal_hook`; takes the place of SQLite's own."""
        if pages >= PAGES_MAX:
            _checkpoint(db, name)
        elif pages >= PAGES:
            self._wanted.set()
            if self._thread is None:
                self._start()
        return apsw.SQLITE_OK

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        db = apsw.Connection(str(self._database))
        try:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._closing:
                    return
                _checkpoint(db, "main")
        finally:
            db.close()

    def close(self) -> None:
        """Return when the thread has ended."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._wanted.set()
        if thread is not None:
            thread.join()


def _checkpoint(db: apsw.Connection, name: str) -> None:
    # Whoever appends next meets an error of the disk itself; another's checkpoint is as good.
    with contextlib.suppress(apsw.Error):
        db.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
