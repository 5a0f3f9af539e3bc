"""The embedded broker: publishing, reading, groups, and nothing in clear on the disk."""

from __future__ import annotations

import base64
import itertools
import threading
from pathlib import Path

import psutil
import pytest

from ensign_core.broker import Broker, Event, Reader, vault
from ensign_core.broker.events import received
from ensign_core.change import Batch, BatchBuilder, Column, Op, Position, Schema, Stage, Tx
from ensign_core.errors import EnsignError
from ensign_core.rows import decode, new_image
from tests.processes import Processes

SECRET, COLUMN, TABLE = "Zyklame-4711-geheim", "Kundennummerfeld", "Rechnungspositionen"


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


def test_schemas_without_end_take_no_memory_without_end(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault, "SCHEMAS_MAX", 7)
    names = [f"member{n}" for n in range(10)] * 2
    writer = broker.writer("p")
    for name in names:
        builder = BatchBuilder()
        schema = Schema("t", (("topic", "t"),), (Column(name, "string", "text"),))
        builder.add(Op.INSERT, schema, new_image(["x"]))
        writer.append([("t", builder.take(None))])
    assert len(broker._vault._schemas) <= 7
    with broker.reader(["t"]) as reader:
        found = [change.schema.columns[0].name for b in reader.fetch() for change in b]
    assert found == names
    assert len(broker._vault._schemas) <= 7


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
            broker.pipelines.set_status(name, {"n": number})

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
    assert broker.pipelines.statuses() == {name: {"n": 19} for name in "abcd"}


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
    kept = {"piece": f"{SECRET} {COLUMN} {TABLE}".encode()}
    broker.writer("p").append([("t", builder.take(None))], position, kept=kept)
    broker.publish("u", [Event(SECRET.encode(), SECRET.encode(), {SECRET: SECRET}, "x/" + SECRET)])
    broker.pipelines.set_status("p", {"detail": SECRET, "position": SECRET, COLUMN: TABLE})
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
        assert (broker.pipelines.position("p"), broker.pipelines.kept("p")) == (position, kept)
        assert broker.pipelines.statuses()["p"]["detail"] == SECRET


def test_a_piece_that_was_changed_or_moved_is_told(broker: Broker) -> None:
    writer = broker.writer("p")
    db = broker._engine.database.connection()
    writer.append([], Position(b"1"), kept={"a": b"one", "b": b"two"})
    broker.writer("q").append([], Position(b"1"), kept={"a": b"three"})
    boxes = dict(db.execute("SELECT pipeline || name, value FROM kept"))
    for damaged in (
        boxes["pb"], boxes["qa"], boxes["pa"][:-1], boxes["pa"][:5], b"",
        bytes([boxes["pa"][0] ^ 1]) + boxes["pa"][1:],
    ):  # fmt: skip
        db.execute("UPDATE kept SET value = ? WHERE pipeline = 'p' AND name = 'a'", (damaged,))
        assert refused(broker.pipelines.kept, "p") == "frame.tampered"
    db.execute("UPDATE kept SET value = ? WHERE pipeline = 'p' AND name = 'a'", (boxes["pa"],))
    assert broker.pipelines.kept("p") == {"a": b"one", "b": b"two"}
    broker.pipelines.remove("p")
    assert (broker.pipelines.kept("p"), broker.pipelines.kept("q")) == ({}, {"a": b"three"})


def test_pieces_are_kept_with_a_position_only(broker: Broker) -> None:
    writer, position = broker.writer("p"), Position(b"1")
    for one, durable, stage in (
        (writer, None, Stage.NONE),
        (writer, position, Stage.HOLD),
        (broker.writer(), position, Stage.NONE),
    ):
        with pytest.raises(ValueError, match="position"):
            one.append([], durable, stage, {"a": b"one"})
    assert (broker.pipelines.position("p"), broker.pipelines.kept("p")) == (None, {})


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


def test_published_events_are_received_as_they_were(broker: Broker) -> None:
    events = [
        Event(b"1", b"k", {"a": "b"}, "text/plain", "T v1"), Event(b""), Event(bytes(range(256))),
    ]  # fmt: skip
    broker.publish("t", events)
    (batch,) = broker.reader(["t"]).fetch()
    found = list(received(batch))
    assert [one.event for one in found] == events
    assert [(one.topic, one.offset) for one in found] == [("t", 0), ("t", 1), ("t", 2)]
    batch.ops = bytes([Op.EVENT, Op.REMOVED, Op.EVENT])
    assert [one.offset for one in received(batch)] == [0, 2]
