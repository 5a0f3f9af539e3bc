"""What is said, and done, where the binary log does not go on at the position: it was purged,
reset, without GTIDs for a while, or somebody else reads it under the same id."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import pytest

from ensign_core.change import Op, Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.integration.conftest import Shop
from tests.services.mysql_capture import Capture, state
from tests.services.ready import wait_until

modes = pytest.mark.parametrize("position", ["auto", "file"])


def refusal(one: Capture) -> EnsignError:
    """The error that opening the source raises."""
    with pytest.raises(EnsignError) as caught:
        one.open()
    assert "\n" not in str(caught.value)
    assert "(unknown)" not in str(caught.value)
    return caught.value


def signal(one: Capture, kind: Literal["snapshot", "stop"], **options: object) -> None:
    one.told.asked.append(Signal(len(one.told.asked) + 1, kind, **options))  # type: ignore[arg-type]  # the tests' own


def prepared(shop: Shop, follow: Callable[..., Capture], position: str) -> Capture:
    """A closed capture: `done` is read, and `t` half."""
    rows = ", ".join(f"({n}, {n})" for n in range(20))
    for name in ("done", "t"):
        shop.run(
            f"CREATE TABLE {name} (id INT PRIMARY KEY, v INT)", f"INSERT INTO {name} VALUES {rows}"
        )
    shop.run("CREATE TABLE gone (id INT PRIMARY KEY)", "INSERT INTO gone VALUES (1)")
    one = follow(position=position, chunk_rows=8)
    one.until(lambda: len(one.of(f"{shop.name}.t")) >= 8)
    one.close()
    return one


def miss(shop: Shop) -> None:
    """Changes that the source will not see."""
    for name in ("done", "t"):
        shop.run(
            f"INSERT INTO {name} VALUES (100, 100)", f"UPDATE {name} SET v = -v WHERE id = 2",
            f"DELETE FROM {name} WHERE id IN (3, 19)", f"ALTER TABLE {name} ADD a INT FIRST",
        )  # fmt: skip
    shop.run(
        "CREATE TABLE made (id INT PRIMARY KEY)", "INSERT INTO made VALUES (5)", "DROP TABLE gone"
    )


def assert_mended(shop: Shop, one: Capture) -> None:
    """A reconcile that is asked for has the source go on, and miss nothing."""
    signal(one, "snapshot", reconcile=True)
    before = one.position
    one.open()
    one.until(lambda: one.position != before)
    # What has begun is not given up.
    signal(one, "stop")
    shop.run("INSERT INTO t VALUES (7, 200, 200)", "UPDATE done SET v = 7 WHERE id = 4")
    one.caught_up(reopen_each=3)
    one.caught_up()
    for name in ("done", "t"):
        found = state(one.of(f"{shop.name}.{name}"))
        assert found == {
            (str(i),): {"id": str(i), "v": str(v), "a": None if a is None else str(a)}
            for i, v, a in shop.run(f"SELECT id, v, a FROM {name}")
        }
    assert state(one.of(f"{shop.name}.made")) == {("5",): {"id": "5"}}
    assert [e.op for e in one.of(f"{shop.name}.gone")][-1] is Op.TRUNCATE
    assert f"structure {shop.name}.gone" not in one.told.pieces


@modes
def test_log_was_purged(shop: Shop, follow: Callable[..., Capture], position: str) -> None:
    one = prepared(shop, follow, position)
    miss(shop)
    shop.server.rotate()
    shop.server.purge()
    file, offset = shop.server.position()
    found = refusal(one)
    assert found.code == "mysql.log_purged"
    assert f"{file}:{offset}" in found.sentence
    assert "ensign snapshot start test --reconcile" in found.remedy
    signal(one, "snapshot", reconcile=True, tables=(f"{shop.name}.t",))
    assert refusal(one).code == "mysql.log_purged"
    signal(one, "snapshot", reconcile=True)
    signal(one, "stop")
    assert refusal(one).code == "mysql.log_purged"
    assert_mended(shop, one)


@modes
def test_log_was_reset(shop: Shop, follow: Callable[..., Capture], position: str) -> None:
    server = shop.server
    server.rotate()
    one = prepared(shop, follow, position)
    miss(shop)
    server.run("RESET MASTER" if server.is_mariadb else "RESET BINARY LOGS AND GTIDS")
    assert refusal(one).code == "mysql.log_reset"
    shop.run("INSERT INTO t VALUES (1, 1000, 1)")
    assert refusal(one).code == "mysql.log_reset"
    assert_mended(shop, one)


@pytest.fixture
def without_gtids(shop: Shop) -> Iterator[Callable[[str], None]]:
    """Goes the steps of gtid_mode from where it is."""
    steps = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"]
    variable = "SELECT @@GLOBAL.gtid_mode"

    def go(wanted: str) -> None:
        at, to = steps.index(shop.run(variable)[0][0]), steps.index(wanted)
        while at != to:
            at += 1 if to > at else -1
            shop.server.configure(gtid_mode=steps[at])

    yield go
    if not shop.server.is_mariadb:
        go("ON")


def test_gtids_are_switched_off_and_on(
    shop: Shop, follow: Callable[..., Capture], without_gtids: Callable[[str], None]
) -> None:
    """MariaDB has them always."""
    if shop.server.is_mariadb:
        return
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)")
    by_gtid, by_file = follow(), follow(position="file")
    by_gtid.caught_up()
    by_file.caught_up()
    without_gtids("ON_PERMISSIVE")
    shop.run("INSERT INTO t VALUES (1)")
    by_gtid.until(lambda: len(by_gtid.seen) == 1)
    without_gtids("OFF_PERMISSIVE")
    shop.run("INSERT INTO t VALUES (2)")
    # The server ends the stream, and then refuses another.
    with pytest.raises(EnsignError, match=r"mysql\.connection_lost"):
        by_gtid.until(lambda: False)
    assert refusal(by_gtid).code == "mysql.gtid_mode"
    # Before the outer steps all readers must have what the new mode does not send any more.
    by_file.caught_up()
    without_gtids("OFF")
    shop.run("INSERT INTO t VALUES (3)")
    assert refusal(by_gtid).code == "mysql.gtid_mode"
    without_gtids("ON")
    shop.run("INSERT INTO t VALUES (4)")
    with pytest.raises(EnsignError) as caught:
        by_gtid.caught_up()
    assert caught.value.code == "mysql.gtid_mode"
    assert "reconcile" in caught.value.remedy
    # A place in the log is refused as well now.
    with pytest.raises(EnsignError, match=r"mysql\.gtid_mode"):
        by_file.caught_up()
    for one in (by_gtid, by_file):
        signal(one, "snapshot", reconcile=True)
        one.caught_up()
    shop.run("INSERT INTO t VALUES (5)")
    for one in (by_gtid, by_file):
        one.caught_up()
        assert [row["id"] for row in state(one.seen).values()] == ["1", "2", "3", "4", "5"]


def _has_one(capture: Capture) -> bool:
    return len(capture.seen) == 1


def test_server_id_of_somebody_else(shop: Shop, follow: Callable[..., Capture]) -> None:
    """The server ends the older of two dumps; with an id of its own choice a source goes on."""
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)")
    first, second = follow(server_id=77), follow(server_id=77)
    first.caught_up()
    second.open()
    with pytest.raises(EnsignError) as caught:
        first.until(lambda: False)
    assert caught.value.code == "mysql.server_id_taken"
    assert "77" in caught.value.sentence
    second.caught_up()
    chosen, other = follow(), follow()
    chosen.caught_up()
    other.caught_up()
    shop.run("INSERT INTO t VALUES (1)")
    for one in (second, chosen, other):
        one.until(partial(_has_one, one))


def test_id_of_the_config_is_used_once(shop: Shop, follow: Callable[..., Capture]) -> None:
    """What reads the log beside the stream has another: the stream goes on."""
    shop.run("CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(9))")
    shop.server.configure(binlog_row_metadata="MINIMAL")
    try:
        one = follow(server_id=78)
        one.caught_up()
        one.close()
        shop.run(
            "ALTER TABLE t MODIFY s TEXT(70) FIRST", "INSERT INTO t VALUES ('a', 1)",
            "XA START 'x'", "INSERT INTO t VALUES ('b', 2)", "XA END 'x'", "XA PREPARE 'x'",
            "XA COMMIT 'x'", "INSERT INTO t VALUES ('c', 3)",
        )  # fmt: skip
        one.open()
        one.until(lambda: len([e for e in one.seen if e.op is Op.INSERT]) == 3)
    finally:
        shop.server.configure(binlog_row_metadata="FULL")


@pytest.mark.parametrize("position", ["auto", "file"])
def test_log_is_reset_while_it_is_read(
    shop: Shop, follow: Callable[..., Capture], position: str
) -> None:
    """A dump that stands in a file of the same name would wait until the new one is as long."""
    mariadb = shop.server.is_mariadb
    reset = "RESET MASTER" if mariadb else "RESET BINARY LOGS AND GTIDS"
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", reset)
    one = follow(position=position)
    one.caught_up()
    shop.run(*[f"INSERT INTO t VALUES ({n})" for n in range(20)])
    one.until(lambda: len(one.seen) == 20)
    shop.run(reset, "INSERT INTO t VALUES (20)")
    with pytest.raises(EnsignError, match=r"mysql\.connection_lost"):
        one.until(lambda: False)
    with pytest.raises(EnsignError, match=r"mysql\.log_reset"):
        one.open()


@modes
def test_log_was_reset_and_is_longer_than_before(
    shop: Shop, follow: Callable[..., Capture], position: str
) -> None:
    """Its places and its GTIDs are those that a position may have: the file tells when it was
    begun. A position of an earlier version does not have that, and goes on."""
    reset = "RESET MASTER" if shop.server.is_mariadb else "RESET BINARY LOGS AND GTIDS"
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", reset)
    one = follow(position=position)
    shop.run(*[f"INSERT INTO t VALUES ({n})" for n in range(5)])
    one.caught_up()
    shop.server.restart()
    assert one.caught_up() == []
    shop.server.rotate()
    shop.run("INSERT INTO t VALUES (5)")
    assert len(one.caught_up()) == 1
    one.close()
    assert one.position is not None
    told = json.loads(one.position)
    second = "SELECT UNIX_TIMESTAMP()"
    wait_until(lambda: shop.run(second)[0][0] > told["made_s"], 5.0, 0.05)
    shop.run(reset)
    while shop.server.logs()[-1] != told["file"]:
        shop.server.rotate()
    shop.run(*[f"INSERT INTO t VALUES ({n})" for n in range(10, 40)])
    assert refusal(one).code == "mysql.log_reset"
    del told["made_s"]
    one.position = Position(json.dumps(told).encode())
    one.open()


def test_log_is_reset_and_has_the_same_gtids_again(
    shop: Shop, follow: Callable[..., Capture]
) -> None:
    """As many transactions as before: none of them is taken for consumed, and the server that
    ends the dump is not asked for what is gone."""
    reset = "RESET MASTER" if shop.server.is_mariadb else "RESET BINARY LOGS AND GTIDS"
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)", reset)
    one = follow()
    one.caught_up()
    shop.server.rotate()
    shop.server.rotate()
    shop.run(*[f"INSERT INTO t VALUES ({n})" for n in range(5)])
    one.until(lambda: len(one.seen) == 5)
    begun = time.monotonic()
    shop.run(reset, *[f"INSERT INTO t VALUES ({n})" for n in range(10, 16)])
    with pytest.raises(EnsignError, match=r"mysql\.(connection_lost|log_reset)"):
        one.until(lambda: False)
    with pytest.raises(EnsignError, match=r"mysql\.log_reset"):
        one.open()
    assert time.monotonic() - begun < 20
