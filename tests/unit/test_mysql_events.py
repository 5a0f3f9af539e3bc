"""Events of recorded binlogs say what the servers did (``tests/fixtures/mysql/*.sql``)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from connectors.mysql import events as e
from connectors.mysql import gtid_events as g
from connectors.mysql.damage import DamagedError
from connectors.mysql.events import FilePlace, Xa
from connectors.mysql.gtids import GtidPosition
from connectors.mysql.rowevents import (
    DELETE_ROWS,
    DELETE_ROWS_V1,
    INSERTS,
    PLAIN_OF_COMPRESSED,
    STATEMENT_ENDS,
    UPDATE_ROWS,
    UPDATES,
    WRITE_ROWS,
    RowsHead,
    rows_head,
)
from connectors.mysql.statements import Statement, begins_transaction
from tests.fixtures.mysql import NAMES, is_mariadb
from tests.fixtures.mysql.reading import ROWS, Read, recorded, said

WHOLE = ["mariadb-10", "mariadb-11", "mysql-9"]
MARIADB = ["mariadb-10", "mariadb-11"]
XA = Xa(b"a'b", b"bq", 7)
ANSI_QUOTES = 4


def statements(name: str) -> list[Statement]:
    return [s for s in said(name, e.QUERY, e.QUERY_COMPRESSED) if isinstance(s, Statement)]


def gtids(name: str) -> list[Any]:
    return said(name, e.GTID, e.GTID_TAGGED, e.ANONYMOUS_GTID, e.MARIADB_GTID)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_file_begins_with(name: str) -> None:
    first, second = (event for event, _ in list(recorded(name))[:2])
    assert e.header(first.event).flags == e.ARTIFICIAL
    assert isinstance(first.value, FilePlace)
    assert first.value.file.startswith("binlog.00000")
    description = second.value
    assert isinstance(description, e.FormatDescription)
    assert description.mariadb == is_mariadb(name)
    assert tuple(map(description.post_header_length, (e.TABLE_MAP, WRITE_ROWS))) == (8, 10)
    assert description.post_header_length(e.QUERY) == 13
    with pytest.raises(DamagedError):
        description.post_header_length(200)


@pytest.mark.parametrize("name", WHOLE)
def test_rotations(name: str) -> None:
    """The end of a file, what then begins another, and whether there are checksums in each."""
    places = said(name, e.ROTATE)
    assert [f"{place.file} {place.offset}" for place in places if isinstance(place, FilePlace)] == [
        "binlog.000001 4", "binlog.000002 4", "binlog.000002 4", "binlog.000003 4",
        "binlog.000003 4",
    ]  # fmt: skip
    descriptions = said(name, e.FORMAT_DESCRIPTION)
    assert [getattr(d, "checksum", None) for d in descriptions] == [1, 0, 1]


@pytest.mark.parametrize("name", WHOLE)
def test_every_event_ends_where_its_header_says(name: str) -> None:
    at, in_transaction = 4, False
    for event, description in recorded(name):
        head = e.header(event.event)
        if head.flags & e.ARTIFICIAL:
            at = 4
            continue
        assert head.size == len(event.event) + 4 * bool(
            description.checksum or event.type == e.FORMAT_DESCRIPTION
        )
        at += head.size
        in_transaction = in_transaction or event.type == e.TABLE_MAP
        # MariaDB 11.8 writes no place into events between the first and the last of a transaction.
        assert head.end_pos == at or (
            name == "mariadb-11" and head.end_pos == 0 and event.type not in (e.XID, e.XA_PREPARE)
        )


@pytest.mark.parametrize("name", WHOLE)
def test_statements(name: str) -> None:
    found = statements(name)
    create = next(s for s in found if s.statement.startswith(b"CREATE TABLE texts"))
    assert create.database == "d1"
    assert create.error == 0
    assert "ENUM('é','b')" in create.statement.decode()
    quoted = next(s for s in found if s.statement == b'CREATE TABLE "quoted" (a INT)')
    assert quoted.sql_mode == ANSI_QUOTES
    assert create.sql_mode is not None
    assert not create.sql_mode & ANSI_QUOTES
    chinese = next(s for s in found if "你".encode("gbk") in s.statement)
    assert (create.charset, chinese.charset) == ("utf8mb4", "gbk")
    assert chinese.statement.decode("gbk") == "CREATE TABLE `你` (a INT) COMMENT '好'"
    assert found[0].database == "d1"


@pytest.mark.parametrize("name", WHOLE)
def test_begins_are_told_without_reading_the_statement(name: str) -> None:
    found = [event for event, _ in recorded(name) if event.type == e.QUERY]
    told = [begins_transaction(event.event) for event in found]
    assert told == [getattr(event.value, "statement", b"") == b"BEGIN" for event in found]
    assert any(told) == (name == "mysql-9")


def test_transactions_of_mysql() -> None:
    found = gtids("mysql-9")
    own = found[0].sid
    assert [i.number for i in found if (i.sid, i.tag) == (own, "")] == list(range(1, 40))
    assert [(i.sid == own, i.tag, i.number) for i in found if i.sid != own or i.tag] == [
        (True, "tag_1", 1),
        (False, "", 5),
    ]
    assert all(1_700_000_000_000_000 < i.committed_at_us <= i.logged_at_us for i in found)
    before = [str(sets).replace(own, "own") for sets in said("mysql-9", e.PREVIOUS_GTIDS)]
    other = "8a94f357-aab4-11df-86ab-c80aa9429562:5"
    assert before[0] == ""
    assert sorted(before[1].split(",")) == [other, "own:1-37:tag_1:1"]
    assert sorted(before[2].split(",")) == [other, "own:1-38:tag_1:1"]


def test_anonymous_transactions() -> None:
    found = gtids("mysql-9-anonymous")
    assert [(i.number, i.tag) for i in found] == [(0, "")] * 3
    assert all(i.committed_at_us > 1_700_000_000_000_000 for i in found)


@pytest.mark.parametrize("name", MARIADB)
def test_transactions_of_mariadb(name: str) -> None:
    found = gtids(name)
    assert [i.sequence for i in found if i.domain == 0] == list(range(1, len(found)))
    assert [(i.sequence, i.server_id) for i in found if i.domain == 3] == [(1, 1)]
    standalone = {i.sequence: bool(i.flags & g.STANDALONE) for i in found if i.domain == 0}
    assert standalone[1]
    assert not standalone[3]
    assert found[0].flags & g.DDL
    lists = [str(position) for position in said(name, e.MARIADB_GTID_LIST)]
    assert lists[0] == ""
    assert lists[1].endswith(",3-1-1")


@pytest.mark.parametrize("name", MARIADB)
def test_an_alter_in_two_phases(name: str) -> None:
    found = [(event.type, event.value) for event, _ in recorded(name)]
    phases = [
        (getattr(begin, "more", 0) & ~0x10, getattr(statement, "statement", b""))
        for (kind, begin), (_, statement) in pairwise(found)
        if kind == e.MARIADB_GTID and getattr(statement, "statement", b"").startswith(b"ALTER")
    ]
    alter = b"ALTER TABLE times ADD COLUMN two_phases INT, ALGORITHM = COPY"
    assert phases == [(g.START_ALTER, alter), (g.COMMIT_ALTER, alter)]


@pytest.mark.parametrize("name", WHOLE)
def test_xa_transactions(name: str) -> None:
    prepared = [(p.xa, p.one_phase) for p in said(name, e.XA_PREPARE) if isinstance(p, e.XaPrepare)]
    # MariaDB logs one that commits in one phase as an ordinary transaction.
    once = [(Xa(b"once", b"", 1), True)] * (name == "mysql-9")
    assert prepared == [(XA, False), (Xa(b"undone", b"", 1), False), *once]
    told = [e.xa_statement(s.statement) for s in statements(name)]
    ends = [(s.verb, s.xa) for s in told if s is not None and s.verb in ("COMMIT", "ROLLBACK")]
    assert ends == [("COMMIT", XA), ("ROLLBACK", Xa(b"undone", b"", 1))]
    if name in MARIADB:
        of_gtids = [(i.flags & (g.PREPARED_XA | g.COMPLETED_XA), i.xa) for i in gtids(name) if i.xa]
        undone = Xa(b"undone", b"", 1)
        assert of_gtids == [
            (g.PREPARED_XA, XA),
            (g.COMPLETED_XA, XA),
            (g.PREPARED_XA, undone),
            (g.COMPLETED_XA, undone),
        ]


@pytest.mark.parametrize(
    "text", [b"XA RECOVER", b"XA COMMIT 'a'", b"XA COMMIT X'1',X'',1", b"BEGIN"]
)
def test_statements_that_are_not_of_xa(text: bytes) -> None:
    assert e.xa_statement(text) is None


def test_an_xa_statement_in_full() -> None:
    told = e.xa_statement(b"xa commit X'6131' , X'62' , 4294967295 one phase")
    assert told == e.XaStatement("COMMIT", Xa(b"a1", b"b", 0xFFFFFFFF), True)


def test_statements_beside_rows() -> None:
    beside = said("mysql-9", e.ROWS_QUERY)
    assert beside == [b"INSERT INTO items (b) VALUES ('with its statement')"]
    beside = said("mariadb-11", e.ANNOTATE_ROWS)
    assert b"UPDATE items SET b = 'minimal' WHERE id = 1" in beside


@pytest.mark.parametrize("name", WHOLE)
def test_heads_of_rows(name: str) -> None:
    last = 0
    for event, _ in recorded(name):
        if event.type == e.TABLE_MAP:
            last = getattr(event.value, "table_id", 0)
        if event.type in ROWS and isinstance(event.value, RowsHead):
            assert event.value.table_id == last
            assert event.value.flags & STATEMENT_ENDS
            assert event.event[event.value.at] in range(1, 15)
    kinds = {event.type for event, _ in recorded(name)}
    if name == "mysql-9":
        assert {WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS, e.PARTIAL_UPDATE_ROWS} <= kinds
    else:
        assert {23, 24, 25} <= kinds


@pytest.mark.parametrize("name", MARIADB)
def test_compressed_rows(name: str) -> None:
    found = {}
    for event, description in recorded(name):
        if event.type in PLAIN_OF_COMPRESSED:
            plain = event.value
            assert isinstance(plain, bytes)
            assert plain[4] == PLAIN_OF_COMPRESSED[event.type]
            assert int.from_bytes(plain[9:13], "little") == len(plain)
            head = rows_head(plain, description.post_header_length(event.type))
            assert head == rows_head(event.event, description.post_header_length(event.type))
            found[plain[4]] = plain
    inserted = next(plain for kind, plain in found.items() if kind in INSERTS)
    updated = next(plain for kind, plain in found.items() if kind in UPDATES)
    # A column count, bitmaps, a null bitmap, the id, and the text behind its length.
    assert inserted.endswith(b"\xc8\x00" + b"c" * 200)
    assert updated.count(b"d" * 200) == 3
    assert found[DELETE_ROWS_V1].count(b"d" * 200) == 3
    assert said(name, e.QUERY_COMPRESSED) == [
        s for s in statements(name) if b"a_statement_that_is_worth" in s.statement
    ]


def test_a_compressed_transaction() -> None:
    (inner,) = said("mysql-9", e.TRANSACTION_PAYLOAD)
    assert isinstance(inner, list)
    assert [i.type for i in inner if isinstance(i, Read)] == [
        e.QUERY, e.TABLE_MAP, WRITE_ROWS, e.XID,
    ]  # fmt: skip
    assert inner[0].value.statement == b"BEGIN"
    assert inner[1].value.table == "items"


@pytest.mark.parametrize("name", [f"{name}-waiting" for name in WHOLE])
def test_a_dump_behind_gtids_and_heartbeats(name: str) -> None:
    assert [s.statement for s in statements(name)] == [b"CREATE DATABASE behind"]
    beats = [event for event, _ in recorded(name) if event.type in (e.HEARTBEAT, e.HEARTBEAT_V2)]
    assert len(beats) == 2
    end = max(e.header(event.event).end_pos for event, _ in recorded(name))
    assert beats[-1].value == FilePlace("binlog.000003", end)
    assert (beats[-1].type == e.HEARTBEAT_V2) == (not is_mariadb(name))
    if is_mariadb(name):
        (position,) = [
            event.value
            for event, _ in recorded(name)
            if event.type == e.MARIADB_GTID_LIST and e.header(event.event).flags & e.ARTIFICIAL
        ]
        assert isinstance(position, GtidPosition)
        assert position.sequence(0) == max(i.sequence for i in gtids(name)) - 1


def test_an_encrypted_log_comes_plain() -> None:
    (told,) = said("mariadb-10-encrypted", e.START_ENCRYPTION)
    assert isinstance(told, e.StartEncryption)
    assert (told.scheme, told.key_version, len(told.nonce)) == (1, 1, 12)
    assert b"INSERT INTO t VALUES (1)" in said("mariadb-10-encrypted", e.ANNOTATE_ROWS)
