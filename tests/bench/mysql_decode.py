"""A rows event of a ten-column table decoded, beside mysql-replication's decoder on the same bytes.

The table has the shape of the other measurements'. The clock is the CPU time of the process, so
that neighbours on the machine weigh less.
"""

from __future__ import annotations

import struct
import time
import warnings
from collections.abc import Callable
from statistics import median

from connectors.mysql import gathered, rowimage
from connectors.mysql.wire import Type, WireColumn
from tests.oracle.mysql_decoder import decoder, row
from tests.property.mysql_images import Images

COLUMNS = (
    WireColumn("id", Type.LONGLONG, nullable=False),
    WireColumn("number", Type.LONG),
    WireColumn("title", Type.VARCHAR, 400, charset="utf8mb4"),
    WireColumn("price", Type.NEWDECIMAL, 12 | 2 << 8),
    WireColumn("placed", Type.DATETIME2, 6),
    WireColumn("paid", Type.TINY, special="boolean"),
    WireColumn("token", Type.STRING, Type.STRING | 36 << 8, charset="ascii"),
    WireColumn("detail", Type.BLOB, 2, charset="utf8mb4"),
    WireColumn("weight", Type.DOUBLE, 8),
    WireColumn("code", Type.VARCHAR, 80, charset="utf8mb4"),
)
EVENT_BYTES = 8192
"""What servers put into one event by default (binlog_row_event_max_size)."""
TIMES = 15


def text(value: str, width: int = 1) -> bytes:
    data = value.encode()
    return len(data).to_bytes(width, "little") + data


def image(number: int) -> bytes:
    """A row of the shape of ``tests.bench.postgres``."""
    cents = number % 100_000
    moment = ((2026 * 13 + 11) << 22 | 23 << 17 | number % 24 << 12 | number % 60 << 6) | 1 << 39
    return b"".join((
        b"\0\0", struct.pack("<qi", number, number % 1000), text(f"title of row {number}", 2),
        bytes((0x80,)), (cents // 100).to_bytes(4, "big"), bytes((cents % 100,)),
        moment.to_bytes(5, "big"), (number * 7919 % 1_000_000).to_bytes(3, "big"),
        bytes((number % 2,)), text(f"a0eebc99-9c0b-4ef8-bb6d-{number:012x}"),
        text(f'{{"n": {number}}}', 2), struct.pack("<d", number / 7),
        text(f"code{number % 10_000}"),
    ))  # fmt: skip


def event() -> Images:
    """Rows of an insert, as many as one event holds."""
    rows: list[bytes] = []
    while sum(map(len, rows)) < EVENT_BYTES - 200:
        rows.append(image(1_000_000 + len(rows)))
    there = tuple(range(len(COLUMNS)))
    data = bytes((len(COLUMNS),)) + b"\xff\x03" + b"".join(rows)
    return Images(COLUMNS, (0,), rowimage.WRITE, (there,), data, len(rows))


def per_row_us(work: Callable[[], object], rows: int) -> list[float]:
    """Microseconds of CPU for a row, of several runs."""
    found = []
    for _ in range(TIMES):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1e6 / rows)
    return found


def measure() -> None:
    """Print what a row takes ours, mysql-replication's, and how many times as long."""
    warnings.simplefilter("ignore", DeprecationWarning)
    found = event()
    into = gathered.Gathered()
    ours = rowimage.RowDecoder(found.columns, found.key)

    def batches() -> None:
        for _ in range(20):
            for _ in range(20):
                ours.rows(found.event, 0, found.kind, into)
            into.take()

    def rival() -> None:
        reading = decoder(found)
        for _ in range(found.rows):
            row(reading)

    times = per_row_us(batches, 400 * found.rows)
    slower = per_row_us(rival, found.rows)
    print(f"rows events of {len(found.event):,} bytes, {found.rows} rows of 10 columns; µs a row")
    for name, runs in (("ours", times), ("mysql-replication", slower)):
        print(f"  {name:<20} {median(runs):>8.3f} ({min(runs):.3f} to {max(runs):.3f})")
    print(f"  times as fast        {median(slower) / median(times):>8.0f}")
