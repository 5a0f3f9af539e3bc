"""The PostgreSQL source's stream: what comes, once, in order, across restarts of either side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from connectors.postgres.pgoutput import lsn_value
from connectors.postgres.position import decode
from connectors.postgres.source import PostgresSource
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.rows import ABSENT
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, fold
from tests.services.ready import wait_until

pytestmark = pytest.mark.every_version


def confirmed(database: Database) -> int:
    statement = (
        f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = '{database.name}'"
    )
    return lsn_value(str(database.value(statement)))


def test_changes_come_as_they_were_made(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
    one = capture()
    assert one.caught_up() == []
    with database.connection.transaction():
        database.run(
            "INSERT INTO t VALUES (1, NULL), (2, '')",
            "UPDATE t SET note = 'x' WHERE id = 1",
            "UPDATE t SET id = 3 WHERE id = 2",
            "DELETE FROM t WHERE id = 1",
            "TRUNCATE t",
        )
    seen = one.caught_up()
    assert [(e.op, e.old, e.new, e.ordinal) for e in seen] == [
        (Op.INSERT, None, {"id": "1", "note": None}, 0),
        (Op.INSERT, None, {"id": "2", "note": ""}, 1),
        (Op.UPDATE, None, {"id": "1", "note": "x"}, 2),
        (Op.UPDATE, {"id": "2", "note": None}, {"id": "3", "note": ""}, 3),
        (Op.DELETE, {"id": "1", "note": None}, None, 4),
        (Op.TRUNCATE, None, None, 5),
    ]
    assert seen[3].key_only
    tx = seen[0].tx
    assert tx is not None
    assert {e.tx for e in seen} == {tx}
    assert abs((tx.committed_at or 0) / 1e6 - time.time()) < 60
    assert seen[0].schema.names == (
        ("database", database.name), ("schema", "public"), ("table", "t"),
    )  # fmt: skip


def test_unchanged_long_value_is_a_state_of_its_own(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int, note text)",
        "ALTER TABLE t ALTER note SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (1, 1, repeat('long', 5000))",
    )
    one = capture(snapshot="never")
    one.caught_up()
    database.run("UPDATE t SET v = 2")
    (event,) = one.caught_up()
    assert event.new == {"id": "1", "v": "2", "note": ABSENT}


@pytest.mark.parametrize("reopen_each", [1, 3])
def test_resume_inside_a_large_transaction(
    database: Database, capture: Callable[..., Capture], reopen_each: int
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, note text)")
    one = capture(batch_bytes_max=4000)
    one.caught_up()
    with database.connection.transaction():
        database.run(
            "INSERT INTO t SELECT g, 'note' || g FROM generate_series(0, 1999) g",
            "UPDATE t SET note = 'y' WHERE id < 500",
        )
    database.run("INSERT INTO t VALUES (5000, 'after')")
    one.until(lambda: len(one.seen) >= 2501, reopen_each=reopen_each)
    assert [e.ordinal for e in one.seen] == [*range(2500), 0]
    assert [e.new and e.new["id"] for e in one.seen] == [
        str(n) for n in [*range(2000), *range(500), 5000]
    ]
    assert len(fold(one.seen)) == 2001


def test_rows_of_other_tables_count_but_are_not_events(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )
    one = capture(exclude=["public.other"], publication="everything")
    one.caught_up()
    with database.connection.transaction():
        database.run(
            "INSERT INTO other VALUES (1), (2)",
            "INSERT INTO t VALUES (1), (2)",
            "INSERT INTO other VALUES (3)",
            "INSERT INTO t VALUES (3)",
            "INSERT INTO other VALUES (4)",
        )
    assert [e.ordinal for e in one.caught_up()] == [2, 3, 5]


def test_idle_tables_hold_no_wal(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int)")
    one = capture(tables=["public.t"], heartbeat_s=0.05)
    one.caught_up()
    database.run("INSERT INTO other SELECT generate_series(1, 1000)")
    end = lsn_value(str(database.value("SELECT pg_current_wal_lsn()")))
    one.until(lambda: confirmed(database) >= end)
    assert one.seen == []


def test_nothing_is_confirmed_before_it_is_acked(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    position = one.position
    source = one.source
    assert position is not None
    assert source is not None
    before = decode(position).lsn

    def acked(lsn: int) -> bool:
        source.ack(one.position or position)
        return confirmed(database) == lsn

    wait_until(lambda: acked(before), 10)
    database.run("INSERT INTO t VALUES (1)")
    while not one.seen:
        one.step(1.0, ack=False)
    read, one.position = one.position, None
    for _ in range(5):
        acked(before)
        source.read(0.1)
    assert confirmed(database) == before
    one.position = read
    assert read is not None
    wait_until(lambda: acked(decode(read).lsn), 10)


def test_silent_reader_stays_connected_by_acks(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    source, position = one.source, one.position
    assert source is not None
    assert position is not None
    sender = f"SELECT active_pid FROM pg_replication_slots WHERE database = '{database.name}'"
    told = f"SELECT reply_time FROM pg_stat_replication WHERE pid = ({sender})"
    replies = {database.value(told)}

    def answered() -> bool:
        """Each reply starts the server's wal_sender_timeout anew."""
        source.ack(position)
        replies.add(database.value(told))
        return len(replies) > 3

    wait_until(answered, 30, every_s=0.05)
    database.run("INSERT INTO t VALUES (1)")
    one.until(lambda: len(one.seen) == 1)


def test_partitions_come_under_their_root(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int, day int, PRIMARY KEY (day, id)) PARTITION BY LIST (day)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO t VALUES (1, 1), (2, 1)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2)",
    )
    database.run("ALTER TABLE child ADD PRIMARY KEY (id)")
    one = capture(chunk_rows=1)
    one.caught_up()
    database.run(
        "CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2)",
        "INSERT INTO t VALUES (3, 2)",
        "UPDATE t SET day = 2 WHERE id = 1",
        "INSERT INTO child VALUES (3)",
    )
    one.caught_up()
    by_table = {
        name: sorted(str(row["id"]) for row in fold(one.of(name)).values())
        for name in {e.schema.name for e in one.seen}
    }
    assert by_table == {
        "public.t": ["1", "2", "3"], "public.parent": ["1"], "public.child": ["2", "3"],
    }  # fmt: skip
    assert len({e.schema.id for e in one.seen if e.schema.name == "public.t"}) == 1


def test_columns_that_are_not_published_are_in_neither_part(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, a text, g text GENERATED ALWAYS AS ('g' || id) STORED"
        " , secret text)",
        "INSERT INTO t (id, a, secret) VALUES (1, 'a', 's'), (50, 'out', 's')",
        "CREATE PUBLICATION part FOR TABLE t (id, a) WHERE (id < 50)",
    )
    one = capture(publication="part")
    one.caught_up()
    database.run("INSERT INTO t (id, a, secret) VALUES (2, 'b', 's'), (51, 'out', 's')")
    one.caught_up()
    assert [e.new for e in one.seen] == [{"id": "1", "a": "a"}, {"id": "2", "a": "b"}]
    assert one.seen[0].schema == one.seen[1].schema


def test_structure_changes_in_the_stream(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    one = capture()
    one.caught_up()
    database.run(
        "INSERT INTO t VALUES (2)",
        "CREATE DOMAIN percent AS numeric(5, 2) CHECK (value <= 100)",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "ALTER TABLE t ADD share percent, ADD feels mood NOT NULL DEFAULT 'ok'",
        "INSERT INTO t VALUES (3, 1.50, 'sad')",
    )
    one.caught_up()
    old, new = one.seen[0].schema, one.seen[-1].schema
    assert [e.schema == old for e in one.seen] == [True, True, False, False]
    assert [e.op for e in one.seen] == [Op.SNAPSHOT, Op.INSERT, Op.SCHEMA, Op.INSERT]
    columns = [(c.name, c.native, c.logical, c.nullable, c.key) for c in new.columns]
    assert columns == [
        ("id", "integer", "int", False, True),
        ("share", "numeric(5,2)", "decimal", True, False),
        ("feels", "public.mood", "text", False, False),
    ]
    assert one.seen[-1].new == {"id": "3", "share": "1.50", "feels": "sad"}


def test_table_without_key(database: Database, capture: Callable[..., Capture]) -> None:
    database.run(
        "CREATE TABLE t (id int, note text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT g, 'same' FROM generate_series(1, 1000) g",
    )
    one = capture(batch_bytes_max=4000)
    one.open()
    database.run("UPDATE t SET note = 'new' WHERE id = 7")
    one.until(lambda: bool(one.held))
    one.open()
    one.caught_up()
    rows = [e for e in one.seen if e.op is Op.SNAPSHOT]
    assert [e.ordinal for e in rows] == list(range(1000))
    changes = [e for e in one.seen if e.op is not Op.SNAPSHOT]
    assert len(changes) == sum(1 for e in rows if e.new == {"id": "7", "note": "same"})
    assert one.seen[0].schema.key == ()


def test_snapshot_never_and_only(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    never = capture(snapshot="never", slot=f"never_{database.name}")
    never.caught_up()
    database.run("INSERT INTO t VALUES (2)")
    assert [(e.op, e.new) for e in never.caught_up()] == [(Op.INSERT, {"id": "2"})]
    only = capture(snapshot="only")
    only.caught_up()
    database.run("INSERT INTO t VALUES (3)")
    assert only.step(0.3) is None
    assert [e.new for e in only.seen] == [{"id": "1"}, {"id": "2"}]


@pytest.mark.parametrize("end", ["terminated", "fast", "immediate"])
def test_server_ends_the_connection(
    database: Database, capture: Callable[..., Capture], end: str
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    database.run("INSERT INTO t VALUES (1)")
    server = database.server
    terminate = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"

    def stop() -> None:
        if end == "terminated":
            database.run(f"{terminate} AND database = '{database.name}'")
        else:
            database.connection.close()
            server.stop("fast" if end == "fast" else "immediate")

    # A server that shuts down waits until all that it sent is confirmed.
    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(EnsignError) as caught:
        one.until(lambda: False)
    one.close()
    stopping.join(60)
    assert caught.value.code in ("postgres.restarting", "postgres.connection_lost")
    if end != "terminated":
        with pytest.raises(EnsignError, match=r"postgres\.unreachable"):
            PostgresSource(one.config, one.told).open(one.position)
        server.start()
        database.connection = server.connect(database.name)
    database.run("INSERT INTO t VALUES (2)")
    one.open()
    one.until(lambda: len(one.seen) == 2)
    assert [e.new for e in one.seen] == [{"id": "1"}, {"id": "2"}]


def test_table_made_later_is_captured_with_all_its_rows(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(snapshot="never", discover_s=0.05)
    one.caught_up()
    with database.connection.transaction():
        database.run("CREATE TABLE late (id int PRIMARY KEY)", "INSERT INTO late VALUES (1), (2)")
    one.until(lambda: len(one.seen) == 2)
    database.run("INSERT INTO late VALUES (3)")
    one.until(lambda: len(one.seen) == 3)
    assert [e.new for e in one.seen] == [{"id": "1"}, {"id": "2"}, {"id": "3"}]
    assert {e.schema.name for e in one.seen} == {"public.late"}


def test_prepared_transactions_come_when_they_commit(postgres: PostgresServer) -> None:
    settings = {"max_prepared_transactions": "5"}
    with PostgresServer(postgres.programs, settings=settings) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        one = Capture(server.dsn(), tables=["public.t"], chunk_rows=1)
        try:
            one.caught_up()
            with psycopg.connect(server.dsn()) as other:
                other.execute("INSERT INTO t VALUES (1)")
                other.execute("PREPARE TRANSACTION 'p'")
            assert one.caught_up() == []
            db.execute("COMMIT PREPARED 'p'")
            assert [e.new for e in one.caught_up()] == [{"id": "1"}]
        finally:
            one.close()
