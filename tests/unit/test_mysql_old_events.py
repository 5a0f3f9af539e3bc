"""Events that no server at hand writes, made by hand (`tests.plain.binlog` names the sources)."""

from __future__ import annotations

import struct
import tracemalloc
from uuid import UUID

import pytest
import zstandard

from connectors.mysql import events as e
from connectors.mysql.damage import DamagedError
from connectors.mysql.gtid_events import (
    PREPARED_XA,
    ROLLBACK_ALTER,
    Gtid,
    MariadbGtid,
    gtid,
    mariadb_gtid,
    mariadb_gtid_list,
)
from connectors.mysql.payload import NONE, ZSTD, inner_events
from connectors.mysql.rowevents import RowsHead, decompressed, rows_head
from connectors.mysql.statements import query
from tests.plain import binlog

SID = UUID("1f836ca3-e87d-11f1-b469-02fcff80007f")
TEXT = str(SID)
LOGGED_US = 1_795_576_793_980_763
COMMITTED_US = LOGGED_US - 5_000_000


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (e.GTID, binlog.gtid_5_6(SID.bytes, 7), Gtid(TEXT, "", 7)),
        (e.GTID, binlog.gtid_5_7(SID.bytes, 7), Gtid(TEXT, "", 7)),
        (e.ANONYMOUS_GTID, binlog.gtid_5_7(bytes(16), 0), Gtid(str(UUID(int=0)), "", 0)),
        (
            e.GTID,
            binlog.gtid_8_0(SID.bytes, 7, LOGGED_US),
            Gtid(TEXT, "", 7, LOGGED_US, LOGGED_US),
        ),
        (
            e.GTID,
            binlog.gtid_8_0(SID.bytes, 7, LOGGED_US, COMMITTED_US),
            Gtid(TEXT, "", 7, COMMITTED_US, LOGGED_US),
        ),
        (
            e.GTID_TAGGED,
            binlog.gtid_tagged(SID.bytes, "", 1 << 40, LOGGED_US),
            Gtid(TEXT, "", 1 << 40, LOGGED_US, LOGGED_US),
        ),
        (
            e.GTID_TAGGED,
            binlog.gtid_tagged(SID.bytes, "a" * 32, (1 << 63) - 2, LOGGED_US, COMMITTED_US),
            Gtid(TEXT, "a" * 32, (1 << 63) - 2, COMMITTED_US, LOGGED_US),
        ),
    ],
)
def test_gtids(kind: int, body: bytes, expected: Gtid) -> None:
    assert gtid(binlog.event(kind, body)) == expected


def test_gtids_of_mariadb() -> None:
    body = struct.pack("<QIB", 9, 2, 2 | 8 | PREPARED_XA) + bytes(8)
    body += struct.pack("<IBB", 1, 2, 1) + b"abc" + bytes([ROLLBACK_ALTER])
    found = mariadb_gtid(binlog.event(e.MARIADB_GTID, body))
    expected = MariadbGtid(2, 1, 9, 74, ROLLBACK_ALTER, e.Xa(b"ab", b"c", 1))
    assert found == expected
    listed = struct.pack("<IIIQIIQIIQ", 3 | 1 << 29, 0, 1, 5, 0, 2, 7, 4, 1, 1)
    position = mariadb_gtid_list(binlog.event(e.MARIADB_GTID_LIST, listed))
    assert str(position) == "0-2-7,4-1-1"


def test_heads_of_rows() -> None:
    v1 = binlog.event(23, binlog.rows_v1(0x0102_0304_0506))
    assert rows_head(v1, 8) == RowsHead(0x0102_0304_0506, 1, 27)
    oldest = binlog.event(23, binlog.rows_v1(9, id_bytes=4))
    assert rows_head(oldest, 6) == RowsHead(9, 1, 25)
    v2 = binlog.event(30, binlog.rows_v2(9, b"further"))
    assert rows_head(v2, 10) == RowsHead(9, 1, 29 + 7)
    for size in (b"\0\0", b"\xff\0"):
        with pytest.raises(DamagedError):
            rows_head(v2[:27] + size + v2[29:], 10)


def test_compressed_rows_of_version_2() -> None:
    rows = b"a row" * 50
    head = binlog.rows_v2(9, b"")[:-2]
    bitmaps = binlog.packed(9) + b"\xff\1\xff\1"
    event = binlog.event(170, head + bitmaps + binlog.compressed(rows))
    plain = decompressed(event, 10)
    assert plain == binlog.event(31, head + bitmaps + rows)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x92" + binlog.compressed(b"x")[1:],
        b"\x84\xff\xff\xff\xff" + binlog.compressed(b"x")[3:],
        b"\x82\0\2" + binlog.compressed(b"x")[3:],
        b"\x82\0\1" + binlog.compressed(b"xx")[3:],
        binlog.compressed(b"x")[:-1],
        binlog.compressed(b"x" * 100)[:5] + b"\xff" * 9,
    ],
)
def test_compressed_parts_that_are_wrong(data: bytes) -> None:
    event = binlog.event(e.QUERY_COMPRESSED, binlog.query(b"", b"d", data))
    with pytest.raises(DamagedError, match="compressed"):
        query(event)


STATUS = b"".join(
    (
        b"\0\1\0\0\0",
        b"\1\4\0\0\0\0\0\0\0",
        b"\2\3std\0",
        b"\3\1\0\1\0",
        b"\5\3UTC",
        b"\6\3std",
        b"\7\0\0",
        b"\x08\x21\0",
        b"\x09" + bytes(8),
        b"\x0a" + bytes(4),
        b"\x0b\4user\4host",
        b"\x0c\2one\0two\0",
        b"\x0c\xfe",
        b"\x0d\1\2\3",
        b"\x10\1",
        b"\x11" + bytes(8),
        b"\x12\xff\0",
        b"\x13\1",
        b"\x14\1",
        b"\x80\1\2\3",
        b"\x81" + bytes(8),
        b"\x82\2",
        b"\x82\4" + bytes(8),
        b"\x83\1\x2d\0\x2e\0",
    )
)
"""Every status variable of both servers ("Query_event"; MariaDB's ``Query_log_event``)."""


def test_status_variables_in_front_of_a_charset() -> None:
    told = b"\4\x08\0\x21\0\x21\0"
    event = binlog.event(e.QUERY, binlog.query(STATUS + told, b"d", b"DROP TABLE t", 1317))
    found = query(event)
    assert (found.charset, found.sql_mode, found.error) == ("latin1", 4, 1317)
    assert (found.database, found.statement, found.thread_id) == ("d", b"DROP TABLE t", 5)
    unknown = binlog.event(e.QUERY, binlog.query(b"\4\xff\xff\0\0\0\0", b"", b"x"))
    assert query(unknown).charset == ""
    # What is not known ends the reading, as it does in the servers.
    event = binlog.event(e.QUERY, binlog.query(b"\xc8" + told, b"", b"x"))
    assert query(event).charset == ""
    for cut in (b"\4\x08\0", b"\x0c\2one\0", b"\x0b\4user", b"\1\4"):
        with pytest.raises(DamagedError):
            query(binlog.event(e.QUERY, binlog.query(cut, b"", b"x")))


def test_incidents() -> None:
    assert e.incident(binlog.event(e.INCIDENT, b"\1\0\5a row")) == 1


def test_heartbeats_behind_4_gib() -> None:
    body = b"\1\x0dbinlog.000001\2\6" + binlog.packed(5 << 32)[:6] + b"\0"
    cut = binlog.event(e.HEARTBEAT_V2, body)
    with pytest.raises(DamagedError):
        e.heartbeat(cut)
    body = b"\1\x0dbinlog.000001\2\x09" + binlog.packed(5 << 32) + b"\7\1x\0"
    assert e.heartbeat(binlog.event(e.HEARTBEAT_V2, body)) == ("binlog.000001", 5 << 32)


def test_format_descriptions_of_old_servers() -> None:
    found = e.format_description(binlog.description(b"5.5.62-log", binlog.LENGTHS_5_5, None))
    assert (found.server_version, found.checksum, found.mariadb) == ("5.5.62-log", None, False)
    assert found.post_header_length(23) == 8
    assert e.describes_checksums(b"5.5.68-MariaDB")
    assert not e.describes_checksums(b"5.6.0")
    with pytest.raises(DamagedError, match="version 3"):
        e.format_description(binlog.event(15, struct.pack("<H50sIB", 3, b"5.0.0", 0, 19)))


ROW = binlog.event(30, b"r" * 1000)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_compressed_transactions(count: int) -> None:
    data = ROW * count
    plain = binlog.event(40, binlog.payload(NONE, data, len(data)))
    assert list(inner_events(plain)) == [ROW] * count
    packed = zstandard.ZstdCompressor().compress(data)
    event = binlog.event(40, binlog.payload(ZSTD, packed, len(data)))
    assert list(inner_events(event)) == [ROW] * count


def test_a_compressed_transaction_is_never_whole_in_memory() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(compressor.compress(ROW * 1000) for _ in range(30)) + compressor.flush()
    size = len(ROW) * 30_000
    event = binlog.event(40, binlog.payload(ZSTD, packed, size))
    assert len(packed) < size // 100
    tracemalloc.start()
    try:
        assert sum(len(inner) for inner in inner_events(event)) == size
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        binlog.payload(NONE, ROW[:-1], len(ROW) - 1),
        binlog.payload(NONE, ROW + b"x", len(ROW) + 1),
        binlog.payload(NONE, bytes(19), 19),
        binlog.payload(NONE, ROW[:9] + b"\xff\xff\xff\xff" + ROW[13:], len(ROW)),
        binlog.payload(7, ROW, len(ROW)),
        binlog.payload(ZSTD, ROW, len(ROW)),
        binlog.payload(ZSTD, zstandard.compress(ROW)[:-3], len(ROW)),
        binlog.payload(ZSTD, zstandard.compress(ROW), len(ROW) + 1),
        binlog.payload(ZSTD, zstandard.compress(ROW) + b"behind", len(ROW)),
        binlog.payload(NONE, ROW, len(ROW)) + b"x",
        b"\1\1",
        b"\1\5\1",
        b"",
    ],
)
def test_compressed_transactions_that_are_wrong(body: bytes) -> None:
    with pytest.raises(DamagedError):
        list(inner_events(binlog.event(40, body)))
