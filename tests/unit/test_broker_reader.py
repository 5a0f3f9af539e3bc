"""Reading: groups, offsets, times, append order over topics that come and go, and waking."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.broker import reader as reader_module
from ensign_core.change import BatchBuilder, Column, Op, Position, Schema, Tx
from ensign_core.engine import Stored
from ensign_core.engine.pipelines import PipelineStore
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.rows import new_image
from tests.processes import Processes
from tests.unit.test_broker import data_of, drain, events, refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_groups_go_on_where_they_committed(broker: Broker) -> None:
    broker.publish("a", events(1, 2))
    broker.publish("b", events(3))
    with broker.reader(["a", "b"], group="g") as reader:
        assert drain(reader) == ["1", "2", "3"]
        assert reader.offsets == {"a": 2, "b": 1}
        broker.commit("g", {"a": 1, "nowhere": 7})
    assert broker.topic("a").groups == {"g": 1}
    with broker.reader(["a", "b"], "end", "g") as reader:
        assert drain(reader) == ["2"]
        reader.commit("g")
        broker.publish("b", events(4))
        reader.commit("g")
    with broker.reader(["a", "b"], group="g") as reader:
        assert drain(reader) == ["4"]
    with broker.reader(["a", "b"], group="other") as reader:
        assert len(drain(reader)) == 4


def test_a_commit_is_of_the_topic_that_was_read_and_not_of_its_name(broker: Broker) -> None:
    broker.publish("a", events(*range(50)))
    with broker.reader(["a"]) as reader:
        assert len(drain(reader)) == 50
        broker.delete_topic("a")
        broker.publish("a", events("new"))
        reader.commit("g")
    with broker.reader(["a"], group="g") as reader:
        assert drain(reader) == ["new"]


def test_reading_from_offsets_within_frames(broker: Broker) -> None:
    for first in (0, 5, 10):
        broker.publish("t", events(*range(first, first + 5)))
    for start in range(17):
        with broker.reader(["t"], start) as reader:
            assert drain(reader) == [str(n) for n in range(start, 15)]
    with broker.reader(["t"], "end") as reader:
        assert drain(reader) == []
        broker.publish("t", events("later"))
        assert drain(reader) == ["later"]


def committed(broker: Broker, topic: str, *times_us: int | None) -> None:
    """Append a frame with one event per commit time."""
    builder = BatchBuilder()
    schema = Schema("x", (), (Column("key", "", "bytes"), Column("data", "", "bytes")))
    for time_us in times_us:
        builder.begin(Tx(None, "", time_us))
        builder.add(Op.EVENT, schema, new_image([None, str(time_us).encode()]))
    broker.writer().append([(topic, builder.take(None))])


def test_a_time_is_the_running_maximum(broker: Broker) -> None:
    times = [[5, 3, 9], [4, 4], [7, 12, 10], [11], [12, 20]]
    for frame_times in times:
        committed(broker, "t", *frame_times)
    flat = list(itertools.chain.from_iterable(times))
    highs = list(itertools.accumulate(flat, max))
    for time_us in range(22):
        expected = next((n for n, high in enumerate(highs) if high >= time_us), len(flat))
        assert broker.offset("t", EPOCH + timedelta(microseconds=time_us)) == expected


def test_a_time_is_exact_to_the_microsecond(broker: Broker) -> None:
    moment = datetime(2040, 2, 6, 7, 34, 36, 674937, tzinfo=UTC)
    time_us = (moment - EPOCH) // timedelta(microseconds=1)
    assert int(moment.timestamp() * 1e6) != time_us, "a float does not hold it"
    committed(broker, "t", time_us - 1, time_us, time_us + 1)
    assert broker.offset("t", moment) == 1


def test_append_order_over_several_topics(broker: Broker) -> None:
    for number in range(30):
        broker.publish("abc"[number * 7 % 3], events(number))
    with broker.reader(["a", "b", "c"]) as reader:
        found: list[str] = []
        while batches := reader.fetch(bytes_max=1):
            assert len(batches) == 1
            found += data_of(batches)
    assert found == [str(number) for number in range(30)]


def test_append_order_while_topics_are_made(broker: Broker) -> None:
    """A pipeline makes topics while another thread, and a sink's reader, follow it."""
    count = 300
    failed: list[Exception] = []

    def make() -> None:
        writer = broker.writer("p")
        schema = Schema("x", (), (Column("key", "", "bytes"), Column("data", "", "bytes")))
        for number in range(count):
            builder = BatchBuilder().begin(Tx(str(number), "", number))
            builder.add(Op.EVENT, schema, new_image([None, b"%d" % number]))
            topic = f"t{number if number % 5 == 0 else number // 10 * 5}"
            writer.append([(topic, builder.take(None))], Position(b"%d" % number))

    def look() -> None:
        try:
            while maker.is_alive():
                broker.pipelines.topics("p")
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    maker = threading.Thread(target=make)
    looker = threading.Thread(target=look)
    found: list[str] = []
    with broker.pipelines.reader("p", "p/bus") as reader:
        maker.start()
        looker.start()
        while len(found) < count and (batches := reader.fetch(30.0, 2000)):
            found += data_of(batches)
    maker.join()
    looker.join()
    assert failed == []
    assert found == [str(number) for number in range(count)]


def test_a_topic_that_is_made_between_two_looks_comes_first(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment that the order depends on: new and known topics are appended to just before the
    frames of the known ones are fetched."""
    writer = broker.writer("p")

    def append(topic: str, data: str) -> None:
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, data.encode()]))
        writer.append([(topic, builder.take(None))])

    append("known", "1")
    with broker.pipelines.reader("p", "p/bus") as reader:
        assert drain(reader) == ["1"]
        real, pending = SqliteEngine.frames, [("new", "2"), ("known", "3")]

        def frames(*args: object) -> list[Stored]:
            while pending:
                append(*pending.pop(0))
            return real(*args)  # type: ignore[arg-type] # passed on

        monkeypatch.setattr(SqliteEngine, "frames", frames)
        assert drain(reader) == ["2", "3"]


def test_a_topic_may_be_made_while_the_names_are_looked_up(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = broker.writer("p")
    made: list[str] = []
    real = PipelineStore.topics

    def topics(store: PipelineStore, pipeline: str) -> dict[bytes, str]:
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, b"x"]))
        made.append(f"t{len(made)}")
        writer.append([(made[-1], builder.take(None))])
        return real(store, pipeline)

    monkeypatch.setattr(PipelineStore, "topics", topics)
    assert broker.pipelines.topics("p") == made
    with broker.pipelines.reader("p", "p/bus") as reader:
        assert len(reader.offsets) == len(made) >= 2


def test_a_pipelines_reader_leaves_its_dead_letters_out_and_no_others(broker: Broker) -> None:
    writer = broker.writer("p")
    for topic in ("p.dead-letters", "q.dead-letters", "t"):
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, topic.encode()]))
        writer.append([(topic, builder.take(None))])
    with broker.pipelines.reader("p", "p/bus") as reader:
        assert drain(reader) == ["q.dead-letters", "t"]


def test_a_deleted_topic_does_not_disturb_a_pipelines_reader(broker: Broker) -> None:
    writer = broker.writer("p")
    for topic in ("a", "b"):
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, topic.encode()]))
        writer.append([(topic, builder.take(None))])
    with broker.pipelines.reader("p", "p/bus") as reader:
        assert reader.fetch()
        broker.delete_topic("a")
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, b"again"]))
        writer.append([("a", builder.take(None))])
        assert drain(reader) == ["again"]
        reader.commit("p/bus")
    assert broker.topic("a").groups == {"p/bus": 1}


def test_frames_before_a_bad_one_are_delivered_first(broker: Broker) -> None:
    for number in range(4):
        broker.publish("t", events(number))
    db = broker._engine.database.connection()
    db.execute("UPDATE bodies SET data = zeroblob(200) WHERE id = 3")
    with broker.reader(["t"]) as reader:
        assert data_of(reader.fetch()) == ["0", "1"]
        assert reader.offsets == {"t": 2}
        for _ in range(2):
            assert refused(reader.fetch) == "frame.damaged"
        assert reader.offsets == {"t": 2}
    with broker.reader(["t"], 3) as reader:
        assert drain(reader) == ["3"]


def test_a_reader_does_not_pass_over_the_frames_of_others_again(broker: Broker) -> None:
    broker.publish("rare", events(1))
    with broker.reader(["rare"]) as reader:
        assert drain(reader) == ["1"]
        for number in range(5):
            broker.publish("busy", events(number))
            assert reader.fetch() == []
        assert reader.fetch() == []
        assert reader._after == broker._engine.last_sequence()
        broker.publish("rare", events(2))
        assert drain(reader) == ["2"]


def test_a_reader_is_woken_by_an_append_of_another_process(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "LOOK_AGAIN_S_MAX", 1000.0)
    script = (
        "import sys\nfrom ensign_core.broker import Broker, Event\n"
        "with Broker.open(sys.argv[1]) as broker:\n"
        "    print('up', flush=True)\n    sys.stdin.readline()\n"
        "    broker.publish('t', [Event(b'from afar')])\n"
    )
    broker.create_topic("t")
    with Processes() as processes, broker.reader(["t"]) as reader:
        process = processes.start(script, tmp_path / "b")
        assert process.line() == "up"
        process.go()
        assert data_of(reader.fetch(60.0)) == ["from afar"]


def test_a_reader_is_woken_by_an_append_of_its_process_and_by_hand(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "LOOK_AGAIN_S_MAX", 1000.0)
    broker.create_topic("t")
    with broker.reader(["t"]) as reader:
        thread = threading.Thread(target=broker.publish, args=("t", events("here")))
        thread.start()
        assert data_of(reader.fetch(60.0)) == ["here"]
        thread.join()
        reader.wake()
        assert reader.fetch(1000.0) == []
        waker = threading.Thread(target=reader.wake)
        waker.start()
        assert reader.fetch(1000.0) == []
        waker.join()


def test_what_a_target_knows_of_another_topic_of_that_name_is_refused(broker: Broker) -> None:
    """Else it would miss the first events of a topic that was made anew and has grown beyond."""
    writer = broker.writer("p")

    def append(*data: str) -> None:
        for one in data:
            builder = BatchBuilder().begin(Tx(None, "", 1))
            builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, one.encode()]))
            writer.append([("t", builder.take(None))])

    append("1", "2")
    # The target has both, and the group was not committed any more.
    with broker.pipelines.reader("p", "p/bus", known={}) as reader:
        assert drain(reader) == ["1", "2"]
    with broker.pipelines.reader("p", "p/bus", known={"t": 2}) as reader:
        append("3")
        assert drain(reader) == ["3"]
        # What is made anew while it is read is read from its start.
        broker.delete_topic("t")
        append("4", "5", "6", "7")
        assert drain(reader) == ["4", "5", "6", "7"]
    for _ in range(2):
        with pytest.raises(EnsignError) as caught:
            broker.pipelines.reader("p", "p/bus", known={"t": 3})
        assert caught.value.code == "sink.ahead"
    with broker.pipelines.reader("p", "p/other", known={}) as reader:
        assert drain(reader) == ["4", "5", "6", "7"]
        reader.commit("p/other")
    broker.pipelines.remove("p")
    writer = broker.writer("p")
    append("8")
    with broker.pipelines.reader("p", "p/other", known={"t": 4}) as reader:
        assert drain(reader) == ["8"]
