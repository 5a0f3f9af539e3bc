"""The slot while a pipeline runs and afterwards: what it keeps is watched, and a gap between it and
the position is closed when an operator asks for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from connectors.postgres import CONNECTOR, retention, source, watch
from connectors.postgres.config import PostgresConfig
from connectors.postgres.position import decode
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, SameTopic
from tests.services.ready import wait_until

PATIENCE_S = 60.0
RECONCILE = Signal(1, "snapshot", reconcile=True)


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    made: list[Capture] = []

    def make(dsn: str = "", **options: Any) -> Capture:
        options = {"slot": f"slot_{database.name}", "tables": ["public.t"], **options}
        one = Capture(dsn or database.dsn, **options)
        one.told.compare = SameTopic
        made.append(one)
        return one

    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    yield make
    for one in made:
        one.close()


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server of its own, which keeps little WAL."""
    settings = {"max_slot_wal_keep_size": "64MB", "min_wal_size": "32MB", "max_wal_size": "32MB"}
    with PostgresServer(postgres.programs, settings=settings) as server:
        with server.connect() as db:
            db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        yield server


def refusal(one: Capture) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        one.open()
    one.close()
    assert "(unknown)" not in str(caught.value)
    return caught.value


def ids(one: Capture) -> list[tuple[Op, str]]:
    return [(e.op, str((e.new or e.old or {"id": ""})["id"])) for e in one.seen]


def warned(one: Capture) -> set[str]:
    found = one.told.facts.get("warnings", ())
    assert isinstance(found, Sequence)
    return {warning.code for warning in found}


def free(database: Database, slot: str) -> None:
    """Wait until nobody holds the slot."""
    asked = f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'"
    wait_until(lambda: database.run(asked) != [(True,)], PATIENCE_S)


def switch(db: Any, times: int = 1) -> None:
    for _ in range(times):
        db.execute("SELECT pg_logical_emit_message(false, 'fill', 'x')")
        db.execute("SELECT pg_switch_wal()")
    db.execute("CHECKPOINT")


@pytest.mark.every_version
def test_wal_that_the_slot_keeps_is_told_and_warned_of(
    limited: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LAG_S", 0.0)
    monkeypatch.setattr(retention, "CALM_S", 0.0)
    one = Capture(limited.dsn(), tables=["public.t"], messages=[])
    with limited.connect() as db, limited.connect() as other:
        one.caught_up()
        assert warned(one) == set()
        # An open transaction that has written holds the log, whatever is confirmed.
        other.execute("BEGIN")
        other.execute("INSERT INTO t VALUES (1)")
        switch(db, 3)
        one.until(lambda: "postgres.wal_kept_open" in warned(one))
        kept = one.told.facts["kept_bytes"]
        assert isinstance(kept, int)
        assert 32 << 20 <= kept <= 80 << 20
        found = {f.code for f in CONNECTOR.check(one.config, "test") if f.level == "warning"}
        assert found & {"postgres.wal_kept", "postgres.wal_kept_open", "postgres.slot_endangered"}
        switch(db, 1)
        one.until(lambda: "postgres.slot_endangered" in warned(one))
        other.execute("COMMIT")
        db.execute("SELECT pg_logical_emit_message(true, 'fill', 'x')")

        def settled() -> bool:
            db.execute("CHECKPOINT")
            return not warned(one)

        one.until(settled)
    one.close()


def test_warnings_of_others_are_kept_apart(capture: Callable[..., Capture]) -> None:
    one = capture()
    source = one.open()
    warning = EnsignError("postgres.other", "One.", "Two.")
    source._watch.warn(warning)
    one.step()
    assert one.told.facts["warnings"] == [warning]
    source._watch.clear("postgres.other")
    assert one.told.facts["warnings"] == []


@pytest.mark.every_version
def test_lost_slot_is_made_anew_on_request(limited: PostgresServer) -> None:
    one = Capture(limited.dsn(), tables=["public.t"])
    one.told.compare = SameTopic
    with limited.connect() as db:
        one.caught_up()
        one.close()
        db.execute("INSERT INTO t VALUES (1)")

        def lost() -> bool:
            switch(db, 2)
            row = db.execute("SELECT wal_status FROM pg_replication_slots").fetchone()
            return row == ("lost",)

        wait_until(lost, PATIENCE_S)
        error = refusal(one)
        assert error.code == "postgres.slot_lost"
        assert "WAL that it needs is gone" in error.sentence
        assert "`ensign snapshot start test --reconcile`" in error.remedy
        codes = {f.code for f in CONNECTOR.check(one.config, "test") if f.level == "error"}
        assert codes == {"postgres.slot_lost"}
        # Not all tables, a condition, or given up again: not asked for.
        for asked in (
            [Signal(1, "snapshot", reconcile=False)],
            [Signal(1, "snapshot", ("public.t",), reconcile=True)],
            [Signal(1, "snapshot", where="id > 1", reconcile=True)],
            [RECONCILE, Signal(2, "stop")],
        ):
            one.told.asked = asked
            assert refusal(one).code == "postgres.slot_lost"
        one.told.asked = [RECONCILE]
        one.open()
        db.execute("INSERT INTO t VALUES (2)")
        one.until(lambda: (Op.INSERT, "2") in ids(one))
        assert (Op.INSERT, "1") not in ids(one)
        # From now on the position is the new slot's.
        one.told.asked = []
        one.caught_up()
        assert one.position is not None
        assert not decode(one.position).snapshots.tables
    one.close()


MENDED: dict[str, list[str]] = {
    "slot_missing": ["SELECT pg_drop_replication_slot('{slot}')"],
    "slot_recreated": [
        "SELECT pg_drop_replication_slot('{slot}')",
        "INSERT INTO t VALUES (100)",
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')",
    ],
    "publication_missing": ["DROP PUBLICATION ensign_test"],
    "publication_recreated": [
        "DROP PUBLICATION ensign_test",
        "CREATE PUBLICATION ensign_test FOR TABLE t",
    ],
    "table_unpublished": ["ALTER PUBLICATION ensign_test DROP TABLE t"],
}


@pytest.mark.parametrize("code", MENDED)
def test_gap_is_closed_on_request_whenever_it_crashes(
    database: Database, capture: Callable[..., Capture], code: str
) -> None:
    slot = f"slot_{database.name}"
    one = capture()
    one.caught_up()
    one.close()
    free(database, slot)
    database.run(*(statement.format(slot=slot) for statement in MENDED[code]))
    database.run("INSERT INTO t VALUES (1)")
    error = refusal(one)
    assert error.code == f"postgres.{code}"
    assert "`ensign snapshot start test --reconcile`" in error.remedy
    one.told.asked = [RECONCILE]
    # Crashes before a position of the new slot is durable: the same again.
    for number in (2, 3):
        one.open()
        one.close()
        free(database, slot)
        database.run(f"INSERT INTO t VALUES ({number})")
    one.open()
    database.run("INSERT INTO t VALUES (4)")
    one.until(lambda: (Op.INSERT, "4") in ids(one))
    one.told.asked = []
    one.open()
    database.run("INSERT INTO t VALUES (5)")
    one.until(lambda: (Op.INSERT, "5") in ids(one))
    assert ids(one) == [(Op.INSERT, "4"), (Op.INSERT, "5")]
    count = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    assert database.value(count) == 1


def test_table_under_way_starts_over(database: Database, capture: Callable[..., Capture]) -> None:
    slot = f"slot_{database.name}"
    database.run("INSERT INTO t SELECT generate_series(1, 10)", "CREATE TABLE u (id int)")
    one = capture(tables=["public.*"], chunk_rows=2)
    one.open()
    one.until(lambda: len(one.seen) == 4)
    one.close()
    free(database, slot)
    database.run(f"SELECT pg_drop_replication_slot('{slot}')", "DELETE FROM t WHERE id = 1")
    one.told.asked = [RECONCILE]
    one.open()
    one.until(lambda: len(one.of("public.t")) == 14)
    seen = ids(one)[4:]
    assert seen[0][0] is Op.TRUNCATE
    assert seen[1:] == [(Op.SNAPSHOT, str(i)) for i in range(2, 11)]


@pytest.mark.every_version
def test_slot_is_made_on_another_cluster_on_request(
    database: Database, capture: Callable[..., Capture]
) -> None:
    """As after a move with dump and restore: tables are known by name, their oids are others."""
    database.run("INSERT INTO t SELECT generate_series(1, 3)")
    one = capture(tables=["public.*"])
    one.caught_up()
    one.close()
    server = database.server
    with PostgresServer(server.programs) as other, other.connect() as db:
        db.execute(f"CREATE DATABASE {database.name}".encode())
        with other.connect(database.name) as there:
            there.execute("CREATE TABLE first (id int)")
            there.execute("CREATE TABLE t (id int PRIMARY KEY)")
            there.execute("INSERT INTO t SELECT generate_series(1, 4)")
            one.config = one.config.model_copy(
                update={"dsn": type(one.config.dsn)(other.dsn(database.name))}
            )
            assert refusal(one).code == "postgres.system_changed"
            assert one.position is not None
            one.told.asked = [RECONCILE]
            one.open()
            there.execute("INSERT INTO t VALUES (5)")
            one.until(lambda: (Op.INSERT, "5") in ids(one))
            rows = there.execute("SELECT unnest('{t,first}'::regclass[])::oid::int").fetchall()
            assert decode(one.position).snapshots.done == {row[0] for row in rows}
        one.close()
    # Not read again, no truncate; a table that is new there is read.
    assert ids(one) == [*((Op.SNAPSHOT, str(i)) for i in (1, 2, 3)), (Op.INSERT, "5")]


def test_kept_wal_is_told_while_nothing_is_read(
    database: Database, capture: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full topic stops `read`, not `ack`."""
    monkeypatch.setattr(watch, "LAG_S", 0.0)
    monkeypatch.setattr(source, "UNREAD_S", 0.0)
    one = capture(wal_warn_bytes=1 << 20)
    one.caught_up()
    assert one.source is not None
    assert one.position is not None
    one.told.facts.clear()
    database.run("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 3000000))")
    one.source.ack(one.position)
    assert warned(one) == {"postgres.wal_kept"}


def test_other_slots_are_never_dropped(database: Database, capture: Callable[..., Capture]) -> None:
    slot = f"slot_{database.name}"
    one = capture()
    one.caught_up()
    one.close()
    free(database, slot)
    database.run(
        f"SELECT pg_drop_replication_slot('{slot}')",
        "INSERT INTO t VALUES (1)",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')",
    )
    one.told.asked = [RECONCILE]
    assert refusal(one).code == "postgres.slot_foreign"
    assert database.value(f"SELECT plugin FROM pg_replication_slots WHERE slot_name = '{slot}'")


def test_publication_of_an_administrator_is_asked_for_before_the_slot_is_dropped(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE PUBLICATION ensign_test FOR TABLE t")
    one = capture(read_only=True)
    one.caught_up()
    one.close()
    free(database, f"slot_{database.name}")
    database.run("DROP PUBLICATION ensign_test")
    one.told.asked = [RECONCILE]
    asked = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE NOT active"
    before = database.value(asked)
    error = refusal(one)
    assert error.code == "postgres.publication_needed"
    assert database.value(asked) == before
    database.run(error.remedy.partition("run on the primary: ")[2])
    one.open()
    database.run("INSERT INTO t VALUES (9)")
    one.until(lambda: (Op.INSERT, "9") in ids(one))


def test_check_tells_of_the_idle_limit(postgres: PostgresServer) -> None:
    """Since version 18 a server may take away slots that are not used."""
    with PostgresServer(postgres.programs) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        config = PostgresConfig(type="postgres", dsn=server.dsn(), tables=["public.t"])

        def codes() -> set[str]:
            return {f.code for f in CONNECTOR.check(config, "test") if f.level == "warning"}

        assert "postgres.slot_idle_limit" not in codes()
        if db.info.server_version >= 180000:
            server.configure(idle_replication_slot_timeout="1d")
            wait_until(lambda: "postgres.slot_idle_limit" in codes(), PATIENCE_S, 0.05)
            one = Capture(server.dsn(), tables=["public.t"])
            one.caught_up()
            one.close()
            server.configure(idle_replication_slot_timeout="1s")

            def lost() -> bool:
                db.execute("CHECKPOINT")
                row = db.execute("SELECT wal_status FROM pg_replication_slots").fetchone()
                return row == ("lost",)

            wait_until(lost, PATIENCE_S, 0.1)
            error = refusal(one)
            assert error.code == "postgres.slot_lost"
            assert "idle_replication_slot_timeout" in error.sentence
