"""The rows of a COPY come in bulk and are those that psycopg gives one by one."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from psycopg.pq.abc import PGconn

from connectors.postgres import chunks, receiving
from connectors.postgres.copytext import bodies
from connectors.postgres.errors import error
from connectors.postgres.receiving import Receive, one_by_one, receiver
from tests.conftest import Database
from tests.services.postgres_capture import Capture
from tests.services.ready import wait_until

COPY = (
    b"COPY (SELECT g, repeat(chr(65 + g % 26), g % 3000) FROM generate_series(1, 5000) g) TO STDOUT"
)


@pytest.fixture
def conn(database: Database) -> Iterator[PGconn]:
    made = pq.PGconn.connect(database.dsn.encode())
    yield made
    made.finish()


def begin(conn: PGconn, copy: bytes = COPY) -> None:
    conn.send_query(copy)
    while conn.is_busy():
        conn.consume_input()
    result = conn.get_result()
    assert result is not None
    assert result.status == pq.ExecStatus.COPY_OUT


def received(conn: PGconn, receive: Receive, bytes_max: int) -> list[bytes]:
    """All rows, in portions."""
    begin(conn)
    found: list[bytes] = []
    last = 1
    while last >= 0:
        rows, size, last = receive(bytes_max)
        assert size == sum(map(len, rows))
        assert not rows or size - len(rows[-1]) < bytes_max
        found += rows
        if last == 0:
            conn.consume_input()
    while conn.get_result() is not None:
        pass
    return found


def test_rows_in_bulk(conn: PGconn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = received(conn, lambda bytes_max: one_by_one(conn, bytes_max), 10_000)
    assert len(plain) == 5000
    in_bulk = receiver(conn)
    assert "one_by_one" not in in_bulk.__code__.co_names
    for bytes_max in (1, 10_000, 1 << 30):
        assert received(conn, in_bulk, bytes_max) == plain
    receiving._library.cache_clear()
    monkeypatch.setattr(receiving, "MAPS", str(tmp_path / "none"))
    through_psycopg = receiver(conn)
    receiving._library.cache_clear()
    assert "one_by_one" in through_psycopg.__code__.co_names
    assert received(conn, through_psycopg, 10_000) == plain


def test_a_connection_that_ends(database: Database, conn: PGconn) -> None:
    begin(conn, b"COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT")
    receive = receiver(conn)
    database.run(f"SELECT pg_terminate_backend({conn.backend_pid})")
    gone = f"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {conn.backend_pid}"

    def drained() -> None:
        while True:
            rows, _, last = receive(1 << 20)
            if last < 0:
                result = conn.get_result()
                assert result is not None
                assert result.status == pq.ExecStatus.FATAL_ERROR
                raise psycopg.OperationalError
            if not rows:
                conn.consume_input()

    with pytest.raises(psycopg.OperationalError):
        drained()
    wait_until(lambda: database.value(gone), 30)


@pytest.mark.parametrize("bare", [False, True])
def test_lines_that_are_no_rows_are_set_aside(
    database: Database, monkeypatch: pytest.MonkeyPatch, bare: bool
) -> None:
    """A server sends none such: it is the conversion that finds some damaged here."""
    key = "id int" if bare else "id int PRIMARY KEY"
    database.run(f"CREATE TABLE t ({key})", "INSERT INTO t SELECT generate_series(1, 30)")

    def some(lines: list[bytes], columns: int) -> tuple[bytes, array[int]]:
        if any(b"7" in line for line in lines):
            raise error("protocol_damaged")
        return bodies(lines, columns)

    monkeypatch.setattr(chunks, "bodies", some)
    one = Capture(database.dsn, tables=["public.t"], slot=f"slot_{database.name}", chunk_rows=9)
    try:
        one.caught_up()
    finally:
        one.close()
    rows = [event.new and event.new["id"] for event in one.seen]
    assert rows == [str(n) for n in range(1, 31) if "7" not in str(n)]
    assert [letter for letter, _ in one.told.letters] == [b"7\n", b"17\n", b"27\n"]
    assert {failed.code for _, failed in one.told.letters} == {"postgres.row_damaged"}
