"""Dead letters worked on again: at the source exactly once, at a sink at least once, each for
itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.broker.letters import Fate
from ensign_core.change import SET_ASIDE, Batch, BatchBuilder, Change, Op, Tx
from ensign_core.engine.letters import LetterStore
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image
from ensign_core.run import ingest, replay
from ensign_core.run.context import Progress, RunContext
from ensign_core.run.letters import Letter
from ensign_core.run.replay import joined
from ensign_core.run.status import statuses
from tests.processes import Processes
from tests.scripted import (
    PATIENCE_S,
    Running,
    Server,
    Step,
    Target,
    kept,
    lost,
    rows,
    schema_of,
    value_of,
)
from tests.services.ready import wait_until

LETTERS = "shop.dead-letters"
ODD = ("row.odd", "It is odd.")


@pytest.fixture(autouse=True)
def quick(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(ingest, "HEARTBEAT_S", 0.05)


def parsed(batch: Batch) -> Batch:
    """What a source makes of bytes: a row with their text, unless they are odd still."""
    builder = BatchBuilder()
    for change in batch:
        assert (change.op, change.schema) == (Op.EVENT, SET_ASIDE)
        data = decode(change.body[1:])[1]
        assert isinstance(data, bytes)
        if data.startswith(b"odd"):
            raise EnsignError("row.odder", "It is odd still.", "Look.")
        builder.add(Op.INSERT, schema_of("orders"), new_image([data.decode()]))
    return builder.take(None)


def run(broker: Broker, server: Server, targets: dict[str, Target] | None = None) -> None:
    """Run the pipeline until it has caught up."""
    with Running(broker, server, targets or {}, until_caught_up=True) as running:
        assert running.ended() is None


def ask(broker: Broker, part: str, *offsets: int) -> None:
    broker.pipelines.letters("shop").ask(part, offsets)


def fates(broker: Broker) -> dict[int, Fate]:
    return broker.pipelines.letters("shop").fates(0, 1000)


def set_aside(broker: Broker, letters: Sequence[bytes | Change]) -> Server:
    """A server whose letters a pipeline has set aside, and which makes events of them from now
    on."""
    server = Server([Step(letter=letter) for letter in letters])
    run(broker, server)
    server.again = parsed
    return server


def test_what_a_source_set_aside_becomes_an_event_that_sinks_get(broker: Broker) -> None:
    server, target = set_aside(broker, [b"1", b"2", b"3"]), Target()
    assert statuses(broker, {"shop": []})[0]["dead_letters"] == 3
    ask(broker, "source", 2, 0)
    server.add(rows("orders", 4))
    run(broker, server, {"bus": target})
    assert kept(broker, "orders") == target.values("orders") == ["1", "3", "4"]
    assert target.again == []
    assert broker.pipelines.letters("shop").done() == {0, 2}
    assert statuses(broker, {"shop": []})[0]["dead_letters"] == 1
    run(broker, server)
    assert kept(broker, "orders") == ["1", "3", "4"], "not again"
    assert broker.pipelines.position("shop") == b"4", "the position is the source's own"


def test_a_pipeline_that_runs_looks_for_what_is_asked(broker: Broker) -> None:
    server, target = set_aside(broker, [b"1"]), Target()
    target.odd = {"1"}
    with Running(broker, server, {"bus": target}):
        ask(broker, "source", 0)
        target.wait(lambda: target.calls["flush"] > 0)
        wait_until(lambda: broker.topic(LETTERS).events == 2, PATIENCE_S)
        target.odd = set()
        ask(broker, "bus", 1)
        target.wait(target.has(1))
        wait_until(lambda: broker.pipelines.letters("shop").done() == {0, 1}, PATIENCE_S)
    assert (target.values("orders"), target.again) == (["1"], ["1"])


def test_a_change_keeps_all_that_it_was(broker: Broker) -> None:
    tx = Tx("77", "0/AB", 123_456)
    builder = BatchBuilder().begin(tx, 5)
    builder.add(Op.UPDATE, schema_of("orders"), new_image(["old"]))
    builder.add(Op.DELETE, schema_of("lines"), new_image(["gone"]))
    server = set_aside(broker, list(builder.take(None)))
    server.again = lambda batch: batch
    ask(broker, "source", 0, 1)
    run(broker, server)
    with broker.reader(["orders", "lines"]) as reader:
        found = [change for batch in reader.fetch() for change in batch]
    assert [(c.op, c.schema, c.tx, c.ordinal, value_of(c)) for c in found] == [
        (Op.UPDATE, schema_of("orders"), tx, 5, "old"),
        (Op.DELETE, schema_of("lines"), tx, 6, "gone"),
    ]


def test_one_that_fails_again_stays_with_its_newer_error_and_hinders_no_other(
    broker: Broker,
) -> None:
    server = set_aside(broker, [b"odd", b"2"])
    for attempt in (1, 2):
        ask(broker, "source", 0, 1)
        assert fates(broker)[0].replaying
        run(broker, server)
        assert fates(broker) == {0: Fate(False, attempt, "row.odder", "It is odd still.")}
    assert kept(broker, "orders") == ["2"]
    assert broker.topic(LETTERS).events == 2, "no letter about a letter"
    server.again = lambda batch: batch
    ask(broker, "source", 0)
    run(broker, server)
    assert fates(broker)[0].code == "dead_letter.bytes_only"
    server.again = lambda batch: batch.part(1, 0 // 0)
    ask(broker, "source", 0)
    run(broker, server)
    assert fates(broker)[0][1:3] == (4, "internal.unexpected")


def test_one_whose_topic_takes_nothing_hinders_no_other(broker: Broker) -> None:
    server = set_aside(broker, [b"1", b"2", b"3"])
    broker.create_topic("closed")
    broker._engine.database.connection().execute(
        "UPDATE topics SET state = 'archived' WHERE name = 'closed'"
    )

    def again(batch: Batch) -> Batch:
        made = parsed(batch)
        if value_of(next(iter(made))) == "2":
            made.schemas = [schema_of("closed")]
        return made

    server.again = again
    ask(broker, "source", 0, 1, 2)
    run(broker, server)
    assert kept(broker, "orders") == ["1", "3"]
    assert [(offset, fate.code) for offset, fate in fates(broker).items()] == [
        (1, "topic.archived")
    ]


def test_groups_are_bounded_and_keep_the_order(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = set_aside(broker, [b"%d" % number for number in range(9)])
    monkeypatch.setattr(replay, "LETTERS_MAX", 4)
    monkeypatch.setattr(replay, "LETTERS_BYTES_MAX", 500)
    groups: list[int] = []
    real = replay.Replays.take

    def take(self: replay.Replays, count_max: int | None = None) -> list[Letter]:
        letters = real(self, count_max)
        groups.append(len(letters))
        return letters

    monkeypatch.setattr(replay.Replays, "take", take)
    ask(broker, "source", *range(9))
    run(broker, server)
    assert kept(broker, "orders") == [str(number) for number in range(9)]
    assert sum(groups) == 9
    assert max(groups) <= 4


def test_what_a_replay_sets_aside_is_apart_from_what_a_source_still_holds(broker: Broker) -> None:
    context = RunContext("shop", "source", Progress(), broker)
    error = EnsignError(*ODD, "Look.")
    context.dead_letter(b"before", error)
    with context.apart() as letters:
        context.dead_letter(b"again", error)
        other = threading.Thread(target=context.dead_letter, args=(b"read meanwhile", error))
        other.start()
        other.join()
    context.dead_letter(b"behind", error)
    assert [letter.event.data for letter in letters] == [b"again"]
    taken = [letter.event.data for letter in context.take_letters()]
    assert taken == [b"before", b"read meanwhile", b"behind"]


def test_small_batches_are_joined_with_their_transactions() -> None:
    builder = BatchBuilder()
    parts: list[tuple[str, Batch]] = []
    wanted: dict[str, list[tuple[str, Tx | None, int]]] = {"a": [], "b": []}
    for number in range(12):
        tx = None if number % 4 == 0 else Tx(str(number // 6), "", number // 6)
        builder = BatchBuilder()
        if tx is not None:
            builder.begin(tx, number)
        builder.add(Op.INSERT, schema_of("ab"[number % 2]), new_image([str(number)]))
        topic = "ab"[number % 3 == 0]
        parts.append((topic, builder.take(None)))
        wanted[topic].append((str(number), tx, number if tx else 0))
    whole = joined(parts)
    assert len(whole) < len(parts)
    found: dict[str, list[tuple[str, Tx | None, int]]] = {"a": [], "b": []}
    for topic, batch in whole:
        found[topic] += [(value_of(c), c.tx, c.ordinal) for c in batch]
    assert found == wanted


@pytest.fixture
def target(broker: Broker) -> Target:
    """A sink that stores offsets and set aside 2 and 3 of four events."""
    server, made = Server([rows("orders", 1, 2, 3, 4)]), Target(keeps_offsets=True)
    made.odd = {"2", "3"}
    run(broker, server, {"bus": made})
    assert made.values("orders") == ["1", "4"]
    made.odd = set()
    return made


def test_a_sink_gets_events_again_and_its_offsets_do_not_go_back(
    broker: Broker, target: Target
) -> None:
    ask(broker, "bus", 0, 1)
    run(broker, Server([rows("orders", 5)]), {"bus": target})
    assert target.again == ["2", "3"]
    assert sorted(target.values("orders")) == ["1", "2", "3", "4"]
    assert target.delivered[2:] == [("orders", 1, "2"), ("orders", 2, "3")]
    assert target.offsets == {"orders": 4}
    assert broker.pipelines.letters("shop").done() == {0, 1}


def test_an_event_that_is_still_odd_stays_a_letter(broker: Broker, target: Target) -> None:
    target.odd = {"3"}
    ask(broker, "bus", 0, 1)
    run(broker, Server(), {"bus": target})
    assert target.values("orders") == ["1", "4", "2"]
    assert broker.pipelines.letters("shop").done() == {0}
    assert fates(broker) == {1: Fate(False, 1, *ODD)}
    assert broker.topic(LETTERS).events == 2, "no second letter of the same event"


def test_an_event_that_ends_the_sink_neither_stops_the_pipeline_nor_hinders_others(
    broker: Broker, target: Target
) -> None:
    target.refused = {"2"}
    ask(broker, "bus", 0, 1)
    server = Server([rows("orders", 0, 0, 0, 0)])
    with Running(broker, server, {"bus": target}) as running:
        target.wait(target.has(3))
        wait_until(lambda: broker.pipelines.letters("shop").done() == {1}, PATIENCE_S)
        server.add(rows("orders", 6))
        target.wait(target.has(4))
        assert running.stop() is None
    assert target.values("orders") == ["1", "4", "3", "6"]
    assert fates(broker) == {0: Fate(False, 1, "row.refused", "It is refused.")}


def test_a_lost_connection_is_waited_out_and_the_request_stays(
    broker: Broker, target: Target
) -> None:
    target.fail("flush", lost(), lost())
    ask(broker, "bus", 0, 1)
    run(broker, Server(), {"bus": target})
    assert target.values("orders") == ["1", "4", "2", "3"]
    assert (broker.pipelines.letters("shop").done(), fates(broker)) == ({0, 1}, {})


def test_a_crash_behind_the_flush_delivers_again(
    broker: Broker, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[object] = []
    real = LetterStore.drop

    def drop_events(*args: object) -> None:
        if not failed:
            failed.append(args)
            raise lost()
        real(*args)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(LetterStore, "drop", drop_events)
    ask(broker, "bus", 0)
    run(broker, Server(), {"bus": target})
    assert target.values("orders") == ["1", "4", "2", "2"]


def test_two_letters_of_one_event_are_one_delivery(broker: Broker, target: Target) -> None:
    with broker.reader([LETTERS]) as reader:
        (batch,) = reader.fetch()
    broker.writer().append([(LETTERS, batch)])
    ask(broker, "bus", 0, 2, 3)
    run(broker, Server(), {"bus": target})
    assert target.again == ["2", "3"]
    assert broker.pipelines.letters("shop").done() == {0, 2, 3}


def test_an_event_that_is_not_there_any_more_is_told(broker: Broker, target: Target) -> None:
    broker.delete_topic("orders")
    target.offsets = None
    builder = BatchBuilder()
    for value in "ab":
        builder.add(Op.INSERT, schema_of("orders"), new_image([value]))
    broker.writer("shop").append([("orders", builder.take(None))])
    ask(broker, "bus", 0, 1)
    run(broker, Server(), {"bus": target})
    assert target.again == []
    assert {fate.code for fate in fates(broker).values()} == {"dead_letter.event_gone"}
    assert len(fates(broker)) == 2, "one lies in the place of another, one is missing"


def test_what_is_dropped_or_done_is_not_asked_for(broker: Broker) -> None:
    server = set_aside(broker, [b"1", b"2"])
    ask(broker, "source", 0, 1)
    broker.pipelines.letters("shop").drop([0])
    run(broker, server)
    ask(broker, "source", 0, 1)
    run(broker, server)
    assert kept(broker, "orders") == ["2"]
    assert fates(broker) == {}


KILLED = """
import sys
from ensign_core.broker import Broker, Writer
from ensign_core.run import replay
from tests.scripted import PATIENCE_S, Running, Server, Step
from tests.unit.test_run_replay import parsed

replay.LETTERS_MAX = 4
real = Writer.append

def append(*args, **rest):
    offsets = real(*args, **rest)
    print("appended", flush=True)
    sys.stdin.readline()
    return offsets

Writer.append = append
with Broker.open(sys.argv[1]) as broker:
    server = Server([Step()] * int(sys.argv[2]))
    server.again = parsed
    with Running(broker, server, until_caught_up=True) as running:
        assert running.ended() is None
print("done", flush=True)
"""


def test_a_worker_killed_behind_an_append_has_made_one_event_of_each_letter(
    broker: Broker, tmp_path: Path
) -> None:
    count, lives = 30, 3
    with Processes() as processes:
        server = Server([Step(letter=b"%d" % number) for number in range(count)])
        run(broker, server)
        ask(broker, "source", *range(count))
        for life in range(lives):
            process = processes.start(KILLED, tmp_path / "b", count)
            for _ in range(life):
                assert process.line() == "appended"
                process.go()
            assert process.line() == "appended"
            process.kill()
    assert fates(broker), "killed amid the work"
    server.again = parsed
    run(broker, server)
    assert kept(broker, "orders") == [str(number) for number in range(count)]
    assert broker.pipelines.letters("shop").done() == set(range(count))
