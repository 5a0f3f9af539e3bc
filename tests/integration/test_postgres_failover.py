"""Failover of a primary to its standby: with a slot that the standby has a copy of the stream goes
on exactly; what was captured of a branch that the new primary does not have is named, and mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from connectors.postgres.continuing import parse_history
from connectors.postgres.pgoutput import lsn_text, lsn_value
from connectors.postgres.position import decode
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.services.postgres import PostgresServer, Standby
from tests.services.postgres_capture import Capture, SameTopic, fold
from tests.services.ready import wait_until

PATIENCE_S = 60.0


class Cluster:
    """A primary and a standby that keeps a copy of failover slots, where the version can."""

    def __init__(self, programs: Any) -> None:
        self.primary = PostgresServer(programs)
        self.primary.__enter__()
        with self.primary.connect() as db:
            self.version = db.info.server_version // 10000
        syncing = {"sync_replication_slots": "on"} if self.version >= 17 else {}
        self.standby = Standby(self.primary, settings=syncing)
        self.standby.__enter__()
        self.db = self.primary.connect()
        self.db.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        self.made: list[Capture] = []

    def capture(self, **options: Any) -> Capture:
        options = {"tables": ["public.t"], "failover": self.version >= 17, **options}
        self.made.append(Capture(self.primary.dsn(), **options))
        return self.made[-1]

    def synced(self, one: Capture) -> None:
        """Read until the standby's copy of the slot can be used: the slot has to move."""
        asked = (
            "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_type = 'logical'"
        )
        with self.standby.connect() as standby:

            def usable() -> bool:
                self.db.execute("SELECT pg_log_standby_snapshot()")
                one.step(0.02)
                return bool(_one(standby, asked))

            wait_until(usable, PATIENCE_S)

    def fail_over(self, one: Capture) -> psycopg.Connection[Any]:
        """The primary is gone, and the standby takes its place in the dsn; a connection to it."""
        one.close()
        self.db.close()
        self.primary.stop("kill")
        self.standby.promote()
        one.config = one.config.model_copy(update={"dsn": type(one.config.dsn)(self.standby.dsn())})
        self.db = self.standby.connect()
        return self.db

    def close(self) -> None:
        for one in self.made:
            one.close()
        self.db.close()
        self.standby.__exit__(None, None, None)
        self.primary.__exit__(None, None, None)


@pytest.fixture
def cluster(postgres: PostgresServer) -> Iterator[Cluster]:
    found = Cluster(postgres.programs)
    yield found
    found.close()


def _one(db: psycopg.Connection[Any], statement: str) -> object:
    row = db.execute(statement.encode()).fetchone()
    return row[0] if row else None


def _rows(db: psycopg.Connection[Any]) -> dict[tuple[object, ...], tuple[object, ...]]:
    return {(r[0],): r for r in db.execute("SELECT id::text, v FROM t").fetchall()}


def _folded(one: Capture) -> dict[tuple[Any, ...], tuple[object, ...]]:
    return {key: tuple(row.values()) for key, row in fold(one.seen).items()}


def _refusal(one: Capture) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        one.open()
    assert "(unknown)" not in str(caught.value)
    return caught.value


def _captured(one: Capture, count: int) -> Callable[[], bool]:
    return lambda: len(one.seen) >= count


@pytest.mark.every_version
def test_stream_goes_on_after_failover(cluster: Cluster) -> None:
    one = cluster.capture()
    if cluster.version < 17:
        error = _refusal(cluster.capture(failover=True))
        assert (error.code, f"version {cluster.version}" in error.sentence) == (
            "postgres.failover_unsupported", True,
        )  # fmt: skip
    cluster.db.execute("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 50) i")
    one.caught_up()
    cluster.db.execute("UPDATE t SET v = 'b' WHERE id <= 10")
    one.until(_captured(one, 60))
    if cluster.version >= 17:
        cluster.synced(one)
    # Not captured yet, and on both servers.
    cluster.db.execute("UPDATE t SET v = 'c' WHERE id <= 5")
    cluster.standby.caught_up()
    db = cluster.fail_over(one)
    db.execute("INSERT INTO t VALUES (51, 'd')")
    if cluster.version < 17:
        error = _refusal(one)
        assert (error.code, "--reconcile" in error.remedy) == ("postgres.slot_missing", True)
        one.told.asked = [Signal(1, "snapshot", reconcile=True)]
        one.open()
        assert len(one.seen) == 60
        return
    one.caught_up()
    assert len(one.seen) == 66
    assert _folded(one) == _rows(db)
    assert one.position is not None
    assert decode(one.position).origin.timeline == 2


@pytest.mark.every_version
def test_what_only_the_old_primary_had_is_named(cluster: Cluster) -> None:
    one = cluster.capture()
    cluster.db.execute("INSERT INTO t VALUES (1, 'a')")
    one.caught_up()
    if cluster.version >= 17:
        cluster.synced(one)
    # Before the standby has it all: the server writes some by itself at any moment.
    left = _one(cluster.db, "SELECT pg_current_wal_lsn()")
    cluster.standby.caught_up()
    cluster.standby.stop("fast")
    cluster.db.execute("INSERT INTO t VALUES (2, 'lost')")
    one.until(_captured(one, 2))
    cluster.primary.stop("kill")
    cluster.standby.start()
    db = cluster.fail_over(one)
    db.execute("INSERT INTO t VALUES (3, 'new')")
    error = _refusal(one)
    assert error.code == "postgres.timeline_abandoned"
    assert one.position is not None
    assert lsn_text(decode(one.position).lsn) in error.sentence
    named = lsn_value(error.sentence.split("left at ")[1].partition(",")[0])
    assert named >= lsn_value(str(left))
    one.told.asked = [Signal(1, "snapshot", reconcile=True)]
    one.told.compare = SameTopic
    one.open()
    db.execute("INSERT INTO t VALUES (4, 'newer')")
    one.until(lambda: any(e.new and e.new["id"] == "4" for e in one.seen))
    origin = decode(one.position).origin
    assert origin.timeline == 2
    one.told.asked = []
    db.execute("INSERT INTO t VALUES (5, 'newest')")
    one.caught_up()
    assert one.seen[-1].new is not None
    assert one.seen[-1].new["id"] == "5"


def test_chunks_that_only_the_old_primary_had_are_read_again(cluster: Cluster) -> None:
    """The stream waits for the standby (synchronized_standby_slots), chunks of a snapshot do not:
    the position itself lies before the switch."""
    if cluster.version < 17:
        return
    cluster.primary.configure(synchronized_standby_slots="standby")
    cluster.db.execute("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 3000) i")
    one = cluster.capture(chunk_rows=1)
    cluster.synced(one)
    cluster.standby.caught_up()
    cluster.standby.stop("fast")
    assert len(one.seen) < 3000
    cluster.db.execute("UPDATE t SET v = 'lost'")
    one.until(lambda: one.seen[-1].new is not None and one.seen[-1].new["v"] == "lost")
    assert one.seen[-1].op is Op.SNAPSHOT
    cluster.primary.stop("kill")
    cluster.standby.start()
    db = cluster.fail_over(one)
    one.config = one.config.model_copy(update={"chunk_rows": 1000})
    db.execute("ALTER SYSTEM RESET synchronized_standby_slots")
    db.execute("SELECT pg_reload_conf()")
    one.caught_up()
    assert _folded(one) == _rows(db)
    assert all(row[1] == "a" for row in _rows(db).values())


def test_copy_of_a_slot_cannot_be_read_on_the_standby(cluster: Cluster) -> None:
    if cluster.version < 17:
        return
    one = cluster.capture()
    one.caught_up()
    cluster.synced(one)
    one.close()
    config = one.config.model_copy(
        update={"dsn": type(one.config.dsn)(cluster.standby.dsn()), "failover": False}
    )
    one.config = config
    error = _refusal(one)
    assert error.code == "postgres.slot_synced.busy"
    found = [f.code for f in CONNECTOR.check(config, "test") if f.level == "error"]
    assert found == ["postgres.slot_synced.busy"]


def test_slot_gets_failover_later(cluster: Cluster) -> None:
    if cluster.version < 17:
        return
    one = cluster.capture(failover=False)
    one.caught_up()
    one.close()
    config = PostgresConfig(
        type="postgres", dsn=cluster.primary.dsn(), tables=["public.t"], failover=True
    )
    asked = "SELECT failover FROM pg_replication_slots WHERE slot_name = 'ensign_test'"
    wait_until(
        lambda: (
            not _one(
                cluster.db,
                "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'ensign test'",
            )
        ),
        PATIENCE_S,
    )
    codes = {f.code for f in CONNECTOR.check(config, "test") if f.level == "warning"}
    assert codes >= {"postgres.slot_not_failover", "postgres.failover_ahead"}
    assert _one(cluster.db, asked) is False
    one.config = config
    one.caught_up()
    assert _one(cluster.db, asked) is True
    cluster.primary.configure(synchronized_standby_slots="standby")
    wait_until(lambda: "postgres.failover" in {f.code for f in CONNECTOR.check(config, "test")}, 10)


def test_history_of_timelines() -> None:
    text = "1\t0/3000148\tno recovery target specified\n\n2\t1A/5000\tbefore 2026-11-24\n# 3\n"
    assert parse_history(text) == {1: 0x3000148, 2: 0x1A00005000}
