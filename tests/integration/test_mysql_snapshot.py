"""Snapshots of the MySQL source meet its stream exactly: under a concurrent load, with a restart at
every batch, for all kinds of keys, and in the corners where the two could miss each other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from connectors.mysql.position import decode
from tests.services.mysql import CDC, MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.mysql_load import (
    PLANS,
    Load,
    assert_equal_to_table,
    assert_ordered,
    filled,
)

SEED = int(os.environ.get("ENSIGN_SEED") or random.randrange(1 << 32))


@pytest.fixture
def database(mysql: MysqlServer) -> Iterator[str]:
    name = mysql.new_database()
    yield name
    mysql.drop_database(name)


@pytest.fixture
def capture(mysql: MysqlServer, database: str) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's database; they are closed afterwards."""
    yield from captures(mysql, database)


def settled(capture: Capture) -> bool:
    """Whether the snapshot is over as far as is durable."""
    return capture.position is not None and not decode(capture.position).snapshots.tables


@pytest.mark.parametrize(
    ("key", "reopen_each", "truncates", "image"),
    [
        ("int", 1, False, "FULL"),
        ("int", 3, True, "MINIMAL"),
        ("composite", 0, True, "NOBLOB"),
        ("composite", 2, False, "MINIMAL"),
        ("binary", 4, False, "FULL"),
        ("fixed", 3, True, "FULL"),
        ("padded", 3, True, "FULL"),
        ("ascii", 4, False, "NOBLOB"),
        ("date", 2, True, "FULL"),
        ("unordered", 0, True, "FULL"),
        ("unordered", 25, False, "NOBLOB"),
        ("keyless", 25, False, "FULL"),
        ("MyISAM", 3, True, "FULL"),
        ("Aria", 2, False, "FULL"),
    ],
)
def test_snapshot_meets_stream_under_load(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    key: str,
    reopen_each: int,
    truncates: bool,
    image: str,
) -> None:
    print(f"seed {SEED}")
    plan = PLANS[key]
    if plan.engine == "Aria" and not mysql.is_mariadb:
        plan = plan._replace(engine="MyISAM")
    if plan.engine != "InnoDB":
        mysql.run(f"GRANT LOCK TABLES ON {database}.* TO {CDC}")
    filled(mysql, database, plan)
    one = capture(chunk_rows=10, batch_bytes_max=40_000)
    with Load(mysql, database, plan, SEED, truncates=truncates, image=image) as load:
        one.open()
        one.until(lambda: settled(one), reopen_each=reopen_each, meanwhile=load.now_and_then)
        seen = len(one.seen)
        one.until(lambda: len(one.seen) > seen + 100, meanwhile=load.go_on)
    one.caught_up()
    assert_ordered(one)
    assert_equal_to_table(mysql, database, plan, one.seen)
