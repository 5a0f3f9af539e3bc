"""Partitioned tables of the PostgreSQL source: under their root's name, or under the leaves'."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.postgres import CONNECTOR
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres_capture import Capture, Seen, fold

ROOT = [
    "CREATE TABLE r (id int, at int, v int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
    "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20) PARTITION BY LIST (at)",
    "CREATE TABLE r2a PARTITION OF r2 FOR VALUES IN (10, 11)",
    "CREATE TABLE r2b PARTITION OF r2 DEFAULT",
]
"""Two levels: the leaves are r1, r2a and r2b."""


def story(seen: list[Seen]) -> list[tuple[str, str, str | None]]:
    """Operations, tables and ids."""
    rows = [(e, e.new or e.old or {}) for e in seen]
    return [
        (e.op.name.lower(), e.schema.name.removeprefix("public."),
         None if "id" not in row else str(row["id"]))
        for e, row in rows
    ]  # fmt: skip


@pytest.mark.every_version
@pytest.mark.parametrize("tables", [["public.*"], ["public.r"], ["public.r1", "public.r2?"]])
def test_leaves_under_their_own_names(
    database: Database, capture: Callable[..., Capture], tables: list[str]
) -> None:
    """A glob names the root or the leaves; rows that move between leaves are deleted there and
    inserted here."""
    database.run(*ROOT, "INSERT INTO r SELECT g, g % 20, 0 FROM generate_series(1, 60) g")
    one = capture(partitions="leaf", tables=tables, chunk_rows=4, batch_bytes_max=1)
    one.caught_up(reopen_each=3)
    places = {str(i): str(t) for i, t in database.run("SELECT id, tableoid::regclass FROM r")}
    assert {(i, t) for op, t, i in story(one.seen)} == set(places.items())
    assert {op for op, _, _ in story(one.seen)} == {"snapshot"}
    database.run(
        "INSERT INTO r VALUES (100, 1, 1), (101, 10, 1), (102, 19, 1)",
        "UPDATE r SET v = 2 WHERE id = 101",
        "UPDATE r SET at = 15 WHERE id = 101",
        "DELETE FROM r WHERE id = 102",
        "TRUNCATE r1",
    )
    assert story(one.caught_up()) == [
        ("insert", "r1", "100"), ("insert", "r2a", "101"), ("insert", "r2b", "102"),
        ("update", "r2a", "101"), ("delete", "r2a", "101"), ("insert", "r2b", "101"),
        ("delete", "r2b", "102"), ("truncate", "r1", None),
    ]  # fmt: skip
    database.run("TRUNCATE r")
    assert sorted(story(one.caught_up())) == [
        ("truncate", leaf, None) for leaf in ("r1", "r2a", "r2b")
    ]
    published = "SELECT pubviaroot FROM pg_publication WHERE pubname = 'ensign_test'"
    assert database.value(published) is False
    members = {str(name) for (name,) in database.run(
        "SELECT prrelid::regclass FROM pg_publication_rel")}  # fmt: skip
    assert members == ({"r"} if "public.r1" not in tables else {"r1", "r2a", "r2b"})


def test_excluded_root_leaves_its_leaves_out(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        *ROOT, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)",
        "INSERT INTO r VALUES (1, 1, 1), (2, 10, 1), (3, 19, 1)",
    )  # fmt: skip
    one = capture(partitions="leaf", exclude=["public.r2"])
    one.caught_up()
    database.run("INSERT INTO r VALUES (4, 1, 1), (5, 10, 1)")
    one.caught_up()
    assert story(one.of("public.t")) == [("snapshot", "t", "1")]
    assert [(t, i) for _, t, i in story(one.seen) if t != "t"] == [("r1", "1"), ("r1", "4")]


@pytest.mark.every_version
@pytest.mark.parametrize("tables", ["public.r", "public.*"])
@pytest.mark.parametrize("discover_s", [0.02, 3600.0])
def test_leaves_made_later(
    database: Database, capture: Callable[..., Capture], tables: str, discover_s: float
) -> None:
    """Their rows are captured from the first on, found by looking or by the stream."""
    database.run(
        *ROOT, "CREATE TABLE other (id int, at int, v int, PRIMARY KEY (id, at))",
        "INSERT INTO other VALUES (7, 35, 1)",
    )  # fmt: skip
    one = capture(partitions="leaf", tables=[tables], discover_s=discover_s)
    one.caught_up()
    database.run(
        "CREATE TABLE r3 PARTITION OF r FOR VALUES FROM (20) TO (30)",
        "INSERT INTO r VALUES (1, 25, 1)",
        "ALTER TABLE r ATTACH PARTITION other FOR VALUES FROM (30) TO (40)",
        "INSERT INTO r VALUES (2, 25, 1), (3, 35, 1)",
    )
    one.until(lambda: len(fold(one.of("public.r3"))) == 2 and len(fold(one.of("public.other"))) > 1)
    one.caught_up()
    database.run("UPDATE r SET v = 9")
    one.caught_up()
    assert {row["id"] for row in fold(one.of("public.r3")).values()} == {"1", "2"}
    assert {row["id"] for row in fold(one.of("public.other")).values()} == {"7", "3"}
    assert {row["v"] for row in fold(one.of("public.r3")).values()} == {"9"}


@pytest.mark.every_version
@pytest.mark.parametrize("concurrently", ["", " CONCURRENTLY"])
@pytest.mark.parametrize("running", [False, True])
def test_detached_leaf_is_captured_for_itself(
    database: Database, capture: Callable[..., Capture], concurrently: str, running: bool
) -> None:
    """It leaves the publication with its root: it is published by itself and read anew."""
    database.run(*ROOT, "INSERT INTO r VALUES (1, 1, 1), (2, 2, 1)")
    one = capture(partitions="leaf", discover_s=0.02 if running else 3600.0)
    one.caught_up()
    if not running:
        one.close()
    database.run(
        f"ALTER TABLE r DETACH PARTITION r1{concurrently}",
        "INSERT INTO r1 VALUES (3, 3, 1)",
        "DELETE FROM r1 WHERE id = 1",
    )
    if running:
        one.until(lambda: any(e.op is Op.TRUNCATE for e in one.of("public.r1")))
    one.caught_up()
    database.run("INSERT INTO r1 VALUES (4, 4, 1)")
    one.caught_up()
    assert {row["id"] for row in fold(one.of("public.r1")).values()} == {"2", "3", "4"}


@pytest.mark.parametrize("first", ["root", "leaf"])
def test_option_is_changed_on_a_running_pipeline(
    database: Database, capture: Callable[..., Capture], first: str
) -> None:
    """Refused with the statement that changes the publication, then all is read under the new
    names; and when it is changed back, once more behind a truncate."""
    second = {"root": "leaf", "leaf": "root"}[first]
    database.run(*ROOT, "INSERT INTO r VALUES (1, 1, 1), (2, 10, 1)")
    expected = {1, 2}
    one = capture(partitions=first)
    one.caught_up()
    for n, option in enumerate((second, first, second)):
        database.run(f"INSERT INTO r VALUES ({10 * n + 3}, 1, 1), ({10 * n + 4}, 10, 1)")
        expected |= {10 * n + 3, 10 * n + 4}
        one.close()
        position, seen = one.position, one.seen
        one = capture(partitions=option)
        one.position, one.seen = position, seen
        wanted = str(option == "root").lower()
        setting = rf"SET \(publish_via_partition_root = {wanted}\)"
        with pytest.raises(EnsignError, match=rf"publication_unsuitable.*{setting}"):
            one.open()
        found = CONNECTOR.check(one.config, "test")
        assert "postgres.publication_unsuitable" in {f.code for f in found if f.level == "error"}
        database.run(f"ALTER PUBLICATION ensign_test SET (publish_via_partition_root = {wanted})")
        one.caught_up()
        database.run(f"INSERT INTO r VALUES ({10 * n + 5}, 1, 1), ({10 * n + 6}, 10, 1)")
        expected |= {10 * n + 5, 10 * n + 6}
        one.caught_up(reopen_each=1)
        names = ["public.r"] if option == "root" else ["public.r1", "public.r2a", "public.r2b"]
        rows = [row for name in names for row in fold(one.of(name)).values()]
        assert {int(str(row["id"])) for row in rows} == expected


@pytest.mark.parametrize("partitions", ["root", "leaf"])
def test_publication_is_switched_under_a_running_pipeline(
    database: Database, capture: Callable[..., Capture], partitions: str
) -> None:
    """No row comes under a name that is not captured: the stream says so before the first."""
    database.run(*ROOT)
    one = capture(partitions=partitions)
    one.caught_up()
    database.run("INSERT INTO r VALUES (1, 1, 1)")
    one.caught_up()
    wanted = str(partitions != "root").lower()
    database.run(
        f"ALTER PUBLICATION ensign_test SET (publish_via_partition_root = {wanted})",
        "INSERT INTO r VALUES (2, 1, 1)",
    )
    with pytest.raises(EnsignError, match=r"postgres\.publication_unsuitable"):
        one.until(lambda: len(one.seen) > 1)
    assert story(one.seen) == [("insert", "r" if partitions == "root" else "r1", "1")]
