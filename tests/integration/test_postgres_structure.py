"""What becomes of the rows when the structure of a captured table changes, streamed or while the
table is read, with crashes: whatever was changed, the events make the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ensign_core.change import Op
from tests.conftest import Database
from tests.services.postgres_capture import Capture, Seen, captures, fold

ROWS = 30
SETUP = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN small AS int CHECK (VALUE < 1000)",
    "CREATE TABLE t (id int PRIMARY KEY, v int, m mood DEFAULT 'ok', d small DEFAULT 1, n text)",
    f"INSERT INTO t SELECT g, g, 'sad', 2, 'n' || g FROM generate_series(1, {ROWS}) g",
]

CHANGES = {
    "added": ["ALTER TABLE t ADD a int"],
    "added, fast default": ["ALTER TABLE t ADD a text NOT NULL DEFAULT 'fast'"],
    "added, rewritten": ["ALTER TABLE t ADD a float8 DEFAULT random()"],
    "added, identity": ["ALTER TABLE t ADD a bigint GENERATED ALWAYS AS IDENTITY"],
    "dropped": ["ALTER TABLE t DROP v"],
    "renamed": ["ALTER TABLE t RENAME v TO w"],
    "names swapped": [
        "ALTER TABLE t RENAME v TO x", "ALTER TABLE t RENAME d TO v", "ALTER TABLE t RENAME x TO d",
    ],
    "retyped": ["ALTER TABLE t ALTER v TYPE bigint"],
    "retyped to text": ["ALTER TABLE t ALTER v TYPE text USING 'v' || v"],
    "key retyped": ["ALTER TABLE t ALTER id TYPE bigint"],
    "key to text": ['ALTER TABLE t ALTER id TYPE text COLLATE "C"'],
    "dropped and made again": ["ALTER TABLE t DROP v", "ALTER TABLE t ADD v text DEFAULT 'new'"],
    "enum value": [
        "ALTER TYPE mood ADD VALUE 'glad' BEFORE 'ok'", "UPDATE t SET m = 'glad' WHERE id = 3",
    ],
    "domain": [
        "ALTER DOMAIN small DROP CONSTRAINT small_check", "UPDATE t SET d = 5000 WHERE id = 3",
    ],
    "type renamed": ["ALTER TYPE mood RENAME TO feeling"],
    "enum value renamed": ["ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"],
    "key moved": [
        "ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (n)",
    ],
    "clustered": ["CLUSTER t USING t_pkey", "VACUUM FULL t"],
    "unlogged key index": ["REINDEX TABLE t", "ALTER TABLE t SET (fillfactor = 50)"],
}  # fmt: skip


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's database; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["*.*"])


def rows(database: Database, table: str = "t") -> list[str]:
    names = [str(n) for (n,) in database.run(
        f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum")]  # fmt: skip
    columns = ", ".join(f"{name}::text" for name in names)
    return sorted(str(dict(zip(names, row, strict=True)))
                  for row in database.run(f"SELECT {columns} FROM {table}"))  # fmt: skip


def state(seen: list[Seen]) -> list[str]:
    """What the events make, by the key that they have last: it may be another than at first."""
    found = [e for e in seen if e.op is not Op.SCHEMA]
    start = max((i for i, e in enumerate(found) if e.op is Op.TRUNCATE), default=0)
    return sorted(str(row) for row in fold(found[start:]).values())


def announced(seen: list[Seen]) -> bool:
    """Whether every row has the structure that was announced last, or that of the first row."""
    now: dict[str, int] = {}
    for event in seen:
        if event.op is Op.SCHEMA:
            now[event.schema.name] = event.schema.id
        if now.setdefault(event.schema.name, event.schema.id) != event.schema.id:
            return False
    return True


@pytest.mark.every_version
@pytest.mark.parametrize("change", CHANGES)
def test_structure_changes_in_the_stream(
    database: Database, capture: Callable[..., Capture], change: str
) -> None:
    database.run(*SETUP)
    one = capture(chunk_rows=7)
    one.caught_up()
    one.close()
    with database.connection.transaction():
        database.run("UPDATE t SET v = v + 1 WHERE id = 1")
    transactional = not any(word in change for word in ("enum value", "clustered", "unlogged"))
    statements = ["UPDATE t SET m = 'sad'", *CHANGES[change], "UPDATE t SET m = m"]
    if transactional:
        with database.connection.transaction():
            database.run(*statements)
    else:
        database.run(*statements)
    database.run("INSERT INTO t (id, n) VALUES ('100', 'n100')", "DELETE FROM t WHERE n = 'n5'")
    start = len(one.seen)
    one.caught_up(reopen_each=3)
    assert announced(one.seen[start:])
    assert [e.op for e in one.seen[start:]].count(Op.TRUNCATE) == 0
    database.run("UPDATE t SET m = m")
    one.caught_up()
    last = {str(e.new and e.new["n"]): str(e.new) for e in one.seen[-ROWS:]}
    assert sorted(last.values()) == rows(database)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reopen_each", [0, 2])
def test_structure_changes_while_a_table_is_read(
    database: Database, capture: Callable[..., Capture], change: str, reopen_each: int
) -> None:
    database.run(*SETUP)
    one = capture(chunk_rows=4)
    one.until(lambda: len(one.seen) >= 8)
    database.run(
        "UPDATE t SET v = 77 WHERE n IN ('n2', 'n29')", *CHANGES[change],
        "INSERT INTO t (id, n) VALUES ('100', 'n100'), ('0', 'n0')",
        "DELETE FROM t WHERE n IN ('n1', 'n28')",
    )  # fmt: skip
    one.caught_up(reopen_each=reopen_each)
    database.run("UPDATE t SET m = m")
    one.caught_up()
    if change == "key moved":
        assert state(one.seen) == rows(database)
        return
    last = {str(e.new and e.new["n"]): str(e.new) for e in one.seen[-ROWS:]}
    assert sorted(last.values()) == rows(database)
    keys = [n for n, e in enumerate(one.seen) if e.op is Op.SNAPSHOT]
    assert len(keys) >= ROWS - 2


@pytest.mark.parametrize("how", ["running", "looking", "down", "snapshot"])
@pytest.mark.parametrize("change", ["renamed", "moved"])
def test_table_is_called_otherwise(
    database: Database, capture: Callable[..., Capture], change: str, how: str
) -> None:
    """Under its new name are all of its rows."""
    database.run(*SETUP, "CREATE SCHEMA other")
    one = capture(chunk_rows=4, discover_s=0.02 if how == "looking" else 3600.0)
    if how == "snapshot":
        one.until(lambda: len(one.seen) >= 8)
    else:
        one.caught_up()
    if how == "down":
        one.close()
    new = {"renamed": "public.s", "moved": "other.t"}[change]
    database.run(
        "UPDATE t SET v = v + 1 WHERE id = 1",
        {"renamed": "ALTER TABLE t RENAME TO s", "moved": "ALTER TABLE t SET SCHEMA other"}[change],
    )
    if how != "looking":
        database.run(f"UPDATE {new} SET v = v + 1 WHERE id < 5")
        one.until(lambda: bool(one.of(new)), reopen_each=0 if how == "snapshot" else 2)
    one.until(lambda: len(fold([e for e in one.of(new) if e.op is not Op.SCHEMA])) == ROWS)
    one.caught_up()
    database.run(f"UPDATE {new} SET v = v + 1", f"DELETE FROM {new} WHERE id = 7")
    one.caught_up()
    assert state(one.of(new)) == rows(database, new)
    if how != "snapshot":
        assert [(e.op, e.new and e.new["v"]) for e in one.of("public.t")[ROWS:]] == [
            (Op.UPDATE, "2")
        ]


@pytest.mark.every_version
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("how", ["running", "looking", "down"])
def test_tables_are_swapped_by_their_names(
    database: Database, capture: Callable[..., Capture], known: bool, how: str
) -> None:
    """As tools do that copy a table to change it: the topic of the name has the other's rows, with
    a truncate before them."""
    database.run(*SETUP)
    one = capture(
        exclude=[] if known else ["*._t*"], chunk_rows=7,
        discover_s=3600.0 if how == "running" and known else 0.02,
    )  # fmt: skip
    one.caught_up()
    database.run("CREATE TABLE _t_new (LIKE t INCLUDING ALL)")
    database.run("ALTER TABLE _t_new ADD extra int", "INSERT INTO _t_new SELECT *, 5 FROM t")
    if known:
        one.caught_up()
        one.until(lambda: bool(one.of("public._t_new")))
        one.caught_up()
    if how == "down":
        one.close()
    with database.connection.transaction():
        database.run(
            "LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "DELETE FROM _t_new WHERE id = 9",
            "ALTER TABLE t RENAME TO _t_old", "ALTER TABLE _t_new RENAME TO t",
        )  # fmt: skip
    if how == "running":
        database.run("UPDATE t SET v = 0 WHERE id = 2", "UPDATE _t_old SET v = 3 WHERE id = 2")
    one.until(lambda: any(e.op is Op.TRUNCATE for e in one.of("public.t")))
    one.caught_up()
    database.run("UPDATE t SET v = 4 WHERE id > 10", "UPDATE _t_old SET v = 5 WHERE id > 10")
    one.caught_up()
    assert state(one.of("public.t")) == rows(database)
    assert [e.op for e in one.of("public.t")].count(Op.TRUNCATE) == 1
    if known:
        one.until(lambda: len(one.of("public._t_old")) >= ROWS)
        one.caught_up()
        assert state(one.of("public._t_old")) == rows(database, "_t_old")


@pytest.mark.every_version
@pytest.mark.parametrize("how", ["running", "down", "snapshot"])
def test_table_is_made_anew(database: Database, capture: Callable[..., Capture], how: str) -> None:
    database.run(*SETUP, "CREATE TABLE u (id int PRIMARY KEY)")
    one = capture(chunk_rows=4, discover_s=0.02)
    if how == "snapshot":
        one.until(lambda: len(one.of("public.t")) >= 8)
    else:
        one.caught_up()
    if how == "down":
        one.close()
    with database.connection.transaction():
        database.run(
            "UPDATE t SET v = 5", "DROP TABLE t", "CREATE TABLE t (k text PRIMARY KEY, other int)",
            "INSERT INTO t VALUES ('a', 1), ('b', 2)",
        )  # fmt: skip
    one.until(lambda: any(e.op is Op.TRUNCATE for e in one.of("public.t")))
    one.caught_up()
    database.run("UPDATE t SET other = 3 WHERE k = 'a'", "INSERT INTO t VALUES ('c', 1)")
    one.caught_up(reopen_each=1)
    assert state(one.of("public.t")) == rows(database)


def test_renamed_table_with_changes_only(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    one = capture(snapshot="never", discover_s=0.02)
    one.caught_up()
    database.run("ALTER TABLE t RENAME TO s", "INSERT INTO s VALUES (2)")
    one.caught_up()
    one.caught_up()
    assert [(e.op, e.schema.name, e.new) for e in one.seen] == [
        (Op.INSERT, "public.s", {"id": "2"})
    ]
