"""A source that writes nothing on its server: what an administrator has to make is told with the
statement for it, and the end of the log is reached without any help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.postgres import CONNECTOR
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from tests.conftest import Database
from tests.services.postgres import PostgresServer
from tests.services.postgres_capture import Capture, captures

PATIENCE_S = 60.0


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    database.run("CREATE TABLE t (id int PRIMARY KEY)")
    yield from captures(
        database.dsn, slot=f"slot_{database.name}", tables=["public.t"], read_only=True
    )


def refusal(one: Capture) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        one.open()
    one.close()
    assert "(unknown)" not in str(caught.value)
    return caught.value


def ids(one: Capture) -> list[tuple[Op, str]]:
    return [(e.op, str((e.new or e.old or {"id": ""})["id"])) for e in one.seen]


def warned(one: Capture) -> set[str]:
    found: Any = one.told.facts.get("warnings", ())
    return {warning.code for warning in found}


def test_read_only_source_changes_nothing(
    database: Database, capture: Callable[..., Capture]
) -> None:
    one = capture()
    error = refusal(one)
    assert error.code == "postgres.publication_needed"
    found = {f.code: f for f in CONNECTOR.check(one.config, "test") if f.level == "error"}
    assert set(found) == {"postgres.publication_needed"}
    statement = error.remedy.partition("run on the primary: ")[2]
    assert statement in found["postgres.publication_needed"].remedy
    assert database.value("SELECT count(*) FROM pg_publication") == 0
    database.run(statement, "CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    wider = capture(tables=["public.*"])
    error = refusal(wider)
    assert "lacks public.u" in error.sentence
    assert "ADD TABLE" in error.remedy
    before = database.value("SELECT pg_current_wal_insert_lsn()")
    one.open()
    messages = one.told.facts
    one.until(lambda: ids(one) == [(Op.SNAPSHOT, "1")])
    assert messages["state"] in ("snapshot", "streaming")
    assert database.value("SELECT count(*) FROM pg_publication_rel") == 1
    assert before is not None


def test_new_tables_of_a_read_only_source(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE PUBLICATION ensign_test FOR TABLE t")
    one = capture(tables=["public.*"], discover_s=0.05)
    one.open()
    database.run("CREATE TABLE u (id int PRIMARY KEY)", "INSERT INTO u VALUES (7)")
    one.until(lambda: "postgres.publication_needed" in warned(one))
    database.run("ALTER PUBLICATION ensign_test ADD TABLE u")
    one.until(lambda: (Op.SNAPSHOT, "7") in ids(one) and not warned(one))


@pytest.mark.every_version
def test_read_only_source_catches_up_with_an_idle_server(postgres: PostgresServer) -> None:
    """Unflushed log of a transaction that stays open is behind what a chunk has to wait for."""
    with PostgresServer(postgres.programs) as server, server.connect() as db:
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        db.execute("CREATE PUBLICATION ensign_test FOR TABLE t")
        db.execute("INSERT INTO t VALUES (1)")
        with server.connect() as other:
            one = Capture(server.dsn(), tables=["public.t"], read_only=True)
            one.open()
            other.execute("BEGIN")
            other.execute("INSERT INTO t VALUES (2)")
            start = time.monotonic()
            one.caught_up()
            assert time.monotonic() - start < PATIENCE_S / 2
            # Again, with nothing to read.
            one.caught_up()
            other.execute("ROLLBACK")
        one.close()


def test_messages_are_not_emitted_by_a_read_only_source(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE PUBLICATION ensign_test FOR TABLE t")
    slot = f"slot_{database.name}"
    spy = f"spy_{database.name}"
    one = capture()
    one.open()
    database.run(f"SELECT pg_create_logical_replication_slot('{spy}', 'test_decoding')")
    over = threading.Event()
    threading.Timer(1.0, over.set).start()
    one.until(over.is_set)
    seen = database.run(f"SELECT data FROM pg_logical_slot_get_changes('{spy}', NULL, NULL)")
    assert [row for row in seen if "message" in str(row[0])] == []
    assert database.value(f"SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
