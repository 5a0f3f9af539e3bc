"""Changes of a standby: what has to be there on its primary, snapshots that are exact although a
standby does not say which transactions run, promotion, and slots that replay invalidates."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from connectors.postgres import CONNECTOR, slot, wal, watch
from connectors.postgres.config import PostgresConfig
from connectors.postgres.position import decode
from connectors.postgres.session import Session
from connectors.postgres.snapshot import Visible
from ensign_core.change import Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from tests.services.postgres import PostgresServer, Standby
from tests.services.postgres_capture import Capture, Told, fold
from tests.services.ready import wait_until

PATIENCE_S = 60.0
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"


class Pair:
    """A primary, its standby, and a capture of the standby's table t."""

    def __init__(self, primary: PostgresServer, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby
        self.db = primary.connect()
        self.version = self.db.info.server_version // 10000
        self.made: list[Capture] = []

    def capture(self, **options: Any) -> Capture:
        options = {"tables": ["public.t"], **options}
        self.made.append(Capture(self.standby.dsn(), **options))
        return self.made[-1]

    def logging(self) -> Logging:
        return Logging(self.primary)

    def rows(self) -> dict[tuple[object, ...], tuple[object, ...]]:
        found = self.db.execute("SELECT id::text, v FROM t").fetchall()
        return {(row[0],): row for row in found}

    def close(self) -> None:
        for one in self.made:
            one.close()
        self.db.close()


class Logging:
    """Has an idle primary log which transactions run, until a slot on its standby is made."""

    def __init__(self, primary: PostgresServer) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._log, args=(primary,), daemon=True)

    def _log(self, primary: PostgresServer) -> None:
        with primary.connect() as db:
            while not self._over.wait(0.05):
                db.execute("SELECT pg_log_standby_snapshot()")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def servers(postgres: PostgresServer) -> Iterator[tuple[PostgresServer, Standby]]:
    with PostgresServer(postgres.programs) as primary, Standby(primary) as standby:
        yield primary, standby


@pytest.fixture
def pair(servers: tuple[PostgresServer, Standby]) -> Iterator[Pair]:
    """The module's servers, with a table and a publication."""
    found = Pair(*servers)
    found.db.execute(f"DROP TABLE IF EXISTS t; {TABLE}")
    found.db.execute("DROP PUBLICATION IF EXISTS ensign_test")
    found.db.execute("CREATE PUBLICATION ensign_test FOR TABLE t")
    found.standby.caught_up()
    yield found
    found.close()
    with found.standby.connect() as there:
        wait_until(lambda: not _slots(there, "WHERE active"), PATIENCE_S)
        there.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


@pytest.fixture
def doomed(postgres: PostgresServer) -> Iterator[Callable[..., Pair]]:
    """Makes a pair of its own for a test that ends with other servers than it began with."""
    made: list[tuple[PostgresServer, Standby, Pair]] = []

    def make(**settings: str) -> Pair:
        primary = PostgresServer(postgres.programs).__enter__()
        standby = Standby(primary, settings=settings).__enter__()
        found = Pair(primary, standby)
        made.append((primary, standby, found))
        found.db.execute(TABLE)
        found.db.execute("CREATE PUBLICATION ensign_test FOR TABLE t")
        standby.caught_up()
        return found

    yield make
    for primary, standby, found in made:
        found.close()
        standby.__exit__(None, None, None)
        primary.__exit__(None, None, None)


def old(version: int) -> bool:
    """Whether a standby of this version can have no logical slot, and says so."""
    return version < 16


def refusal(one: Capture) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        one.open()
    assert "(unknown)" not in str(caught.value)
    return caught.value


def _slots(there: psycopg.Connection[Any], where: str = "") -> int:
    row = there.execute(f"SELECT count(*) FROM pg_replication_slots {where}".encode()).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.every_version
def test_rows_and_changes_of_a_standby(pair: Pair) -> None:
    one = pair.capture(heartbeat_s=0.1)
    if old(pair.version):
        error = refusal(one)
        assert (error.code, f"version {pair.version}" in error.sentence) == (
            "postgres.standby", True,
        )  # fmt: skip
        return
    pair.db.execute("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i")
    pair.standby.caught_up()
    with pair.logging():
        one.caught_up()
    assert len(one.seen) == 100
    pair.db.execute("UPDATE t SET v = 'b' WHERE id <= 10")
    pair.db.execute("DELETE FROM t WHERE id > 90")
    pair.standby.caught_up()
    one.caught_up()
    assert len(one.seen) == 120
    assert {k: tuple(v.values()) for k, v in fold(one.seen).items()} == pair.rows()
    assert one.told.facts["kept_bytes"] is not None


def test_what_an_administrator_has_to_publish(pair: Pair) -> None:
    if old(pair.version):
        return
    pair.db.execute("DROP PUBLICATION ensign_test")
    pair.standby.caught_up()
    one = pair.capture()
    error = refusal(one)
    assert error.code == "postgres.publication_needed"
    found = CONNECTOR.check(one.config, "test")
    assert "postgres.publication_needed" in [f.code for f in found if f.level == "error"]
    pair.db.execute(error.remedy.partition("run on the primary: ")[2].encode())
    pair.standby.caught_up()
    with pair.logging():
        one.caught_up()


def test_a_transaction_that_runs_while_a_chunk_is_read(pair: Pair) -> None:
    if old(pair.version):
        return
    pair.db.execute("INSERT INTO t VALUES (1, 'a'), (2, 'a')")
    with pair.primary.connect() as other:
        one = pair.capture()
        with pair.logging():
            one.open()
        with other.transaction():
            other.execute("UPDATE t SET v = 'b' WHERE id = 1")
            # A later transaction that has ended, so that the first is below the snapshot's xmax.
            pair.db.execute("UPDATE t SET v = 'c' WHERE id = 2")
            pair.standby.caught_up()
            one.until(lambda: len([e for e in one.seen if e.op is Op.SNAPSHOT]) == 2)
    pair.standby.caught_up()
    one.until(lambda: any(e.new and e.new["v"] == "b" for e in one.seen))
    assert {k: tuple(v.values()) for k, v in fold(one.seen).items()} == pair.rows()


def test_snapshots_of_a_standby_are_exact(pair: Pair) -> None:
    """A standby's own pg_current_snapshot() says that it sees transactions that run."""
    if old(pair.version):
        return
    config = PostgresConfig(type="postgres", dsn=pair.standby.dsn())
    begin = f"{wal.BEFORE_AS_OF}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1"
    session = Session(config, "test")
    with pair.primary.connect() as other:

        def running() -> int:
            other.execute("BEGIN")
            row = other.execute("UPDATE t SET v = 'b' RETURNING pg_current_xact_id()").fetchone()
            assert row is not None
            pair.db.execute("INSERT INTO t VALUES ((SELECT max(id) + 1 FROM t), 'a')")
            pair.standby.caught_up()
            return int(row[0])

        def as_of() -> Visible | None:
            found = session.rows(wal.AS_OF)[0][0]
            session.simple("ROLLBACK", doing="testing")
            return None if found is None else Visible.parse(found)

        pair.db.execute("INSERT INTO t VALUES (1, 'a')")
        xid = running()
        session.simple(begin, doing="testing")
        found = as_of()
        assert found is not None
        assert not found.sees(xid)
        assert found.sees(xid + 1)
        # One that ends between the snapshot and the question: whether it is seen is not known.
        session.simple(begin, doing="testing")
        other.execute("COMMIT")
        pair.standby.caught_up()
        assert as_of() is None
        session.simple(begin, doing="testing")
        found = as_of()
        assert found is not None
        assert found.sees(xid)
    session.close()


def test_chunks_of_a_standby_under_load(pair: Pair) -> None:
    if old(pair.version):
        return
    pair.db.execute("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 2000) i")
    over = threading.Event()

    def write(share: int) -> None:
        with pair.primary.connect() as db:
            turn = 0
            while not over.is_set():
                turn += 1
                ids = [1 + (turn * 37 + share * 500 + k * 101) % 2000 for k in range(3)]
                with db.transaction():
                    for i in sorted(ids):
                        db.execute("UPDATE t SET v = v || 'x' WHERE id = %s", (i,))

    writers = [threading.Thread(target=write, args=(k,), daemon=True) for k in range(3)]
    one = pair.capture(chunk_rows=50)
    pair.standby.caught_up()
    with pair.logging():
        one.open()
    for writer in writers:
        writer.start()
    try:
        one.until(lambda: not decode(one.position).snapshots.tables if one.position else False)
    finally:
        over.set()
        for writer in writers:
            writer.join()
    pair.standby.caught_up()
    one.caught_up()
    assert {k: tuple(v.values()) for k, v in fold(one.seen).items()} == pair.rows()


def test_the_making_of_a_slot_is_not_waited_for_without_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old(pair.version):
        return
    monkeypatch.setattr(slot, "STANDBY_WAIT_S_MAX", 0.3)
    with pair.primary.connect() as other, other.transaction():
        other.execute("INSERT INTO t VALUES (1, 'a')")
        error = refusal(pair.capture())
    assert error.code == "postgres.standby.timeout"
    assert "pg_log_standby_snapshot" in error.remedy


def test_promotion_while_streaming(
    doomed: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LAG_S", 0.05)
    pair = doomed()
    if old(pair.version):
        return
    pair.db.execute("INSERT INTO t VALUES (1, 'a')")
    pair.standby.caught_up()
    one = pair.capture()
    with pair.logging():
        one.caught_up()
    pair.primary.stop("immediate")
    pair.standby.promote()
    with pair.standby.connect() as db:
        db.execute("INSERT INTO t VALUES (2, 'b')")
        with pytest.raises(EnsignError, match=r"postgres\.(promotion\.restarting|connection_lost)"):
            one.until(lambda: False)
        db.execute("INSERT INTO t VALUES (3, 'c')")
        one.caught_up()
        db.execute("INSERT INTO t VALUES (4, 'd')")
        one.caught_up()
    assert [e.new["id"] for e in one.seen if e.new] == ["1", "2", "3", "4"]
    assert one.position is not None
    origin = decode(one.position).origin
    assert (origin.timeline, origin.standby) == (2, False)


def test_standby_that_replays_again(doomed: Callable[..., Pair]) -> None:
    pair = doomed()
    if old(pair.version):
        return
    one = pair.capture()
    with pair.logging():
        one.caught_up()
    pair.db.execute("INSERT INTO t VALUES (1, 'a')")
    pair.standby.caught_up()
    one.caught_up()
    one.close()
    # Commits from the last restart point on are not replayed for an hour.
    pair.standby.stop("immediate")
    pair.standby.settings = {**pair.standby.settings, "recovery_min_apply_delay": "1h"}
    pair.standby.write_settings()
    pair.standby.start()
    error = refusal(one)
    assert error.code == "postgres.standby.busy"
    pair.standby.settings = {**pair.standby.settings, "recovery_min_apply_delay": "0"}
    pair.standby.write_settings()
    with pair.standby.connect() as there:
        there.execute("SELECT pg_reload_conf()")
    pair.standby.caught_up()
    pair.db.execute("INSERT INTO t VALUES (2, 'a')")
    pair.standby.caught_up()
    one.caught_up()
    assert [e.new["id"] for e in one.seen if e.new] == ["1", "2"]


def test_slot_that_replay_invalidated(doomed: Callable[..., Pair]) -> None:
    pair = doomed(hot_standby_feedback="off")
    if old(pair.version):
        return
    one = pair.capture()
    found = [f.code for f in CONNECTOR.check(one.config, "test") if f.level == "warning"]
    assert "postgres.standby_feedback" in found
    with pair.logging():
        one.caught_up()
    one.close()
    pair.db.execute("CREATE TABLE passing (id int); DROP TABLE passing")
    pair.db.execute("VACUUM FULL pg_class")
    pair.standby.caught_up()
    with pair.standby.connect() as there:
        wait_until(lambda: _slots(there, "WHERE wal_status = 'lost'"), PATIENCE_S)
    error = refusal(one)
    assert (error.code, "hot_standby_feedback" in error.remedy) == ("postgres.slot_lost", True)
    if pair.version >= 17:
        assert "vacuum" in error.sentence
    one.told.asked = [Signal(1, "snapshot", reconcile=True)]
    with pair.logging():
        one.open()
    with pair.standby.connect() as there:
        assert _slots(there, "WHERE wal_status <> 'lost'") == 1


def test_nothing_of_a_standby_is_dropped_but_its_slot(pair: Pair) -> None:
    if old(pair.version):
        return
    one = pair.capture()
    with pair.logging():
        one.open()
    one.close()
    config = PostgresConfig(type="postgres", dsn=pair.standby.dsn(), tables=["public.t"])
    assert CONNECTOR.drop(config, Told.pipeline) == [
        "The replication slot ensign_test was dropped.",
        "The publication ensign_test stays: nothing is written there.",
    ]
