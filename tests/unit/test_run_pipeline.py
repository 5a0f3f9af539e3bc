"""A pipeline as a whole: held batches, dead letters, catching up, draining, its status."""

from __future__ import annotations

import json
import threading

import pytest

from ensign_core.broker import Broker, Pipelines, Reader, Writer
from ensign_core.broker.copies import Copy
from ensign_core.change import Batch, Change, Stage, Tx
from ensign_core.engine.groups import GroupStore
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.rows import decode
from ensign_core.run.status import statuses
from tests.scripted import PATIENCE_S, Running, ScriptedSink, Server, Step, Target, kept, lost, rows

LETTERS = "shop.dead-letters"


pytestmark = pytest.mark.usefixtures("short_waits")


def letters(broker: Broker) -> list[tuple[bytes, dict[str, str]]]:
    """Data and metadata of the dead letters."""
    found: list[tuple[bytes, dict[str, str]]] = []
    with broker.reader([LETTERS]) as reader:
        for batch in reader.fetch():
            for change in batch:
                _, data, metadata, *_ = decode(change.images()[1] or b"")
                assert isinstance(data, bytes)
                assert isinstance(metadata, str)
                found.append((data, json.loads(metadata)))
    return found


def held(*values: object) -> Step:
    return rows("orders", *values, stage=Stage.HOLD)


def released(*values: object) -> Step:
    return rows("orders", *values, stage=Stage.RELEASE)


def test_held_batches_appear_at_the_release_and_are_not_acked_before(broker: Broker) -> None:
    server = Server([rows("orders", 1), held(2, 3), held(4)])
    with Running(broker, server):
        server.wait(lambda: server.calls["read"] >= 4)
        assert kept(broker, "orders") == ["1"]
        assert broker.pipelines.position("shop") == b"1"
        assert set(server.acked) == {1}
        server.add(released(5))
        server.wait(server.read_all)
    assert kept(broker, "orders") == ["1", "2", "3", "4", "5"]
    assert broker.pipelines.position("shop") == b"4"


def test_a_release_without_rows_delivers_what_was_held(broker: Broker) -> None:
    server, target = Server([held(1), held(2), released()]), Target()
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(2))
    assert target.values("orders") == ["1", "2"]


@pytest.mark.parametrize("nth", range(5))
def test_what_is_held_is_void_after_a_restart(broker: Broker, nth: int) -> None:
    server = Server([held(1), held(2), held(3), released(4), rows("orders", 5)])
    server.fail("read", *[None] * nth, lost())
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert kept(broker, "orders") == server.rows("orders")


def test_a_dead_letter_of_a_source_comes_with_its_append_exactly_once(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server([
        rows("orders", 1), Step((("orders", "2"),), letter=b"raw"), Step(letter=b"\xff"),
        rows("orders", 3),
    ])  # fmt: skip
    failed: list[object] = []
    real = SqliteEngine.append

    def append(engine: SqliteEngine, writes: list[object], *rest: object) -> object:
        if len(failed) < 3 and any(getattr(write, "topic", "") == LETTERS for write in writes):
            failed.append(writes)
            raise lost()
        return real(engine, writes, *rest)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(SqliteEngine, "append", append)
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert len(failed) == 3
    assert kept(broker, "orders") == ["1", "2", "3"]
    assert letters(broker) == [
        (data, {"part": "source", "code": "row.odd", "error": "It is odd."})
        for data in (b"raw", b"\xff")
    ]


def test_a_dead_letter_that_no_append_followed_is_not_kept(broker: Broker) -> None:
    server = Server([Step((("orders", "1"),), letter=b"raw"), rows("orders", 2)])
    server.fail("give", lost(), None, lost())
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert [data for data, _ in letters(broker)] == [b"raw"]


def test_dead_letters_of_a_sink_come_before_its_offset(broker: Broker) -> None:
    server, target = Server([rows("orders", 1, 2), rows("lines", 3)]), Target()
    target.odd = {"2", "3"}
    target.fail("flush", lost())
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert target.values("orders") == ["1"]
    found = {(meta["topic"], meta["offset"]): (data, meta) for data, meta in letters(broker)}
    assert len(letters(broker)) == len(found) == 2
    data, meta = found["orders", "1"]
    copy = Copy(bytes.fromhex(meta["key"]), data)
    body = broker.copies.open(LETTERS, "orders", 1, copy)
    assert (decode(body[1:]), meta["schema"], meta["op"]) == (["2"], "public.orders", "insert")
    assert meta["code"] == "row.odd"


def test_dead_letters_of_a_sink_come_before_the_offsets_of_its_target(broker: Broker) -> None:
    seen: list[list[bytes]] = []
    server, target = Server([rows("orders", 1, 2)]), Target(keeps_offsets=True)
    target.odd = {"2"}
    target.on_flush = lambda: seen.append([data for data, _ in letters(broker)])
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert len(seen[0]) == len(letters(broker)) == 1


def test_a_sinks_letter_is_there_even_if_its_offset_is_not(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[list[bytes]] = []
    real = GroupStore.commit

    def commit(*args: object) -> None:
        if not failed:
            failed.append([data for data, _ in letters(broker)])
            raise lost()
        real(*args)  # type: ignore[arg-type] # passed on

    server, target = Server([rows("orders", 1)]), Target()
    target.odd = {"1"}
    monkeypatch.setattr(GroupStore, "commit", commit)
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert len(failed[0]) == 1, "lost if it came behind the offset"


def test_catching_up_delivers_all_that_was_there_and_ends(broker: Broker) -> None:
    steps = [Step((("orders", str(n)), ("lines", str(-n)))) for n in range(40)]
    server = Server([*steps, Step(letter=b"last")])
    targets = {"bus": Target(), "lake": Target(keeps_offsets=True)}
    targets["bus"].fail("flush", lost())
    with Running(broker, server, targets, until_caught_up=True) as running:
        assert running.ended() is None
    for target in targets.values():
        assert target.values("orders") == server.rows("orders")
        assert target.values("lines") == server.rows("lines")
    (status,) = statuses(broker, {"shop": targets})
    assert (status["state"], status["lag_events"]) == ("stopped", 0)
    assert [sink["name"] for sink in status["sinks"]] == ["bus", "lake"]


def test_catching_up_with_nothing_ends_too(broker: Broker) -> None:
    with Running(broker, Server(), {"bus": Target()}, until_caught_up=True) as running:
        assert running.ended() is None


def test_catching_up_goes_on_where_it_ended(broker: Broker) -> None:
    server, target = Server([rows("orders", 1)]), Target()
    for number in range(2, 5):
        with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
            assert running.ended() is None
        server.add(rows("orders", number))
    assert target.values("orders") == ["1", "2", "3"]


def test_stopping_flushes_and_commits_what_was_written(broker: Broker) -> None:
    server, target = Server([rows("orders", 1, 2)]), Target()
    writing = threading.Event()
    target.gate.clear()
    with Running(broker, server, {"bus": target}) as running:
        target.wait(lambda: target.calls["write"] == 1)
        running.pipeline.stop()
        server.interrupt()
        writing.set()
        target.gate.set()
        assert running.ended() is None
    assert target.values("orders") == ["1", "2"]
    assert broker.topic("orders").groups == {"shop/bus": 2}


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a sink has found where it begins."""
    event, real = threading.Event(), Pipelines.reader

    def pipeline_reader(*args: object, **options: object) -> Reader:
        reader = real(*args, **options)  # type: ignore[arg-type] # passed on
        event.set()
        return reader

    monkeypatch.setattr(Pipelines, "reader", pipeline_reader)
    return event


def test_a_new_sink_begins_where_it_is_told_and_keeps_to_it(
    broker: Broker, reading: threading.Event
) -> None:
    server = Server([rows("orders", 1, 2)])
    with Running(broker, server):
        server.wait(server.read_all)
    late = Target()
    with Running(broker, server, {"late": late}, begin="end"):
        assert reading.wait(PATIENCE_S)
        server.add(rows("orders", 3), rows("fresh", 4))
        late.wait(late.has(2))
    assert late.delivered == [("orders", 2, "3"), ("fresh", 0, "4")]


def test_the_end_of_nothing_is_the_start_even_after_a_restart(
    broker: Broker, reading: threading.Event
) -> None:
    """A sink that begins at the end, before there is a topic, owes what comes after."""
    server, target = Server(), Target()
    with Running(broker, server, {"bus": target}, begin="end"):
        assert reading.wait(PATIENCE_S)
        target.fail("flush", *[lost()] * 3)
        server.add(rows("orders", 1))
        target.wait(target.has(1))
    assert target.values("orders") == ["1"]


def test_a_pipeline_that_runs_is_not_run_twice(broker: Broker) -> None:
    server, other = Server([rows("orders", 1)]), Server()
    with Running(broker, server):
        server.wait(server.read_all)
        with Running(broker, other) as second:
            ended = second.ended()
        assert ended is not None
        assert ended.code == "pipeline.running"
        assert other.calls["make"] == 0


def test_a_worker_that_lost_its_pipeline_stops(broker: Broker) -> None:
    server = Server([rows("orders", 1)])
    with Running(broker, server) as running:
        server.wait(server.read_all)
        Writer(broker._vault, "shop")
        server.add(rows("orders", 2))
        ended = running.ended()
    assert ended is not None
    assert ended.code == "pipeline.fenced"
    assert (kept(broker, "orders"), broker.pipelines.position("shop")) == (["1"], b"1")


def test_an_exception_in_the_runner_stops_the_threads_before_the_next_may_run(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server([rows("orders", 1)])
    running = Running(broker, server)
    running.__enter__()
    server.wait(server.read_all)
    monkeypatch.setattr(running.pipeline, "report", lambda **_: 1 / 0)
    running.pipeline._ended.set()
    server.wait(lambda: server.calls["close"] == 1 or bool(running.outcome))
    server.wait(lambda: server.calls["ended"] == 1)
    assert isinstance(running.outcome[0], ZeroDivisionError)
    assert [instance.closed for instance in server.instances] == [1]
    assert not broker.pipelines.held("shop")


def test_batches_without_transactions_pass(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.scripted.BatchBuilder.begin", lambda self, *_: self)
    server, target = Server([rows("orders", 1, 2)]), Target()
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert target.values("orders") == ["1", "2"]


def test_one_read_goes_to_its_topics_in_one_append(broker: Broker) -> None:
    server = Server([Step((("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")))])
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    with broker.reader(["a", "b", "c"]) as reader:
        found = [change for batch in reader.fetch() for change in batch]
    assert [(c.batch.topic, c.ordinal) for c in found] == [("a", 0), ("a", 2), ("b", 1), ("c", 3)]
    assert {c.tx for c in found} == {Tx("1", "0/1", 1_000_001)}
    assert all(isinstance(c, Change) and len(c.batch.schemas) == 1 for c in found)


def test_the_status_of_pipelines(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensign_core.run.pipeline.REPORT_S", 0.005)
    assert statuses(broker, {"shop": ["bus"]})[0]["state"] == "stopped"
    server, target = Server([rows("orders", 1, 2)]), Target()
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(2))
        server.wait(lambda: broker.pipelines.held("shop"))
    (status,) = statuses(broker, {"shop": ["bus"]})
    assert (status["state"], status["error"]) == ("stopped", None)
    (sink,) = status["sinks"]
    assert (sink["name"], sink["offset"], sink["lag_events"]) == ("bus", 2, 0)
    server.fail("open", EnsignError("scripted.denied", "It is denied.", "Grant it."))
    with Running(broker, server) as running:
        assert running.ended() is not None
    (status,) = statuses(broker, {"shop": ["bus"]})
    assert (status["state"], status["error"]["code"]) == ("failed", "scripted.denied")


def test_i7_dead_letters_lie_in_their_topic_before_the_next_write(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink may commit its offsets in the midst of a write, behind what it set aside before."""
    server, target = Server([rows("orders", 1, "odd"), rows("orders", 2)]), Target()
    with Running(broker, server, {}, until_caught_up=True) as running:
        assert running.ended() is None
    target.odd = {"odd"}
    seen: list[tuple[int, int]] = []
    write = ScriptedSink.write

    def looking(sink: ScriptedSink, batch: Batch) -> None:
        there = broker.topics(["shop.dead-letters"])
        seen.append((target.calls["flush"], sum(topic.events for topic in there)))
        write(sink, batch)

    monkeypatch.setattr(ScriptedSink, "write", looking)
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert seen == [(0, 0), (0, 1)]
    assert broker.topic("shop.dead-letters").events == 1
