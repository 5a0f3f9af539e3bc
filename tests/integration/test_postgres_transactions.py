"""Transactions of the PostgreSQL source: logical messages, markers, origins, prepared ones, and the
order of their rows, across restarts behind every batch."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from connectors.postgres.position import decode
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, Seen, fold


def brief(event: Seen) -> tuple[str, object, int]:
    """What an event says: its operation, the row's id or the message's content, its ordinal."""
    row = event.new or event.old or {}
    said = row.get("id", row.get("content"))
    return event.op.name.lower(), said, event.ordinal


def emit(content: str, *, prefix: str = "app", transactional: bool = True) -> str:
    return f"SELECT pg_logical_emit_message({transactional}, '{prefix}', '{content}')"


@pytest.mark.parametrize("reopen_each", [0, 1])
def test_messages_come_in_their_place(
    database: Database, capture: Callable[..., Capture], reopen_each: int
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(messages=["app*"], batch_bytes_max=1 if reopen_each else 1 << 20)
    one.caught_up()
    database.run(emit("first", transactional=False), emit("second", transactional=False))
    with database.connection.transaction():
        database.run(
            emit("third"),
            "INSERT INTO t VALUES (1)",
            emit("not wanted", prefix="other"),
            emit("fourth", prefix="apple"),
            "INSERT INTO t VALUES (2)",
            emit("ours", prefix="ensign"),
        )
    database.run(
        emit("other", prefix="other", transactional=False),
        emit("fifth", transactional=False),
        emit("alone"),
        "INSERT INTO t VALUES (3)",
    )
    one.until(lambda: any(brief(e)[1] == "3" for e in one.seen), reopen_each=reopen_each)
    assert [brief(e) for e in one.seen] == [
        ("message", "first", 0), ("message", "second", 0),
        ("message", "third", 0), ("insert", "1", 1), ("message", "fourth", 3), ("insert", "2", 4),
        ("message", "fifth", 0), ("message", "alone", 0), ("insert", "3", 0),
    ]  # fmt: skip
    outside = [e.tx for e in one.seen if e.new in
               [{"prefix": "app", "content": c} for c in ("first", "second", "fifth")]]  # fmt: skip
    assert all(tx and (tx.id, tx.committed_at) == (None, None) for tx in outside)
    assert len({tx.position for tx in outside if tx}) == 3
    assert len({e.tx for e in one.seen[2:6]}) == 1
    message = one.seen[0].schema
    assert message.name == "pg_logical.message"
    assert message.names[1:] == (("schema", "pg_logical"), ("table", "message"))
    assert one.caught_up() == []


def test_message_moves_the_position(database: Database, capture: Callable[..., Capture]) -> None:
    """One that nobody captures is a heartbeat; one that was captured never comes again."""
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(messages=["app"], batch_bytes_max=1, heartbeat_s=60.0)
    one.caught_up()
    assert one.position is not None
    before = decode(one.position).lsn
    database.run(emit("said", transactional=False), emit("x", prefix="ensign"))
    one.until(lambda: len(one.seen) == 1, reopen_each=1)
    assert decode(one.position).lsn > before
    for _ in range(3):
        assert one.caught_up() == []


def test_message_whose_content_is_not_text(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    database.run(r"SELECT pg_logical_emit_message(true, 'b', '\xff00fe'::bytea)")
    assert [e.new for e in one.caught_up()] == [{"prefix": "b", "content": b"\xff\x00\xfe"}]


def test_no_messages(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(messages=[])
    one.caught_up()
    with database.connection.transaction():
        database.run(emit("x"), "INSERT INTO t VALUES (1)")
    assert [brief(e) for e in one.caught_up()] == [("insert", "1", 1)]


def test_other_messages_are_wanted_in_the_middle_of_a_transaction(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """What was consumed is counted with what was left out: nothing is lost or repeated."""
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(messages=[], batch_bytes_max=1)
    one.caught_up()
    with database.connection.transaction():
        database.run(
            emit("a"), "INSERT INTO t VALUES (1)", emit("b"), "INSERT INTO t VALUES (2)", emit("c")
        )
    one.until(lambda: len(one.seen) == 1)
    one.close()
    other = capture(messages=["*"], batch_bytes_max=1)
    other.position = one.position
    assert [brief(e) for e in other.caught_up(reopen_each=1)] == [
        ("message", "b", 2), ("insert", "2", 3), ("message", "c", 4),
    ]  # fmt: skip


@pytest.mark.parametrize("reopen_each", [0, 1])
def test_markers_stand_around_captured_transactions(
    database: Database, capture: Callable[..., Capture], reopen_each: int
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )
    one = capture(
        exclude=["public.other"], publication="everything", transaction_markers=True,
        batch_bytes_max=1 if reopen_each else 1 << 20,
    )  # fmt: skip
    one.caught_up()
    with database.connection.transaction():
        database.run(
            "INSERT INTO other VALUES (1)",
            "INSERT INTO t VALUES (1), (2)",
            "INSERT INTO other VALUES (2)",
            "UPDATE t SET id = 9 WHERE id = 1",
            "INSERT INTO other VALUES (3)",
        )
    database.run("INSERT INTO other VALUES (7)", "INSERT INTO t VALUES (3)", emit("alone"))
    one.until(lambda: [e.op for e in one.seen].count(Op.COMMIT) == 3, reopen_each=reopen_each)
    assert [brief(e) for e in one.seen] == [
        ("begin", None, 1), ("insert", "1", 1), ("insert", "2", 2), ("update", "9", 4),
        ("commit", None, 6),
        ("begin", None, 0), ("insert", "3", 0), ("commit", None, 1),
        ("begin", None, 0), ("message", "alone", 0), ("commit", None, 1),
    ]  # fmt: skip
    marker = one.seen[0]
    assert marker.schema.name == "ensign.transaction"
    assert marker.schema.columns == ()
    assert {e.tx for e in one.seen[:5]} == {marker.tx}
    assert one.caught_up() == []


def test_crash_between_the_last_row_and_the_commit(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(transaction_markers=True, batch_bytes_max=1)
    one.caught_up()
    with database.connection.transaction():
        database.run("INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
    one.until(lambda: [e.op for e in one.seen] == [Op.BEGIN, Op.INSERT, Op.INSERT])
    one.open()
    one.caught_up()
    assert [e.op for e in one.seen] == [Op.BEGIN, Op.INSERT, Op.INSERT, Op.COMMIT]


def test_order_is_restored_from_two_topics(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """A topic per table: position and ordinal give the order of the server back."""
    database.run("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    one = capture(batch_bytes_max=100)
    one.caught_up()
    for start in (0, 100):
        with database.connection.transaction():
            for n in range(start, start + 20):
                database.run(f"INSERT INTO {'ab'[n % 3 % 2]} VALUES ({n})")
                if n == start + 10:
                    database.run("ALTER TABLE a ADD IF NOT EXISTS note text", emit("half"))
    one.caught_up(reopen_each=3)
    topics = [one.of("public.a"), one.of("public.b"), one.of("pg_logical.message")]
    assert all(topics)
    rows = [e for topic in topics for e in topic if e.op is not Op.SCHEMA]

    def place(event: Seen) -> tuple[int, int]:
        assert event.tx is not None
        high, _, low = event.tx.position.partition("/")
        return int(high, 16) << 32 | int(low, 16), event.ordinal

    restored = [brief(e)[1] for e in sorted(rows, key=place)]
    expected = [
        said
        for start in (0, 100)
        for n in range(start, start + 20)
        for said in ([str(n), "half"] if n == start + 10 else [str(n)])
    ]
    assert restored == expected
    assert len({place(e) for e in rows}) == len(rows)


def test_changes_of_another_origin(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(origin="none")
    if database.connection.info.server_version < 160000:
        with pytest.raises(EnsignError, match=r"postgres\.origin_unsupported"):
            one.open()
        return
    name = f"origin_{database.name}"
    one.caught_up()
    every = capture(origin="any", slot=f"any_{database.name}", publication="ensign_test")
    every.caught_up()
    database.run(f"SELECT pg_replication_origin_create('{name}')")
    with database.server.connect(database.name) as other:
        other.execute(f"SELECT pg_replication_origin_session_setup('{name}')".encode())
        other.execute("INSERT INTO t VALUES (1)")
        other.execute("SELECT pg_replication_origin_session_reset()")
        other.execute("INSERT INTO t VALUES (2)")
    assert [brief(e)[1] for e in one.caught_up()] == ["2"]
    assert [brief(e)[1] for e in every.caught_up()] == ["1", "2"]
    every.close()
    database.run(f"SELECT pg_replication_origin_drop('{name}')")


def test_prepared_transactions(postgres: PostgresServer) -> None:
    """During a snapshot and behind it, with a restart between PREPARE and its end."""
    settings = {"max_prepared_transactions": "5"}
    with PostgresServer(postgres.programs, settings=settings) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        db.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g")
        one = Capture(server.dsn(), tables=["public.t"], chunk_rows=2, batch_bytes_max=1)

        def prepare(name: str, *statements: str) -> None:
            with psycopg.connect(server.dsn()) as other:
                for statement in statements:
                    other.execute(statement.encode())
                other.execute(f"PREPARE TRANSACTION '{name}'".encode())

        try:
            one.until(lambda: len(one.seen) >= 4)
            changes = [f"UPDATE t SET v = 1 WHERE id = {n}" for n in (1, 2, 9)]
            prepare("kept", *changes, "INSERT INTO t VALUES (11, 1)")
            prepare("lost", "UPDATE t SET v = 2 WHERE id = 3", "INSERT INTO t VALUES (12, 2)")
            one.until(lambda: len(one.seen) >= 6, reopen_each=1)
            assert all(e.op is Op.SNAPSHOT for e in one.seen)
            db.execute("COMMIT PREPARED 'kept'")
            db.execute("ROLLBACK PREPARED 'lost'")
            one.caught_up(reopen_each=1)
            prepare("later", "UPDATE t SET v = 3 WHERE id = 4")
            assert one.caught_up() == []
            one.close()
            db.execute("COMMIT PREPARED 'later'")
            one.caught_up(reopen_each=1)
            state = {row["id"]: row["v"] for row in fold(one.seen).values()}
            table = {str(k): str(v) for k, v in db.execute("SELECT id, v FROM t").fetchall()}
            assert state == table
            assert state["4"] == "3"
            assert "12" not in state
        finally:
            one.close()
