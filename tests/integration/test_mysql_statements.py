"""Statements about captured tables: an event in its place between the rows, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.mysql.position import decode
from ensign_core.change import Op
from tests.integration.conftest import Shop
from tests.services.mysql import CDC
from tests.services.mysql_capture import Capture, state
from tests.services.postgres_capture import Seen

every_metadata = pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"], indirect=True)


def short(seen: list[Seen]) -> list[str]:
    """Tables, operations, and the row's id or the structure that is announced."""
    found = []
    for e in seen:
        facts = [e.schema.name.partition(".")[2], e.op.name.lower()]
        if e.op is Op.SCHEMA:
            facts += [column.name for column in e.schema.columns]
        else:
            facts.append(str((e.new or e.old or {}).get("id", "")))
        found.append(" ".join(filter(None, facts)))
    return found


@every_metadata
@pytest.mark.parametrize("down", [True, False])
def test_events_at_their_places(
    shop: Shop, follow: Callable[..., Capture], metadata: str, down: bool
) -> None:
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)")
    one = follow()
    one.caught_up()
    if down:
        one.close()
    shop.run(
        "INSERT INTO t VALUES (1)",
        "ALTER TABLE t ADD a INT",
        "INSERT INTO u VALUES (1)",
        "INSERT INTO t VALUES (2, 2)",
        "TRUNCATE TABLE t",
        "INSERT INTO t VALUES (3, 3)",
        "ALTER TABLE t ADD KEY (a), COMMENT 'no other columns'",
        "DROP TABLE t",
        "CREATE TABLE t (b INT, id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (4, 4)",
        "CREATE TABLE IF NOT EXISTS t (other INT)",
        "CREATE TABLE v LIKE t",
        "INSERT INTO v SELECT * FROM t",
        "CREATE TABLE w SELECT * FROM v",
        "CREATE VIEW x AS SELECT * FROM t",
        "CREATE TRIGGER y AFTER INSERT ON u FOR EACH ROW INSERT INTO v VALUES (NEW.id, NEW.id)",
        "INSERT INTO u VALUES (2)",
        "DROP VIEW x",
    )
    one.until(lambda: short(one.seen)[-2:-1] == ["u insert 2"])
    one.caught_up()
    assert short(one.seen) == [
        "t insert 1", "t schema id a", "u insert 1", "t insert 2", "t truncate", "t insert 3",
        "t truncate", "t schema b id", "t insert 4", "v schema b id", "v insert 4",
        "w schema b id", "w insert 4", "u insert 2", "v insert 2",
    ]  # fmt: skip
    assert one.caught_up() == []
    assert not one.told.facts.get("warnings")


@every_metadata
def test_tables_get_other_names(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    one = follow(exclude=[f"{shop.name}.hidden*"])
    one.caught_up()
    shop.run(
        "RENAME TABLE t TO hidden",
        "INSERT INTO hidden VALUES (2)",
        "ALTER TABLE hidden ADD a INT, RENAME TO u, ADD KEY (a)",
        "INSERT INTO u VALUES (3, 3)",
    )
    one.until(lambda: len(one.of(f"{shop.name}.u")) >= 3)
    one.caught_up()
    shop.run("RENAME TABLE u TO v, v TO w", "INSERT INTO w VALUES (4, 4)")
    one.until(lambda: len(one.of(f"{shop.name}.w")) >= 4)
    one.caught_up()
    assert short(one.seen) == [
        "t snapshot 1", "t truncate",
        "u schema id a", "u snapshot 1", "u snapshot 2", "u snapshot 3", "u truncate",
        "w schema id a", "w snapshot 1", "w snapshot 2", "w snapshot 3", "w snapshot 4",
    ]  # fmt: skip
    assert one.seen[-1].new == {"id": "4", "a": "4"}


@every_metadata
def test_database_is_dropped(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    second = shop.server.new_database()
    shop.run(
        "CREATE TABLE t (id INT PRIMARY KEY)", f"CREATE TABLE {second}.t (id INT PRIMARY KEY)",
        f"CREATE TABLE {second}.u (id INT PRIMARY KEY)",
    )  # fmt: skip
    one = follow(tables=[f"{shop.name}.*", f"{second}.*"])
    one.caught_up()
    shop.run("INSERT INTO t VALUES (1)", f"DROP DATABASE {second}", "INSERT INTO t VALUES (2)")
    one.until(lambda: len(one.seen) == 4)
    assert sorted(short(one.seen[1:3])) == ["t truncate", "u truncate"]
    assert {e.schema.name for e in one.seen[1:3]} == {f"{second}.t", f"{second}.u"}
    assert list(one.told.pieces) == [f"structure {shop.name}.t"]


def test_quotes_comments_and_names(shop: Shop, follow: Callable[..., Capture]) -> None:
    one = follow()
    one.caught_up()
    shop.run(
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        """/* by a tool */ CREATE TABLE "we ird.tä`ble" -- , x INT
           ("id" INT PRIMARY KEY, "a ""b" VARCHAR(5) DEFAULT 'x'',', /*!50000 `c`*/ INT)""",
        """INSERT INTO "we ird.tä`ble" VALUES (1, 'x', 1)""",
        """ALTER TABLE "we ird.tä`ble" RENAME COLUMN "a ""b" TO "b.`", COMMENT 'DROP TABLE x' """,
        """INSERT INTO "we ird.tä`ble" VALUES (2, 'x', 1)""",
    )
    one.until(lambda: len(one.seen) == 4)
    assert {e.schema.name for e in one.seen} == {f"{shop.name}.we ird.tä`ble"}
    assert [e.new for e in one.seen if e.op is Op.INSERT] == [
        {"id": "1", 'a "b': "x", "c": "1"}, {"id": "2", "b.`": "x", "c": "1"},
    ]  # fmt: skip


def test_table_is_replaced(shop: Shop, follow: Callable[..., Capture]) -> None:
    """CREATE OR REPLACE and SET STATEMENT are MariaDB's; elsewhere what they are made of."""
    one = follow()
    one.caught_up()
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    if shop.server.is_mariadb:
        shop.run(
            "CREATE OR REPLACE TABLE t (a INT, id INT PRIMARY KEY)",
            "SET STATEMENT max_statement_time = 9 FOR ALTER TABLE t DROP a",
        )
    else:
        shop.run("DROP TABLE t", "CREATE TABLE t (a INT, id INT KEY)", "ALTER TABLE t DROP a")
    shop.run("INSERT INTO t VALUES (2)")
    one.until(lambda: len(one.seen) == 6)
    assert short(one.seen) == [
        "t schema id", "t insert 1", "t truncate", "t schema a id", "t schema id", "t insert 2",
    ]  # fmt: skip


PARTITIONED = (
    "CREATE TABLE t (id INT PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN"
    " (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30))"
)


def assert_equal(shop: Shop, one: Capture, *tables: str) -> None:
    """What the events make of tables is what they have now."""
    for name in tables:
        found = state(one.of(f"{shop.name}.{name}")).values()
        wanted = [str(row[0]) for row in shop.run(f"SELECT id FROM {name} ORDER BY id")]
        assert sorted(str(row["id"]) for row in found) == sorted(wanted), name


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE PARTITION p1", "DROP PARTITION p1", "EXCHANGE PARTITION p1 WITH TABLE u"],
)
@pytest.mark.parametrize("while_read", [False, True])
def test_partitions_change_without_rows(
    shop: Shop, follow: Callable[..., Capture], statement: str, while_read: bool
) -> None:
    """The log has no rows of it: tables are compared with their topics, or read again."""
    shop.run(
        PARTITIONED, "INSERT INTO t VALUES (1), (11), (12), (21)",
        "CREATE TABLE u (id INT PRIMARY KEY)", "INSERT INTO u VALUES (13)",
    )  # fmt: skip
    one = follow(chunk_rows=3)
    if while_read:
        one.until(lambda: len(one.of(f"{shop.name}.t")) == 3)
        one.close()
    else:
        one.caught_up()
    shop.run(f"ALTER TABLE t {statement}", "INSERT INTO t VALUES (22)")
    one.caught_up()
    one.caught_up()
    assert_equal(shop, one, "t", "u")
    assert while_read or Op.TRUNCATE not in {e.op for e in one.seen}


def test_rows_that_disappear_with_a_new_key(shop: Shop, follow: Callable[..., Capture]) -> None:
    """ALTER IGNORE of MariaDB drops rows that are twice in the new key."""
    if not shop.server.is_mariadb:
        return
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)", "INSERT INTO t VALUES (1, 1), (2, 1)")
    one = follow()
    one.caught_up()
    shop.run("ALTER IGNORE TABLE t ADD UNIQUE (a)")
    one.caught_up()
    one.caught_up()
    assert_equal(shop, one, "t")
    assert [e.op for e in one.seen] == [Op.SNAPSHOT, Op.SNAPSHOT, Op.DELETE]


@every_metadata
def test_sequences_are_no_tables(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    """Their rows are in MariaDB's log as those of tables are."""
    sequences = (
        ["CREATE SEQUENCE s", "SELECT NEXTVAL(s)", "SELECT SETVAL(s, 1000)",
         "RENAME TABLE s TO r", "SELECT NEXTVAL(r)", "DROP SEQUENCE r"]
        if shop.server.is_mariadb else []
    )  # fmt: skip
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)")
    one = follow()
    one.caught_up()
    shop.run(*sequences, "INSERT INTO t VALUES (1)")
    one.caught_up()
    assert short(one.seen) == ["t insert 1"]
    assert not one.told.facts["warnings"]


def stopped(one: Capture) -> set[str]:
    """Names of the tables that are stopped, without their database."""
    assert one.position is not None
    return {name.partition(".")[2] for name in decode(one.position).snapshots.stopped}


def test_triggers_and_functions_of_a_statement_in_place_of_rows(
    shop: Shop, follow: Callable[..., Capture]
) -> None:
    """The log has the outer statement alone: what it leads to is lost as well."""
    tables = ("t", "u", "v", "w", "x", "rest")
    shop.run(
        *(f"CREATE TABLE {name} (id INT PRIMARY KEY)" for name in tables),
        "CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW INSERT INTO u VALUES (NEW.id)",
        "CREATE TRIGGER h AFTER INSERT ON u FOR EACH ROW INSERT INTO v VALUES (NEW.id)",
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO w VALUES (1); RETURN 1; END",
        "SET SESSION sql_log_bin = 0",
        f"GRANT TRIGGER ON {shop.name}.* TO '{CDC}'@'%'",
    )
    one = follow()
    one.caught_up()
    as_statements = "SET SESSION binlog_format = STATEMENT"
    shop.run(as_statements, "INSERT INTO t VALUES (1)")
    one.until(lambda: bool(stopped(one)))
    assert stopped(one) == {"t", "u", "v"}
    shop.run(as_statements, "INSERT INTO x VALUES (f())")
    shop.run("INSERT INTO rest VALUES (1)")
    one.until(lambda: bool(one.seen))
    assert stopped(one) == {"t", "u", "v", "w", "x"}
    assert short(one.seen) == ["rest insert 1"]


@pytest.mark.parametrize("log_format", ["MIXED", "STATEMENT"])
def test_temporary_tables_hide_captured_ones(
    shop: Shop, follow: Callable[..., Capture], log_format: str
) -> None:
    """What a session says of its own table of that name is not of the captured one; what it says
    of others is, also where the server flags it as if it were not, and once its table is gone."""
    shop.run(
        "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE u (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1)", "INSERT INTO u VALUES (1)",
        "CREATE PROCEDURE p() BEGIN INSERT INTO t (id) VALUES (5); TRUNCATE TABLE u; END",
    )  # fmt: skip
    one = follow()
    one.caught_up()
    before = len(one.seen)
    with shop.server.connect(shop.name) as session, session.cursor() as cursor:

        def run(*statements: str) -> None:
            for statement in statements:
                cursor.execute(statement)
            # A crash at any of these places.
            one.caught_up(reopen_each=1)

        run(f"SET SESSION binlog_format = {log_format}", "CREATE TEMPORARY TABLE t (id INT)")
        run("INSERT INTO t VALUES (2)", "ALTER TABLE t ADD a INT", "TRUNCATE TABLE t")
        shop.run("INSERT INTO t VALUES (3)")
        run("DROP TABLE t", "CREATE TEMPORARY TABLE x (id INT)", "ALTER TABLE x RENAME t")
        if shop.server.is_mariadb:
            run("RENAME TABLE t TO y", "RENAME TABLE y TO t")
        run("DELETE FROM t", "ALTER TABLE t DROP id, ADD b INT, ADD id INT")
        assert short(one.seen[before:]) == ["t insert 3"]
        run("CALL p()")
        assert short(one.seen[before:]) == ["t insert 3", "u truncate"]
    shop.run("ALTER TABLE t ADD c INT", "TRUNCATE TABLE t")
    one.caught_up()
    assert short(one.seen[before + 2 :]) == ["t schema id c", "t truncate"]
    assert not stopped(one)
    assert not [name for name in one.told.pieces if name.startswith("hidden")]


def test_temporary_tables_end_with_the_server(shop: Shop, follow: Callable[..., Capture]) -> None:
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)")
    one = follow()
    one.caught_up()
    session = shop.server.connect(shop.name)
    with session.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = STATEMENT")
        cursor.execute("CREATE TEMPORARY TABLE t (id INT)")
    one.until(lambda: any(name.startswith("hidden") for name in one.told.pieces))
    shop.server.restart("kill")
    one.caught_up()
    one.until(lambda: not any(name.startswith("hidden") for name in one.told.pieces))
