"""Which tables and columns are captured, whatever they are called, made while the source runs or
while it is down, and when the config changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from connectors.mysql.check import check
from connectors.mysql.source import UNREAD_S_MAX
from ensign_core.change import Op
from tests.integration.conftest import Shop
from tests.services.mysql import MysqlServer, installations
from tests.services.mysql_capture import Capture, state
from tests.services.ready import wait_until

NAMES = ["with.dot", "with space", "qu'ote", 'dou"ble', "back`tick", "ünïcödé", "CaSe", "1", "a%s"]
little = pytest.mark.parametrize("metadata", ["NO_LOG"], indirect=True)
any_metadata = pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"], indirect=True)


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def run(shop: Shop, *statements: str) -> None:
    """Statements without arguments: a percent sign is one."""
    with shop.server.connect(shop.name) as connection:
        for statement in statements:
            connection.query(statement)


@pytest.mark.parametrize(
    ("made", "metadata"),
    [("before", "FULL"), ("later", "NO_LOG"), ("down", "NO_LOG")],
    indirect=["metadata"],
)
def test_names(shop: Shop, follow: Callable[..., Capture], metadata: str, made: str) -> None:
    create = [f"CREATE TABLE {quoted(n)} ({quoted(n)} INT PRIMARY KEY, b INT)" for n in NAMES]
    one = follow()
    if made == "before":
        run(shop, *create)
    one.caught_up()
    if made == "down":
        one.close()
    if made != "before":
        run(shop, *create)
    statements = [
        "INSERT INTO {0} VALUES (1, 1)", "ALTER TABLE {0} RENAME COLUMN b TO `c``.`",
        "INSERT INTO {0} VALUES (2, 2)", "RENAME TABLE {0} TO `x`, `x` TO {0}",
        "ALTER TABLE {0} ADD d INT FIRST", "DELETE FROM {0} WHERE 1 = {0}",
    ]  # fmt: skip
    run(shop, *(each.format(name) for name in map(quoted, NAMES) for each in statements))
    one.until(lambda: [e.op for e in one.of(f"{shop.name}.{NAMES[-1]}")][-1:] == [Op.DELETE])
    one.caught_up()
    for name in NAMES:
        seen = one.of(f"{shop.name}.{name}")
        assert list(state(seen).values())[-1].items() >= {name: "2", "c`.": "2"}.items()
        assert seen[0].schema.names == (("database", shop.name), ("table", name))
    assert not one.told.facts.get("warnings")


@pytest.mark.parametrize("server", list(installations()))
def test_names_whose_case_does_not_count(server: str) -> None:
    """A folder of data has one setting of lower_case_table_names for its life; those of MariaDB
    that has no tables of users may be run with another."""
    if not server.startswith("mariadb"):
        return
    settings = {"lower_case_table_names": "1", "binlog_row_metadata": "NO_LOG"}
    with MysqlServer(installations()[server], settings=settings) as started:
        started.run("CREATE DATABASE Shop", "CREATE TABLE Shop.Old (ID INT PRIMARY KEY, a INT)")
        one = Capture(started, "shop")
        one.caught_up()
        started.run(
            "CREATE TABLE New (ID INT PRIMARY KEY)", "INSERT INTO NEW VALUES (1)",
            "ALTER TABLE OLD ADD b INT FIRST", "INSERT INTO oLD VALUES (7, 1, 8)",
            "TRUNCATE TABLE neW", "RENAME TABLE nEw TO Newer", "INSERT INTO newER VALUES (2)",
            database="Shop",
        )  # fmt: skip
        one.until(lambda: bool(state(one.of("shop.newer"))))
        one.caught_up()
        assert state(one.of("shop.old")) == {("1",): {"b": "7", "ID": "1", "a": "8"}}
        assert state(one.of("shop.newer")) == {("2",): {"ID": "2"}}
        assert [e.op for e in one.of("shop.new")][-1] is Op.TRUNCATE
        one.close()


@little
def test_config_captures_more_and_less(
    shop: Shop, follow: Callable[..., Capture], metadata: str
) -> None:
    """Columns that are added to a config come with the next change, as in any system that keeps no
    copy; those of a key always come. A table that is added is read."""
    run(
        shop, "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO t VALUES (1, 1, 1)",
        "CREATE TABLE u (id INT PRIMARY KEY)", "INSERT INTO u VALUES (1)",
    )  # fmt: skip
    first = follow(tables=[f"{shop.name}.t"], columns={"exclude": ["*.id", "*.b"]})
    first.caught_up()
    first.close()
    run(shop, "INSERT INTO t VALUES (2, 2, 2)", "INSERT INTO u VALUES (2)")
    second = follow(columns={"include": [f"{shop.name}.t.b"]})
    second.position, second.told = first.position, first.told
    second.told.compare = first.told.compare
    second.caught_up()
    run(shop, "INSERT INTO t VALUES (3, 3, 3)", "INSERT INTO u VALUES (3)")
    second.caught_up()
    assert [e.new for e in first.seen] == [{"id": "1", "a": "1"}]
    table = f"{shop.name}.t"
    assert [e.new for e in second.of(table) if e.op is Op.INSERT] == [
        {"id": "2", "b": "2"}, {"id": "3", "b": "3"},
    ]  # fmt: skip
    assert state(second.of(f"{shop.name}.u")).keys() == {("1",), ("2",), ("3",)}
    third = follow(tables=[f"{shop.name}.u"])
    third.position, third.told = second.position, second.told
    second.close()
    run(shop, "INSERT INTO t VALUES (4, 4, 4)", "INSERT INTO u VALUES (4)")
    third.caught_up()
    assert [e.new for e in third.seen] == [{"id": "4"}]
    assert set(third.told.pieces) == {f"structure {shop.name}.u"}


def test_column_that_is_left_out_is_captured_from_now_on(
    shop: Shop, follow: Callable[..., Capture]
) -> None:
    """The new structure is an event before the first row that has it."""
    run(shop, "CREATE TABLE t (id INT PRIMARY KEY, a INT)", "INSERT INTO t VALUES (1, 1)")
    first = follow(columns={"exclude": ["*.a"]})
    first.caught_up()
    first.close()
    second = follow()
    second.position, second.told = first.position, first.told
    run(shop, "INSERT INTO t VALUES (2, 2)", "UPDATE t SET a = 5")
    second.caught_up()
    assert next(e.new for e in second.seen if e.op is not Op.SCHEMA) == {"id": "2", "a": "2"}


@little
def test_many_columns(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    """As many as InnoDB takes."""
    names = [f"c{n}" for n in range(1016)]
    run(
        shop, f"CREATE TABLE t (id INT PRIMARY KEY, {' INT, '.join(names)} INT)",
        "INSERT INTO t (id, c1015) VALUES (1, 5)",
    )  # fmt: skip
    one = follow()
    one.caught_up()
    run(
        shop, "ALTER TABLE t RENAME COLUMN c7 TO x", "INSERT INTO t (id, x, c1015) VALUES (2, 3, 4)"
    )
    one.caught_up()
    rows = [e.new or {} for e in one.seen if e.op is not Op.SCHEMA]
    assert [(len(row), row["c1015"]) for row in rows] == [(1017, "5"), (1017, "4")]
    assert rows[1]["x"] == "3"


@any_metadata
def test_no_column_is_captured(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    """A table without a key whose columns are all left out: its rows come all the same."""
    run(shop, "CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1), (2)")
    one = follow(columns={"exclude": ["*"]})
    one.caught_up()
    run(shop, "INSERT INTO t VALUES (3)", "DELETE FROM t WHERE a = 1")
    one.caught_up()
    assert [(e.op, e.old if e.new is None else e.new) for e in one.seen] == [
        (Op.SNAPSHOT, {}), (Op.SNAPSHOT, {}), (Op.INSERT, {}), (Op.DELETE, {}),
    ]  # fmt: skip


@any_metadata
def test_key_that_is_none(shop: Shop, follow: Callable[..., Capture], metadata: str) -> None:
    """A unique index is no primary key, wherever a row is seen."""
    run(shop, "CREATE TABLE t (a INT NOT NULL UNIQUE, b INT)", "INSERT INTO t VALUES (1, 1)")
    one = follow()
    one.caught_up()
    run(shop, "INSERT INTO t VALUES (2, 2)")
    one.caught_up()
    assert len({e.schema.id for e in one.seen}) == 1
    assert [e.op for e in one.seen] == [Op.SNAPSHOT, Op.INSERT]


@pytest.fixture(params=list(installations()))
def restarted(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """A server of its own, to be restarted, whose log tells little of columns."""
    programs = installations()[request.param]
    least = "NO_LOG" if programs.product == "mariadb" else "MINIMAL"
    with MysqlServer(programs, settings={"binlog_row_metadata": least}) as started:
        yield started


def test_rows_in_memory_are_lost_with_the_server(restarted: MysqlServer) -> None:
    """The server says so when somebody looks at the table again."""
    name = restarted.new_database()
    restarted.run(
        "CREATE TABLE t (id INT PRIMARY KEY) ENGINE = MEMORY", "INSERT INTO t VALUES (1)",
        database=name,
    )  # fmt: skip
    one = Capture(restarted, name)
    restarted.run(
        "SET SESSION sql_log_bin = 0", "GRANT LOCK TABLES ON *.* TO cdc@'%'", database=name
    )
    one.caught_up()
    restarted.run("INSERT INTO t VALUES (2)", database=name)
    one.caught_up()
    assert len(state(one.seen)) == 2
    one.close()
    restarted.restart()
    restarted.run("SELECT * FROM t", "INSERT INTO t VALUES (3)", database=name)
    one.caught_up()
    assert [e.op for e in one.seen] == [Op.SNAPSHOT, Op.INSERT, Op.TRUNCATE, Op.INSERT]
    assert state(one.seen).keys() == {("3",)}
    one.close()


def test_source_that_nobody_reads_keeps_no_statement_waiting(
    shop: Shop, follow: Callable[..., Capture]
) -> None:
    """As when a topic is full: I8 stops `read`, and not `ack`."""
    values = ", ".join(f"({n}, repeat('x', 1000))" for n in range(500))
    run(shop, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)", f"INSERT INTO t VALUES {values}")
    one = follow(chunk_rows=100)
    one.until(lambda: len(one.seen) >= 100)
    assert one.source is not None
    assert one.position is not None
    with ThreadPoolExecutor(1) as pool:
        altering = pool.submit(run, shop, "ALTER TABLE t ADD b INT")
        began = time.monotonic()

        def acked() -> bool:
            assert one.source is not None
            assert one.position is not None
            one.source.ack(one.position)
            return altering.done()

        wait_until(acked, UNREAD_S_MAX + 5)
        assert time.monotonic() - began < UNREAD_S_MAX + 5
    one.caught_up()
    assert len(state(one.seen)) == 500


def test_two_tables_of_one_joined_name(shop: Shop, follow: Callable[..., Capture]) -> None:
    """Names with dots: the first has the name, and nothing of the second comes under it."""
    first, second = f"`{shop.name}`.`e.f`", f"`{shop.name}.e`.f"
    name = f"{shop.name}.e.f"
    one = follow(tables=[f"{shop.name}.*"])
    try:
        run(shop, f"CREATE DATABASE `{shop.name}.e`", f"CREATE TABLE {first} (id INT PRIMARY KEY)",
            f"INSERT INTO {first} VALUES (1)", f"CREATE TABLE {second} (a INT, id INT PRIMARY KEY)",
            f"INSERT INTO {second} VALUES (1, 2)")  # fmt: skip
        one.caught_up()
        assert [e.new for e in one.seen] == [{"id": "1"}]
        findings = [f for f in check(one.config, "test") if f.code == "mysql.name_taken"]
        assert [f"{shop.name}.e" in f.sentence for f in findings] == [True]
        run(shop, f"INSERT INTO {second} VALUES (3, 4)", f"ALTER TABLE {second} DROP a",
            f"TRUNCATE TABLE {second}", f"INSERT INTO {first} VALUES (5)",
            f"DROP TABLE {second}", f"CREATE TABLE {second} (b INT)",
            f"RENAME TABLE {second} TO `{shop.name}.e`.g",
            f"INSERT INTO {first} VALUES (6)")  # fmt: skip
        one.until(lambda: len(one.of(name)) >= 3)
        assert [e.new for e in one.of(name)] == [{"id": "1"}, {"id": "5"}, {"id": "6"}]
        told = one.told.facts["warnings"]
        assert isinstance(told, tuple | list)
        assert [w.code for w in told] == ["mysql.name_taken"]
    finally:
        run(shop, f"DROP DATABASE `{shop.name}.e`")


def test_a_stopped_table_with_a_dot_goes_on(shop: Shop, follow: Callable[..., Capture]) -> None:
    """What it is now is asked for by the right names, wherever the dots are."""
    run(shop, "CREATE TABLE `e.f` (id INT PRIMARY KEY)", f"CREATE DATABASE `{shop.name}.e`",
        f"CREATE TABLE `{shop.name}.e`.g (id INT PRIMARY KEY)")  # fmt: skip
    try:
        one = follow(tables=[f"{shop.name}.*"])
        one.open()
        tables = one.source._started.tables  # type: ignore[union-attr]  # it is open
        for name in (f"{shop.name}.e.f", f"{shop.name}.e.g"):
            tables.forget(name)
            tables.resume(name)
            assert tables.structures[name].columns[0].name == "id"
    finally:
        one.close()
        run(shop, f"DROP DATABASE `{shop.name}.e`")
