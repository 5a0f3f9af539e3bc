"""Replica identities of the PostgreSQL source: keys and before images of events, and what
`ensign check` finds where statements would fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from ensign_core.change import Op
from ensign_core.plugin import Finding
from tests.conftest import Database
from tests.services.postgres_capture import Capture, fold


def findings(database: Database, **options: Any) -> list[Finding]:
    options = {"tables": ["public.*"], **options}
    config = PostgresConfig(type="postgres", dsn=database.dsn, **options)
    found = list(CONNECTOR.check(config, "test"))
    assert not any("\n" in f.sentence + f.remedy or "(unknown)" in f.sentence for f in found)
    return [f for f in found if f.level != "pass" and f.code != "postgres.wal_unlimited"]


def codes(found: list[Finding]) -> set[tuple[str, str]]:
    return {(f.level, f.code.removeprefix("postgres.")) for f in found}


T = 'CREATE TABLE "T t" (id int {}, k text NOT NULL UNIQUE, v int, at int DEFAULT 1)'
SET = 'ALTER TABLE "T t" REPLICA IDENTITY'

SOUND = {
    "primary": ([T.format("PRIMARY KEY")], ["id"], "key"),
    "index": ([T.format("PRIMARY KEY"), f'{SET} USING INDEX "T t_k_key"'], ["k"], "key"),
    "full": ([T.format("PRIMARY KEY"), f"{SET} FULL"], ["id"], "whole"),
    "full, no key": ([T.format(""), f"{SET} FULL"], [], "whole"),
    "full, deferrable": ([T.format("PRIMARY KEY DEFERRABLE"), f"{SET} FULL"], ["id"], "whole"),
}


@pytest.mark.every_version
@pytest.mark.parametrize("kind", SOUND)
def test_identities_that_are_sound(
    database: Database, capture: Callable[..., Capture], kind: str
) -> None:
    """The key is the same in snapshot and stream; an update has what the server logs."""
    statements, key, image = SOUND[kind]
    rows = [f"""INSERT INTO "T t" VALUES ({n}, 'k{n}', 0)""" for n in range(1, 10)]
    database.run(*statements, *rows[:6])
    one = capture(chunk_rows=2, batch_bytes_max=1)
    one.until(lambda: len(one.seen) >= 2)
    database.run(*rows[6:], """UPDATE "T t" SET v = 1 WHERE id = 8""")
    one.caught_up(reopen_each=2)
    database.run("""UPDATE "T t" SET v = 2 WHERE id = 1""", """UPDATE "T t" SET id = 100, k = 'z'
                 WHERE id = 2""", """DELETE FROM "T t" WHERE id = 3""")  # fmt: skip
    plain, moved, gone = one.caught_up()
    assert {tuple(c.name for c in e.schema.columns if c.key) for e in one.seen} == {tuple(key)}
    whole = {"id": "3", "k": "k3", "v": "0", "at": "1"}
    assert plain.old == (None if image == "key" else {**whole, "id": "1", "k": "k1"})
    assert (moved.key_only, gone.key_only) == (image == "key",) * 2
    assert gone.old is not None
    shown = key if image == "key" else list(whole)
    assert {c: gone.old[c] for c in shown} == {c: whole[c] for c in shown}
    if key:
        assert len(fold(one.seen)) == 8
    assert {c for level, c in codes(findings(database))} == ({"key_missing"} - (
        {"key_missing"} if key else set()))  # fmt: skip


FAILING = {
    "no key": [T.format("").replace("UNIQUE", "")],
    "unique only": [T.format("")],
    "deferrable": [T.format("PRIMARY KEY DEFERRABLE")],
    "nothing": [T.format("PRIMARY KEY"), f"{SET} NOTHING"],
    "index dropped": [
        T.format("PRIMARY KEY"), f'{SET} USING INDEX "T t_k_key"',
        'ALTER TABLE "T t" DROP CONSTRAINT "T t_k_key"',
    ],
    "index dropped, no key": [
        T.format(""), f'{SET} USING INDEX "T t_k_key"',
        'ALTER TABLE "T t" DROP CONSTRAINT "T t_k_key"',
    ],
}  # fmt: skip


def assert_mended(database: Database, code: str, update: str, **options: Any) -> None:
    """The update fails, as is found; what mends it is run, and it does not."""
    with pytest.raises(psycopg.errors.Error):
        database.run(update)
    found = [f for f in findings(database, **options) if f.level == "error"]
    assert codes(found) == {("error", code)}
    for finding in found:
        for statement in finding.remedy.partition(". Or")[0].removesuffix(".").split("; "):
            database.run(statement)
    database.run(update)
    assert [f for f in findings(database, **options) if f.level == "error"] == []


@pytest.mark.every_version
@pytest.mark.parametrize("kind", FAILING)
def test_missing_identities(database: Database, capture: Callable[..., Capture], kind: str) -> None:
    """Inserts are captured all the same, without a key where the server has none."""
    database.run(*FAILING[kind], """INSERT INTO "T t" VALUES (1, 'a', 0), (2, 'b', 0)""")
    one = capture(chunk_rows=1, batch_bytes_max=1)
    one.until(lambda: len(one.seen) >= 1)
    database.run("""INSERT INTO "T t" VALUES (3, 'c', 0)""")
    one.caught_up(reopen_each=1)
    database.run("""INSERT INTO "T t" VALUES (4, 'd', 0)""", 'TRUNCATE "T t"')
    one.caught_up()
    assert [e.op for e in one.seen][-2:] == [Op.INSERT, Op.TRUNCATE]
    assert sorted(str(e.new and e.new["id"]) for e in one.seen[:-1]) == ["1", "2", "3", "4"]
    keys = {tuple(c.name for c in e.schema.columns if c.key) for e in one.seen}
    assert keys == {("id",) if kind == "nothing" else ()}
    database.run("""INSERT INTO "T t" VALUES (5, 'e', 0)""")
    assert_mended(database, "identity_missing", 'UPDATE "T t" SET v = 1')
    one.caught_up()
    assert one.seen[-1].op is Op.UPDATE


@pytest.mark.every_version
def test_identity_of_each_leaf(database: Database, capture: Callable[..., Capture]) -> None:
    """The leaf's counts for the server, whatever the root has; a leaf without FULL under a root
    with it has old keys only, which pass for no whole row."""
    database.run(
        "CREATE TABLE r (id int NOT NULL, at int, v int) PARTITION BY RANGE (at)",
        'CREATE TABLE "L ""1" PARTITION OF r FOR VALUES FROM (0) TO (10)',
        "CREATE TABLE l2 PARTITION OF r FOR VALUES FROM (10) TO (20)",
        "ALTER TABLE l2 ADD PRIMARY KEY (id)",
        "INSERT INTO r VALUES (1, 1, 1), (2, 11, 1), (3, 12, 1)",
    )
    for option in ("root", "leaf"):
        found = findings(database, partitions=option)
        assert ("error", "identity_missing") in codes(found)
        told = [f for f in found if f.level == "error"]
        assert len(told) == 1
        assert 'ALTER TABLE "public"."L ""1" REPLICA IDENTITY FULL' in told[0].remedy
        assert (("warning", "key_missing") in codes(found)) is (option == "root")
    one = capture()
    one.caught_up()
    assert_mended(database, "identity_missing", "UPDATE r SET v = 2 WHERE id = 1")
    database.run("ALTER TABLE r REPLICA IDENTITY FULL")
    assert ("warning", "identity_differs") in codes(findings(database))
    one.caught_up()
    database.run(
        "UPDATE r SET v = 3 WHERE id = 1", "UPDATE r SET v = 3 WHERE id = 2",
        "UPDATE r SET id = 30 WHERE id = 3", "DELETE FROM r WHERE id = 2",
    )  # fmt: skip
    seen = [e for e in one.caught_up() if e.op is not Op.SCHEMA]
    assert seen[0].old == {"id": "1", "at": "1", "v": "2"}
    assert seen[1].old is None
    assert all(e.key_only for e in seen[2:])
    one.close()
    database.run("ALTER TABLE l2 REPLICA IDENTITY FULL", "DELETE FROM r WHERE id = 30")
    one.caught_up()
    assert one.seen[-1].old == {"id": "30", "at": "12", "v": "1"}
    assert ("warning", "identity_differs") not in codes(findings(database))


@pytest.mark.every_version
def test_lists_and_filters_that_miss_the_identity(database: Database) -> None:
    publication = 'CREATE PUBLICATION "Test p" FOR TABLE "T t"'
    options = {"publication": "Test p"}
    update = 'UPDATE "T t" SET v = 1'
    cases = [
        (" (v, k)", "", "identity_listed"),
        (" (v, k) WHERE (v < 100)", " FULL", "identity_listed"),
        (" (id, v)", " FULL", "identity_listed"),
        (' (v) WHERE (v < 9)', ' USING INDEX "T t_k_key"', "identity_listed"),
        (" WHERE (v < 100 AND id > 0)", "", "identity_filtered"),
        (" (id, v) WHERE (v < 100 AND id > 0)", "", "identity_filtered"),
    ]  # fmt: skip
    for extra, identity, code in cases[:-1]:
        database.run(T.format("PRIMARY KEY"), """INSERT INTO "T t" VALUES (1, 'a', 0)""")
        database.run(publication + extra, *([SET + identity] if identity else []))
        if "WHERE" in extra and code == "identity_listed":
            database.run(f"{SET} FULL")
            with pytest.raises(psycopg.errors.Error):
                database.run(update)
            assert ("error", code) in codes(findings(database, **options))
        else:
            assert_mended(database, code, update, **options)
        database.run('DROP PUBLICATION "Test p"', 'DROP TABLE "T t"')


@pytest.mark.every_version
def test_lists_and_filters_of_partitions(database: Database) -> None:
    """The root's, held against the identity of each leaf by name."""
    database.run(
        "CREATE TABLE r (id int, at int, v int) PARTITION BY RANGE (at)",
        "CREATE TABLE l1 (v int, x int, at int, id int PRIMARY KEY)",
        "ALTER TABLE l1 DROP x",
        "ALTER TABLE r ATTACH PARTITION l1 FOR VALUES FROM (0) TO (10)",
        "INSERT INTO r VALUES (1, 1, 1)",
        "CREATE PUBLICATION ensign_test FOR TABLE r WHERE (v > 0) "
        "WITH (publish_via_partition_root = true)",
    )
    assert_mended(database, "identity_filtered", "UPDATE r SET v = 2")
    database.run(
        "ALTER TABLE l1 REPLICA IDENTITY DEFAULT",
        "ALTER PUBLICATION ensign_test SET TABLE r (at, v)",
    )
    assert_mended(database, "identity_listed", "UPDATE r SET v = 2")


@pytest.mark.every_version
def test_generated_columns_in_the_identity(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """Since version 18 they have to be published."""
    new = database.connection.info.server_version >= 180000
    database.run(
        "CREATE TABLE g (id int, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "ALTER TABLE g REPLICA IDENTITY FULL",
        "INSERT INTO g VALUES (1)",
    )
    expected = {("warning", "key_missing")} | ({("error", "identity_generated")} if new else set())
    found = findings(database)
    assert codes(found) == expected
    if new:
        statement = next(f for f in found if f.code.endswith("generated")).remedy.removesuffix(".")
        assert statement.startswith("CREATE PUBLICATION")
        database.run("CREATE PUBLICATION ensign_test FOR TABLE g")
        assert_mended(database, "identity_generated", "UPDATE g SET id = 2")
        database.run("DROP PUBLICATION ensign_test", statement)
        assert codes(findings(database)) == {("warning", "key_missing")}
        database.run(
            "CREATE TABLE v (id int PRIMARY KEY, x int GENERATED ALWAYS AS (id) VIRTUAL)",
            "ALTER TABLE v REPLICA IDENTITY FULL", "INSERT INTO v VALUES (1)",
            "ALTER PUBLICATION ensign_test ADD TABLE v",
        )  # fmt: skip
        assert_mended(database, "identity_generated", "UPDATE v SET id = 2")
        database.run("DROP TABLE v")
    one = capture()
    one.caught_up()
    database.run("UPDATE g SET id = 3")
    one.caught_up()
    assert one.seen[-1].new == ({"id": "3", "twice": "6"} if new else {"id": "3"})
    assert (one.seen[-1].old or {}).keys() == (one.seen[-1].new or {}).keys()


def test_generated_key(database: Database, capture: Callable[..., Capture]) -> None:
    database.run("CREATE TABLE g (id int, k int GENERATED ALWAYS AS (id * 2) STORED PRIMARY KEY)")
    database.run("INSERT INTO g VALUES (1)")
    assert ("warning", "key_unpublished") in codes(findings(database))
    one = capture()
    one.caught_up()
    database.run("INSERT INTO g VALUES (2)")
    one.caught_up()
    assert [(e.op, e.new, e.schema.key) for e in one.seen] == [
        (Op.SNAPSHOT, {"id": "1"}, ()), (Op.INSERT, {"id": "2"}, ()),
    ]  # fmt: skip


def test_tables_that_cannot_be_captured(database: Database) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
        'CREATE UNLOGGED TABLE "U u" (id int PRIMARY KEY)',
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE SERVER s FOREIGN DATA WRAPPER w",
        "CREATE FOREIGN TABLE f (id int) SERVER s",
        "CREATE TABLE r (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (1)",
        "CREATE TABLE e (id int) PARTITION BY RANGE (id)",
    )
    names = ["v", "m", "U u", "f", "r1"]
    found = findings(database, tables=[f"public.{name}" for name in names])
    assert found[0].code == "postgres.table_missing"
    told = {f.sentence.removesuffix(", which cannot be captured.") for f in found[1:]}
    assert told == {
        "public.v is a view", "public.m is a materialized view", "public.U u is an unlogged table",
        "public.f is a foreign table", "public.r1 is a partition",
    }  # fmt: skip
    mend = next(f.remedy for f in found if "unlogged" in f.sentence)
    assert mend == 'ALTER TABLE "public"."U u" SET LOGGED.'
    database.run(mend.removesuffix("."))
    assert findings(database, tables=["public.U u"]) == []
    found = findings(database, tables=["public.e"], partitions="leaf")
    assert "public.e is a partitioned table" in found[1].sentence


def test_rows_that_a_snapshot_would_miss(database: Database) -> None:
    database.run(
        'CREATE ROLE "cdc "" x" LOGIN REPLICATION',
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE c (more int) INHERITS (t)",
        "ALTER TABLE c ADD PRIMARY KEY (id)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        'GRANT SELECT ON t TO "cdc "" x"',
        "CREATE PUBLICATION ensign_test FOR TABLE ONLY t WITH (publish_via_partition_root = true)",
        "CREATE TABLE r (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE FOREIGN DATA WRAPPER w2",
        "CREATE SERVER s2 FOREIGN DATA WRAPPER w2",
        "CREATE UNLOGGED TABLE r2 PARTITION OF r FOR VALUES FROM (1) TO (2)",
    )
    try:
        dsn = database.server.dsn(database.name, "cdc%20%22%20x", "x")
        config = PostgresConfig(type="postgres", dsn=dsn, tables=["public.t"])
        found = [f for f in CONNECTOR.check(config, "test") if f.level != "pass"]
        remedies = {f.code.removeprefix("postgres."): f.remedy for f in found}
        assert remedies["row_security"].startswith('ALTER ROLE "cdc "" x" BYPASSRLS.')
        assert "public.c" in remedies["children_missing"]
        database.run('ALTER ROLE "cdc "" x" BYPASSRLS')
        found = [f for f in CONNECTOR.check(config, "test") if f.level == "error"]
        assert found == []
        assert codes(findings(database, tables=["public.*"])) == {("warning", "partition_unlogged")}
    finally:
        database.run('DROP OWNED BY "cdc "" x"', 'DROP ROLE "cdc "" x"')


def test_columns_of_the_key_left_out(database: Database) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY, v int)")
    found = findings(database, columns={"exclude": ["*.id"]})
    assert codes(found) == {("error", "column_key_excluded")}
    assert findings(database, columns={"exclude": ["*.v"]}) == []
