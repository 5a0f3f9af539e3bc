"""What a running MySQL or MariaDB source warns of, and what an operator reads there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from connectors.mysql.position import Place
from connectors.mysql.session import Session, server
from connectors.mysql.watch import Warnings, Watch
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal, SnapshotProgress
from tests.services.mysql import CDC, MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.postgres_capture import Told, fold


@pytest.fixture
def capture(mysql: MysqlServer) -> Iterator[Callable[..., Capture]]:
    database = mysql.new_database()
    yield from captures(mysql, database)
    mysql.drop_database(database)


def warnings(told: Told) -> list[EnsignError]:
    found = told.facts.get("warnings", ())
    assert isinstance(found, list | tuple)
    assert not any("(unknown)" in str(one) for one in found)
    return list(found)


def codes(told: Told) -> list[str]:
    return [one.code.removeprefix("mysql.") for one in warnings(told)]


def database_of(one: Capture) -> str:
    assert one.config.tables is not None
    return one.config.tables[0].partition(".")[0]


@dataclass
class Standing:
    place: Place
    committed_at_us: int


def test_a_file_that_is_deleted_soon(mysql: MysqlServer, capture: Callable[..., Capture]) -> None:
    one = capture()
    told, old = Told(), mysql.logs()[0]
    new = mysql.rotate()
    now_us = time.time_ns() // 1000
    behind = Standing(Place(old, 4), now_us - 3_000_000_000)
    with closing(Session(one.config, "test")) as session:
        watch = Watch(session, server(session), told, Warnings(told))
        now = 0.0
        before = mysql.run("SELECT @@GLOBAL.binlog_expire_logs_seconds")[0][0]
        try:
            for kept_s, standing, warned in (
                (0, behind, False),
                (3600, behind, True),
                (86_400, behind, False),
                (3600, Standing(Place(old, 4), now_us), False),
                (3600, behind, True),
                (3600, Standing(Place(new, 4), behind.committed_at_us), False),
            ):
                mysql.configure(binlog_expire_logs_seconds=str(kept_s))
                now += 10.0
                watch.look(standing, now)
                assert codes(told) == (["log_endangered"] if warned else []), (kept_s, standing)
                assert told.facts["lag_bytes"]
        finally:
            mysql.configure(binlog_expire_logs_seconds=str(before))


def test_changes_to_a_document_that_is_not_logged(
    mysql: MysqlServer, capture: Callable[..., Capture]
) -> None:
    """The table stops, and is captured again when an operator asks for it."""
    if mysql.is_mariadb:
        return
    one = capture()
    database = database_of(one)
    name = f"{database}.notes"
    with mysql.connect(database) as db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE notes (id INT PRIMARY KEY, doc JSON)")
        cursor.execute("""INSERT INTO notes VALUES (1, '{"a": "long enough", "b": 1}')""")
        one.caught_up()
        cursor.execute(
            "SET binlog_row_image = 'MINIMAL', binlog_row_value_options = 'PARTIAL_JSON'"
        )
        cursor.execute("UPDATE notes SET doc = JSON_SET(doc, '$.b', 2)")
        one.caught_up()
        assert codes(one.told) == ["document_unknown"]
        cursor.execute("INSERT INTO notes VALUES (2, '{}')")
        assert one.caught_up() == []
        assert codes(one.told) == ["document_unknown"]
    one.told.asked.append(Signal(1, "snapshot", (name,)))
    found = one.caught_up()
    assert codes(one.told) == []
    assert {row["id"]: row["doc"] for row in fold(found).values()} == {
        "1": '{"a": "long enough", "b": 2}', "2": "{}",
    }  # fmt: skip


def test_a_table_that_may_not_be_locked(
    mysql: MysqlServer, capture: Callable[..., Capture]
) -> None:
    one = capture()
    database = database_of(one)
    mysql.run(f"CREATE TABLE {database}.old (id INT PRIMARY KEY) ENGINE = MyISAM")
    mysql.run(f"REVOKE LOCK TABLES ON *.* FROM '{CDC}'")
    with pytest.raises(EnsignError) as caught:
        one.caught_up()
    assert caught.value.code == "mysql.lock_privilege"
    assert "(unknown)" not in str(caught.value)
    mysql.run(caught.value.remedy.partition(",")[0])
    one.caught_up()


def test_nothing_to_capture(mysql: MysqlServer, capture: Callable[..., Capture]) -> None:
    """A name that is misspelt is told while the source runs, until there is a table."""
    one = capture()
    one.caught_up()
    assert codes(one.told) == ["tables_unmatched"]
    mysql.run(f"CREATE TABLE {database_of(one)}.late (id INT PRIMARY KEY)")
    one.until(lambda: not codes(one.told))


def test_what_an_operator_asks_for_in_vain(
    mysql: MysqlServer, capture: Callable[..., Capture]
) -> None:
    one = capture()
    mysql.run(f"CREATE TABLE {database_of(one)}.orders (id INT PRIMARY KEY)")
    one.caught_up()
    done = one.told.facts["snapshot"]
    assert isinstance(done, SnapshotProgress)
    assert done.tables_done == done.tables
    one.told.asked.append(Signal(1, "snapshot", ("*.orders",), where="nope <"))
    one.caught_up()
    (warning,) = warnings(one.told)
    assert warning.code == "mysql.adhoc_failed"
    assert "error 1064" in warning.sentence
    one.told.asked.append(Signal(2, "pause"))
    one.until(lambda: one.told.facts.get("detail") == "snapshots are paused")
    one.told.asked.append(Signal(3, "resume"))
    one.until(lambda: one.told.facts.get("detail") == "")
