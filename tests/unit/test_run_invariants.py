"""The invariants of the plugin contract, each by its number, with scripted ends."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Pipelines, Writer
from ensign_core.change import Stage
from ensign_core.errors import EnsignError
from ensign_core.run import ingest, retry
from tests.scripted import Running, Server, Step, Target, kept, lost, rows

STEPS = [rows("orders", 1, 2), rows("lines", 3), rows("orders"), rows("orders", 4, 5, 6)]
"""The third moves the position only: a heartbeat."""


pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def witness(broker: Broker, tmp_path: Path) -> Iterator[Broker]:
    """A broker of its own over the same folder: sees what is durable and nothing else."""
    with Broker.open(tmp_path / "b") as made:
        yield made


def failing_append(monkeypatch: pytest.MonkeyPatch, *, after: bool, times: int) -> None:
    """Make appends fail before, or after, they were made durable; every other one."""
    real, calls = Writer.append, itertools.count()

    def append(*args: object) -> object:
        number = next(calls)
        if not after and number < 2 * times and number % 2:
            raise lost()
        offsets = real(*args)  # type: ignore[arg-type] # passed on
        if after and number < 2 * times and number % 2:
            raise lost()
        return offsets

    monkeypatch.setattr(Writer, "append", append)


def test_i1_one_thread_calls_an_instance(broker: Broker) -> None:
    server, target = Server(STEPS), Target()
    server.fail("read", None, lost())
    with Running(broker, server, {"bus": target}):
        server.wait(server.read_all)
        target.wait(target.has(6))
    assert server.violations == target.violations == []
    assert len(server.instances) == 2


@pytest.mark.parametrize("nth", range(4))
@pytest.mark.parametrize("seam", ["make", "open", "read", "give", "ack", "caught_up"])
def test_i3_resumes_exactly_behind_the_last_durable_position(
    broker: Broker, seam: str, nth: int
) -> None:
    server = Server(STEPS)
    server.fail(seam, *[None] * nth, lost(), lost())
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert [kept(broker, topic) for topic in ("orders", "lines")] == [
        server.rows("orders"), server.rows("lines"),
    ]  # fmt: skip
    assert server.opened[0] is None
    assert [o or 0 for o in server.opened] == sorted(o or 0 for o in server.opened)
    assert broker.pipelines.position("shop") == b"4"


@pytest.mark.parametrize("after", [False, True], ids=["before", "behind"])
def test_i3_holds_when_the_append_itself_fails(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    failing_append(monkeypatch, after=after, times=3)
    server = Server([rows("orders", number, -number) for number in range(1, 9)])
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert kept(broker, "orders") == server.rows("orders")
    assert len(server.opened) == 4
    durable = {o for o in server.opened if o is not None}
    assert durable <= set(range(9))


KEPT_STEPS = [
    Step((("orders", "1"),), kept=(("tables", b"one"), ("old", b"old"))),
    rows("orders", 2),
    Step(kept=(("tables", b"two"), ("old", b""))),
    Step((("orders", "3"),), kept=(("old", b"again"), ("columns", bytes(100_000)))),
    Step(kept=(("none", b""), ("tables", b"three"))),
]


def pieces_at(at: int) -> dict[str, bytes]:
    """What is kept beside the position behind ``at`` steps."""
    pieces: dict[str, bytes] = {}
    for step in KEPT_STEPS[:at]:
        pieces.update(step.kept)
    return {name: value for name, value in pieces.items() if value}


@pytest.mark.parametrize("seam", ["open", "read", "give", "append", "sync", "ack"])
def test_i3_what_is_kept_beside_the_position_matches_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, seam: str
) -> None:
    server = Server(KEPT_STEPS)
    if seam in {"append", "sync"}:
        failing_append(monkeypatch, after=seam == "sync", times=4)
    server.fail(seam, *([lost()] * 2 if seam == "open" else [None, lost()] * 4))
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert len(server.opened) >= 3
    assert server.found == [pieces_at(at or 0) for at in server.opened]
    assert broker.pipelines.kept("shop") == pieces_at(len(KEPT_STEPS))
    assert kept(broker, "orders") == ["1", "2", "3"]


def test_i5_pieces_of_a_held_batch_are_refused(broker: Broker) -> None:
    server = Server([Step((("orders", "1"),), Stage.HOLD, kept=(("tables", b"one"),))])
    with Running(broker, server) as running:
        ended = running.ended()
    assert ended is not None
    assert ended.code == "internal.unexpected"
    assert (broker.pipelines.kept("shop"), broker.pipelines.position("shop")) == ({}, None)
    server.steps = [
        rows("orders", 1, stage=Stage.HOLD),
        Step((("orders", "2"),), Stage.RELEASE, kept=(("tables", b"two"),)),
    ]
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
    assert (broker.pipelines.kept("shop"), kept(broker, "orders")) == (
        {"tables": b"two"},
        ["1", "2"],
    )


def test_i4_acks_go_on_when_nothing_moves(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "HEARTBEAT_S", 0.005)
    server = Server(STEPS)
    with Running(broker, server):
        server.wait(lambda: server.acked.count(4) >= 4)
    assert server.acked == sorted(server.acked)


def test_i4_a_position_without_events_is_durable_and_acked(broker: Broker) -> None:
    server = Server([rows("orders"), rows("orders")])
    with Running(broker, server):
        server.wait(server.read_all)
    assert broker.pipelines.position("shop") == b"2"
    assert broker.topics() == []


def test_i5_nothing_is_acked_that_is_not_durable(broker: Broker, witness: Broker) -> None:
    server = Server([rows("orders", *range(n, n + 3)) for n in range(0, 60, 3)])
    server.fail("read", *[None] * 7, lost())
    early: list[tuple[int, object]] = []

    def look(position: int) -> None:
        durable = witness.pipelines.position("shop")
        if durable is None or int(durable) < position:
            early.append((position, durable))
        if witness.topic("orders").next_offset < 3 * position:
            early.append((position, "rows"))

    server.on_ack = look
    with Running(broker, server) as running:
        server.wait(server.read_all)
    assert early == []
    assert running.outcome == [None]


def test_i6_offsets_are_committed_behind_the_flush(broker: Broker, witness: Broker) -> None:
    server, target = Server(STEPS), Target()
    target.fail("flush", None, lost())
    target.fail("write", lost())
    early: list[int] = []

    def look() -> None:
        for info in witness.topics():
            committed = info.groups.get("shop/bus", 0)
            flushed = len([value for where, _, value in target.delivered if where == info.name])
            if committed > flushed:
                early.append(committed)

    target.on_flush = look
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(6))
        server.add(rows("orders", 7))
        target.wait(target.has(7))
    assert early == []
    assert {info.name: info.groups["shop/bus"] for info in broker.topics()} == {
        "orders": 6, "lines": 1,
    }  # fmt: skip


@pytest.mark.parametrize("seam", ["make", "open", "write", "flush", "flushed"])
def test_i6_a_sink_that_fails_gets_everything_again_that_was_not_committed(
    broker: Broker, seam: str
) -> None:
    server, target = Server(STEPS), Target()
    target.fail(seam, lost(), None, lost())
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    for topic in ("orders", "lines"):
        offsets = {offset: value for where, offset, value in target.delivered if where == topic}
        assert [offsets[n] for n in sorted(offsets)] == server.rows(topic)
        if seam != "flushed":
            assert target.values(topic) == server.rows(topic)
    assert target.calls["make"] >= 2


def test_i7_a_target_that_keeps_offsets_gets_each_event_once(broker: Broker) -> None:
    server, target = Server(STEPS), Target(keeps_offsets=True)
    target.fail("flushed", lost(), lost(), None, lost())
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(6))
        server.add(rows("orders", 7), rows("fresh", 8))
        target.wait(target.has(8))
    assert {topic: target.values(topic) for topic in ("orders", "lines", "fresh")} == {
        topic: server.rows(topic) for topic in ("orders", "lines", "fresh")
    }


def test_i7_a_target_that_was_put_back_gets_what_it_lost(broker: Broker) -> None:
    server, target = Server(STEPS), Target(keeps_offsets=True)
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(6))
    assert target.offsets == {"orders": 5, "lines": 1}
    target.offsets = {"orders": 2, "lines": 0}
    target.delivered = []
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(4))
    assert target.values("orders") == server.rows("orders")[2:]
    assert target.values("lines") == server.rows("lines")


def test_i7_dead_letters_of_a_target_that_keeps_offsets_survive_a_crash(broker: Broker) -> None:
    """It is not given the event again, whose offset it has."""
    server, target = Server(STEPS), Target(keeps_offsets=True)
    target.odd = {"4"}
    target.fail("flushed", lost())
    with Running(broker, server, {"bus": target}):
        target.wait(target.has(5))
        server.add(rows("orders", 7))
        target.wait(target.has(6))
    assert broker.topic("shop.dead-letters").events == 1


def test_i7_a_target_that_is_ahead_is_refused(broker: Broker) -> None:
    """Else it would miss what comes to lie before its offset."""
    server, target = Server(STEPS), Target(keeps_offsets=True)
    target.offsets = {"orders": 6}
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        failure = running.ended()
    assert isinstance(failure, EnsignError)
    assert failure.code == "sink.ahead"
    assert target.values("orders") == []


def test_i8_a_slow_sink_delays_only_itself(broker: Broker) -> None:
    server, slow, fast = Server(STEPS), Target(), Target()
    slow.gate.clear()
    with Running(broker, server, {"slow": slow, "fast": fast}):
        server.wait(server.read_all)
        slow.wait(lambda: slow.calls["write"] == 1)
        fast.wait(fast.has(6))
        server.add(rows("orders", 7))
        server.wait(server.read_all)
        fast.wait(fast.has(7))
        assert slow.delivered == []
        slow.gate.set()
        slow.wait(slow.has(7))


def test_i9_a_failed_instance_is_closed_and_a_new_one_made(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = itertools.count()
    monkeypatch.setattr(retry.Backoff, "next_s", lambda _: next(waits) * 1e-4)
    server, target = Server(STEPS), Target()
    server.fail("open", lost(), lost())
    server.fail("ack", None, lost())
    target.fail("flush", lost(), lost())
    with Running(broker, server, {"bus": target}):
        server.wait(server.read_all)
        target.wait(target.has(6))
    server.check()
    target.check()
    assert (server.calls["make"], target.calls["make"]) == (4, 3)
    assert next(waits) == 5, "a wait before each new one"


@pytest.mark.parametrize("word", sorted(retry.WAIT))
def test_i10_errors_that_time_mends_are_waited_out(broker: Broker, word: str) -> None:
    server, target = Server(STEPS), Target()
    server.fail("read", *[EnsignError(f"scripted.{word}", "It fails.", "Wait.")] * 3)
    target.fail("flush", EnsignError(f"bus.{word}", "It fails.", "Wait."))
    with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
        assert running.ended() is None
    assert len(target.delivered) == 6


@pytest.mark.parametrize("seam", ["make", "open", "read", "ack", "caught_up"])
def test_i10_any_other_error_of_a_source_stops_its_pipeline(broker: Broker, seam: str) -> None:
    server, target, other = Server(STEPS), Target(), Server()
    fault = EnsignError("scripted.slot_lost", "The slot is gone.", "Make it anew.")
    server.fail(seam, fault)
    with Running(broker, other, name="other"):
        with Running(broker, server, {"bus": target}, until_caught_up=True) as running:
            ended = running.ended()
        assert ended is fault
        assert server.calls["make"] == 1
        other.add(rows("elsewhere", 1))
        other.wait(other.read_all)
    status = broker.pipelines.statuses()["shop"]
    assert (status["state"], status["error"]) == ("failed", fault.as_dict())
    assert broker.pipelines.statuses()["other"]["state"] == "stopped"


@pytest.mark.parametrize("seam", ["make", "open", "write", "flush"])
def test_i10_any_other_error_of_a_sink_stops_its_pipeline(broker: Broker, seam: str) -> None:
    server, target = Server(STEPS), Target()
    target.fail(seam, ValueError("a row's value: 4711"))
    with Running(broker, server, {"bus": target}) as running:
        server.wait(lambda: server.calls["open"] == 1)
        target.wait(lambda: target.calls["ended"] == 1)
        error = running.ended()
    assert error is not None
    assert (error.code, "4711" in str(error)) == ("internal.unexpected", False)
    assert target.delivered == []


def test_i10_waiting_has_an_end_if_one_was_set(broker: Broker) -> None:
    server = Server(STEPS)
    server.fail("open", *[lost()] * 1000)
    with Running(broker, server, until_caught_up=True, wait_s=0.05) as running:
        ended = running.ended()
    assert ended is not None
    assert ended.code == "scripted.connection_lost"


def test_the_status_shows_what_is_waited_for_and_that_it_is_over(
    broker: Broker, witness: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = threading.Event()
    monkeypatch.setattr("ensign_core.run.pipeline.REPORT_S", 0.01)
    monkeypatch.setattr("ensign_core.run.ingest.HEARTBEAT_S", 0.01)
    monkeypatch.setattr("ensign_core.run.retry.Backoff.next_s", lambda _: 0.02)
    server = Server(STEPS)
    real_meet = server.meet

    def meet(seam: str) -> None:
        real_meet(seam)
        if seam == "open" and server.calls["open"] > 1 and not blocked.is_set():
            raise lost()

    server.meet = meet  # type: ignore[method-assign] # fails until the test has seen enough
    server.fail("read", *[None] * 6, lost())
    real_set = Pipelines.set_status

    def set_status(pipelines: Pipelines, pipeline: str, status: dict[str, object]) -> None:
        real_set(pipelines, pipeline, status)
        real_meet("status")

    def shown(state: str, error: object) -> bool:
        found = witness.pipelines.statuses().get("shop", {})
        return (found.get("state"), found.get("error")) == (state, error)

    monkeypatch.setattr(Pipelines, "set_status", set_status)
    with Running(broker, server):
        server.wait(lambda: shown("waiting", lost().as_dict()))
        blocked.set()
        server.wait(lambda: shown("streaming", None))  # although nothing has come since
    assert witness.pipelines.statuses()["shop"]["state"] == "stopped"
