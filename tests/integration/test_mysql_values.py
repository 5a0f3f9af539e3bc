"""Columns that depend on more than their type: generated and invisible ones, keys that nobody
declared, rows that stay when they are deleted, documents of which the log has only a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensign_core.change import Op
from ensign_core.rows import ABSENT, Value
from tests.services.mysql import MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.postgres_capture import fold


class Database:
    """A database of one test, and a connection that commits each statement."""

    def __init__(self, server: MysqlServer) -> None:
        self.server = server
        self.name = server.new_database()
        self.connection = server.connect(self.name, init_command="SET time_zone = '+00:00'")

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def state(self, name: str, columns: str, *, rest: str = "") -> list[tuple[Value, ...]]:
        """What the server prints of a table's columns, in order."""
        listed = ", ".join(f"CAST({column} AS CHAR)" for column in columns.split())
        return sorted(self.run(f"SELECT {listed} FROM {name} {rest}"), key=repr)


@pytest.fixture
def place(mysql: MysqlServer) -> Iterator[Database]:
    found = Database(mysql)
    yield found
    found.connection.close()
    mysql.drop_database(found.name)


@pytest.fixture
def capture(place: Database) -> Iterator[Callable[..., Capture]]:
    yield from captures(place.server, place.name)


def rows(one: Capture, name: str, columns: str) -> list[tuple[Value, ...]]:
    """The state that the events of a table make, as `Database.state` has it."""
    state = fold(one.of(name))
    return sorted(
        (tuple(row[column] for column in columns.split()) for row in state.values()), key=repr
    )


GENERATED = """
CREATE TABLE t (
    a int, v int AS (a * 2) VIRTUAL, s varchar(20) AS (concat('x', a)) STORED,
    i int DEFAULT 5 INVISIBLE, id int PRIMARY KEY, b binary(3) AS (char(a)) VIRTUAL,
    w varchar(30) AS (concat(s, '-', v)) VIRTUAL UNIQUE
)
"""


@pytest.mark.parametrize("image", ["FULL", "MINIMAL", "NOBLOB"])
def test_generated_and_invisible_columns(
    place: Database, capture: Callable[..., Capture], image: str
) -> None:
    """They are columns like any other, and none is taken for its neighbour; but MariaDB leaves
    generated ones out of its images of updates, so there they are in neither path."""
    place.run(
        GENERATED,
        f"SET SESSION binlog_row_image = '{image}'",
        "INSERT INTO t (a, id) VALUES (1, 1), (2, 2), (NULL, 3)",
    )
    one = capture()
    one.caught_up()
    columns = "id a i" if place.server.is_mariadb else "id a v s i w"
    assert rows(one, f"{place.name}.t", columns) == place.state("t", columns)
    place.run(
        "INSERT INTO t (a, id, i) VALUES (10, 4, 7), (11, 5, NULL)",
        "UPDATE t SET a = a + 20 WHERE id < 3",
        "UPDATE t SET i = 8, id = 30 WHERE id = 3",
        "DELETE FROM t WHERE id = 2",
    )
    one.caught_up()
    assert rows(one, f"{place.name}.t", columns) == place.state("t", columns)
    assert [event.op for event in one.of(f"{place.name}.t")].count(Op.SCHEMA) == 0
    assert len(one.seen[-1].schema.columns) == (3 if place.server.is_mariadb else 7)


def test_a_minimal_insert_lacks_what_it_did_not_say(
    place: Database, capture: Callable[..., Capture]
) -> None:
    """A replica fills the column's default in; here it is unknown, not null."""
    place.run("CREATE TABLE t (id int PRIMARY KEY, v int DEFAULT 5, w int)")
    one = capture()
    one.caught_up()
    place.run("SET SESSION binlog_row_image = 'MINIMAL'", "INSERT INTO t (id, w) VALUES (1, NULL)")
    (event,) = one.caught_up()
    assert event.new == {"id": "1", "v": ABSENT, "w": None}


@pytest.mark.parametrize("metadata", ["FULL", "MINIMAL"])
def test_labels_beyond_the_basic_plane(
    place: Database, capture: Callable[..., Capture], metadata: str
) -> None:
    """The servers' catalogs write such labels as question marks; the log has them with full
    metadata only."""
    place.server.configure(binlog_row_metadata=f"'{metadata}'")
    try:
        place.run(
            "CREATE TABLE t (id int PRIMARY KEY, e enum('x?', '🙂', '😀') COLLATE utf8mb4_bin)"
        )
        place.run("INSERT INTO t VALUES (1, '😀')")
        one = capture()
        one.caught_up()
        place.run("INSERT INTO t VALUES (2, '😀'), (3, 'x?')")
        one.caught_up()
        found = {row["id"]: row["e"] for row in fold(one.of(f"{place.name}.t")).values()}
        assert found == {"1": "😀", "2": "😀" if metadata == "FULL" else "?", "3": "x?"}
    finally:
        place.server.configure(binlog_row_metadata="'FULL'")


def test_generated_invisible_primary_key(place: Database, capture: Callable[..., Capture]) -> None:
    """MySQL adds a key to a table without one; on MariaDB such a table has none."""
    if not place.server.is_mariadb:
        place.run("SET SESSION sql_generate_invisible_primary_key = ON")
    place.run("CREATE TABLE t (v int)", "INSERT INTO t VALUES (1), (2), (2)")
    one = capture()
    one.caught_up()
    place.run("INSERT INTO t VALUES (3)", "UPDATE t SET v = 4 WHERE v = 1")
    one.caught_up()
    schema = one.seen[-1].schema
    if place.server.is_mariadb:
        assert schema.key == ()
        assert [c.name for c in schema.columns] == ["v"]
        return
    assert [schema.columns[i].name for i in schema.key] == ["my_row_id"]
    columns = "my_row_id v"
    assert rows(one, f"{place.name}.t", columns) == place.state("t", columns)


VERSIONED = {
    "implicit": "id int PRIMARY KEY, v int",
    "named": "id int PRIMARY KEY, v int, row_start timestamp(6) GENERATED ALWAYS AS ROW START, "
    "row_end timestamp(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (row_start, row_end)",
}


@pytest.mark.parametrize("metadata", ["FULL", "NO_LOG"])
@pytest.mark.parametrize("form", VERSIONED)
def test_system_versioning(
    place: Database, capture: Callable[..., Capture], form: str, metadata: str
) -> None:
    """The rows of a table that keeps its past are all of them: those deleted are rows whose
    ``row_end`` is not the end of time."""
    if not place.server.is_mariadb:
        pytest.skip("a feature of MariaDB")
    place.server.configure(binlog_row_metadata=f"'{metadata}'")
    try:
        place.run(
            f"CREATE TABLE t ({VERSIONED[form]}) WITH SYSTEM VERSIONING",
            "INSERT INTO t (id, v) VALUES (1, 1), (2, 2), (3, 3)",
            "UPDATE t SET v = 20 WHERE id = 2",
            "DELETE FROM t WHERE id = 3",
        )
        one = capture(chunk_rows=2)
        one.caught_up()
        columns, every = "id v row_start row_end", "FOR SYSTEM_TIME ALL"
        assert rows(one, f"{place.name}.t", columns) == place.state("t", columns, rest=every)
        place.run(
            "INSERT INTO t (id, v) VALUES (4, 4)",
            "UPDATE t SET v = v + 1",
            "DELETE FROM t WHERE id = 2",
            "REPLACE INTO t (id, v) VALUES (4, 44)",
        )
        one.caught_up()
        place.run(
            "SET SESSION system_versioning_alter_history = KEEP",
            "ALTER TABLE t ADD w int",
            "INSERT INTO t (id, v) VALUES (5, 5)",
            "UPDATE t SET w = 7",
        )
        one.caught_up()
        assert rows(one, f"{place.name}.t", columns) == place.state("t", columns, rest=every)
        assert not one.told.letters
    finally:
        place.server.configure(binlog_row_metadata="'FULL'")


DOCUMENT = """
'{"a": 1, "b": [1, 2, {"c": "text"}], "long": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}'
"""


@pytest.mark.parametrize("image", ["FULL", "MINIMAL", "NOBLOB"])
def test_parts_of_documents(place: Database, capture: Callable[..., Capture], image: str) -> None:
    """With PARTIAL_JSON the log has the differences. A minimal image has not what they are to: such
    a table stops, since its document has changed and nobody can say into what."""
    if place.server.is_mariadb:
        pytest.skip("a feature of MySQL")
    place.run(
        "CREATE TABLE t (id int PRIMARY KEY, d json, n int, e json)",
        f"INSERT INTO t VALUES (1, {DOCUMENT}, 1, {DOCUMENT}), (2, {DOCUMENT}, 2, NULL)",
    )
    one = capture()
    one.caught_up()
    place.run(
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'",
        f"SET SESSION binlog_row_image = '{image}'",
        "UPDATE t SET d = json_set(d, '$.a', 2, '$.b[2].c', 'other')",
        "UPDATE t SET d = json_remove(d, '$.b[0]'), n = 7 WHERE id = 1",
        "UPDATE t SET e = json_array(1), d = json_replace(d, '$.a', 3) WHERE id = 2",
        "UPDATE t SET n = 8",
    )
    came = one.caught_up()
    if image == "MINIMAL":
        assert came == []
        found = one.told.facts["warnings"]
        assert isinstance(found, list)
        assert [failed.code for failed in found] == ["mysql.document_unknown"]
    else:
        assert rows(one, f"{place.name}.t", "id d n e") == place.state("t", "id d n e")
