"""Signals from an operator to a source, and what a source tells of its snapshots and warnings."""

from __future__ import annotations

import io
import logging
import threading
import time

import pytest
from rich.console import Console

from ensign_core.broker import Broker, Writer
from ensign_core.cli import progress
from ensign_core.cli.progress import live_snapshots, snapshot_lines, status_rows
from ensign_core.errors import EnsignError
from ensign_core.plugin import Signal, SnapshotProgress
from ensign_core.rows import encode, new_image
from ensign_core.run import context, pipeline
from ensign_core.run.context import Progress, RunContext
from ensign_core.run.status import snapshot_text, statuses
from tests.scripted import PATIENCE_S, Running, Server, lost, rows, schema_of, topic_of
from tests.services.ready import wait_until

ASKED = Signal(0, "snapshot", ("public.*",), "id > 7", False)


@pytest.fixture(autouse=True)
def quick(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SIGNALS_EVERY_S", 0.0)
    monkeypatch.setattr(pipeline, "REPORT_S", 0.01)


def test_a_signal_is_heeded_once_and_forgotten_after_the_ack(broker: Broker) -> None:
    server = Server([rows("orders", 1)])
    with Running(broker, server):
        server.wait(server.read_all)
        number = broker.pipelines.signal("shop", ASKED)
        server.wait(lambda: bool(server.signals))
        seen = server.calls["read"]
        server.wait(lambda: server.calls["read"] > seen + 1)
        server.add(rows("orders", 2))
        server.wait(server.read_all)
        seen = server.calls["read"]
        server.wait(lambda: server.calls["read"] > seen)
    assert server.signals == [Signal(number, "snapshot", ("public.*",), "id > 7", False)]
    assert broker.pipelines.signals("shop") == []


def test_a_signal_given_while_nothing_runs_is_done_at_the_next_run(broker: Broker) -> None:
    numbers = [
        broker.pipelines.signal("shop", ASKED),
        broker.pipelines.signal("shop", Signal(0, "pause")),
    ]
    broker.pipelines.signal("other", Signal(0, "stop"))
    assert [signal.number for signal in broker.pipelines.signals("shop")] == numbers
    server = Server()
    with Running(broker, server):
        server.wait(lambda: len(server.signals) == 2)
        server.wait(lambda: bool(server.acked))
    again = Server()
    with Running(broker, again):
        again.wait(lambda: again.calls["read"] > 1)
    assert [signal.kind for signal in server.signals] == ["snapshot", "pause"]
    assert again.signals == []
    assert [signal.kind for signal in broker.pipelines.signals("other")] == ["stop"]


def test_what_was_not_durable_is_heeded_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Writer.append
    failed = threading.Event()

    def append(*args: object) -> object:
        if server.signals and not failed.is_set():
            failed.set()
            raise lost()
        return real(*args)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(Writer, "append", append)
    server = Server([rows("orders", 1)])
    with Running(broker, server):
        server.wait(server.read_all)
        number = broker.pipelines.signal("shop", ASKED)
        server.wait(lambda: len(server.signals) == 2)
        acks = server.calls["ack"]
        server.wait(lambda: server.calls["ack"] > acks)
    assert [signal.number for signal in server.signals] == [number, number]


def test_numbers_rise_also_over_forgotten_and_removed_ones(broker: Broker) -> None:
    first = broker.pipelines.signal("shop", ASKED)
    broker.pipelines.forget_signals("shop", first)
    second = broker.pipelines.signal("shop", ASKED)
    broker.pipelines.remove("shop")
    assert broker.pipelines.signals("shop") == []
    assert first < second < broker.pipelines.signal("shop", ASKED)


def test_an_idle_source_asks_the_engine_now_and_then_only(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SIGNALS_EVERY_S", 3600.0)
    made = RunContext("shop", "source", Progress(), broker)
    assert made.signals(0) == []
    broker.pipelines.signal("shop", ASKED)
    assert made.signals(0) == []
    monkeypatch.setattr(context, "SIGNALS_EVERY_S", 0.0)
    (signal,) = made.signals(0)
    assert signal.where == "id > 7"


def test_a_source_compares_a_table_with_its_topic(broker: Broker) -> None:
    server = Server([rows("orders", 1, 2)])
    with Running(broker, server):
        server.wait(server.read_all)
    made = RunContext("shop", "source", Progress(), broker, topic_of)
    comparison = made.comparison(schema_of("orders"))
    assert comparison.differing(schema_of("orders"), [new_image(["1"]), new_image(["3"])]) == [
        new_image(["3"])
    ]
    assert comparison.absent(5) == [b"K" + encode(["2"])]
    comparison.close()


def test_snapshots_in_status(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Progress()
    made = RunContext("shop", "source", seen, broker)
    assert seen.snapshot_dict() is None
    made.progress(snapshot=SnapshotProgress(1, 4, 100, 400))
    assert seen.snapshot_dict() == {
        "tables": 4, "tables_done": 1, "rows": 100, "rows_total": 400, "percent": 25.0,
        "eta_seconds": None,
    }  # fmt: skip
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    made.progress(snapshot=SnapshotProgress(1, 4, 200, 400))
    found = seen.snapshot_dict()
    assert found is not None
    assert (found["percent"], found["eta_seconds"]) == (50.0, 20)
    assert snapshot_text(found) == (
        "snapshot: 200 rows of about 400 (50.0 %), 0:00:20 left, 1 of 4 tables"
    )
    made.progress(snapshot=SnapshotProgress(3, 4, 500, 400))
    found = seen.snapshot_dict()
    assert found is not None
    assert (found["percent"], found["eta_seconds"]) == (99.9, 0)
    made.progress(snapshot=SnapshotProgress(0, 1, 5, None))
    found = seen.snapshot_dict()
    assert found is not None
    assert snapshot_text(found) == "snapshot: 5 rows, 0 of 1 tables"
    made.progress(snapshot=SnapshotProgress(1, 1, 7, None))
    assert seen.snapshot_dict() is None


def test_warnings_are_told_once_when_they_appear_and_once_when_they_end(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server([rows("orders", 1)])
    warning = EnsignError("postgres.wal_kept", "The slot keeps 9 GB.", "Look.")
    caplog.set_level(logging.INFO, "ensign")
    with Running(broker, server) as running:
        server.wait(server.read_all)
        seen = running.pipeline.source.progress
        seen.kept_bytes = 9 << 30
        seen.warnings = (warning,)
        wait_until(lambda: bool(statuses(broker, {"shop": []})[0]["warnings"]), PATIENCE_S, 0.01)
        (status,) = statuses(broker, {"shop": []})
        seen.warnings = (EnsignError(warning.code, "The slot keeps 10 GB.", "Look."),)
        wait_until(
            lambda: "10 GB" in str(statuses(broker, {"shop": []})[0]["warnings"]), PATIENCE_S, 0.01
        )
        seen.warnings = ()
        wait_until(lambda: not statuses(broker, {"shop": []})[0]["warnings"], PATIENCE_S, 0.01)
        seen.warnings = (warning,)
        wait_until(lambda: bool(statuses(broker, {"shop": []})[0]["warnings"]), PATIENCE_S, 0.01)
    assert status["warnings"] == [warning.as_dict()]
    assert status["kept_bytes"] == 9 << 30
    assert statuses(broker, {"shop": []})[0]["warnings"] == []
    lines = [r.getMessage() for r in caplog.records if "warning" in r.getMessage()]
    assert lines == [
        "shop: warning: postgres.wal_kept: The slot keeps 9 GB. Look.",
        "shop: warning is over: postgres.wal_kept",
        "shop: warning: postgres.wal_kept: The slot keeps 9 GB. Look.",
    ]
    assert status_rows([status])[0][:2] == ["shop", status["state"]]


SNAPSHOT = {
    "tables": 2, "tables_done": 0, "rows": 1234, "rows_total": 5000, "percent": 24.7,
    "eta_seconds": 65,
}  # fmt: skip


def test_a_terminal_shows_the_snapshots_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.001)
    asked, again = threading.Event(), threading.Event()
    left: dict[str, dict[str, object]] = {"shop": {"snapshot": SNAPSHOT}, "idle": {}}

    def lines() -> list[str]:
        if asked.is_set():
            again.set()
            raise EnsignError("engine.busy", "It is busy.", "Wait.")
        asked.set()
        return snapshot_lines(left, ["shop", "idle", "new"])

    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    with live_snapshots(terminal, lines):
        assert again.wait(30)
    assert isinstance(terminal.file, io.StringIO)
    shown = terminal.file.getvalue()
    assert "shop: snapshot: 1,234 rows of about 5,000 (24.7 %)" in shown
    assert "0:01:05 left, 0 of 2 tables" in shown
    assert "idle" not in shown

    plain = Console(file=io.StringIO())
    with live_snapshots(plain, lambda: pytest.fail("nobody looks")):
        pass
    assert isinstance(plain.file, io.StringIO)
    assert plain.file.getvalue() == ""
