"""Faults on the wire between a pipeline and PostgreSQL, with the ledger of the crash tests held
against the topic: cut, silent and slow at the moments where something could get lost or repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.postgres import CONNECTOR, chunks, feedback
from connectors.postgres.config import PostgresConfig
from ensign_core.broker import Broker
from ensign_core.change import Batch, Op
from ensign_core.run.pipeline import Pipeline, Plan
from tests.conftest import Database
from tests.crash.ledger import Verdict, judge
from tests.crash.load import Load, prepare
from tests.crash.postgres import Committed
from tests.services.proxy import FaultProxy
from tests.services.ready import wait_until

PATIENCE_S = 60.0
SEED = 20261124
LAST = "the last"
AUDITED = "INSERT INTO audit SELECT version, 'accounts', id, 'update' FROM changed"
UPDATED = f"""
WITH changed AS (
    UPDATE accounts SET version = nextval('versions'), note = repeat('y', 3000)
    RETURNING id, version
) {AUDITED}
"""


class Shop:
    """A pipeline in a thread of its own that reaches its server through a proxy. ``met`` is called
    on the source's thread with each batch, when it is durable and not acked yet."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self.database = database
        self.broker = broker
        self.proxy = FaultProxy("127.0.0.1", database.server.port)
        self.met: Callable[[Batch], None] = lambda _batch: None
        self.query_timeout_s = 60.0
        self._last = threading.Event()
        prepare(self.connect)

    def connect(self) -> psycopg.Connection[Any]:
        return self.database.server.connect(self.database.name)

    def plan(self, dsn: str) -> Plan:
        config = PostgresConfig(
            type="postgres", dsn=dsn, tables=["public.*"], slot=f"slot_{self.database.name}",
            discover_s=0.3, batch_bytes_max=20_000, workers=3,
            query_timeout_s=self.query_timeout_s,
        )  # fmt: skip
        return Plan("shop", CONNECTOR, config, lambda _schema: "shop", {})

    def start(self) -> None:
        """Run until `judged`; the proxy misbehaves as it was told before."""
        direct, through = f":{self.database.server.port}/", f":{self.proxy.port}/"
        plan = self.plan(self.database.dsn.replace(direct, through))
        self.pipeline = Pipeline(self.broker, plan, observer=self._observe)
        self._thread = threading.Thread(target=self.pipeline.run, daemon=True)
        self._thread.start()

    def _observe(self, batch: Batch, _synced_us: int) -> None:
        self.met(batch)
        if LAST.encode() in batch.body:
            self._last.set()

    def streaming(self) -> None:
        """Wait until the snapshot is complete."""
        progress = self.pipeline.source.progress
        wait_until(lambda: progress.state == "streaming", PATIENCE_S)

    def judged(self) -> Verdict:
        """Commit a last change, wait until this pipeline has it, whatever it went through; then
        let a second one see to it that all is there, and compare."""
        self.database.run(f"INSERT INTO audit VALUES (nextval('versions'), '', 0, '{LAST}')")
        assert self._last.wait(PATIENCE_S), self.pipeline.source.progress.error
        self.stop()
        again = Pipeline(self.broker, self.plan(self.database.dsn), until_caught_up=True)
        assert again.run() is None
        return judge(Committed(self.database.connection), self.broker, "shop", None)

    def stop(self) -> None:
        self.pipeline.stop()
        self._thread.join(PATIENCE_S)
        assert self.pipeline.error is None


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Shop]:
    with Broker.open(tmp_path / "broker") as broker:
        made = Shop(database, broker)
        with made.proxy:
            yield made
            made.stop()


def loaded(shop: Shop, rows: int) -> None:
    """Write to the tables until so many changes are committed."""
    enough = f"SELECT count(*) >= {rows} FROM audit"
    with Load(shop.connect, SEED):
        wait_until(lambda: shop.database.value(enough), PATIENCE_S)


def test_cut_in_the_middle_of_a_transaction(shop: Shop) -> None:
    cuts: list[int] = []

    def cut(batch: Batch) -> None:
        if Op.UPDATE in batch.ops and len(cuts) < 3:
            cuts.append(len(batch))
            shop.proxy.cut()

    shop.start()
    shop.streaming()
    shop.met = cut
    shop.database.run(UPDATED)
    verdict = shop.judged()
    assert verdict.faults == []
    assert len(cuts) == 3
    assert sum(cuts) < 100, "the first cuts came when the transaction had come"


def test_cut_between_a_commit_and_its_ack(shop: Shop) -> None:
    cuts: list[Batch] = []

    def cut(batch: Batch) -> None:
        if batch.runs and Op.INSERT in batch.ops and len(cuts) < 5:
            cuts.append(batch)
            shop.proxy.cut()

    shop.start()
    shop.streaming()
    shop.met = cut
    loaded(shop, 2_000)
    verdict = shop.judged()
    assert verdict.faults == []
    assert len(cuts) == 5


def test_cut_while_rows_are_copied(shop: Shop) -> None:
    """The tables are larger than what the sockets between hold, so that the copy is under way."""
    shop.database.run("UPDATE accounts SET note = repeat('x', 80000)")
    copying = (
        "SELECT count(*) FROM pg_stat_progress_copy "
        f"WHERE datname = '{shop.database.name}' AND bytes_processed > 1000000"
    )
    # Slow enough for a machine that is busy: the copy is not over before it is seen.
    shop.proxy.throttle(400_000, "down")
    shop.start()
    for _ in range(2):
        wait_until(lambda: shop.database.value(copying), PATIENCE_S)
        shop.proxy.cut()
        wait_until(lambda: not shop.database.value(copying), PATIENCE_S)
    shop.proxy.heal()
    loaded(shop, 500)
    assert shop.judged().faults == []


@pytest.mark.parametrize("when", ["snapshot", "streaming"])
def test_server_is_silent(shop: Shop, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    for module in (feedback, chunks):
        monkeypatch.setattr(module, "SILENCE_S_MAX", 1.0)
    shop.query_timeout_s = 5.0
    silenced = threading.Event()

    def silence(batch: Batch) -> None:
        if when == "streaming" or Op.SNAPSHOT in batch.ops:
            shop.met = lambda _batch: None
            shop.proxy.black_hole()
            silenced.set()

    shop.met = silence if when == "snapshot" else shop.met
    shop.start()
    if when == "streaming":
        shop.streaming()
        shop.met = silence
    with Load(shop.connect, SEED):
        assert silenced.wait(PATIENCE_S)
        progress = shop.pipeline.source.progress
        wait_until(lambda: progress.error is not None, PATIENCE_S)
        shop.proxy.heal()
        wait_until(lambda: progress.error is None, PATIENCE_S)
    assert shop.judged().faults == []


def test_slow_link(shop: Shop) -> None:
    shop.proxy.delay(0.02)
    shop.proxy.throttle(1_000_000)
    shop.start()
    loaded(shop, 1_500)
    verdict = shop.judged()
    assert verdict.faults == []
    assert verdict.snapshots > 0


def test_server_is_out_of_reach_for_a_while(shop: Shop) -> None:
    shop.start()
    shop.streaming()
    shop.proxy.refuse()
    shop.proxy.cut()
    progress = shop.pipeline.source.progress
    loaded(shop, 500)
    wait_until(lambda: progress.error is not None, PATIENCE_S)
    assert progress.error is not None
    assert progress.error.code == "postgres.unreachable"
    shop.proxy.heal()
    assert shop.judged().faults == []
