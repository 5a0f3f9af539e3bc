"""Column lists and row filters of publications (15 and later): the PostgreSQL source's snapshot and
stream show the same part of a table, and go on with another part when the publication changes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres_capture import Capture, fold

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int, note text DEFAULT 'n', hidden text DEFAULT 'h')"


def assert_equal_to(database: Database, one: Capture, query: str) -> None:
    """The state that the events make is the rows of a query, as JSON has them."""
    rows = database.run(f"SELECT (to_jsonb(q))::text FROM ({query}) q")
    expected = [
        sorted((k, None if v is None else str(v)) for k, v in json.loads(str(row)).items())
        for (row,) in rows
    ]
    state = fold([e for e in one.of("public.t") if e.op is not Op.SCHEMA]).values()
    assert sorted(map(str, expected)) == sorted(str(sorted(row.items())) for row in state)


@pytest.mark.every_version
@pytest.mark.parametrize("chunk_rows", [3, 1000])
def test_snapshot_and_stream_are_equal(
    database: Database, capture: Callable[..., Capture], chunk_rows: int
) -> None:
    """Rows that an update moves into the filter are inserted, those that it moves out deleted."""
    database.run(
        TABLE, "INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 40) g",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE PUBLICATION ensign_test FOR TABLE t WHERE (v > 3)",
    )  # fmt: skip
    one = capture(chunk_rows=chunk_rows, batch_bytes_max=1)
    one.until(lambda: len(one.seen) > 2)
    for key in (1, 20, 30, 39):
        database.run(f"UPDATE t SET v = 7 - v WHERE id = {key}")
    database.run("UPDATE t SET id = id + 1000, v = v + 1 WHERE id IN (2, 3, 38, 40)")
    one.caught_up(reopen_each=2)
    assert_equal_to(database, one, "SELECT * FROM t WHERE v > 3")
    database.run("UPDATE t SET v = v + 1", "DELETE FROM t WHERE id < 10", "UPDATE t SET v = 9 - v")
    one.caught_up()
    assert_equal_to(database, one, "SELECT * FROM t WHERE v > 3")


@pytest.mark.every_version
def test_column_list_with_a_filter(database: Database, capture: Callable[..., Capture]) -> None:
    database.run(
        TABLE, "INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 40) g",
        "CREATE PUBLICATION ensign_test FOR TABLE t (note, id) WHERE (id % 2 = 0)",
    )  # fmt: skip
    one = capture(chunk_rows=3, batch_bytes_max=1)
    one.until(lambda: len(one.seen) > 2)
    database.run("UPDATE t SET note = 'x' WHERE id > 15", "UPDATE t SET hidden = 'y', id = -id")
    one.caught_up(reopen_each=2)
    database.run("INSERT INTO t (id) VALUES (100), (101)")
    one.caught_up()
    assert_equal_to(database, one, "SELECT id, note FROM t WHERE id % 2 = 0")
    assert {tuple(c.name for c in e.schema.columns) for e in one.seen} == {("id", "note")}


CHANGES = {
    "a filter is set": ("t", "t WHERE (id > 20)", "SELECT * FROM t WHERE id > 20"),
    "a filter is changed": ("t WHERE (id < 9)", "t WHERE (id > 20)",
                            "SELECT * FROM t WHERE id > 20"),
    "a filter is lifted": ("t WHERE (id < 9)", "t", "SELECT * FROM t"),
    "a list is set": ("t", "t (id, v)", "SELECT id, v FROM t"),
    "a list is widened": ("t (id, v)", "t (id, v, note)", "SELECT id, v, note FROM t"),
    "a list is narrowed": ("t (id, v, note)", "t (id, v)", "SELECT id, v FROM t"),
    "a list is lifted": ("t (id, v)", "t", "SELECT * FROM t"),
    "both": ("t (id, v) WHERE (id < 9)", "t (id, note) WHERE (id > 5)",
             "SELECT id, note FROM t WHERE id > 5"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["running", "looking", "down", "snapshot"])
def test_publication_changes(
    database: Database, capture: Callable[..., Capture], change: str, how: str
) -> None:
    """The table is read anew behind a truncate, whoever notices first: the stream, a look, a start;
    while it is read too."""
    before, after, query = CHANGES[change]
    database.run(
        TABLE, "INSERT INTO t SELECT g, g % 7 FROM generate_series(1, 40) g",
        f"CREATE PUBLICATION ensign_test FOR TABLE {before}",
    )  # fmt: skip
    one = capture(chunk_rows=3, discover_s=0.02 if how == "looking" else 3600.0)
    if how == "snapshot":
        one.until(lambda: len(one.seen) > 2)
    else:
        one.caught_up()
        database.run("UPDATE t SET v = v + 1", "INSERT INTO t VALUES (41, 1)")
        one.caught_up()
    if how == "down":
        one.close()
        database.run("UPDATE t SET v = v + 1")
    database.run(f"ALTER PUBLICATION ensign_test SET TABLE {after}")
    if how != "looking":
        database.run("UPDATE t SET v = v + 1", "INSERT INTO t VALUES (0, 1), (50, 1)")
        database.run("DELETE FROM t WHERE id IN (30, 7)")
    one.until(lambda: any(e.op is Op.TRUNCATE for e in one.seen),
              reopen_each=5 if how == "running" else 0)  # fmt: skip
    one.caught_up()
    assert_equal_to(database, one, query)
    database.run("UPDATE t SET v = v + 1", "INSERT INTO t VALUES (60, 1)")
    one.caught_up()
    assert_equal_to(database, one, query)
    assert len([e for e in one.seen if e.op is Op.TRUNCATE]) == 1


@pytest.mark.parametrize("running", [False, True])
def test_put_back_as_it_was(
    database: Database, capture: Callable[..., Capture], running: bool
) -> None:
    """A change and its reverse: what was changed between is in no stream, and that is said."""
    database.run(TABLE, "CREATE PUBLICATION ensign_test FOR TABLE t WHERE (id < 9)")
    one = capture(discover_s=0.02)
    one.caught_up()
    if not running:
        one.close()
    with database.connection.transaction():
        database.run("ALTER PUBLICATION ensign_test SET TABLE t WHERE (id > 20)")
        database.run("ALTER PUBLICATION ensign_test SET TABLE t WHERE (id < 9)")
    with pytest.raises(EnsignError, match=r"postgres\.table_unpublished.*public\.t"):
        one.until(lambda: False)


def test_schema_is_added_beside_the_table(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """A table that is published with its schema has no filter, whatever its own entry says."""
    database.run(TABLE, "CREATE PUBLICATION ensign_test FOR TABLE t WHERE (id < 9)")
    database.run("INSERT INTO t SELECT g, g FROM generate_series(1, 20) g")
    one = capture(discover_s=0.02)
    one.caught_up()
    assert len(one.seen) == 8
    database.run("ALTER PUBLICATION ensign_test ADD TABLES IN SCHEMA public")
    one.until(lambda: any(e.op is Op.TRUNCATE for e in one.seen))
    one.caught_up()
    for n in range(3):
        database.run(f"INSERT INTO t VALUES ({100 + n})")
        one.caught_up()
    assert_equal_to(database, one, "SELECT * FROM t")
    assert len([e for e in one.seen if e.op is Op.TRUNCATE]) == 1


def test_renamed_column_of_a_filter_changes_nothing(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(TABLE, "CREATE PUBLICATION ensign_test FOR TABLE t (id, v) WHERE (id < 9)")
    one = capture(discover_s=0.02)
    one.caught_up()
    database.run("ALTER TABLE t RENAME id TO k", "ALTER TABLE t RENAME v TO w")
    database.run("INSERT INTO t VALUES (1, 1), (10, 1)")
    one.caught_up()
    database.run("VACUUM FULL pg_publication_rel", "INSERT INTO t VALUES (2, 1)")
    one.caught_up()
    assert [(e.op, e.new) for e in one.seen] == [
        (Op.INSERT, {"k": "1", "w": "1"}), (Op.INSERT, {"k": "2", "w": "1"}),
    ]  # fmt: skip
