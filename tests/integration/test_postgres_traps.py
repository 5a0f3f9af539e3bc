"""The corners where a snapshot and its stream could miss each other, each led to on purpose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensign_core.change import Op
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, Seen, fold
from tests.services.ready import wait_until

ROWS = 400
LONG = "(SELECT string_agg(md5((g * 1000 + id)::text), '') FROM generate_series(1, 150) g)"


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of a table ``t`` of ROWS rows, read 5 rows at a time; closed afterwards."""
    made: list[Capture] = []
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int, note text)",
        f"INSERT INTO t SELECT g, 0, 'n' FROM generate_series(1, {ROWS}) g",
        f"UPDATE t SET note = {LONG} WHERE id > {ROWS - 20}",
    )

    def make(**options: Any) -> Capture:
        options = {"slot": f"slot_{database.name}", "chunk_rows": 5, **options}
        made.append(Capture(database.dsn, tables=["public.t"], **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def begun(capture: Capture) -> None:
    """The first chunk is read and durable."""
    capture.open()
    capture.until(lambda: len(capture.seen) >= 5)


def assert_equal_to_table(database: Database, capture: Capture) -> None:
    rows = database.run("SELECT id::text, v::text, note FROM t")
    state = [(s["id"], s["v"], s["note"]) for s in fold(capture.seen).values()]
    assert sorted(state, key=str) == sorted(rows, key=str)


def streamed(capture: Capture) -> list[Seen]:
    return [event for event in capture.seen if event.op is not Op.SNAPSHOT]


def based(capture: Capture, key: int) -> list[Op]:
    """The operations of the events that name a key, in order."""
    return [
        e.op for e in capture.seen
        if str(key) in ((e.old or {}).get("id"), (e.new or {}).get("id"))
    ]  # fmt: skip


def test_row_moves_from_a_read_range_to_an_unread_one(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    begun(one)
    database.run("UPDATE t SET id = 5000, v = 1 WHERE id = 3")
    one.caught_up()
    assert based(one, 3) == [Op.SNAPSHOT, Op.DELETE]
    assert based(one, 5000) == [Op.SNAPSHOT]
    assert_equal_to_table(database, one)


def test_row_moves_from_an_unread_range_to_a_read_one(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    begun(one)
    database.run(f"UPDATE t SET id = 0, v = 1 WHERE id = {ROWS - 100}")
    one.caught_up()
    assert based(one, 0) == [Op.INSERT]
    assert based(one, ROWS - 100) == []
    assert_equal_to_table(database, one)


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_row_with_a_long_value_moves_to_a_read_range(
    database: Database, capture: Callable[..., Capture], identity: str
) -> None:
    database.run(f"ALTER TABLE t REPLICA IDENTITY {identity}")
    one = capture()
    begun(one)
    database.run(
        f"UPDATE t SET id = 0, v = 1 WHERE id = {ROWS - 1}",
        "UPDATE t SET v = 2 WHERE id = 0",
    )
    one.open()
    one.caught_up(reopen_each=40)
    database.run("UPDATE t SET v = 3 WHERE id = 0")
    one.caught_up()
    assert based(one, 0)[0] is (Op.SNAPSHOT if identity == "DEFAULT" else Op.INSERT)
    assert based(one, 0)[-1] is Op.UPDATE
    assert_equal_to_table(database, one)


def test_truncate_in_the_middle(database: Database, capture: Callable[..., Capture]) -> None:
    one = capture()
    begun(one)
    database.run("TRUNCATE t", "INSERT INTO t VALUES (2, 1, 'a'), (300, 1, 'b'), (2000, 1, 'c')")
    one.caught_up()
    assert [e.op for e in streamed(one)].count(Op.TRUNCATE) == 1
    assert_equal_to_table(database, one)


def test_truncate_before_the_first_chunk(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    one.open()
    database.run("TRUNCATE t", "INSERT INTO t VALUES (2, 1, 'a')")
    one.caught_up()
    assert_equal_to_table(database, one)


def test_rewriting_alter_table_in_the_middle(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    begun(one)
    database.run("ALTER TABLE t ALTER v TYPE bigint, ADD extra text DEFAULT 'e'")
    database.run("UPDATE t SET v = 1 WHERE id IN (1, 250)")
    one.caught_up()
    assert {s["id"] for s in fold(one.seen).values()} == {str(n + 1) for n in range(ROWS)}
    assert len({e.schema.id for e in one.seen}) == 2


def test_key_changes_in_the_middle(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE UNIQUE INDEX other ON t (v, id)", "ALTER TABLE t ALTER v SET NOT NULL")
    one = capture()
    begun(one)
    database.run("ALTER TABLE t REPLICA IDENTITY USING INDEX other")
    database.run("DELETE FROM t WHERE id IN (2, 350)")
    one.caught_up()
    assert_equal_to_table(database, one)


def test_table_dropped_in_the_middle(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE keep (id int PRIMARY KEY)", "INSERT INTO keep VALUES (1)")
    one = Capture(database.dsn, tables=["public.*"], chunk_rows=5, slot=f"slot_{database.name}")
    try:
        begun(one)
        database.run("DROP TABLE t")
        one.until(lambda: one.source is not None and one.source.caught_up())
        assert [e.new for e in one.seen if e.schema.name == "public.keep"] == [{"id": "1"}]
    finally:
        one.close()


@pytest.fixture
def without_standby(postgres: PostgresServer) -> Iterator[None]:
    postgres.lose_standby()
    yield
    postgres.configure(synchronous_standby_names="")
    wait_until(lambda: _setting(postgres) == "", 10)


def _setting(server: PostgresServer) -> object:
    with server.connect() as connection:
        row = connection.execute("SHOW synchronous_standby_names").fetchone()
    return row and row[0]


def test_commit_is_streamed_before_it_is_visible(
    database: Database, capture: Callable[..., Capture], request: pytest.FixtureRequest
) -> None:
    one = capture()
    begun(one)
    one.close()
    request.getfixturevalue("without_standby")

    def write() -> None:
        with database.server.connect(database.name) as connection:
            connection.execute("INSERT INTO t VALUES (5000, 1, 'late')")

    writer = threading.Thread(target=write)
    writer.start()
    hanging = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    try:
        wait_until(lambda: database.run(hanging), 10)
        one.open()
        silent = 0
        while silent < 5:
            silent = 0 if one.step(0.1) else silent + 1
            one.open() if silent == 2 else None
        # The table's end cannot be read while a row that belongs there is not to be seen.
        assert len(one.seen) < ROWS
        assert one.source is not None
        assert not one.source.caught_up()
    finally:
        database.run(*(f"SELECT pg_cancel_backend({pid})" for (pid,) in database.run(hanging)))
        writer.join(10)
    one.until(lambda: one.source is not None and one.source.caught_up())
    assert based(one, 5000) == [Op.SNAPSHOT]
    assert_equal_to_table(database, one)


def test_table_made_later_while_a_transaction_writes_to_it(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = Capture(database.dsn, tables=["public.*"], slot=f"slot_{database.name}", discover_s=0.05)
    try:
        one.caught_up()
        database.run("CREATE TABLE late (id int PRIMARY KEY)")
        with database.server.connect(database.name) as writer, writer.transaction():
            writer.execute("INSERT INTO late VALUES (1)")
            # The publication takes the table in while the transaction runs, so that the stream
            # will not show what it wrote.
            published = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'late'"
            while database.value(published) == 0:
                one.step(0.05)
            writer.execute("INSERT INTO late VALUES (2)")
            database.run("INSERT INTO late VALUES (3)")
            for _ in range(5):
                one.step(0.05)
            assert [e for e in one.seen if e.schema.name == "public.late"] == []
        database.run("INSERT INTO late VALUES (4)")
        one.caught_up()
        late = [e for e in one.seen if e.schema.name == "public.late"]
        assert sorted(str(e.new and e.new["id"]) for e in late) == ["1", "2", "3", "4"]
    finally:
        one.close()
