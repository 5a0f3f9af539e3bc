"""Ad hoc snapshots and reconciliation of the MySQL source: rows read again while it streams, under
load and with crashes, leave the topic with the table's state."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.mysql import CONNECTOR, routes
from connectors.mysql.config import MysqlConfig
from connectors.mysql.position import decode
from ensign_core.broker import Broker
from ensign_core.change import Batch, Op
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal
from ensign_core.run.pipeline import Pipeline, Plan
from tests.integration.test_mysql_snapshot import settled
from tests.integration.test_postgres_adhoc import folded
from tests.services.mysql import CDC, MysqlServer
from tests.services.mysql_capture import Capture, captures
from tests.services.mysql_load import PLANS, Load, filled, table
from tests.services.postgres_capture import Seen

SEED = int(os.environ.get("ENSIGN_SEED") or random.randrange(1 << 32))


@pytest.fixture
def database(mysql: MysqlServer) -> Iterator[str]:
    name = mysql.new_database()
    yield name
    mysql.drop_database(name)


@pytest.fixture
def capture(
    mysql: MysqlServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Capture]]:
    monkeypatch.setattr(routes, "RECENT_S", 0.3)
    yield from captures(mysql, database)


def assert_equal_to_table(server: MysqlServer, database: str, key: str, seen: list[Seen]) -> None:
    state = [(s["id"], s["part"], s["v"], s["note"]) for s in folded(seen).values()]
    assert sorted(state, key=str) == table(server, database, PLANS[key])


def over(capture: Capture) -> bool:
    """Whether all that was asked is done, as far as is durable."""
    assert capture.position is not None
    snapshots = decode(capture.position).snapshots
    return snapshots.signal > 0 and not snapshots.asked


@pytest.mark.parametrize(
    ("key", "reopen_each", "image", "position"),
    [
        ("int", 0, "FULL", "auto"),
        ("int", 3, "MINIMAL", "auto"),
        ("int", 0, "FULL", "file"),
        ("padded", 4, "FULL", "auto"),
        ("unordered", 0, "NOBLOB", "auto"),
    ],
)
def test_rows_are_placed_where_the_stream_passes_them(
    mysql: MysqlServer,
    database: str,
    capture: Callable[..., Capture],
    key: str,
    reopen_each: int,
    image: str,
    position: str,
) -> None:
    print(f"seed {SEED}")
    plan = PLANS[key]
    filled(mysql, database, plan)
    one = capture(chunk_rows=7, batch_bytes_max=40_000, position=position)
    one.caught_up()
    with Load(mysql, database, plan, SEED, image=image) as load:
        seen = len(one.seen)
        one.until(lambda: len(one.seen) > seen + 30, meanwhile=load.go_on)
        one.told.asked = [Signal(1, "snapshot", (f"{database}.t",))]
        before = len(one.seen)
        one.until(lambda: over(one), reopen_each=reopen_each, meanwhile=load.now_and_then)
        rows = [e for e in one.seen[before:] if e.op is Op.SNAPSHOT]
    one.caught_up()
    assert len(rows) > 40
    assert_equal_to_table(mysql, database, key, one.seen)
    streamed = [(e.tx.id, e.ordinal) for e in one.seen if e.tx is not None and e.tx.id]
    assert len(set(streamed)) == len(streamed), "nothing of the stream is repeated"


def test_only_what_was_asked_is_read(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    mysql.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "CREATE TABLE bare (v text)",
        "INSERT INTO t VALUES " + ", ".join(f"({n}, 'x')" for n in range(1, 51)),
        "INSERT INTO u VALUES (1)",
        "INSERT INTO bare VALUES ('a'), ('b')",
        database=database,
    )
    one = capture(chunk_rows=9)
    one.caught_up()
    one.told.asked = [Signal(3, "snapshot", (f"{database}.[tb]*",), "v > 'w' -- all")]
    start = len(one.seen)
    one.until(lambda: over(one))
    again = one.seen[start:]
    assert [e.schema.name for e in again] == [f"{database}.t"] * 50
    assert [e.new and e.new["id"] for e in again] == [str(n) for n in range(1, 51)]
    assert {e.op for e in again} == {Op.SNAPSHOT}
    one.told.asked = [Signal(4, "snapshot", (f"{database}.bare", f"{database}.u"))]
    one.until(lambda: len(one.seen) > start + 52)
    rest = [next(iter((e.new or {}).values())) for e in one.seen[start + 50 :]]
    assert sorted(map(str, rest)) == ["1", "a", "b"]
    assert one.caught_up() == []


def test_what_cannot_be_done_is_said_and_stops_nothing(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    mysql.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (0)",
              database=database)  # fmt: skip
    one = capture()
    one.caught_up()
    name = (f"{database}.t",)
    one.told.asked = [
        Signal(1, "snapshot", ("no.table",)),
        Signal(2, "snapshot", name, "no_such_column = 1"),
        Signal(3, "snapshot", name, "1) INTO OUTFILE '/tmp/no'; DROP TABLE t; -- "),
        Signal(4, "snapshot", name, "id = 1"),
    ]
    one.until(lambda: over(one))
    warned = one.told.facts["warnings"]
    assert isinstance(warned, list)
    codes = {warning.code for warning in warned}
    assert codes >= {"mysql.signal_unmatched", "mysql.adhoc_failed"}
    assert all("no_such" not in str(warning) for warning in warned)
    mysql.run("INSERT INTO t VALUES (2)", database=database)
    one.until(lambda: one.seen[-1].op is Op.INSERT)
    assert [e.new and e.new["id"] for e in one.seen] == ["0", "1", "1", "2"]


def test_pause_resume_and_stop(
    mysql: MysqlServer, database: str, capture: Callable[..., Capture]
) -> None:
    rows = ", ".join(f"({n})" for n in range(1, 501))
    mysql.run("CREATE TABLE t (id int PRIMARY KEY)", f"INSERT INTO t VALUES {rows}",
              database=database)  # fmt: skip
    one = capture(chunk_rows=5)
    one.open()
    one.until(lambda: len(one.seen) >= 20)
    one.told.asked = [Signal(1, "pause")]
    one.until(lambda: one.position is not None and decode(one.position).snapshots.paused)
    seen = len(one.seen)
    assert seen < 500
    mysql.run("INSERT INTO t VALUES (-1)", database=database)
    one.open()
    one.until(lambda: len(one.seen) > seen)
    assert [e.op for e in one.seen[seen:]] == [Op.INSERT], "changes go on, chunks do not"
    assert one.caught_up() == [], "a paused snapshot is not waited for"
    one.told.asked = [Signal(2, "resume"), Signal(3, "snapshot", (f"{database}.t",), "id < 3")]
    one.until(lambda: settled(one) and over(one))
    assert len(one.seen) == 501 + 3, "its own snapshot first, then what was asked"
    one.told.asked = [Signal(4, "snapshot")]
    one.until(lambda: len(one.seen) > 504)
    one.told.asked = [Signal(4, "snapshot"), Signal(5, "stop")]
    one.until(lambda: over(one))
    assert len(one.seen) < 1005
    mysql.run("INSERT INTO t VALUES (1000)", database=database)
    one.until(lambda: one.seen[-1].op is Op.INSERT)


class Reconciled:
    """A pipeline with a broker, whose topic is compared with the table."""

    def __init__(self, server: MysqlServer, database: str, folder: Path, **options: Any) -> None:
        self.server, self.database, self.topic = server, database, f"{database}.t"
        self.broker = Broker.open(folder)
        config = MysqlConfig(
            type="mysql", host=server.host, port=server.port, user=CDC, password=CDC,
            databases=[database], chunk_rows=20, batch_bytes_max=40_000, **options,
        )  # fmt: skip
        self.plan = Plan("shop", CONNECTOR, config, lambda schema: schema.name, {})
        self.met: Callable[[Batch], None] = lambda _batch: None

    def run(self) -> EnsignError | None:
        """Until all is captured that is there now, and done what was asked."""
        observer = lambda batch, _us: self.met(batch)  # noqa: E731
        return Pipeline(self.broker, self.plan, until_caught_up=True, observer=observer).run()

    def events(self, start: int = 0) -> list[Seen]:
        with self.broker.reader([self.topic], start) as reader:
            found: list[Seen] = []
            while batches := reader.fetch():
                found += [Seen.of(change) for batch in batches for change in batch]
        return found

    def ask(self) -> None:
        self.broker.pipelines.signal("shop", Signal(0, "snapshot", reconcile=True))

    def reconcile(self) -> list[Seen]:
        """Ask, run, and return what came."""
        before = self.broker.topic(self.topic).next_offset
        self.ask()
        assert self.run() is None
        return self.events(before)

    def unseen(self, *statements: str) -> None:
        """Run statements whose changes are in no stream."""
        self.server.run("SET SESSION sql_log_bin = 0", *statements, database=self.database)


@pytest.fixture
def reconciled(mysql: MysqlServer, database: str, tmp_path: Path) -> Iterator[Reconciled]:
    made = Reconciled(mysql, database, tmp_path / "broker")
    yield made
    made.broker.close()


MISSED = (
    "UPDATE t SET v = v + 1 WHERE v = 3",
    "UPDATE t SET note = 'other' WHERE v = 4",
    "DELETE FROM t WHERE v = 5",
    "UPDATE t SET part = 9 WHERE v = 6",
)


def numbered(mysql: MysqlServer, database: str, key: str) -> None:
    filled(mysql, database, PLANS[key])
    mysql.run("SET @n = 0", "UPDATE t SET v = (@n := @n + 1) % 10", database=database)


@pytest.mark.parametrize("key", ["int", "unordered", "composite"])
def test_reconcile_gives_what_differs(
    mysql: MysqlServer, database: str, reconciled: Reconciled, key: str
) -> None:
    numbered(mysql, database, key)
    assert reconciled.run() is None
    assert reconciled.reconcile() == [], "what is equal gives no event"
    reconciled.unseen(*MISSED, f"INSERT INTO t VALUES ({PLANS[key].spelled(999)}, 1, 1, 'new')")
    before = folded(reconciled.events())
    came = reconciled.reconcile()
    assert_equal_to_table(mysql, database, key, reconciled.events())
    state = folded(reconciled.events())
    changed = {k for k in state.keys() | before.keys() if state.get(k) != before.get(k)}
    assert len(changed) > 20
    assert len(came) == len(changed), "only what differs"
    assert {e.op for e in came} == {Op.SNAPSHOT, Op.DELETE}


def test_reconcile_under_load_with_crashes(
    mysql: MysqlServer, database: str, reconciled: Reconciled
) -> None:
    print(f"seed {SEED}")
    numbered(mysql, database, "int")
    assert reconciled.run() is None
    reconciled.unseen(*MISSED)
    ends = [2, 5, 9, 10_000]
    batches: list[int] = []

    class CrashError(Exception):
        """A crash between the sync and the ack."""

    def met(_batch: Batch) -> None:
        batches.append(1)
        load.go_on()
        if len(batches) == ends[0]:
            ends.pop(0)
            raise CrashError

    reconciled.ask()
    with Load(mysql, database, PLANS["int"], SEED) as load:
        load.go_on()
        reconciled.met = met
        for _ in range(3):
            failed = reconciled.run()
            assert failed is not None
            assert failed.code == "internal.unexpected"
        assert reconciled.run() is None
        reconciled.met = lambda _batch: None
    assert reconciled.run() is None
    assert_equal_to_table(mysql, database, "int", reconciled.events())


def test_a_table_without_key_is_read_anew(
    mysql: MysqlServer, database: str, reconciled: Reconciled
) -> None:
    mysql.run("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1), (2), (2)", database=database)
    assert reconciled.run() is None
    reconciled.unseen("INSERT INTO t VALUES (1000)")
    came = reconciled.reconcile()
    assert [e.op for e in came] == [Op.TRUNCATE] + [Op.SNAPSHOT] * 4
    assert sorted(e.new["id"] for e in came[1:] if e.new) == ["1", "1000", "2", "2"]  # type: ignore[type-var]  # text
