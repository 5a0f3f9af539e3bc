"""Partitions that are attached to a table captured by the PostgreSQL source, and detached again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.postgres import discovery
from connectors.postgres.session import Session
from ensign_core.change import Op
from tests.conftest import Database
from tests.services.postgres_capture import Capture, captures, fold

ROOT = "CREATE TABLE r (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)"


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's database; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["public.r"])


class Looking:
    """Looks for attached partitions as a source does, beside it: of a table that is captured."""

    def __init__(self, database: Database, one: Capture) -> None:
        one.caught_up()
        assert one.source is not None
        self._database = database
        self._config = one.config
        self._session = Session(one.config, "test")
        self._session.simple("SET lock_timeout = 50", doing="setting up")
        self.snapshots = one.source._snapshots
        self.told()

    def told(self) -> list[tuple[str, str]]:
        """What is told now, by name."""
        found = discovery.attached(self._session, self.snapshots, self._config)
        return [(self._name(root), self._name(leaf)) for root, leaf in found]

    def _name(self, oid: int) -> str:
        return str(self._database.value(f"SELECT {oid}::regclass"))

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def looking(database: Database, capture: Callable[..., Capture]) -> Iterator[Looking]:
    """Of a table ``r`` that has a partition ``r1``."""
    database.run(ROOT, "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10)")
    found = Looking(database, capture())
    yield found
    found.close()


def table(name: str, at: int, rows: int = 1) -> list[str]:
    return [
        f"CREATE TABLE {name} (id int, at int, PRIMARY KEY (id, at))",
        f"INSERT INTO {name} SELECT g, {at} FROM generate_series(1, {rows}) g",
    ]


def attach(name: str, at: int, root: str = "r") -> str:
    return f"ALTER TABLE {root} ATTACH PARTITION {name} FOR VALUES FROM ({at}) TO ({at + 10})"


@pytest.mark.every_version
def test_partitions_with_rows_are_told_once(database: Database, looking: Looking) -> None:
    database.run(*table("a", 10), attach("a", 10), *table("b", 20, 0), attach("b", 20))
    assert looking.told() == [("r", "a")]
    assert looking.told() == []
    database.run("ALTER TABLE r DETACH PARTITION a", attach("a", 10))
    assert looking.told() == [("r", "a")]
    with database.connection.transaction():
        database.run(*table("c", 30), attach("c", 30))
    database.run("VACUUM FREEZE pg_inherits", "VACUUM FREEZE pg_attribute")
    assert looking.told() == [("r", "c")]
    database.run("VACUUM FULL pg_inherits", "VACUUM FULL pg_attribute")
    assert looking.told() == []


@pytest.mark.every_version
def test_partitions_made_as_such_are_not_told(database: Database, looking: Looking) -> None:
    """Their rows have all come through the log."""
    database.run(
        "CREATE TABLE a PARTITION OF r FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE b PARTITION OF r FOR VALUES FROM (20) TO (30) PARTITION BY RANGE (at)",
        "CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (20) TO (30)",
        "INSERT INTO r SELECT g, g FROM generate_series(0, 29) g",
    )
    with database.connection.transaction():
        database.run(
            "CREATE TABLE c PARTITION OF r FOR VALUES FROM (30) TO (40)",
            "INSERT INTO r VALUES (30, 30)",
        )
    assert looking.told() == []


@pytest.mark.every_version
def test_attaching_a_tree_tells_its_leaves(database: Database, looking: Looking) -> None:
    database.run(
        "CREATE TABLE s (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE s1 PARTITION OF s FOR VALUES FROM (10) TO (12)",
        "CREATE TABLE s2 PARTITION OF s FOR VALUES FROM (12) TO (14) PARTITION BY RANGE (at)",
        "CREATE TABLE s2a PARTITION OF s2 FOR VALUES FROM (12) TO (13)",
        "CREATE TABLE s3 PARTITION OF s FOR VALUES FROM (14) TO (15)",
        "INSERT INTO s VALUES (1, 10), (2, 12)",
        *table("s4", 15),
        "ALTER TABLE s ATTACH PARTITION s4 FOR VALUES FROM (15) TO (16)",
        attach("s", 10),
    )
    assert sorted(looking.told()) == [("r", "s1"), ("r", "s2a"), ("r", "s4")]
    database.run(*table("s5", 16), "ALTER TABLE s ATTACH PARTITION s5 DEFAULT")
    assert looking.told() == [("r", "s5")]


@pytest.mark.every_version
@pytest.mark.parametrize("savepoint", [False, True])
def test_attaching_in_a_transaction_that_runs_while_it_is_looked(
    database: Database, looking: Looking, savepoint: bool
) -> None:
    """Its id, or its subtransaction's, is older than those of others that are told already."""
    database.run(*table("a", 10), *table("b", 20))
    with database.server.connect(database.name) as other, other.transaction():
        other.execute("CREATE TABLE unrelated (id int)")
        if savepoint:
            other.execute("SAVEPOINT one")
        other.execute(attach("a", 10).encode())
        database.run(*table("t", 0), "CREATE TABLE u (id int)")
        assert looking.told() == []
        assert looking.told() == []
    assert looking.told() == [("r", "a")]
    with database.server.connect(database.name) as other, other.transaction():
        other.execute("CREATE TABLE unrelated2 (id int)")
        database.run(attach("b", 20))
        assert looking.told() == [("r", "b")]
        assert looking.told() == []
        database.run("ALTER TABLE r DETACH PARTITION b", attach("b", 20))
        assert looking.told() == [("r", "b")]
        assert looking.told() == []
    database.run("CREATE TABLE later (id int)")
    assert looking.told() == []
    assert " " not in looking.snapshots.looked


def test_table_that_is_read_is_put_off(database: Database, looking: Looking) -> None:
    """What it has attached before its first chunk is in its chunks."""
    oid = int(str(database.value("SELECT 'r'::regclass::oid::bigint")))
    snapshots = looking.snapshots
    snapshots.leave(oid)
    snapshots.take_up(oid, "public.r", None)
    database.run(*table("a", 10), attach("a", 10))
    assert looking.told() == []
    database.run(*table("b", 20), attach("b", 20))
    snapshots.tables[oid].begun = True
    before = snapshots.looked
    assert looking.told() == []
    assert snapshots.looked == before
    del snapshots.tables[oid]
    snapshots.done.add(oid)
    assert looking.told() == [("r", "b")]
    assert looking.told() == []


def test_locked_partition_holds_nothing_up(database: Database, looking: Looking) -> None:
    database.run(*table("a", 10, 0), attach("a", 10))
    with database.server.connect(database.name) as other, other.transaction():
        other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        assert looking.told() == [("r", "a")]


def test_inheritance_is_no_partitioning(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE r (id int PRIMARY KEY)")
    looking = Looking(database, capture())
    try:
        database.run(
            "CREATE TABLE c (id int NOT NULL)",
            "INSERT INTO c VALUES (1)",
            "ALTER TABLE c INHERIT r",
        )
        assert looking.told() == []
    finally:
        looking.close()


def test_attached_while_the_worker_was_down(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(ROOT)
    one = capture()
    one.caught_up()
    one.close()
    database.run(*table("a", 10), attach("a", 10))
    assert [(e.op, e.schema.name, e.new and e.new["id"]) for e in one.caught_up()] == [
        (Op.SNAPSHOT, "public.r", "1")
    ]
    assert one.caught_up() == []


@pytest.mark.every_version
@pytest.mark.parametrize("concurrently", ["", " CONCURRENTLY"])
def test_stream_of_an_attached_and_of_a_detached_partition(
    database: Database, capture: Callable[..., Capture], concurrently: str
) -> None:
    """Changes come under the root from attaching on until detaching, and no change says either; the
    rows that are in the partition are read when it is noticed."""
    database.run(ROOT, *table("a", 10), "CREATE TABLE b PARTITION OF r DEFAULT")
    one = capture()
    one.caught_up()
    database.run(
        "INSERT INTO a VALUES (2, 11)", attach("a", 10), "INSERT INTO a VALUES (3, 12)",
        "INSERT INTO r VALUES (4, 13)", "UPDATE a SET id = 5 WHERE id = 3",
        "DELETE FROM r WHERE id = 4", "TRUNCATE a", "INSERT INTO a VALUES (6, 14)",
    )  # fmt: skip
    rows = [(e.op, (e.new or e.old or {}).get("id")) for e in one.caught_up()]
    assert rows == [
        (Op.INSERT, "3"), (Op.INSERT, "4"), (Op.UPDATE, "5"), (Op.DELETE, "4"), (Op.INSERT, "6"),
        (Op.SNAPSHOT, "6"),
    ]  # fmt: skip
    database.run("TRUNCATE r", "INSERT INTO a VALUES (7, 15)")
    assert [e.op for e in one.caught_up()] == [Op.TRUNCATE, Op.INSERT]
    # A default partition rules CONCURRENTLY out.
    database.run("DROP TABLE b", f"ALTER TABLE r DETACH PARTITION a{concurrently}")
    database.run("INSERT INTO a VALUES (8, 16)", "DELETE FROM a WHERE id = 7")
    assert one.caught_up() == []
    assert {row["id"] for row in fold(one.seen[-1:]).values()} == {"7"}
    database.run("CREATE TABLE c PARTITION OF r DEFAULT", "INSERT INTO r VALUES (9, 9)")
    one.caught_up()
    database.run("DROP TABLE c")
    assert one.caught_up() == []


@pytest.mark.every_version
def test_table_that_is_attached_for_a_time_is_read_anew(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """What was changed meanwhile came under the root's name."""
    database.run(ROOT, *table("a", 10))
    one = capture(tables=["public.*"], discover_s=0.02)
    one.caught_up()
    database.run(attach("a", 10), "INSERT INTO a VALUES (2, 11)")
    one.until(lambda: bool(one.of("public.r")))
    one.caught_up()
    database.run("ALTER TABLE r DETACH PARTITION a", "INSERT INTO a VALUES (3, 12)")
    one.until(lambda: len(fold(one.of("public.a"))) == 3)
    assert [e.op for e in one.of("public.a")][:2] == [Op.SNAPSHOT, Op.TRUNCATE]
    assert {row["id"] for row in fold(one.of("public.a")).values()} == {"1", "2", "3"}
