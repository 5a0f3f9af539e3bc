"""Tables of the PostgreSQL source that come, go, are renamed, locked, republished or left out, and
servers that are not what they were."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

import pytest

from connectors.postgres import CONNECTOR
from ensign_core.change import Op, Position
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, fold


def told(one: Capture, table: str = "public.t") -> list[tuple[Op, str | None]]:
    """Operations and ids of a table's events."""
    rows = [(e.op, e.new or e.old or {}) for e in one.of(table)]
    return [(op, None if "id" not in row else str(row["id"])) for op, row in rows]


def test_server_was_put_back(postgres: PostgresServer) -> None:
    with PostgresServer(postgres.programs) as server:
        with server.connect() as db:
            db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        one = Capture(server.dsn(), tables=["public.t"])
        one.caught_up()
        one.close()
        server.stop()
        data, kept = server.folder / "data", server.folder / "kept"
        shutil.copytree(data, kept, symlinks=True)
        for path in [kept, *kept.rglob("*")]:
            found = data / path.relative_to(kept)
            shutil.chown(path, found.stat().st_uid, found.stat().st_gid)
        server.start()
        with server.connect() as db:
            db.execute("INSERT INTO t SELECT generate_series(1, 2000)")
        one.caught_up()
        one.close()
        server.stop()
        shutil.rmtree(data)
        kept.rename(data)
        server.start()
        with pytest.raises(EnsignError, match=r"postgres\.server_went_back"):
            one.open()
        one.close()


def test_server_is_on_another_timeline(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    assert one.position is not None
    one.position = Position(one.position.replace(b'"timeline": 1', b'"timeline": 2'))
    with pytest.raises(EnsignError, match=r"postgres\.timeline_changed"):
        one.open()


def test_rows_made_before_a_table_became_a_partition(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p (id int PRIMARY KEY)",
        "INSERT INTO p VALUES (1)",
    )
    one = capture()
    one.caught_up()
    one.close()
    database.run(
        "INSERT INTO p VALUES (2)",
        "ALTER TABLE r ATTACH PARTITION p FOR VALUES FROM (0) TO (100)",
        "INSERT INTO r VALUES (3)",
    )
    one.caught_up()
    assert told(one, "public.p") == [(Op.SNAPSHOT, "1"), (Op.INSERT, "2")]
    assert told(one, "public.r") == [
        (Op.INSERT, "3"), (Op.SNAPSHOT, "1"), (Op.SNAPSHOT, "2"), (Op.SNAPSHOT, "3")
    ]  # fmt: skip


def test_text_that_the_server_orders_by_its_own_encoding(database: Database) -> None:
    server, name = database.server, f"w_{database.name}"
    database.run(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    other = Database(server, name)
    one = Capture(other.dsn, chunk_rows=3, slot=f"slot_{name}")
    try:
        other.run(
            "CREATE TABLE t (k text PRIMARY KEY, v int)",
            r"INSERT INTO t VALUES ('a', 0), (U&'\20AC', 0), (U&'\00E9', 0), (U&'\00FC', 0)",
        )
        one.until(lambda: len(one.seen) >= 3)
        other.run(r"UPDATE t SET v = 1 WHERE k = U&'\20AC'")
        one.caught_up()
        assert {s["k"]: s["v"] for s in fold(one.seen).values()}["\u20ac"] == "1"
    finally:
        one.close()
        other.connection.close()
        server.drop_database(name)


def test_table_taken_out_of_the_publication_and_put_back(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    one = capture()
    one.caught_up()
    one.close()
    database.run(
        "ALTER PUBLICATION ensign_test DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "ALTER PUBLICATION ensign_test ADD TABLE t",
    )
    with pytest.raises(EnsignError, match=r"postgres\.table_unpublished.*public\.t"):
        one.open()


def test_publication_leaves_operations_out(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE PUBLICATION ensign_test FOR ALL TABLES WITH (publish = 'insert, update')",
    )
    one = capture()
    with pytest.raises(EnsignError, match=r"publication_unsuitable.*publish delete, truncate\."):
        one.open()
    found = CONNECTOR.check(one.config, "test")
    assert "postgres.publication_unsuitable" in {f.code for f in found if f.level == "error"}


def test_locked_table_holds_nothing_up(database: Database, capture: Callable[..., Capture]) -> None:
    database.run(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "INSERT INTO b VALUES (1)",
    )
    one = capture(discover_s=0.05)
    one.open()
    with database.server.connect(database.name) as other, other.transaction():
        other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        one.until(lambda: bool(one.of("public.b")))
        database.run("INSERT INTO b VALUES (2)", "CREATE TABLE c (id int PRIMARY KEY)")
        one.until(lambda: len(one.of("public.b")) == 2)
        database.run("INSERT INTO c VALUES (1)")
        other.execute("INSERT INTO a VALUES (1)")
    one.until(lambda: bool(one.of("public.a") and one.of("public.c")))


def test_table_excluded_while_it_is_read(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE z (id int PRIMARY KEY)",
        "INSERT INTO z SELECT generate_series(1, 10)",
    )
    one = capture(chunk_rows=2)
    one.until(lambda: len(one.seen) == 2)
    without = capture(chunk_rows=2, exclude=["public.z"])
    one.close()
    without.position = one.position
    assert without.caught_up() == []
    without.close()
    one.position = without.position
    one.caught_up()
    assert told(one, "public.z")[2:] == [
        (Op.TRUNCATE, None), *((Op.SNAPSHOT, str(n)) for n in range(1, 11)),
    ]  # fmt: skip


@pytest.mark.parametrize("lag", [False, True])
def test_table_renamed_away_and_back(
    database: Database, capture: Callable[..., Capture], lag: bool
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE keep (id int PRIMARY KEY)")
    one = capture(exclude=["public.x"], discover_s=3600.0 if lag else 0.02)
    one.caught_up()
    if lag:
        one.close()
    database.run(
        "ALTER TABLE t RENAME TO x", "INSERT INTO x VALUES (1)", "INSERT INTO keep VALUES (1)"
    )
    if not lag:
        one.until(lambda: bool(one.of("public.keep")))
    database.run("ALTER TABLE x RENAME TO t", "INSERT INTO t VALUES (2)")
    one.caught_up()
    one.until(lambda: len(fold(one.of("public.t"))) == 2)
    assert {e.schema.name for e in one.seen} == {"public.t", "public.keep"}


def test_table_made_again_under_its_name(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    one = capture()
    one.caught_up()
    database.run("CREATE TABLE keep (id int PRIMARY KEY)")
    one.close()
    database.run(
        "DELETE FROM t WHERE id = 1",
        "DROP TABLE t",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (2), (3)",
    )
    one.caught_up()
    assert told(one)[2:] == [(Op.TRUNCATE, None), (Op.SNAPSHOT, "2"), (Op.SNAPSHOT, "3")]


def test_tables_that_come_and_go(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(discover_s=0.005)
    one.caught_up()
    over = threading.Event()

    def churn() -> None:
        with database.server.connect(database.name) as other:
            for n in range(60):
                other.execute(f"CREATE TABLE s{n} (id int PRIMARY KEY)".encode())
                other.execute(f"INSERT INTO s{n} VALUES (1)".encode())
                other.execute(f"DROP TABLE s{n}".encode())
        over.set()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        one.until(over.is_set)
    finally:
        churning.join(60)
    database.run("INSERT INTO t VALUES (1)")
    one.until(lambda: told(one) == [(Op.INSERT, "1")])
