"""The stream of the MySQL source: when it is caught up, how its position moves past what nobody
captures, events of all sizes, and very many tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from connectors.mysql.position import decode
from ensign_core.change import Op
from ensign_core.rows import ABSENT
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.postgres_capture import fold


@pytest.fixture
def database(mysql: MysqlServer) -> Iterator[str]:
    name = mysql.new_database()
    mysql.run("CREATE TABLE t (id int PRIMARY KEY, v longtext)", database=name)
    yield name
    mysql.drop_database(name)


@pytest.fixture(params=["auto", "file"])
def capture(
    request: pytest.FixtureRequest, mysql: MysqlServer, database: str
) -> Iterator[Callable[..., Capture]]:
    yield from captures(mysql, database, position=request.param, snapshot="never")


def place(capture: Capture) -> tuple[str, int]:
    """The durable place."""
    assert capture.position is not None
    return decode(capture.position).place


def test_caught_up_on_an_idle_server(mysql: MysqlServer, capture: Callable[..., Capture]) -> None:
    """Right after the start, and again from the position where it stands, with nothing written."""
    mysql.rotate()
    one = capture()
    for _ in range(2):
        assert one.caught_up() == []
        assert place(one) == mysql.position()


def test_caught_up_means_all_that_was_there(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    one = capture(batch_bytes_max=1)
    one.caught_up()
    mysql.run(*(f"INSERT INTO t VALUES ({n}, 'x')" for n in range(30)), database=database)
    source = one.open()
    while not source.caught_up():
        assert len(one.seen) < 30 or place(one) < mysql.position()
        one.step()
    assert len(one.seen) == 30


def test_the_position_moves_past_what_nobody_captures(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    mysql.run("CREATE TABLE other (id int PRIMARY KEY)", database=database)
    one = capture(exclude=["*.other"])
    one.caught_up()
    before = place(one)
    mysql.run("INSERT INTO other VALUES (1), (2)", database=database)
    mysql.rotate()
    mysql.run("INSERT INTO other VALUES (3)", database=database)
    one.until(lambda: place(one) == mysql.position())
    assert place(one) > before
    assert one.seen == []


def test_rotations_within_everything(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    one = capture(batch_bytes_max=100)
    one.open()
    for n in range(0, 30, 3):
        values = ", ".join(f"({i}, 'x')" for i in range(n, n + 3))
        mysql.run(f"INSERT INTO t VALUES {values}", database=database)
        mysql.rotate()
        one.until(lambda n=n: len(one.seen) > n, reopen_each=1)  # type: ignore[misc]  # one n each
    one.caught_up(reopen_each=2)
    assert [e.new and e.new["id"] for e in one.seen] == [str(n) for n in range(30)]


@pytest.mark.parametrize("compressed", [False, True])
def test_events_of_more_than_16_mb(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], compressed: bool
) -> None:
    """Larger than a packet, and than a batch is meant to be."""
    setting = "SET SESSION binlog_transaction_compression = ON"
    if mysql.is_mariadb:
        setting = f"SET GLOBAL log_bin_compress = {'ON' if compressed else 'OFF'}"
    text = random.Random(5).randbytes(9_000_000).hex()
    one = capture(batch_bytes_max=1000)
    one.caught_up()
    with mysql.connect(database, max_allowed_packet=64 << 20) as connection:
        with connection.cursor() as cursor:
            cursor.execute(setting if compressed or mysql.is_mariadb else "DO 0")
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO t VALUES (1, '{text}'), (2, 'short')")
            cursor.execute("UPDATE t SET id = 3 WHERE id = 1")
    if mysql.is_mariadb:
        mysql.configure(log_bin_compress="OFF")
    one.caught_up(reopen_each=1)
    assert [(e.op, e.new and e.new["id"]) for e in one.seen] == [
        (Op.INSERT, "1"), (Op.INSERT, "2"), (Op.UPDATE, "3"),
    ]  # fmt: skip
    assert one.seen[0].new is not None
    assert one.seen[2].new is not None
    assert one.seen[0].new["v"] == one.seen[2].new["v"] == text


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_partial_row_images(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], image: str
) -> None:
    """Keys are complete in every image; what a statement leaves alone is told as left out."""
    mysql.run("CREATE TABLE p (a int, b varchar(9), v int, n text, PRIMARY KEY (b, a))",
              database=database)  # fmt: skip
    one = capture()
    one.caught_up()
    mysql.run(
        f"SET SESSION binlog_row_image = '{image}'",
        "INSERT INTO p VALUES (1, 'k', 5, 'text')",
        "UPDATE p SET v = 6",
        "UPDATE p SET a = 2",
        "UPDATE p SET n = NULL",
        "DELETE FROM p",
        database=database,
    )
    came = one.caught_up()
    assert [e.op for e in came] == [Op.INSERT, Op.UPDATE, Op.UPDATE, Op.UPDATE, Op.DELETE]
    assert all(e.key_only == (image == "MINIMAL") for e in came[1:])
    news = [e.new for e in came[:4]]
    assert all(row is not None and row["b"] == "k" for row in news)
    assert [row and row["a"] for row in news] == ["1", "1", "2", "2"]
    v = ABSENT if image == "MINIMAL" else "6"
    assert [row and row["v"] for row in news] == ["5", "6", v, v]
    assert [row and row["n"] for row in news] == ["text", ABSENT, ABSENT, None]
    old = came[-1].old
    assert old is not None
    assert (old["a"], old["b"]) == ("2", "k")
    assert fold(came) == {}


def test_very_many_tables(mysql: MysqlServer, capture: Callable[..., Capture]) -> None:
    """Their structures are kept once, beside the position, which stays as small as it was."""
    name, count = mysql.new_database(), 5000
    one = capture(tables=[f"{name}.*"])
    one.caught_up()
    create = ";".join(f"CREATE TABLE t{n} (id int PRIMARY KEY, v text)" for n in range(count // 10))
    assert create
