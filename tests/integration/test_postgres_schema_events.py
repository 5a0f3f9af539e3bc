"""Structure changes of the PostgreSQL source: an event in its place between the rows, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ensign_core.change import Op
from tests.conftest import Database
from tests.services.postgres_capture import Capture, Seen, fold


def shape(event: Seen) -> str:
    """A structure as words: ``id integer, note text``."""
    return ", ".join(f"{c.name} {c.native}" for c in event.schema.columns)


def story(seen: list[Seen]) -> list[tuple[str, object, int]]:
    """Operations, with the id of a row or the structure that is announced, and ordinals."""
    return [
        (e.op.name.lower(), shape(e) if e.op is Op.SCHEMA else (e.new or {}).get("id"), e.ordinal)
        for e in seen
    ]


def announced(seen: list[Seen]) -> bool:
    """Whether every row has the structure that was announced last, or that of the first row."""
    now: dict[tuple[str, str], int] = {}
    for event in seen:
        table = event.schema.name, str(event.schema.names)
        if event.op is Op.SCHEMA:
            assert now[table] != event.schema.id, "announced for nothing"
            now[table] = event.schema.id
        if now.setdefault(table, event.schema.id) != event.schema.id:
            return False
    return True


STORY = [
    ("insert", "1", 0),
    ("insert", "1", 1),
    ("schema", "id integer, note text", 2),
    ("insert", "2", 2),
    ("insert", "2", 3),
    ("schema", "id integer, label text", 4),
    ("insert", "3", 4),
    ("insert", "4", 5),
    ("insert", "3", 0),
    ("schema", "id integer, label character varying(9)", 1),
    ("insert", "5", 1),
    ("schema", "id integer", 2),
    ("truncate", None, 2),
    ("insert", "6", 3),
    ("insert", "7", 0),
    ("insert", "4", 0),
]


@pytest.mark.parametrize("reopen_each", [0, 1])
@pytest.mark.parametrize("markers", [False, True])
def test_structure_changes_in_the_middle_of_transactions(
    database: Database, capture: Callable[..., Capture], reopen_each: int, markers: bool
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    one = capture(batch_bytes_max=1 if reopen_each else 1 << 20, transaction_markers=markers)
    one.caught_up()
    with database.connection.transaction():
        database.run(
            "INSERT INTO t VALUES (1)",
            "INSERT INTO u VALUES (1)",
            "ALTER TABLE t ADD note text",
            "INSERT INTO t VALUES (2, 'a')",
            "INSERT INTO u VALUES (2)",
            "ALTER TABLE t RENAME note TO label",
            "INSERT INTO t VALUES (3, 'b')",
            "INSERT INTO t VALUES (4, 'b')",
        )
    with database.connection.transaction():
        database.run(
            "ALTER TABLE t ALTER label TYPE varchar(9)",
            "INSERT INTO u VALUES (3)",
            "INSERT INTO t VALUES (5, 'c')",
            "ALTER TABLE t DROP label",
            "TRUNCATE t",
            "INSERT INTO t VALUES (6)",
        )
    database.run("INSERT INTO t VALUES (7)", "INSERT INTO u VALUES (4)")
    one.until(lambda: bool(one.of("public.u")) and story(one.of("public.u"))[-1][1] == "4",
              reopen_each=reopen_each)  # fmt: skip
    one.caught_up()
    seen = [e for e in one.seen if e.op not in (Op.BEGIN, Op.COMMIT)]
    assert story(seen) == STORY
    assert announced(one.seen)
    assert one.caught_up() == []


def test_restart_behind_a_change_that_is_replayed(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """The stream brings the old structure again, then the new: neither is announced again."""
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = capture(batch_bytes_max=1)
    one.caught_up()
    with database.connection.transaction():
        database.run(
            "INSERT INTO t VALUES (1)", "ALTER TABLE t ADD a int", "ALTER TABLE t ADD b int"
        )
        for n in range(2, 8):
            database.run(f"INSERT INTO t (id) VALUES ({n})")
        database.run("ALTER TABLE t DROP a")
    one.caught_up(reopen_each=1)
    assert [op for op, _, _ in story(one.seen)] == ["insert", "schema", *["insert"] * 6]
    assert [e.ordinal for e in one.seen if e.op is Op.INSERT] == list(range(7))
    database.run("INSERT INTO t VALUES (8, 8)")
    assert [op for op, _, _ in story(one.caught_up(reopen_each=1))] == ["schema", "insert"]


def test_structure_changes_while_a_table_is_read(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 20)"
    )
    one = capture(chunk_rows=3, batch_bytes_max=1)
    one.until(lambda: len(one.seen) >= 6)
    database.run("ALTER TABLE t ADD note text", "UPDATE t SET note = 'x' WHERE id IN (1, 20)")
    one.until(lambda: len(one.seen) >= 12, reopen_each=1)
    database.run("ALTER TABLE t ADD more int", "INSERT INTO t VALUES (21, 'y', 1)")
    one.caught_up(reopen_each=1)
    assert announced(one.seen)
    assert sorted(int(str(row["id"])) for row in fold(
        [e for e in one.seen if e.op is not Op.SCHEMA]).values()) == list(range(1, 22))  # fmt: skip


def test_renamed_table_and_replica_identity(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """A new name is another structure; so is another key."""
    database.run("CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL UNIQUE)")
    one = capture(snapshot="never")
    one.caught_up()
    database.run("INSERT INTO t VALUES (1, 1)")
    one.until(lambda: len(one.seen) == 1)
    database.run(
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_k_key", "INSERT INTO t VALUES (2, 2)"
    )
    one.until(lambda: len(one.seen) == 3)
    database.run("ALTER TABLE t RENAME TO s", "INSERT INTO s VALUES (3, 3)")
    one.until(lambda: len(one.seen) == 5)
    database.run("ALTER TABLE s REPLICA IDENTITY FULL", "DELETE FROM s WHERE id = 1")
    one.until(lambda: one.seen[-1].op is Op.DELETE)
    changes = [
        (e.schema.name, [c.name for c in e.schema.columns if c.key])
        for e in one.seen if e.op is Op.SCHEMA
    ]  # fmt: skip
    assert changes == [("public.t", ["k"]), ("public.s", ["k"]), ("public.s", ["id"])]
    assert one.seen[-1].old == {"id": "1", "k": "1"}


def test_stored_generated_columns_are_announced(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """Where the server publishes them (18), else they are in no row and in no structure."""
    published = database.connection.info.server_version >= 180000
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    extra = " WITH (publish_generated_columns = stored)" if published else ""
    database.run(f"CREATE PUBLICATION ensign_test FOR TABLE t{extra}")
    one = capture()
    one.caught_up()
    database.run(
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD twice int GENERATED ALWAYS AS (id * 2) STORED",
        "INSERT INTO t VALUES (2)",
    )
    seen = one.caught_up()
    assert seen[-1].new == ({"id": "2", "twice": "4"} if published else {"id": "2"})
    assert [e.op for e in seen] == [Op.INSERT, *[Op.SCHEMA] * published, Op.INSERT]
