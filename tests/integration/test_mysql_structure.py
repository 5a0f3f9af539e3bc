"""Every row has the structure of its place in the log, however late it is read and however little
the log tells of columns; where that cannot be known, its table is stopped and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ensign_core.change import Op
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.postgres_capture import Seen

METADATA = {"mariadb": ["FULL", "MINIMAL", "NO_LOG"], "mysql": ["FULL", "MINIMAL"]}


@pytest.fixture(params=["FULL", "MINIMAL", "NO_LOG"])
def metadata(request: pytest.FixtureRequest, mysql: MysqlServer) -> Iterator[str]:
    """What the server's log tells of columns; the least of MySQL is MINIMAL."""
    wanted = str(request.param)
    if wanted == "NO_LOG" and not mysql.is_mariadb:
        wanted = "MINIMAL"
    mysql.configure(binlog_row_metadata=wanted)
    yield wanted
    mysql.configure(binlog_row_metadata="FULL")


@pytest.fixture
def database(mysql: MysqlServer) -> Iterator[str]:
    name = mysql.new_database()
    yield name
    mysql.drop_database(name)


@pytest.fixture
def capture(mysql: MysqlServer, database: str) -> Iterator[Callable[..., Capture]]:
    yield from captures(mysql, database)


def told(seen: list[Seen]) -> list[object]:
    """Rows by their columns' names, and structures."""
    return [
        {c.name: c.native for c in e.schema.columns} if e.op is Op.SCHEMA
        else (e.op.name, e.new if e.new is not None else e.old)
        for e in seen
    ]  # fmt: skip


STORY: list[tuple[str, object]] = [
    ("INSERT INTO t VALUES (1, 10, 20, 'a')", {"id": "1", "a": "10", "b": "20", "s": "a"}),
    ("ALTER TABLE t ADD COLUMN c INT AFTER id", None),
    ("INSERT INTO t VALUES (2, 5, 10, 20, 'a')", {"id": "2", "c": "5", "a": "10", "b": "20"}),
    ("ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a", None),
    ("INSERT INTO t VALUES (3, 5, 10, 20, 'a')", {"id": "3", "c": "5", "b": "10", "a": "20"}),
    ("ALTER TABLE t CHANGE a d INT, CHANGE b a INT", None),
    ("INSERT INTO t VALUES (4, 5, 10, 20, 'a')", {"id": "4", "c": "5", "a": "10", "d": "20"}),
    ("ALTER TABLE t MODIFY d INT UNSIGNED FIRST", None),
    ("INSERT INTO t VALUES (4000000000, 5, 5, 10, 'a')", {"d": "4000000000", "id": "5"}),
    ("ALTER TABLE t MODIFY d BIGINT AFTER id", None),
    ("INSERT INTO t VALUES (6, -5, 5, 10, 'a')", {"id": "6", "d": "-5"}),
    ("ALTER TABLE t MODIFY s VARCHAR(10) CHARACTER SET latin1", None),
    ("INSERT INTO t VALUES (7, 1, 5, 10, 'ä')", {"id": "7", "s": "ä"}),
    ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", None),
    ("INSERT INTO t VALUES (8, 1, 5, 10, 'ä')", {"id": "8", "s": "ä"}),
    ("ALTER TABLE t DROP COLUMN c, ADD COLUMN e ENUM('x','y') NOT NULL", None),
    ("INSERT INTO t VALUES (9, 1, 10, 'ä', 'y')", {"id": "9", "e": "y"}),
    ("ALTER TABLE t MODIFY e ENUM('z','x','y') NOT NULL", None),
    ("INSERT INTO t VALUES (10, 1, 10, 'ä', 'z')", {"id": "10", "e": "z"}),
    ("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, d)", None),
    ("INSERT INTO t VALUES (11, 2, 10, 'ä', 'x')", {"id": "11", "d": "2"}),
]


def test_source_catches_up_over_changes(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture], metadata: str
) -> None:
    mysql.run(
        "CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT, s VARCHAR(10))",
        "CREATE TABLE u (id INT PRIMARY KEY)", database=database,
    )  # fmt: skip
    one = capture()
    one.caught_up()
    one.close()
    mysql.run(*(statement for statement, _ in STORY), database=database)
    one.caught_up(reopen_each=1)
    rows = [e for e in one.seen if e.op is Op.INSERT]
    wanted = [row for _, row in STORY if row is not None]
    assert len(rows) == len(wanted)
    for row, part in zip(rows, wanted, strict=True):
        assert row.new is not None
        assert part.items() <= row.new.items()
    assert [e.op for e in one.seen].count(Op.SCHEMA) == len(STORY) - len(wanted)
    assert not one.told.facts.get("warnings")
