"""One connection to the embedded engine's databases, and SQLite's errors as codes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

from ensign_core.engine.checkpoint import Checkpointer
from ensign_core.engine.tables import COLUMNS, INDEXES, KEYS, TABLES, TABLES_VERSION
from ensign_core.errors import EnsignError

BUSY_WAIT_MS_MAX = 30_000
LOOK_S = 0.00025
"""How soon one looks again whether another process has ended its transaction; ever more rarely."""

LOOK_S_MAX = 0.01
PAGE_BYTES = 4096
WAL_BYTES_KEPT_MAX = 128 << 20


class _Waiting:
    """Waits for another process to end its transaction, which takes about a millisecond: SQLite's
    own handler soon waits for a hundred of them at a time."""

    def __init__(self) -> None:
        self._deadline = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if not tries:
            self._deadline = now + BUSY_WAIT_MS_MAX / 1000
        time.sleep(min(LOOK_S_MAX, LOOK_S * (1 + tries / 50)))
        return now < self._deadline


def connect(path: Path, checkpointer: Checkpointer) -> apsw.Connection:
    db = apsw.Connection(str(path / "ensign.db"))
    db.set_busy_handler(_Waiting())
    for pragma in (
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"journal_size_limit = {WAL_BYTES_KEPT_MAX}",
        "temp_store = MEMORY",
    ):
        db.pragma(*(part.strip() for part in pragma.split("=")))
    db.execute("ATTACH DATABASE ? AS keys", (str(path / "keys.db"),))
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
        name, value = (part.strip() for part in pragma.split("="))
        db.execute(f"PRAGMA keys.{name} = {value}")
    if not list(db.execute("SELECT 1 FROM keys.sqlite_schema WHERE name = 'data_keys'")):
        _refuse_lost_keys(db, path)
        _make_tables(db)
        for name in ("ensign.db", "keys.db"):
            (path / name).chmod(0o600)
    elif db.pragma("user_version") != TABLES_VERSION:
        _make_tables(db)
    db.set_wal_hook(checkpointer.committed)
    return db


def _make_tables(db: apsw.Connection) -> None:
    """Make what is missing, in a new database or in one that an earlier Ensign made."""
    db.execute("BEGIN IMMEDIATE")
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: db.in_transaction and db.execute("ROLLBACK"))
        db.execute(TABLES)
        db.execute(KEYS)
        if list(db.execute("SELECT 1 FROM pragma_table_info('held') WHERE name = 'first_us'")):
            db.execute("ALTER TABLE held DROP COLUMN first_us")
        for table, columns in COLUMNS.items():
            there = {
                row[0] for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))
            }
            for name, declared in columns.items():
                if name not in there:
                    db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {declared}")
        db.execute(INDEXES)
        db.execute(f"PRAGMA user_version = {TABLES_VERSION}")
        db.execute("COMMIT")


def _refuse_lost_keys(db: apsw.Connection, path: Path) -> None:
    """Data without its ``keys.db`` is not a new broker: nothing may be made over it."""
    if list(db.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'meta'")) and list(
        db.execute("SELECT 1 FROM meta")
    ):
        raise EnsignError(
            "key.missing",
            f"There is data in {path}, but keys.db beside it has no keys.",
            "Restore keys.db from a backup: without it what was written before cannot be read.",
        )


@contextlib.contextmanager
def classified(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into codes, by their class (https://sqlite.org/rescode.html)."""
    try:
        yield
    except apsw.FullError:
        raise EnsignError(
            "engine.disk_full",
            f"The disk that holds {path} is full; nothing was written.",
            "Free some space: the pipeline goes on by itself.",
        ) from None
    except (apsw.BusyError, apsw.LockedError):
        raise EnsignError(
            "engine.busy",
            f"Another process kept {path} locked for {BUSY_WAIT_MS_MAX // 1000} s.",
            "See which process writes to it; the pipeline tries again by itself.",
        ) from None
    except (apsw.CorruptError, apsw.NotADBError):
        raise EnsignError(
            "engine.damaged",
            f"A database file in {path} is damaged.",
            "Restore the folder from a backup; do not delete it before.",
        ) from None
    except apsw.TooBigError:
        raise EnsignError(
            "engine.too_large",
            "A frame is larger than the engine can store; nothing was written.",
            "Exclude the column with the large values from the capture, with `columns:`.",
        ) from None
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError):
        raise not_writable(path, "the files cannot be opened for writing") from None
    except apsw.IOError as error:
        code = getattr(error, "extendedresult", 0)
        raise EnsignError(
            "engine.io_error",
            f"Reading or writing {path} failed (SQLite code {code}).",
            "Look at the disk and the kernel's log; nothing was acknowledged that is not on disk.",
        ) from None


def not_writable(path: Path, why: str | None) -> EnsignError:
    return EnsignError(
        "engine.not_writable",
        f"The broker's folder {path} cannot be used: {why}.",
        "Give a folder that this user may write to, in `broker: path:` or --path.",
    )
