"""The embedded broker: publishing, reading, groups, and nothing in clear on the disk."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from ensign_core.broker import Broker, Event, Reader
from ensign_core.broker import reader as reader_module
from ensign_core.change import Batch, BatchBuilder, Column, Op, Position, Schema, Tx
from ensign_core.engine import Stored
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image
from tests.processes import Processes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECRET, COLUMN, TABLE = "Zyklame-4711-geheim", "Kundennummerfeld", "Rechnungspositionen"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker.open(tmp_path / "b") as made:
        yield made


def events(*data: object) -> list[Event]:
    return [Event(str(one).encode()) for one in data]


def data_of(batches: list[Batch]) -> list[str]:
    found = []
    for change in (change for batch in batches for change in batch):
        data = decode(change.images()[1] or b"")[1]
        assert isinstance(data, bytes)
        found.append(data.decode())
    return found


def drain(reader: Reader) -> list[str]:
    return data_of(list(itertools.chain.from_iterable(iter(reader.fetch, []))))


def refused(call: object, *args: object, **options: object) -> str:
    assert callable(call)
    with pytest.raises(EnsignError) as raised:
        call(*args, **options)
    return raised.value.code


def test_what_is_published_is_read(broker: Broker) -> None:
    event = Event(b"\xff\0", b"key", {"a": "b"}, "application/json", "order.paid")
    assert broker.publish("t", [event]) == 0
    assert broker.publish("t", events(1, 2)) == 2
    assert broker.publish("t", []) == 2
    assert broker.publish("empty", []) == -1
    with broker.reader(["t"]) as reader:
        first, *rest = [change for batch in reader.fetch() for change in batch]
    assert (first.op, first.offset, first.schema.name) == (Op.EVENT, 0, "t")
    assert decode(first.images()[1] or b"") == [
        b"key", b"\xff\0", '{"a": "b"}', "application/json", "order.paid",
    ]  # fmt: skip
    assert [change.offset for change in rest] == [1, 2]
    info = broker.topic("t")
    assert (info.events, info.first_offset, info.next_offset, info.state) == (3, 0, 3, "ready")
    assert len(info.key_ids) == 1


def test_topics_are_made_listed_and_deleted(broker: Broker) -> None:
    assert broker.create_topic("a") == broker.create_topic("a")
    broker.publish("b", events(1))
    assert [info.name for info in broker.topics()] == ["a", "b"]
    broker.delete_topic("b")
    assert refused(broker.topic, "b") == "topic.unknown"
    assert refused(broker.delete_topic, "b") == "topic.unknown"
    assert refused(broker.reader, ["a", "b"]) == "topic.unknown"
    assert refused(broker.offset, "b", "end") == "topic.unknown"
    assert broker.publish("b", events(2)) == 0
    with broker.reader(["b"]) as reader:
        assert drain(reader) == ["2"]


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "x" * 513, "..\n", "²"])
def test_names_that_may_not_be(broker: Broker, name: str) -> None:
    assert refused(broker.create_topic, name) == "topic.name_invalid"
    assert refused(broker.publish, name, events(1)) == "topic.name_invalid"


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
                broker.pipeline_topics("p")
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    maker = threading.Thread(target=make)
    looker = threading.Thread(target=look)
    found: list[str] = []
    with broker.pipeline_reader("p", "p/bus") as reader:
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
    with broker.pipeline_reader("p", "p/bus") as reader:
        assert drain(reader) == ["1"]
        real, pending = SqliteEngine.frames, [("new", "2"), ("known", "3")]

        def frames(*args: object) -> list[Stored]:
            while pending:
                append(*pending.pop(0))
            return real(*args)  # type: ignore[arg-type] # passed on

        monkeypatch.setattr(SqliteEngine, "frames", frames)
        assert drain(reader) == ["2", "3"]


def test_a_pipelines_reader_leaves_its_dead_letters_out_and_no_others(broker: Broker) -> None:
    writer = broker.writer("p")
    for topic in ("p.dead-letters", "q.dead-letters", "t"):
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, topic.encode()]))
        writer.append([(topic, builder.take(None))])
    with broker.pipeline_reader("p", "p/bus") as reader:
        assert drain(reader) == ["q.dead-letters", "t"]


def test_a_deleted_topic_does_not_disturb_a_pipelines_reader(broker: Broker) -> None:
    writer = broker.writer("p")
    for topic in ("a", "b"):
        builder = BatchBuilder().begin(Tx(None, "", 1))
        builder.add(Op.EVENT, Schema("x", (), ()), new_image([None, topic.encode()]))
        writer.append([(topic, builder.take(None))])
    with broker.pipeline_reader("p", "p/bus") as reader:
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
    db = broker._engine._db()
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


def test_processes_make_the_same_topic_at_once(broker: Broker, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom ensign_core.broker import Broker, Event\n"
        "with Broker.open(sys.argv[1]) as broker:\n"
        "    print('up', flush=True)\n    sys.stdin.readline()\n"
        "    for n in range(15): broker.publish(f't{n}', [Event(b'x')] * 2)\n"
    )
    with Processes() as processes:
        started = [processes.start(script, tmp_path / "b") for _ in range(3)]
        assert [process.line() for process in started] == ["up"] * 3
        for process in started:
            process.go()
        for number in range(15):
            broker.publish(f"t{number}", events("x", "x"))
        assert [process.wait() for process in started] == [0] * 3
    assert {info.next_offset for info in broker.topics()} == {8}
    assert len(broker.topics()) == 15
    for number in range(15):
        with broker.reader([f"t{number}"]) as reader:
            assert drain(reader) == ["x"] * 8


def test_threads_publish_at_once(broker: Broker) -> None:
    def publish(name: str) -> None:
        for number in range(20):
            broker.publish("t", events(*[f"{name}{number}"] * 200))
            broker.set_status(name, {"n": number})

    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with broker.reader(["t"]) as reader:
        found = drain(reader)
    for name in "abcd":
        mine = [one for one in found if one.startswith(name)]
        assert mine == [f"{name}{number}" for number in range(20) for _ in range(200)]
    assert broker.statuses() == {name: {"n": 19} for name in "abcd"}


def forms(text: str) -> list[bytes]:
    """What a value may look like to somebody who searches for it."""
    plain = text.encode()
    found = [plain, text.encode("utf-16-le"), text.encode("utf-16-be"), plain.hex().encode()]
    found += [base64.b64encode(plain)[:-4], base64.b64encode(b"x" + plain)[4:-4]]
    found += [base64.b64encode(b"xx" + plain)[4:-4], plain.hex().upper().encode()]
    return [*found, plain.lower(), plain.upper(), plain[::-1]]


def test_nothing_lies_on_the_disk_in_clear(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    broker = Broker.open(folder)
    schema = Schema(TABLE, (("table", TABLE),), (Column(COLUMN, "text", "text"),))
    builder = BatchBuilder().begin(Tx(SECRET + "-tx", SECRET + "-lsn", 5))
    for _ in range(3):
        builder.add(Op.INSERT, schema, new_image([SECRET]))
    position = Position(SECRET.encode() + b"-position")
    broker.writer("p").append([("t", builder.take(None))], position)
    broker.publish("u", [Event(SECRET.encode(), SECRET.encode(), {SECRET: SECRET}, "x/" + SECRET)])
    broker.set_status("p", {"detail": SECRET, "position": SECRET, COLUMN: TABLE})
    with broker.reader(["t", "u"], group="g") as reader:
        assert len([change for batch in reader.fetch() for change in batch]) == 4
        reader.commit("g")
        for closed in (False, True):
            if closed:
                broker.close()
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert {"ensign.db", "keys.db"} <= {path.name for path in files}
            assert closed or "ensign.db-wal" in {path.name for path in files}
            for path in files:
                content = path.read_bytes()
                for word in (SECRET, COLUMN, TABLE):
                    assert [form for form in forms(word) if form in content] == [], path
    with Broker.open(folder) as broker:
        assert broker.position("p") == position
        assert broker.statuses()["p"]["detail"] == SECRET


def test_what_is_opened_is_closed(tmp_path: Path) -> None:
    counts = []
    for _ in range(4):
        with Broker.open(tmp_path / "b") as broker:
            broker.publish("t", events(1))
            for _ in range(5):
                with broker.reader(["t"]) as reader:
                    reader.fetch()
                broker.reader(["t"]).fetch()
        counts.append(psutil.Process().num_fds())
    assert counts[1:] == [counts[1]] * 3
    assert list((tmp_path / "b" / "wake").iterdir()) == []


def test_a_broker_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert refused(Broker.open, tmp_path / "b", create=False) == "broker.not_found"
    assert list(tmp_path.iterdir()) == []
