"""Ad hoc snapshots that end otherwise than by their last row: stopped, or their table renamed,
dropped, retyped or closed to the user. The stream goes on whatever becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from pydantic import SecretStr

from connectors.postgres import chunks
from connectors.postgres.pgoutput import lsn_value
from connectors.postgres.position import Snapshots, decode
from ensign_core.change import Op, Position
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.conftest import Database
from tests.integration.test_postgres_adhoc import over
from tests.services.postgres_capture import WAIT_S_MAX, Capture, fold
from tests.services.ready import wait_until


def reading(capture: Capture) -> bool:
    """Whether a chunk of what was asked is under way."""
    assert capture.source is not None
    return capture.source._adhoc.gate is not None


def snapshots(capture: Capture) -> Snapshots:
    """The durable state of the snapshots."""
    assert capture.position is not None
    return decode(capture.position).snapshots


def test_stopped_while_a_chunk_is_under_way(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 500)"
    )
    one = capture(chunk_rows=5)
    one.caught_up()
    one.told.asked = [Signal(1, "snapshot")]
    one.until(lambda: reading(one))
    one.told.asked = [Signal(2, "stop")]
    one.until(lambda: over(one))
    database.run("INSERT INTO t VALUES (1000)")
    one.until(lambda: one.seen[-1].op is Op.INSERT)


@pytest.mark.parametrize("change", ["RENAME TO u", "SET SCHEMA other"])
def test_left_while_a_chunk_is_under_way(
    database: Database, capture: Callable[..., Capture], change: str
) -> None:
    database.run(
        "CREATE SCHEMA other",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE v (id int PRIMARY KEY)",
        "INSERT INTO t SELECT generate_series(1, 500)",
    )
    one = capture(chunk_rows=5, discover_s=0.01)
    one.caught_up()
    one.told.asked = [Signal(1, "snapshot", ("public.t",))]
    one.until(lambda: reading(one))
    renaming = threading.Thread(target=database.run, args=(f"ALTER TABLE t {change}",))
    renaming.start()
    one.until(lambda: not renaming.is_alive())
    one.until(lambda: over(one))
    database.run("INSERT INTO v VALUES (1000)")
    one.until(lambda: any(e.op is Op.INSERT for e in one.of("public.v")))


def test_partitions_under_their_own_names(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "INSERT INTO t SELECT generate_series(0, 9)",
    )
    one = capture(partitions="leaf")
    one.caught_up()
    one.told.asked = [Signal(1, "snapshot", ("public.t1",))]
    one.until(lambda: over(one))
    assert len(one.of("public.t1")) == 20
    one.told.asked = [Signal(2, "snapshot")]
    one.until(lambda: len(one.of("public.t1")) == 30)


def test_a_table_that_may_not_be_read(database: Database, capture: Callable[..., Capture]) -> None:
    role = f"reader_{database.name}"
    database.run(
        f"CREATE ROLE {role} LOGIN REPLICATION",
        f"GRANT CREATE ON DATABASE {database.name} TO {role}",
        "CREATE TABLE t (id int PRIMARY KEY)",
        f"CREATE PUBLICATION pub_{database.name} FOR TABLE t",
        "INSERT INTO t VALUES (1)",
    )
    one = Capture(
        database.server.dsn(database.name, role),
        slot=f"slot_{database.name}", tables=["public.*"], snapshot="never",
        publication=f"pub_{database.name}",
    )  # fmt: skip
    try:
        one.caught_up()
        one.told.asked = [Signal(1, "snapshot", ("public.t",))]
        one.until(lambda: over(one))
        database.run("INSERT INTO t VALUES (1000)")
        one.until(lambda: bool(one.seen) and one.seen[-1].op is Op.INSERT)
    finally:
        one.close()


def test_a_gap_is_not_mended_where_a_table_cannot_be_compared(
    database: Database, capture: Callable[..., Capture]
) -> None:
    role, publication = f"reader_{database.name}", f"pub_{database.name}"
    database.run(
        f"CREATE ROLE {role} LOGIN REPLICATION",
        "CREATE TABLE t (id int PRIMARY KEY)",
        f"CREATE PUBLICATION {publication} FOR TABLE t",
    )
    one = capture(snapshot="never", publication=publication)
    one.caught_up()
    one.close()
    active = f"SELECT active FROM pg_replication_slots WHERE slot_name = 'slot_{database.name}'"
    wait_until(lambda: not database.value(active), WAIT_S_MAX)
    database.run(
        f"SELECT pg_drop_replication_slot('slot_{database.name}')", "INSERT INTO t VALUES (1)"
    )
    dsn = database.server.dsn(database.name, role)
    one.config = one.config.model_copy(update={"dsn": SecretStr(dsn)})
    one.told.asked = [Signal(1, "snapshot", reconcile=True)]
    with pytest.raises(EnsignError) as refused:
        one.open()
    assert refused.value.code == "postgres.select_privilege"


def test_a_server_that_looks_for_rows_is_not_gone(
    database: Database, capture: Callable[..., Capture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "SILENCE_S_MAX", 0.3)
    database.run(
        "CREATE TABLE t (id int)",
        "INSERT INTO t VALUES (1)",
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN true; END'",
    )
    one = capture()
    one.caught_up()
    one.told.asked = [Signal(1, "snapshot", ("public.t",), "public.slow(id)")]
    one.until(lambda: over(one))
    assert len(one.seen) == 2


def test_a_key_whose_type_changes_while_it_is_read(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t SELECT generate_series(1, 100)",
    )
    one = capture(chunk_rows=5, workers=1)
    one.open()
    one.until(lambda: len(one.seen) >= 20)
    one.told.asked = [Signal(1, "pause")]
    one.until(lambda: snapshots(one).paused)
    database.run(
        'ALTER TABLE t ALTER id TYPE text COLLATE "C"',
        "INSERT INTO t VALUES ('!'), ('00'), ('a')",
        "DELETE FROM t WHERE id = '7'",
    )
    end = database.value("SELECT pg_current_wal_lsn()::text")
    one.until(lambda: decode(one.position or Position(b"")).lsn >= lsn_value(str(end)))
    one.told.asked = [Signal(2, "resume")]
    one.until(lambda: not snapshots(one).tables)
    assert one.told.letters == []
    assert fold(one.seen).keys() == {(str(row[0]),) for row in database.run("SELECT id FROM t")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_table_read_with_its_new_key_before_rows_with_the_old_one_come(
    database: Database,
    capture: Callable[..., Capture],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE)",
        "INSERT INTO t SELECT g, -g FROM generate_series(1, 10) g",
    )
    one = capture(workers=workers)
    source = one.open()
    with monkeypatch.context() as late:
        late.setattr(source, "_streams_turn", lambda _deadline: None)
        database.run(
            "INSERT INTO t VALUES (11, -11)",
            "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (code)",
        )
        one.until(lambda: len(one.seen) == 11)
    one.until(source.caught_up)
    assert len(fold(one.seen)) == 11


def test_a_key_that_changes_between_two_chunks(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE)",
        "INSERT INTO t SELECT g, -g FROM generate_series(1, 100) g",
    )
    one = capture(chunk_rows=5)
    one.caught_up()
    one.told.asked = [Signal(1, "snapshot", ("public.t",))]
    one.until(lambda: len(one.seen) > 100)
    one.told.asked = [Signal(2, "pause")]
    one.until(lambda: snapshots(one).paused)
    one.open()
    one.step()
    assert one.told.facts["detail"] == "snapshots are paused"
    start = len(one.seen)
    database.run("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (code)")
    one.told.asked = [Signal(3, "resume")]
    one.until(lambda: over(one))
    assert len(one.seen) == start + 101  # one says that the structure is another


def test_a_partition_that_is_detached_before_it_is_read(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p (id int PRIMARY KEY)",
        "INSERT INTO p VALUES (1)",
    )
    one = capture(tables=["public.t"], discover_s=0.01)
    one.caught_up()
    one.told.asked = [Signal(1, "pause")]
    one.until(lambda: snapshots(one).paused)
    database.run("ALTER TABLE t ATTACH PARTITION p FOR VALUES FROM (0) TO (9)")
    one.open()
    one.told.asked = [Signal(2, "pause")]
    one.until(lambda: len(snapshots(one).asked) == 1)
    database.run("ALTER TABLE t DETACH PARTITION p")
    one.told.asked = [Signal(3, "resume")]
    one.until(lambda: over(one) and snapshots(one).signal == 3)
    assert one.seen == []
