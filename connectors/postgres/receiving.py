"""Receives the rows of a COPY in bulk: psycopg gives them one by one, and each call costs more than
all else that is done for a row.

The compiled loop (`connectors.postgres.copydata`) calls the libpq that psycopg has loaded. It is
used only where that library can be told for certain; elsewhere the rows come through psycopg.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import psycopg
from psycopg import pq

from connectors.postgres import copydata

MAPS: Final = "/proc/self/maps"
"""Linux: the files that this process has mapped (proc(5))."""

Receive = Callable[[int], tuple[list[bytes], int, int]]
"""Rows that have arrived, at most about as many bytes as asked; their bytes; and what the last call
of PQgetCopyData returned. Raises psycopg.OperationalError."""


class _Library(NamedTuple):
    """libpq's functions: addresses of those that are called per row."""

    get: int
    free: int
    handle: ctypes.CDLL


@cache
def _library() -> _Library | None:
    """The libpq that psycopg uses, None where it cannot be told."""
    try:
        with open(MAPS, encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "libpq" in line}
        found = [path for path in paths if os.path.basename(path).startswith("libpq")]
        if len(found) != 1:
            return None
        handle = ctypes.CDLL(found[0], mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        addresses = [
            ctypes.cast(function, ctypes.c_void_p).value
            for function in (handle.PQgetCopyData, handle.PQfreemem)
        ]
        if handle.PQlibVersion() != pq.version() or not all(addresses):
            return None
    except (OSError, AttributeError):
        return None
    return _Library(addresses[0] or 0, addresses[1] or 0, handle)


def receiver(conn: pq.abc.PGconn) -> Receive:
    """How to receive the rows of a COPY of this connection."""
    library = _library()
    pointer: int | None = getattr(conn, "pgconn_ptr", None)
    if library is None or not pointer or not _same(library, pointer, conn):
        return lambda bytes_max: one_by_one(conn, bytes_max)
    get, free, _ = library

    def receive(bytes_max: int) -> tuple[list[bytes], int, int]:
        rows, size, last = copydata.receive(pointer, get, free, bytes_max)
        if last == -2:
            raise psycopg.OperationalError
        return rows, size, last

    return receive


def _same(library: _Library, pointer: int, conn: pq.abc.PGconn) -> bool:
    """Whether the library reads the connection as psycopg does."""
    address = ctypes.c_void_p(pointer)
    return bool(
        library.handle.PQsocket(address) == conn.socket
        and library.handle.PQbackendPID(address) == conn.backend_pid
        and library.handle.PQserverVersion(address) == conn.server_version
    )


def one_by_one(conn: pq.abc.PGconn, bytes_max: int) -> tuple[list[bytes], int, int]:
    """The same through psycopg."""
    rows: list[bytes] = []
    size = 0
    count = 1
    while size < bytes_max:
        count, data = conn.get_copy_data(1)
        if count <= 0:
            break
        rows.append(data.tobytes())
        size += count
    return rows, size, count
