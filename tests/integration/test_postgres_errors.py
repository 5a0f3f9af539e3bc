"""What the PostgreSQL source says when a server, a slot, a privilege or a config is not right: the
code, and a sentence that names what an operator has to know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from ensign_core.change import Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding
from tests.conftest import Database
from tests.services.postgres import PostgresServer, free_port
from tests.services.postgres_capture import Capture, Told
from tests.services.ready import wait_until

PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def strict(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that asks for passwords, has wal_level replica and hardly any slots."""
    settings = {"max_replication_slots": "1", "max_wal_senders": "1"}
    with PostgresServer(postgres.programs, settings=settings, auth="scram-sha-256") as server:
        with server.connect() as db:
            db.execute(f"CREATE ROLE cdc LOGIN PASSWORD '{PASSWORD}' REPLICATION".encode())
            db.execute(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'".encode())
            db.execute("CREATE TABLE t (id int PRIMARY KEY)")
            db.execute("CREATE TABLE keyless (id int)")
            db.execute("GRANT CREATE ON DATABASE postgres TO cdc, plain")
        yield server


@pytest.fixture
def captured(database: Database) -> Iterator[Capture]:
    """A capture of table t that has a position and is closed again."""
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    one = Capture(database.dsn, tables=["public.t"], slot=f"slot_{database.name}")
    one.caught_up()
    one.close()
    wait_until(lambda: not database.value("SELECT bool_or(active) FROM pg_replication_slots"), 10)
    yield one
    one.close()


def refusal(dsn: str, position: Position | None = None, **options: Any) -> EnsignError:
    """The error that opening a source raises."""
    source = CONNECTOR.make(config(dsn, **options), Told())
    with pytest.raises(EnsignError) as caught:
        source.open(position)
    source.close()
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "(unknown)" not in str(caught.value)
    return caught.value


def drop_slot(database: Database) -> None:
    database.run(f"SELECT pg_drop_replication_slot('slot_{database.name}')")


def test_slot_is_missing(database: Database, captured: Capture) -> None:
    drop_slot(database)
    error = refusal(database.dsn, captured.position, slot=f"slot_{database.name}")
    assert error.code == "postgres.slot_missing"
    assert str(database.value("SELECT pg_current_wal_lsn()")) in error.sentence
    assert database.value("SELECT count(*) FROM pg_replication_slots WHERE NOT active") == 0


def test_slot_was_recreated(database: Database, captured: Capture) -> None:
    drop_slot(database)
    database.run(
        "INSERT INTO t VALUES (1)",
        f"SELECT pg_create_logical_replication_slot('slot_{database.name}', 'pgoutput')",
    )
    error = refusal(database.dsn, captured.position, slot=f"slot_{database.name}")
    assert error.code == "postgres.slot_recreated"


def test_slot_was_advanced_by_somebody_else(database: Database, captured: Capture) -> None:
    database.run(
        "INSERT INTO t VALUES (1)",
        f"SELECT pg_replication_slot_advance('slot_{database.name}', pg_current_wal_lsn())",
    )
    error = refusal(database.dsn, captured.position, slot=f"slot_{database.name}")
    assert error.code == "postgres.slot_recreated"


def test_slot_is_in_use(database: Database, captured: Capture) -> None:
    captured.open()
    other = CONNECTOR.make(captured.config, captured.told)
    with pytest.raises(EnsignError, match=r"postgres\.slot_in_use.*ensign test"):
        other.open(captured.position)
    other.close()
    captured.step()


def test_slot_of_another_kind(database: Database, captured: Capture) -> None:
    name = f"other_{database.name}"
    database.run(f"SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')")
    assert refusal(database.dsn, slot=name).code == "postgres.slot_foreign"
    error = refusal(database.dsn, captured.position, slot=name)
    assert error.code == "postgres.slot_changed"


def test_slot_of_another_database(database: Database, captured: Capture) -> None:
    server = database.server
    other = Database(server, server.new_database())
    try:
        other.run("CREATE TABLE t (id int PRIMARY KEY)")
        slot = f"slot_{database.name}"
        assert refusal(other.dsn, slot=slot).code == "postgres.slot_other_database"
        error = refusal(other.dsn, captured.position, slot=slot)
        assert error.code == "postgres.database_changed"
    finally:
        other.connection.close()
        server.drop_database(other.name)


def test_position_of_another_system(strict: PostgresServer, captured: Capture) -> None:
    error = refusal(strict.dsn(), captured.position, slot=captured.config.slot)
    assert error.code == "postgres.system_changed"


def test_position_of_something_else(captured: Capture, database: Database) -> None:
    for damaged in (b"", b"{}", b"\xff", b'{"v": 2}'):
        error = refusal(database.dsn, Position(damaged))
        assert error.code == "postgres.position_damaged"


def test_slot_was_invalidated(postgres: PostgresServer) -> None:
    settings = {"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with PostgresServer(postgres.programs, settings=settings) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        one = Capture(server.dsn(), tables=["public.t"])
        one.caught_up()
        one.close()
        state = "SELECT wal_status FROM pg_replication_slots"

        def lost() -> bool:
            db.execute("SELECT pg_switch_wal()")
            db.execute("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t")
            db.execute("CHECKPOINT")
            return db.execute(state).fetchone() == ("lost",)

        wait_until(lost, 30)
        assert refusal(server.dsn(), one.position).code == "postgres.slot_lost"


def test_wal_level(postgres: PostgresServer) -> None:
    settings = {"wal_level": "replica"}
    with PostgresServer(postgres.programs, settings=settings) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        error = refusal(server.dsn())
        assert (error.code, "replica" in error.sentence) == ("postgres.wal_level", True)
        assert "postgres.wal_level" in codes(findings(server.dsn()), "error")


def test_connection(strict: PostgresServer) -> None:
    dsn = strict.dsn
    assert refusal(dsn(user="cdc", password="wrong")).code == "postgres.password_rejected"
    assert refusal(dsn(user="cdc")).code == "postgres.password_missing"
    assert refusal(dsn("nodb", "cdc", PASSWORD)).code == "postgres.database_missing"
    port = free_port()
    error = refusal(f"postgresql://cdc:{PASSWORD}@127.0.0.1:{port}/x")
    assert (error.code, f"127.0.0.1:{port}" in error.sentence) == ("postgres.unreachable", True)
    error = refusal(f"postgresql://cdc:{PASSWORD}@no-such-host.invalid/x")
    assert error.code == "postgres.unreachable"
    assert refusal(f"nonsense {PASSWORD}").code == "postgres.dsn_invalid"
    for wrong in ({"user": "cdc", "password": "wrong"}, {"user": "cdc"}):
        assert len(findings(dsn(**wrong))) == 1


@pytest.mark.parametrize("password", ["co@rect", "co/rect", "1/co@rect", "co@1/rect"])
def test_password_that_is_not_encoded(password: str) -> None:
    """Parts of it pass for host, port or database, and none of them is told."""
    dsn = f"postgresql://cdc:{password}@127.0.0.1:{free_port()}/x"
    error = refusal(dsn)
    assert error.code == "postgres.dsn_invalid"
    for found in (str(error), *(f"{f.sentence} {f.remedy}" for f in findings(dsn))):
        assert "rect" not in found
        assert "%40" in found


def test_privileges_and_tables(strict: PostgresServer) -> None:
    cdc = strict.dsn(user="cdc", password=PASSWORD)
    error = refusal(cdc)
    assert (error.code, "public.t" in error.sentence) == ("postgres.select_privilege", True)
    error = refusal(cdc, snapshot="never")
    assert error.code == "postgres.privilege_missing"
    assert 'CREATE PUBLICATION "ensign_test" FOR TABLE ONLY "public"."t"' in error.remedy
    error = refusal(cdc, tables=["public.nope", "public.*"])
    assert (error.code, "public.nope" in error.sentence) == ("postgres.table_missing", True)
    assert refusal(cdc, tables=["other.*"]).code == "postgres.table_missing"
    plain = strict.dsn(user="plain", password=PASSWORD)
    assert refusal(plain, snapshot="never").code == "postgres.replication_privilege"
    seen = codes(findings(plain, tables=["public.*"]), "error")
    assert seen == {
        "postgres.replication_privilege", "postgres.select_privilege",
        "postgres.identity_missing", "postgres.privilege_missing",
    }  # fmt: skip


def test_publication_made_by_an_administrator(strict: PostgresServer) -> None:
    cdc = strict.dsn(user="cdc", password=PASSWORD)
    with strict.connect() as db:
        db.execute("CREATE PUBLICATION ensign_test FOR TABLE t")
        db.execute("GRANT SELECT ON t TO cdc")
        one = Capture(cdc, tables=["public.t"])
        try:
            one.caught_up()
            # The only slot and the only walsender are taken now.
            error = refusal(cdc, slot="another")
            assert error.code == "postgres.too_many_connections"
            seen = codes(findings(cdc, slot="another"), "error")
            assert seen == {"postgres.no_free_slot", "postgres.too_many_connections"}
        finally:
            one.close()
        wait_until(lambda: not _count(db, "pg_stat_replication"), 10)
        assert refusal(cdc, slot="another").code == "postgres.no_free_slot"
        assert "postgres.wal_unlimited" in codes(findings(cdc), "warning")
        dropped = CONNECTOR.drop(config(strict.dsn()), "test")
        assert dropped == [
            "The replication slot ensign_test was dropped.",
            "The publication ensign_test was dropped.",
        ]
        assert CONNECTOR.drop(config(cdc), "test") == []
        db.execute("REVOKE SELECT ON t FROM cdc")


def test_row_security_does_not_thin_a_snapshot_out(strict: PostgresServer) -> None:
    with strict.connect() as db:
        db.execute("CREATE TABLE rows (id int PRIMARY KEY)")
        db.execute("INSERT INTO rows VALUES (1), (2)")
        db.execute("CREATE POLICY part ON rows USING (id = 1)")
        db.execute("ALTER TABLE rows ENABLE ROW LEVEL SECURITY")
        db.execute("GRANT SELECT ON rows TO cdc")
        db.execute("CREATE PUBLICATION ensign_test FOR TABLE rows")
        one = Capture(strict.dsn(user="cdc", password=PASSWORD), tables=["public.rows"])
        with pytest.raises(EnsignError, match=r"postgres\.privilege_missing.*BYPASSRLS"):
            one.caught_up()
        one.close()
        CONNECTOR.drop(config(strict.dsn()), "test")


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        (["DROP PUBLICATION ensign_test"], "publication_missing"),
        (
            ["DROP PUBLICATION ensign_test", "CREATE PUBLICATION ensign_test FOR TABLE t"],
            "publication_recreated",
        ),
        (["ALTER PUBLICATION ensign_test DROP TABLE t"], "table_unpublished"),
    ],
)
def test_publication_is_changed_by_somebody_else(
    database: Database, captured: Capture, statements: list[str], code: str
) -> None:
    """Changes made meanwhile are in no stream; since version 18 the server does not even say so."""
    database.run("CREATE TABLE other (id int)")
    one = Capture(database.dsn, tables=["public.*"], slot=captured.config.slot, discover_s=0.05)
    one.position = captured.position
    try:
        one.caught_up()
        database.run(*statements, "INSERT INTO t VALUES (1)")
        with pytest.raises(EnsignError, match=rf"postgres\.{code}"):
            one.until(lambda: False)
        one.close()
        with pytest.raises(EnsignError, match=rf"postgres\.{code}"):
            one.open()
    finally:
        one.close()


def test_check_passes_where_all_is_well(database: Database, captured: Capture) -> None:
    found = findings(database.dsn, slot=f"slot_{database.name}")
    assert codes(found, "error") == set()
    assert codes(found, "warning") == {"postgres.wal_unlimited"}
    database.run("SELECT 1")
    assert "slot_" in CONNECTOR.drop(config(database.dsn, slot=f"slot_{database.name}"), "test")[0]


def config(dsn: str, **options: Any) -> PostgresConfig:
    return PostgresConfig(type="postgres", dsn=dsn, **{"tables": ["public.t"], **options})


def findings(dsn: str, **options: Any) -> list[Finding]:
    found = list(CONNECTOR.check(config(dsn, **options), "test"))
    assert not any(PASSWORD in f.sentence + f.remedy for f in found)
    return found


def codes(found: list[Finding], level: str) -> set[str]:
    return {finding.code for finding in found if finding.level == level}


def _count(db: psycopg.Connection[Any], view: str) -> int:
    row = db.execute(f"SELECT count(*) FROM {view}".encode()).fetchone()
    return int(row[0]) if row else 0
