"""Publishers: acks, nacks, commits that many share, the limits of events and of the queue."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ensign_core.broker import Acked, Broker, Event, Nacked, Receipt, committer, events
from ensign_core.broker.commits import Commits
from ensign_core.broker.receipts import NACK_CODES, NACK_MESSAGES, nacked
from ensign_core.engine.sqlite import SqliteEngine
from ensign_core.errors import EnsignError
from tests.published import stored
from tests.unit.test_broker import refused


class Gate:
    """Holds commits up until it is opened, and notes how many receipts each has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)
        self._open = threading.Semaphore(0)
        commit = Commits.commit

        def held(commits: Commits, receipts: list[Receipt]) -> None:
            self.sizes.append(len(receipts))
            self.entered.release()
            self._open.acquire()
            commit(commits, receipts)

        monkeypatch.setattr(Commits, "commit", held)

    def open(self, commits: int = 1) -> None:
        self._open.release(commits)


@pytest.fixture
def gate(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Gate:
    del broker  # closed after the gate is gone
    return Gate(monkeypatch)


def test_each_event_is_acked_with_its_offset(broker: Broker) -> None:
    with broker.publisher() as publisher:
        first = publisher.publish("t", Event(b"a", b"k", {"m": "1"}))
        assert (first.offset, first.duplicate) == (0, False)
        assert [ack.offset for ack in publisher.publish_many("t", [Event(b"b"), Event(b"c")])] == [
            1, 2,
        ]  # fmt: skip
        assert publisher.publish_many("t", []) == []
        receipt = publisher.send("t", Event(b"d"))
    assert receipt.done
    assert receipt.result().offset == 3
    assert broker.publish("t", [Event(b"e")]) == 4
    assert stored(broker, "t") == dict(enumerate([b"a", b"b", b"c", b"d", b"e"]))
    with broker.reader(["t"]) as reader:
        times = [one.committed_us for b in reader.fetch() for one in events.received(b)]
    assert times[0] == first.committed_us


def test_what_comes_during_a_commit_goes_into_the_next(broker: Broker, gate: Gate) -> None:
    publisher = broker.publisher()
    receipts = [publisher.send("t", Event(b"0"))]
    gate.entered.acquire()
    receipts += [publisher.send("tu"[n % 2], Event(b"%d" % n)) for n in range(1, 9)]
    gate.open(2)
    acks = [receipt.result() for receipt in receipts]
    assert gate.sizes == [1, 8]
    assert broker._engine.last_sequence() == 3  # a frame of each topic in the second commit
    assert {ack.committed_us for ack in acks[1:]} == {acks[1].committed_us}
    assert stored(broker, "t") == {0: b"0", 1: b"2", 2: b"4", 3: b"6", 4: b"8"}


def test_many_threads_share_commits(broker: Broker) -> None:
    def publish(name: int) -> list[Acked]:
        return [publisher.publish("t", Event(b"%d %d" % (name, n))) for n in range(30)]

    publisher = broker.publisher()
    with ThreadPoolExecutor(16) as pool:
        acks = list(pool.map(publish, range(16)))
    found = stored(broker, "t")
    assert len(found) == 480
    for name, mine in enumerate(acks):
        assert [found[ack.offset] for ack in mine] == [b"%d %d" % (name, n) for n in range(30)]
        assert [ack.offset for ack in mine] == sorted(ack.offset for ack in mine)
    assert broker._engine.last_sequence() < 240


def test_a_lone_publisher_needs_no_other_thread(broker: Broker) -> None:
    for number in range(3):
        broker.publisher().publish("t", Event(b"%d" % number))
    assert "publish" not in [thread.name for thread in threading.enumerate()]


def test_callbacks_bring_acks_to_asyncio(broker: Broker) -> None:
    async def publish() -> list[Acked | Nacked]:
        loop = asyncio.get_running_loop()

        def sent(topic: str) -> asyncio.Future[Acked | Nacked]:
            future: asyncio.Future[Acked | Nacked] = loop.create_future()

            def done(receipt: Receipt) -> None:
                loop.call_soon_threadsafe(future.set_result, receipt.outcome())

            publisher.send(topic, Event(b"x"), on_done=done)
            return future

        return await asyncio.gather(*(sent("t" if n % 2 else "none") for n in range(64)))

    broker.create_topic("t")
    publisher = broker.publisher(create_topics=False)
    outcomes = asyncio.run(publish())
    assert [one.offset for one in outcomes if isinstance(one, Acked)] == list(range(32))
    nacks = [(one.code, one.message) for one in outcomes if isinstance(one, Nacked)]
    assert nacks == [(2, "topic unknown or unhandled")] * 32


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_callback_that_fails_holds_nobody_up(
    broker: Broker, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def fails(_: Receipt) -> None:
        raise error("secret")

    publisher = broker.publisher()
    assert publisher.send("t", Event(b"x"), on_done=fails).result().offset == 0
    assert publisher.publish("t", Event(b"y")).offset == 1
    publisher.close()
    assert error.__name__ in caplog.text
    assert "secret" not in caplog.text


def test_an_error_of_one_topic_fails_no_other(broker: Broker, gate: Gate) -> None:
    for topic in ("old", "t"):
        broker.create_topic(topic)
    broker.archive_topic("old")
    publisher = broker.publisher(create_topics=False)
    sent = [publisher.send("t", Event(b"0"))]
    gate.entered.acquire()
    sent += [publisher.send(topic, Event(b"1")) for topic in ("old", "none", "t", "old")]
    gate.open(2)
    outcomes = [receipt.outcome() for receipt in sent]
    assert gate.sizes == [1, 4]
    assert [one.code if isinstance(one, Nacked) else one.offset for one in outcomes] == [
        0, 3, 2, 1, 3,
    ]  # fmt: skip
    assert refused(sent[1].result) == "topic.archived"
    assert [info.name for info in broker.topics()] == ["old", "t"]


def test_an_error_that_only_the_append_meets_fails_its_topic_alone(
    broker: Broker, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SqliteEngine.append

    def picky(engine: SqliteEngine, writes: list[object], *rest: object) -> object:
        if any(getattr(write, "topic", "") == "bad" for write in writes):
            raise EnsignError("engine.io_error", "It failed.", "Look.")
        return append(engine, writes, *rest)  # type: ignore[arg-type]  # whatever it was called with

    monkeypatch.setattr(SqliteEngine, "append", picky)
    publisher = broker.publisher()
    publisher.send("t", Event(b"0"))
    gate.entered.acquire()
    sent = [publisher.send(topic, Event(b"1")) for topic in ("a", "bad", "b")]
    gate.open(2)
    outcomes = [receipt.outcome() for receipt in sent]
    assert [getattr(one, "code", None) for one in outcomes] == [None, 9, None]
    assert refused(sent[1].result) == "engine.io_error"


def test_events_have_a_largest_size(broker: Broker) -> None:
    most = bytes(events.EVENT_BYTES_MAX)
    publisher = broker.publisher()
    assert publisher.publish("t", Event(most)).offset == 0
    for event in (
        Event(most + b"x"),
        Event(b"", bytes(events.ATTRIBUTES_BYTES_MAX + 1)),
        Event(b"", metadata={"m": "x" * events.ATTRIBUTES_BYTES_MAX}),
    ):
        assert refused(publisher.publish, "t", event) == "event.too_large"
        assert refused(publisher.send, "t", event) == "event.too_large"
        assert refused(broker.publish, "t", [Event(b"1"), event]) == "event.too_large"
    assert list(stored(broker, "t")) == [0]


def test_a_full_queue_makes_publishers_wait(
    broker: Broker, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "QUEUE_EVENTS_MAX", 3)
    monkeypatch.setattr(committer, "QUEUE_BYTES_MAX", 1000)
    publisher = broker.publisher()
    sent = [publisher.send("t", Event(bytes(400)))]
    gate.entered.acquire()
    sent.append(publisher.send("t", Event(bytes(400))))
    for event in (Event(bytes(400)), Event(b""), Event(bytes(5000))):
        waiting = threading.Thread(target=lambda e=event: sent.append(publisher.send("t", e)))
        waiting.start()
        if event.data == b"":
            waiting.join()
            continue
        before = len(sent)
        waiting.join(0.05)
        assert waiting.is_alive()
        assert len(sent) == before
        while waiting.is_alive():
            gate.open()
            waiting.join(0.05)
    gate.open(5)
    assert [receipt.result().offset for receipt in sent] == list(range(5))


def test_closing_commits_what_was_sent(tmp_path: Path) -> None:
    with Broker.open(tmp_path / "b") as broker:
        publisher = broker.publisher()
        sent = [publisher.send("t", Event(b"%d" % n)) for n in range(100)]
    assert [receipt.result().offset for receipt in sent] == list(range(100))
    assert refused(publisher.publish, "t", Event(b"x")) == "publisher.closed"
    with Broker.open(tmp_path / "b") as broker:
        assert len(stored(broker, "t")) == 100


def test_an_interrupted_publisher_leaves_the_others_to_go_on(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqliteEngine, "append", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            broker.publish("t", [Event(b"x")])
    assert broker.publish("t", [Event(b"y")]) == 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_every_code_of_a_nack_has_its_message() -> None:
    assert set(NACK_CODES.values()) <= NACK_MESSAGES.keys()
    assert nacked(EnsignError("engine.disk_full", "Full.", "Wait."))[:2] == (
        9, "internal error, please wait and try again",
    )  # fmt: skip
    assert nacked(OSError("secret")).error.code == "internal.unexpected"
