"""Transactions of the MySQL source: resumed behind every batch, in all modes of a position, and the
two-phase ones (XA), whose rows come when they commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.mysql import routes
from connectors.mysql.position import decode
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture, captures, state
from tests.services.mysql_load import assert_ordered, place_of
from tests.services.postgres_capture import Seen, fold

Begin = Callable[[str, str], None]


@pytest.fixture
def database(mysql: MysqlServer) -> Iterator[str]:
    name = mysql.new_database()
    mysql.run("CREATE TABLE t (id int PRIMARY KEY, v int)", database=name)
    mysql.run("CREATE TABLE u (id int PRIMARY KEY, v int)", database=name)
    mysql.run("CREATE TABLE other (id int PRIMARY KEY)", database=name)
    yield name
    mysql.drop_database(name)


@pytest.fixture
def capture(
    mysql: MysqlServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Capture]]:
    monkeypatch.setattr(routes, "RECENT_S", 0.2)
    yield from captures(mysql, database)


def brief(event: Seen) -> tuple[str, object, int]:
    """What an event says: its operation, the row's id, its ordinal."""
    row = event.new or event.old or {}
    return event.op.name.lower(), row.get("id"), event.ordinal


@pytest.fixture(params=["plain", "compressed"])
def setting(request: pytest.FixtureRequest, mysql: MysqlServer) -> Iterator[str]:
    """A statement for the beginning of a session whose transactions are compressed or not."""
    if request.param == "plain":
        yield "DO 0"
    elif mysql.is_mariadb:
        mysql.configure(log_bin_compress="ON", log_bin_compress_min_len="10")
        yield "DO 0"
        mysql.configure(log_bin_compress="OFF")
    else:
        yield "SET SESSION binlog_transaction_compression = ON"


ROWS = 60


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("position", ["auto", "file"])
def test_resumed_within_transactions(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    setting: str,
    position: str,
    markers: bool,
) -> None:
    """Rows of several tables, some not captured, each statement a batch of its own."""
    one = capture(
        position=position, transaction_markers=markers, batch_bytes_max=1,
        exclude=[f"{database}.u"],
    )  # fmt: skip
    one.caught_up()
    rows = ", ".join(f"({n}, 0)" for n in range(10, ROWS))
    mysql.run(
        setting,
        "BEGIN",
        "INSERT INTO u VALUES (1, 0)",
        "INSERT INTO t VALUES (1, 0), (2, 0)",
        "INSERT INTO u VALUES (2, 0), (3, 0)",
        "UPDATE t SET id = 9 WHERE id = 1",
        f"INSERT INTO t VALUES {rows}",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO u VALUES (4, 0)",
        "COMMIT",
        "INSERT INTO t VALUES (5, 5)",
        database=database,
    )
    one.until(lambda: bool(one.seen) and brief(one.seen[-1])[1] == "5", reopen_each=1)
    one.caught_up(reopen_each=1)
    events: list[tuple[str, object, int]] = [
        ("insert", "1", 0), ("insert", "2", 1), ("update", "9", 2),
        *(("insert", str(n), n - 7) for n in range(10, ROWS)), ("delete", "2", ROWS - 7),
    ]  # fmt: skip
    single: list[tuple[str, object, int]] = [("insert", "5", 0)]
    if markers:
        events = [("begin", None, 0), *events, ("commit", None, ROWS - 6)]
        single = [("begin", None, 0), *single, ("commit", None, 1)]
    assert [brief(e) for e in one.seen] == events + single
    assert len({e.tx for e in one.seen}) == 2
    assert_ordered(one)
    assert one.caught_up() == []


def test_other_tables_are_captured_in_the_middle_of_a_transaction(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    """What was consumed is counted with what was left out: nothing is lost or repeated."""
    one = capture(tables=[f"{database}.t"], snapshot="never", batch_bytes_max=1)
    one.caught_up()
    mysql.run(
        "BEGIN",
        *(f"INSERT INTO {name} VALUES ({n}, 0)" for n in range(4) for name in "ut"),
        "COMMIT",
        database=database,
    )
    one.until(lambda: len(one.seen) == 2)
    one.close()
    other = capture(snapshot="never", batch_bytes_max=1)
    other.position, other.told.pieces = one.position, one.told.pieces
    came = [(e.schema.name[-1], e.new and e.new["id"]) for e in other.caught_up(reopen_each=1)]
    assert came == [("u", "2"), ("t", "2"), ("u", "3"), ("t", "3")]


def test_crash_between_the_last_row_and_the_commit(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    one = capture(transaction_markers=True, batch_bytes_max=1)
    one.caught_up()
    mysql.run(
        "BEGIN", "INSERT INTO t VALUES (1, 0)", "INSERT INTO t VALUES (2, 0)", "COMMIT",
        database=database,
    )  # fmt: skip
    one.until(lambda: [e.op for e in one.seen] == [Op.BEGIN, Op.INSERT, Op.INSERT])
    one.caught_up()
    assert [e.op for e in one.seen] == [Op.BEGIN, Op.INSERT, Op.INSERT, Op.COMMIT]


def test_order_is_restored_from_two_topics(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    one = capture(batch_bytes_max=100)
    one.caught_up()
    for start in (0, 100):
        numbers = range(start, start + 20)
        rows = [f"INSERT INTO {'tu'[n % 3 % 2]} VALUES ({n}, 0)" for n in numbers]
        mysql.run("BEGIN", *rows, "COMMIT", database=database)
        mysql.rotate()
    one.caught_up(reopen_each=3)
    topics = [one.of(f"{database}.t"), one.of(f"{database}.u")]
    events = sorted([e for topic in topics for e in topic], key=lambda e: (place_of(e), e.ordinal))
    assert [e.new and e.new["id"] for e in events] == [
        str(n) for start in (0, 100) for n in range(start, start + 20)
    ]


def test_a_large_transaction(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], setting: str
) -> None:
    depth = "max_recursive_iterations" if mysql.is_mariadb else "cte_max_recursion_depth"
    one = capture(batch_bytes_max=100_000)
    one.caught_up()
    mysql.run(
        setting,
        f"SET SESSION {depth} = 100000",
        "INSERT INTO t WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g "
        "WHERE n < 20000) SELECT n, 0 FROM g",
        database=database,
    )
    one.until(lambda: len(one.seen) >= 20_000, reopen_each=2)
    one.caught_up()
    assert [brief(e) for e in one.seen] == [("insert", str(n + 1), n) for n in range(20_000)]
    assert len({e.tx for e in one.seen}) == 1


def prepare(server: MysqlServer, database: str, name: str, *statements: str, setting: str) -> None:
    """Leave a transaction prepared."""
    server.run(
        setting, f"XA START '{name}'", *statements, f"XA END '{name}'", f"XA PREPARE '{name}'",
        database=database,
    )  # fmt: skip


@pytest.mark.parametrize("position", ["auto", "file"])
def test_prepared_transactions(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    setting: str,
    position: str,
) -> None:
    """Committed after others and after a rotation, rolled back, without captured rows, and in one
    phase, the source being replaced behind every batch."""
    mysql.run("INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)", database=database)
    one = capture(position=position, batch_bytes_max=1, exclude=["*.other"])
    one.caught_up()
    before = len(one.seen)
    prepare(
        mysql, database, "kept", "INSERT INTO t VALUES (10, 1)", "INSERT INTO u VALUES (10, 1)",
        "UPDATE t SET v = 1 WHERE id = 1", setting=setting,
    )  # fmt: skip
    prepare(mysql, database, "lost", "UPDATE t SET v = 2 WHERE id = 2", setting=setting)
    prepare(mysql, database, "empty", "INSERT INTO other VALUES (1)", setting=setting)
    mysql.run("INSERT INTO t VALUES (20, 0)", database=database)
    one.caught_up(reopen_each=1)
    assert [brief(e) for e in one.seen[before:]] == [("insert", "20", 0)]
    mysql.rotate()
    mysql.run("INSERT INTO t VALUES (21, 0)", "XA COMMIT 'kept'", "XA ROLLBACK 'lost'",
              "XA COMMIT 'empty'", database=database)  # fmt: skip
    mysql.run(
        setting, "XA START 'x'", "INSERT INTO t VALUES (30, 0)", "INSERT INTO u VALUES (30, 0)",
        "XA END 'x'", "XA COMMIT 'x' ONE PHASE", "INSERT INTO t VALUES (31, 0)", database=database,
    )  # fmt: skip
    one.caught_up(reopen_each=1)
    assert [brief(e) for e in one.seen[before + 1 :]] == [
        ("insert", "21", 0), ("insert", "10", 0), ("insert", "10", 1), ("update", "1", 2),
        ("insert", "30", 0), ("insert", "30", 1), ("insert", "31", 0),
    ]  # fmt: skip
    assert_ordered(one)
    assert one.position is not None
    assert decode(one.position).snapshots.prepared == {}
    assert one.caught_up() == []


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_a_prepared_transaction_outlives_server_and_source(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], mode: str
) -> None:
    one = capture()
    one.caught_up()
    prepare(mysql, database, "kept", "INSERT INTO t VALUES (1, 1)", setting="DO 0")
    assert one.caught_up() == []
    one.close()
    mysql.restart(mode)  # type: ignore[arg-type]  # one of the two that there are
    assert one.caught_up() == []
    mysql.run("INSERT INTO t VALUES (2, 2)", "XA COMMIT 'kept'", database=database)
    assert [brief(e) for e in one.caught_up()] == [("insert", "2", 0), ("insert", "1", 0)]


def test_prepared_while_the_table_is_read(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    rows = ", ".join(f"({n}, 0)" for n in range(0, 100, 2))
    mysql.run(f"INSERT INTO t VALUES {rows}", database=database)
    one = capture(chunk_rows=5)
    one.open()
    one.until(lambda: len(one.seen) >= 10)
    changes = [f"UPDATE t SET v = 1 WHERE id = {n}" for n in (0, 8, 60, 98)]
    prepare(mysql, database, "one", *changes, "INSERT INTO t VALUES (61, 1)", setting="DO 0")
    prepare(mysql, database, "two", "DELETE FROM t WHERE id = 40", setting="DO 0")
    one.until(lambda: len(one.seen) >= 20)
    mysql.run("XA COMMIT 'one'", "XA ROLLBACK 'two'")
    one.caught_up(reopen_each=2)
    found = {row["id"]: row["v"] for row in fold(one.seen).values()}
    table = mysql.run("SELECT CAST(id AS CHAR), CAST(v AS CHAR) FROM t", database=database)
    assert found == dict(table)


@pytest.mark.parametrize("position", ["auto", "file"])
def test_prepared_before_the_pipeline_began(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    setting: str,
    position: str,
) -> None:
    """No snapshot shows its rows, and they are in the log before the stream's begin."""
    prepare(mysql, database, "old", "INSERT INTO t VALUES (9, 9)", setting=setting)
    mysql.run("XA ROLLBACK 'old'")
    prepare(
        mysql, database, "old", "INSERT INTO t VALUES (1, 1)", "INSERT INTO u VALUES (1, 1)",
        setting=setting,
    )  # fmt: skip
    mysql.rotate()
    prepare(mysql, database, "empty", "INSERT INTO other VALUES (1)", setting=setting)
    mysql.run("INSERT INTO t VALUES (2, 2)", database=database)
    one = capture(position=position, batch_bytes_max=1, exclude=["*.other"])
    one.caught_up()
    assert [brief(e) for e in one.seen] == [("snapshot", "2", 0)]
    mysql.run("XA COMMIT 'empty'", "XA COMMIT 'old'", "INSERT INTO t VALUES (3, 3)",
              database=database)  # fmt: skip
    one.caught_up(reopen_each=1)
    assert [brief(e) for e in one.seen[1:]] == [
        ("insert", "1", 0), ("insert", "1", 1), ("insert", "3", 0),
    ]  # fmt: skip


def test_prepared_in_a_part_of_the_log_that_is_gone(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    prepare(mysql, database, "gone", "INSERT INTO t VALUES (1, 1)", setting="DO 0")
    mysql.rotate()
    mysql.purge()
    one = capture()
    one.caught_up()
    mysql.run("XA COMMIT 'gone'", database=database)
    with pytest.raises(EnsignError, match=r"mysql\.prepared_lost"):
        one.caught_up()


UNDONE = (
    ("BEGIN", "INSERT INTO t VALUES (1, 0)", "CREATE TEMPORARY TABLE x (i int)",
     "INSERT INTO t VALUES (2, 0)", "ROLLBACK"),
    ("BEGIN", "INSERT INTO t VALUES (3, 0)", "SAVEPOINT `a``B`", "INSERT INTO t VALUES (4, 0)",
     "CREATE TEMPORARY TABLE x (i int)", "SAVEPOINT c", "UPDATE t SET v = 1 WHERE id = 3",
     "ROLLBACK TO C", "INSERT INTO u VALUES (5, 0)", "ROLLBACK TO `A``b`",
     "INSERT INTO t VALUES (6, 0)", "COMMIT"),
)  # fmt: skip
"""Transactions of which MariaDB logs rows that were rolled back."""


@pytest.mark.parametrize("batch_bytes_max", [1, 1 << 20])
def test_rows_that_were_rolled_back(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], batch_bytes_max: int
) -> None:
    """They are no events; where they were events before that was known, they are taken back."""
    mysql.run("INSERT INTO u VALUES (1, 0)", database=database)
    one = capture(batch_bytes_max=batch_bytes_max, transaction_markers=True)
    one.caught_up()
    before = len(one.seen)
    for statements in UNDONE:
        mysql.run(*statements, database=database)
    mysql.run("INSERT INTO t VALUES (7, 0)", database=database)
    one.open()
    one.until(lambda: ("insert", "7") in [brief(e)[:2] for e in one.seen], reopen_each=1)
    one.caught_up()
    tables = {name: state(one.of(f"{database}.{name}")) for name in ("t", "u")}
    assert {key[0] for key in tables["t"]} == {"3", "6", "7"}
    assert tables["t"]["3",]["v"] == "0"
    assert {key[0] for key in tables["u"]} == {"1"}
    if batch_bytes_max > 1:
        rows = [brief(e)[:2] for e in one.seen[before:] if e.op is Op.INSERT]
        assert rows == [("insert", "3"), ("insert", "6"), ("insert", "7")]
    assert one.caught_up() == []


IN_TWO_PHASES = (
    "INSERT INTO t VALUES (1, 0)", "SAVEPOINT `a``B`", "CREATE TEMPORARY TABLE x (i int)",
    "INSERT INTO t VALUES (2, 0)", "SAVEPOINT c", "UPDATE t SET v = 1 WHERE id = 1",
    "ROLLBACK TO C", "INSERT INTO u VALUES (3, 0)", "ROLLBACK TO `A``b`",
    "INSERT INTO t VALUES (4, 0)",
)  # fmt: skip
"""An XA transaction of which MariaDB logs rows that were rolled back; MySQL lets none of these have
temporary tables."""


@pytest.mark.parametrize("batch_bytes_max", [1, 1 << 20])
@pytest.mark.parametrize("end", ["XA PREPARE 'x'; XA COMMIT 'x'", "XA COMMIT 'x' ONE PHASE"])
def test_rows_that_were_rolled_back_in_two_phases(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    setting: str,
    batch_bytes_max: int,
    end: str,
) -> None:
    statements = [s for s in IN_TWO_PHASES if mysql.is_mariadb or "TEMPORARY" not in s]
    one = capture(batch_bytes_max=batch_bytes_max)
    one.caught_up()
    mysql.run(
        setting, "XA START 'x'", *statements, "XA END 'x'", *end.split("; "),
        "INSERT INTO t VALUES (5, 0)", database=database,
    )  # fmt: skip
    one.open()
    one.until(lambda: ("insert", "5") in [brief(e)[:2] for e in one.seen], reopen_each=1)
    # Where some were events before it was known, the tables are compared.
    one.caught_up()
    for name in ("t", "u"):
        found = {row["id"] for row in state(one.of(f"{database}.{name}")).values()}
        assert found == {str(i) for (i,) in mysql.run(f"SELECT id FROM {name}", database=database)}
    if batch_bytes_max > 1:
        assert [brief(e)[:2] for e in one.seen] == [("insert", str(n)) for n in (1, 4, 5)]
