"""Any legal identifier, and tables of unusual widths, through publication, snapshot, stream and the
statements of `ensign check`, of the PostgreSQL source."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.session import quoted
from ensign_core.change import Op
from tests.conftest import Database
from tests.services.postgres_capture import Capture, captures, fold

NAMES = {
    "quotes": 'a"b\'c""d',
    "dots": "a.b..c",
    "dollar": "$a$b$1",
    "emoji": "\U0001f980 crab",
    "upper case": "MixedCase",
    "longest": "é" * 31 + "x",
    "reserved": "select",
    "digits": "1st",
    "backslash": "a\\b\\n\\",
    "newline": "a\nb\tc\r",
    "percent": "100% %s %(x)s",
    "braces": "{table} {0}",
    "comma": "a,b;--/*c",
    "spaces": "  a  ",
    "star": "a*b?[c]",
    "control": "\x01\x7f\u2028",
    "right to left": "\u202eabc\u05d0",
}


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's database; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["*.*"])


@pytest.mark.every_version
@pytest.mark.parametrize("kind", NAMES)
def test_identifiers(database: Database, capture: Callable[..., Capture], kind: str) -> None:
    name = NAMES[kind]
    assert len(name.encode()) <= 63
    table, column = f"{quoted(name)}.{quoted(name)}", quoted(name)
    database.run(
        f"CREATE SCHEMA {column}",
        f"CREATE TYPE {table[: -len(column)]}{quoted(name[:10] + '!')} AS ENUM ('x')",
        f"CREATE TABLE {table} ({column} int NOT NULL, v int, "
        f"e {table[: -len(column)]}{quoted(name[:10] + '!')} DEFAULT 'x')",
        f"INSERT INTO {table} SELECT g, g FROM generate_series(1, 9) g",
    )
    one = capture(chunk_rows=2, publication=name, batch_bytes_max=1)
    found = [f for f in CONNECTOR.check(one.config, "test") if f.level == "error"]
    assert [f.code for f in found] == ["postgres.identity_missing"]
    assert found[0].sentence.isprintable()
    database.run(found[0].remedy.partition(". Or add")[0])
    database.run(
        f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT",
        f"ALTER TABLE {table} ADD PRIMARY KEY ({column})",
    )
    assert [f for f in CONNECTOR.check(one.config, "test") if f.level == "error"] == []
    one.until(lambda: len(one.seen) >= 3)
    database.run(
        f"UPDATE {table} SET v = 100 WHERE v IN (1, 8)", f"DELETE FROM {table} WHERE v = 3"
    )
    one.caught_up(reopen_each=2)
    database.run(
        f"ALTER TABLE {table} ADD more int", f"UPDATE {table} SET {column} = 50 WHERE v = 5"
    )
    one.caught_up()
    state = fold([e for e in one.seen if e.op is not Op.SCHEMA])
    expected = {tuple(map(str, row)) for row in database.run(f"SELECT {column}, v FROM {table}")}
    assert {(row[name], row["v"]) for row in state.values()} == expected
    assert {dict(e.schema.names)["table"] for e in one.seen} == {name}
    assert {dict(e.schema.names)["schema"] for e in one.seen} == {name}
    assert {e.schema.name for e in one.seen} == {f"{name}.{name}"}
    if kind != "star":
        plain = capture(tables=[f"{name}.{name}"], publication=name)
        assert [f for f in CONNECTOR.check(plain.config, "test") if f.level == "error"] == []
    one.close()
    told = CONNECTOR.drop(one.config, "test")
    assert len(told) == 2
    assert database.value("SELECT count(*) FROM pg_publication") == 0


@pytest.mark.every_version
def test_most_columns(database: Database, capture: Callable[..., Capture]) -> None:
    columns = ", ".join(f"c{n} int" for n in range(1, 1600))
    database.run(
        f"CREATE TABLE t (id int PRIMARY KEY, {columns})",
        f"INSERT INTO t SELECT g{', g' * 1599} FROM generate_series(1, 5) g",
        "UPDATE t SET c7 = NULL, c1599 = NULL WHERE id = 2",
    )
    one = capture(chunk_rows=2)
    one.until(lambda: len(one.seen) >= 2)
    database.run("UPDATE t SET c800 = -1 WHERE id IN (1, 5)", "INSERT INTO t (id) VALUES (9)")
    one.caught_up()
    state = {row["id"]: row for row in fold(one.seen).values()}
    for row in database.run("SELECT * FROM t"):
        texts = [None if value is None else str(value) for value in row]
        assert list(state[str(row[0])].values()) == texts
    assert len(state) == 6


@pytest.mark.every_version
@pytest.mark.parametrize("columns", ["", "g int GENERATED ALWAYS AS (1) STORED"])
def test_table_without_columns(
    database: Database, capture: Callable[..., Capture], columns: str
) -> None:
    """Of generated columns only those are captured that the publication has."""
    database.run(f"CREATE TABLE t ({columns})", "INSERT INTO t DEFAULT VALUES")
    one = capture()
    one.caught_up()
    database.run(
        "INSERT INTO t DEFAULT VALUES", "TRUNCATE t", "ALTER TABLE t ADD a int",
        "INSERT INTO t DEFAULT VALUES",
    )  # fmt: skip
    one.caught_up()
    assert [(e.op, e.new) for e in one.seen] == [
        (Op.SNAPSHOT, {}), (Op.INSERT, {}), (Op.TRUNCATE, None), (Op.SCHEMA, None),
        (Op.INSERT, {"a": None}),
    ]  # fmt: skip


@pytest.mark.every_version
def test_generated_and_identity_columns(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """Stored ones where the publication has them (18), virtual ones never; the rows are equal."""
    new = database.connection.info.server_version >= 180000
    virtual = ", w int GENERATED ALWAYS AS (v + 2) VIRTUAL" if new else ""
    database.run(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, "
        f"s int GENERATED ALWAYS AS (v * 2) STORED{virtual})",
        "CREATE TABLE u (LIKE t INCLUDING ALL)",
        "INSERT INTO t (v) SELECT g FROM generate_series(1, 5) g",
        "CREATE PUBLICATION ensign_test FOR ALL TABLES"
        + (" WITH (publish_generated_columns = stored)" if new else ""),
    )
    one = capture(chunk_rows=2)
    one.caught_up()
    database.run("INSERT INTO t (v) VALUES (6)", "UPDATE t SET v = 10 WHERE id = 2")
    one.caught_up()
    wanted = {"id", "v", "s"} if new else {"id", "v"}
    assert {frozenset(e.new or {}) for e in one.seen} == {frozenset(wanted)}
    state = {row["id"]: row["v"] for row in fold(one.seen).values()}
    assert state == {str(i): str(v) for i, v in database.run("SELECT id, v FROM t")}
    if new:
        database.run("ALTER PUBLICATION ensign_test SET (publish_generated_columns = none)")
        database.run("INSERT INTO t (v) VALUES (7)")
        last = one.caught_up()
        assert [e.op for e in last] == [Op.SCHEMA, Op.INSERT]
        assert last[-1].new == {"id": "7", "v": "7"}
