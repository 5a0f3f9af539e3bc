"""Ad hoc snapshots and reconciliation: rows read again while the pipeline streams, under load and
with crashes, leave the topic with the table's state."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from connectors.postgres.position import decode
from ensign_core.broker import Broker
from ensign_core.change import Batch, Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal, SnapshotProgress
from ensign_core.rows import ABSENT, Value
from ensign_core.run.pipeline import Pipeline, Plan
from tests.conftest import Database
from tests.integration.test_postgres_snapshot import Load, filled, settled
from tests.services.postgres_capture import ROWS, Capture, Row, Seen, captures
from tests.services.ready import wait_until

SEED = int(os.environ.get("ENSIGN_SEED") or random.randrange(1 << 32))
PATIENCE_S = 90.0


@pytest.fixture
def capture(database: Database) -> Iterator[Callable[..., Capture]]:
    """Makes captures of the test's table ``t``; they are closed afterwards."""
    yield from captures(database.dsn, slot=f"slot_{database.name}", tables=["public.*"], workers=2)


def folded(seen: list[Seen]) -> dict[Row, Mapping[str, Value]]:
    """The latest image by key, as whoever upserts has it."""
    state: dict[Row, Mapping[str, Value]] = {}
    for event in seen:
        names = [event.schema.columns[i].name for i in event.schema.key]
        if event.op is Op.TRUNCATE:
            state.clear()
        if event.op not in ROWS:
            continue
        after = event.new or {}
        before = event.old or after
        base = state.pop(tuple(before[name] for name in names), {})
        if event.op is not Op.DELETE:
            row = {n: base[n] if v is ABSENT else v for n, v in after.items()}
            state[tuple(row[name] for name in names)] = row
    return state


def assert_equal_to_table(database: Database, seen: list[Seen]) -> None:
    rows = database.run("SELECT id::text, part::text, v::text, note FROM t")
    state = [(s["id"], s["part"], s["v"], s["note"]) for s in folded(seen).values()]
    assert sorted(state, key=str) == sorted(rows, key=str)


def over(capture: Capture) -> bool:
    """Whether all that was asked is done, as far as is durable."""
    assert capture.position is not None
    snapshots = decode(capture.position).snapshots
    return snapshots.signal > 0 and not snapshots.asked


@pytest.mark.every_version
@pytest.mark.parametrize(
    ("plan", "reopen_each"), [("int", 0), ("int", 3), ("composite", 4), ("unordered", 0)]
)
def test_rows_are_placed_where_the_stream_passes_them(
    database: Database, capture: Callable[..., Capture], plan: str, reopen_each: int
) -> None:
    print(f"seed {SEED}")
    filled(database, plan)
    one = capture(chunk_rows=7, batch_bytes_max=40_000)
    one.caught_up()
    with Load(database, SEED, writers=2, truncates=False) as load:
        seen = len(one.seen)
        one.until(lambda: len(one.seen) > seen + 50, meanwhile=load.go_on)
        one.told.asked = [Signal(1, "snapshot", ("public.t",))]
        before = len(one.seen)
        one.until(lambda: over(one), reopen_each=reopen_each, meanwhile=load.go_on)
        rows = [e for e in one.seen[before:] if e.op is Op.SNAPSHOT]
    one.caught_up()
    assert len(rows) > 100
    assert_equal_to_table(database, one.seen)
    streamed = [(e.tx.id, e.ordinal) for e in one.seen if e.tx is not None and e.tx.id]
    assert len(set(streamed)) == len(streamed), "nothing of the stream is repeated"


def test_only_what_was_asked_is_read(database: Database, capture: Callable[..., Capture]) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "CREATE TABLE bare (v text)",
        "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 50) g",
        "INSERT INTO u VALUES (1)",
        "INSERT INTO bare VALUES ('a'), ('b')",
    )
    one = capture(chunk_rows=9)
    one.caught_up()
    one.told.asked = [Signal(3, "snapshot", ("public.[tb]*",), "v > 'w' -- all")]
    start = len(one.seen)
    one.until(lambda: over(one))
    again = one.seen[start:]
    assert [e.schema.name for e in again] == ["public.t"] * 50
    assert [e.new and e.new["id"] for e in again] == [str(n) for n in range(1, 51)]
    assert {e.op for e in again} == {Op.SNAPSHOT}
    one.told.asked = [Signal(4, "snapshot", ("public.bare",))]
    one.until(lambda: len(one.seen) > start + 50)
    assert [e.new and e.new["v"] for e in one.seen[start + 50 :]] == ["a", "b"]
    assert one.caught_up() == []


def test_what_cannot_be_done_is_said_and_stops_nothing(
    database: Database, capture: Callable[..., Capture]
) -> None:
    database.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (0)")
    one = capture()
    one.caught_up()
    one.told.asked = [
        Signal(1, "snapshot", ("public.none",)),
        Signal(2, "snapshot", ("public.t",), "no_such_column = 1"),
        Signal(3, "snapshot", ("public.t",), "1 / id > 0"),
        Signal(4, "snapshot", ("public.t",), "true) TO STDOUT; DROP TABLE t; --"),
        Signal(5, "snapshot", ("public.t",), "id = 1"),
    ]
    one.until(lambda: over(one))
    warned = one.told.facts["warnings"]
    assert isinstance(warned, list)
    codes = {warning.code for warning in warned}
    assert codes >= {"postgres.signal_unmatched", "postgres.adhoc_failed"}
    assert all("no_such" not in str(warning) for warning in warned)
    database.run("INSERT INTO t VALUES (2)")
    one.until(lambda: one.seen[-1].op is Op.INSERT)
    assert [e.new and e.new["id"] for e in one.seen] == ["0", "1", "1", "2"]


def test_pause_resume_and_stop(database: Database, capture: Callable[..., Capture]) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t SELECT generate_series(1, 500)",
        "ANALYZE t",
    )
    one = capture(chunk_rows=5)
    one.open()
    one.until(lambda: len(one.seen) >= 20)
    one.told.asked = [Signal(1, "pause")]
    one.until(lambda: one.position is not None and decode(one.position).snapshots.paused)
    seen = len(one.seen)
    assert seen < 500
    database.run("INSERT INTO t VALUES (-1)")
    one.open()
    one.until(lambda: len(one.seen) > seen)
    assert [e.op for e in one.seen[seen:]] == [Op.INSERT], "changes go on, chunks do not"
    assert one.caught_up() == [], "a paused snapshot is not waited for"
    one.told.asked = [Signal(2, "resume")]
    one.until(lambda: settled(one))
    assert len(one.seen) == 501
    one.told.asked = [Signal(3, "snapshot")]
    one.until(lambda: len(one.seen) > 501)
    told = one.told.facts["snapshot"]
    assert isinstance(told, SnapshotProgress)
    assert (told.tables, told.rows_total) == (1, 500)
    one.told.asked = [Signal(3, "snapshot"), Signal(4, "stop")]
    one.until(lambda: over(one))
    assert len(one.seen) < 1002


class Reconciled:
    """A pipeline with a broker, whose topic is compared with the table."""

    def __init__(self, database: Database, folder: Path, **options: Any) -> None:
        self.database = database
        self.broker = Broker.open(folder)
        config = PostgresConfig(
            type="postgres", dsn=database.dsn, slot=f"slot_{database.name}", chunk_rows=20,
            batch_bytes_max=40_000, discover_s=3600, **options,
        )  # fmt: skip
        self.plan = Plan("shop", CONNECTOR, config, lambda schema: schema.name, {})
        self.met: Callable[[Batch], None] = lambda _batch: None

    def run(self) -> EnsignError | None:
        """Until all is captured that is there now, and done what was asked."""
        observer = lambda batch, _us: self.met(batch)  # noqa: E731
        return Pipeline(self.broker, self.plan, until_caught_up=True, observer=observer).run()

    def events(self, start: int = 0, topic: str = "public.t") -> list[Seen]:
        with self.broker.reader([topic], start) as reader:
            found: list[Seen] = []
            while batches := reader.fetch():
                found += [Seen.of(change) for batch in batches for change in batch]
        return found

    def reconcile(self) -> list[Seen]:
        """Ask, run, and return what came."""
        before = self.broker.topic("public.t").next_offset
        self.broker.pipelines.signal("shop", Signal(0, "snapshot", reconcile=True))
        assert self.run() is None
        return self.events(before)

    def unseen(self, *statements: str) -> None:
        """Run statements whose changes are in no stream."""
        self.database.run(
            "ALTER PUBLICATION ensign_shop SET (publish = 'truncate')", *statements,
            "ALTER PUBLICATION ensign_shop SET (publish = 'insert, update, delete, truncate')",
        )  # fmt: skip


@pytest.fixture
def reconciled(database: Database, tmp_path: Path) -> Iterator[Reconciled]:
    made = Reconciled(database, tmp_path / "broker")
    yield made
    made.broker.close()


MISSED = (
    "UPDATE t SET v = v + 1 WHERE id % 10 = 3",
    "UPDATE t SET note = repeat(md5(random()::text), 150) WHERE id % 10 = 4",
    "DELETE FROM t WHERE id % 10 = 5",
    "INSERT INTO t SELECT g, g % 3, 7, 'new' FROM generate_series(1000, 1030) g",
    "UPDATE t SET id = id + 5000 WHERE id % 10 = 6",
)


def table(database: Database, key: str = "id int PRIMARY KEY") -> None:
    database.run(
        f"CREATE TABLE t ({key}, part int, v int, note text)",
        "INSERT INTO t SELECT g, g % 3, 0, repeat(md5(random()::text), 150) "
        "FROM generate_series(0, 299) g",
    )


@pytest.mark.parametrize("key", ["id int PRIMARY KEY", "id varchar(9) PRIMARY KEY"])
def test_reconcile_gives_what_differs(database: Database, reconciled: Reconciled, key: str) -> None:
    table(database, key)
    assert reconciled.run() is None
    assert reconciled.reconcile() == [], "what is equal gives no event"
    missed = [m.replace("id %", "id::int %").replace("id + 5000", "'m' || id") for m in MISSED]
    reconciled.unseen(*(MISSED if "int" in key else missed))
    before = folded(reconciled.events())
    came = reconciled.reconcile()
    assert_equal_to_table(database, reconciled.events())
    state = folded(reconciled.events())
    changed = {k for k in state.keys() | before.keys() if state.get(k) != before.get(k)}
    assert len(changed) > 30
    assert len(came) == len(changed), "only what differs"
    assert {e.op for e in came} == {Op.SNAPSHOT, Op.DELETE}


def test_reconcile_under_load_with_crashes(database: Database, reconciled: Reconciled) -> None:
    print(f"seed {SEED}")
    table(database)
    assert reconciled.run() is None
    reconciled.unseen(*MISSED)
    ends = [3, 9, 17, 10_000]
    batches: list[int] = []

    class CrashError(Exception):
        """A crash between the sync and the ack."""

    def met(_batch: Batch) -> None:
        batches.append(1)
        load.go_on()
        if len(batches) == ends[0]:
            ends.pop(0)
            raise CrashError

    reconciled.broker.pipelines.signal("shop", Signal(0, "snapshot", reconcile=True))
    with Load(database, SEED, writers=2, truncates=False) as load:
        load.go_on()
        reconciled.met = met
        for _ in range(3):
            failed = reconciled.run()
            assert failed is not None
            assert failed.code == "internal.unexpected"
        assert reconciled.run() is None
        reconciled.met = lambda _batch: None
    assert reconciled.run() is None
    assert_equal_to_table(database, reconciled.events())


def test_a_table_without_key_is_read_anew(database: Database, reconciled: Reconciled) -> None:
    table(database, "id int")
    assert reconciled.run() is None
    reconciled.unseen("INSERT INTO t VALUES (1000, 1, 1, 'x')")
    came = reconciled.reconcile()
    assert [e.op for e in came] == [Op.TRUNCATE] + [Op.SNAPSHOT] * 301
    assert {e.new["id"] for e in came[1:] if e.new} >= {"0", "299", "1000"}


def test_a_running_worker_is_told(database: Database, reconciled: Reconciled) -> None:
    table(database)
    assert reconciled.run() is None
    pipeline = Pipeline(reconciled.broker, reconciled.plan)
    thread = threading.Thread(target=pipeline.run, daemon=True)
    thread.start()
    try:
        before = reconciled.broker.topic("public.t").next_offset
        reconciled.broker.pipelines.signal("shop", Signal(0, "snapshot", ("public.t",), "id < 3"))
        wait_until(
            lambda: reconciled.broker.topic("public.t").next_offset >= before + 3, PATIENCE_S
        )
        wait_until(lambda: not reconciled.broker.pipelines.signals("shop"), PATIENCE_S)
    finally:
        pipeline.stop()
        thread.join(PATIENCE_S)
    assert [e.new and e.new["id"] for e in reconciled.events(before)] == ["0", "1", "2"]


def test_leaves_are_reconciled(database: Database, tmp_path: Path) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t SELECT g, 0 FROM generate_series(0, 199) g",
    )
    made = Reconciled(database, tmp_path / "broker", tables=["public.t"], partitions="leaf")
    try:
        assert made.run() is None
        made.unseen("UPDATE t SET v = 1 WHERE id IN (5, 105)", "DELETE FROM t WHERE id = 106")
        before = {
            name: made.broker.topic(name).next_offset for name in ("public.low", "public.high")
        }
        made.broker.pipelines.signal("shop", Signal(0, "snapshot", ("public.t",), reconcile=True))
        assert made.run() is None
        came = {name: made.events(start, name) for name, start in before.items()}
    finally:
        made.broker.close()
    assert [(e.op, e.new and e.new["id"]) for e in came["public.low"]] == [(Op.SNAPSHOT, "5")]
    assert [(e.op, (e.new or e.old or {})["id"]) for e in came["public.high"]] == [
        (Op.SNAPSHOT, "105"), (Op.DELETE, "106")
    ]  # fmt: skip


def test_rows_of_an_attached_partition_come(database: Database, tmp_path: Path) -> None:
    database.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE more (id int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1, 0)",
        "INSERT INTO more SELECT g, 0 FROM generate_series(100, 150) g",
    )
    made = Reconciled(database, tmp_path / "broker", tables=["public.t"])
    try:
        assert made.run() is None
        before = made.broker.topic("public.t").next_offset
        database.run(
            "ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (100) TO (200)",
            "UPDATE t SET v = 1 WHERE id = 120",
        )
        assert made.run() is None
        came = made.events(before)
        assert made.run() is None
        assert made.broker.topic("public.t").next_offset == before + len(came)
    finally:
        made.broker.close()
    assert {e.schema.name for e in came} == {"public.t"}
    state = {key[0]: row["v"] for key, row in folded(came).items()}
    assert state == {str(n): "1" if n == 120 else "0" for n in range(100, 151)}
