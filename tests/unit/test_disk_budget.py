"""A budget of the disk that is reached, and a disk that is full: what stops, what goes on, and that
nothing is lost or comes twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ensign_core.broker import Broker, DiskBudget, Event, Retention, TopicPolicy
from ensign_core.change import Stage
from ensign_core.engine.connection import PAGE_BYTES
from ensign_core.errors import EnsignError
from ensign_core.run import ingest
from ensign_core.run.status import statuses
from tests.folding import changes
from tests.scripted import Running, Server, Step, Target, kept, rows

pytestmark = pytest.mark.usefixtures("short_waits")

MUCH = 50_000
SMALL = TopicPolicy(Retention(bytes_max=1))


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr("ensign_core.run.pipeline.REPORT_S", 0.01)
    monkeypatch.setattr("ensign_core.engine.budget.LOOK_EVERY_S", 0.0)


def much() -> str:
    """A value that does not compress."""
    return os.urandom(MUCH // 2).hex()


def used(broker: Broker) -> int:
    ((pages,),) = broker._engine.database.rows("PRAGMA page_count")
    return int(pages) * PAGE_BYTES


def with_room_for(folder: Path, size: int) -> Broker:
    with Broker.open(folder) as broker:
        budget = DiskBudget(bytes_max=used(broker) + size, free_bytes_min=0)
    return Broker.open(folder, disk=budget)


def make_room(broker: Broker) -> None:
    broker._engine._room = None


def fill(broker: Broker, size: int = MUCH) -> int:
    """Publish until that is refused; how many events that took."""
    for published in range(1000):
        try:
            broker.publish("t", [Event(os.urandom(size))])
        except EnsignError as error:
            if error.code != "engine.disk_budget":
                raise
            return published
    raise AssertionError("nothing was refused")


def held_up(server: Server, other: Broker) -> Callable[[], bool]:
    """Whether the status says that the source is held up, and its server heard of it twice."""
    acks = server.calls["ack"]

    def shown() -> bool:
        (status,) = statuses(other, {"shop": ["bus"]})
        codes = [warning["code"] for warning in status["warnings"]]
        waiting = (status["state"], codes) == ("waiting", ["source.held_up"])
        return waiting and server.calls["ack"] >= acks + 2

    return shown


def test_publishers_are_told_and_all_else_goes_on(tmp_path: Path) -> None:
    with with_room_for(tmp_path / "b", 4 * MUCH) as broker:
        published = fill(broker)
        assert 2 <= published <= 4
        broker.commit("g", {"t": 1})
        assert broker.topic("t").groups == {"g": 1}
        broker.writer("p").append([], b"position")  # type: ignore[arg-type] # a position
        assert broker.pipelines.position("p") == b"position"
        assert [change.offset for change in changes(broker, "t")] == list(range(published))
        broker.commit("g", {"t": published})
        broker.set_policy("t", SMALL)
        broker.keep()
        assert broker.publish("t", [Event(os.urandom(MUCH))]) == published


@pytest.mark.parametrize("stage", [Stage.NONE, Stage.HOLD])
def test_a_source_is_held_up_alive_and_goes_on_with_the_batch_that_was_refused(
    tmp_path: Path, stage: Stage
) -> None:
    values = [much() for _ in range(12)]
    steps = [rows("orders", value, stage=stage) for value in values]
    if stage is Stage.HOLD:
        steps.append(rows("orders", "last", stage=Stage.RELEASE))
    server, target = Server([rows("orders", "first"), *steps]), Target()
    with (
        with_room_for(tmp_path / "b", 5 * MUCH) as broker,
        Broker.open(tmp_path / "b", disk=DiskBudget(free_bytes_min=0)) as other,
    ):
        other.publish("old", [Event(os.urandom(MUCH)) for _ in range(2)])
        with Running(broker, server, {"bus": target}):
            server.wait(held_up(server, other))
            reads = server.calls["read"]
            delivered = 1 if stage is Stage.HOLD else reads - 1
            target.wait(target.has(delivered))
            server.wait(held_up(server, other))
            assert server.calls["read"] == reads
            assert set(server.acked[-2:]) == {1 if stage is Stage.HOLD else reads - 1}
            make_room(broker)
            server.wait(server.read_all)
            target.wait(target.has(len(server.rows("orders"))))
        assert server.calls["open"] == 1
        assert kept(broker, "orders") == server.rows("orders") == target.values("orders")


def test_trimming_what_the_sinks_have_read_makes_the_room(tmp_path: Path) -> None:
    server, target = Server(rows("orders", much()) for _ in range(30)), Target()
    with (
        with_room_for(tmp_path / "b", 6 * MUCH) as broker,
        Broker.open(tmp_path / "b", keep_every_s=0.01) as other,
    ):
        other.create_topic("orders", SMALL)
        with Running(broker, server, {"bus": target}):
            server.wait(held_up(server, other))
            other.writer()
            server.wait(server.read_all)
            target.wait(target.has(30))
        assert target.values("orders") == server.rows("orders")
        assert server.calls["open"] == 1


def test_a_dead_letter_comes_once_with_the_batch_that_was_refused(tmp_path: Path) -> None:
    server = Server([rows("orders", "first"), Step((("orders", much()),), letter=b"odd")])
    with (
        with_room_for(tmp_path / "b", MUCH // 2) as broker,
        Broker.open(tmp_path / "b", disk=DiskBudget(free_bytes_min=0)) as other,
    ):
        with Running(broker, server):
            server.wait(held_up(server, other))
            make_room(broker)
            server.wait(server.read_all)
        assert other.topic("shop.dead-letters").events == 1
        assert kept(other, "orders") == server.rows("orders")


def test_stopping_while_held_up_loses_nothing(tmp_path: Path) -> None:
    server = Server([rows("orders", "first"), *(rows("orders", much()) for _ in range(9))])
    with (
        with_room_for(tmp_path / "b", 3 * MUCH) as broker,
        Broker.open(tmp_path / "b", disk=DiskBudget(free_bytes_min=0)) as other,
    ):
        with Running(broker, server) as running:
            server.wait(held_up(server, other))
            assert running.stop() is None
        with Running(other, server):
            server.wait(server.read_all)
        assert kept(other, "orders") == server.rows("orders")


def test_catching_up_does_not_wait_for_room_for_ever(tmp_path: Path) -> None:
    server = Server(rows("orders", much()) for _ in range(9))
    with (
        with_room_for(tmp_path / "b", 3 * MUCH) as broker,
        Running(broker, server, until_caught_up=True, wait_s=0.05) as running,
    ):
        error = running.ended()
    assert error is not None
    assert error.code == "engine.disk_budget"


@pytest.mark.parametrize("small_disk", ["192m"], indirect=True)
def test_some_of_a_real_disk_stays_free(small_disk: Path) -> None:
    """Of which the log takes a part, of at most 32 MB until it starts over."""
    with Broker.open(small_disk / "b", disk=DiskBudget(free_bytes_min=64 << 20)) as broker:
        published = fill(broker, 10 * MUCH)
        disk = os.statvfs(small_disk)
        free = disk.f_bavail * disk.f_frsize
        assert 32 << 20 < free < 96 << 20
        broker.set_policy("t", TopicPolicy(Retention(bytes_max=100 * MUCH)))
        broker.keep()
        for _ in range(50):
            broker.publish("t", [Event(os.urandom(10 * MUCH))])
        assert broker.topic("t").next_offset == published + 50


@pytest.mark.parametrize("small_disk", ["16m"], indirect=True)
def test_a_full_disk_holds_a_source_up_in_the_same_way(small_disk: Path) -> None:
    server, target = Server([rows("orders", "first")]), Target()
    filler = small_disk / "filler"
    with (
        Broker.open(small_disk / "b", disk=DiskBudget(free_bytes_min=0)) as broker,
        Running(broker, server, {"bus": target}) as running,
    ):
        server.wait(server.read_all)
        target.wait(target.has(1))
        free = os.statvfs(small_disk).f_bavail * 4096
        filler.write_bytes(bytes(free - MUCH))
        server.add(*(rows("orders", much()) for _ in range(9)))
        server.wait(lambda: running.pipeline.source.held_up is not None)
        acks, reads = server.calls["ack"], server.calls["read"]
        server.wait(lambda: server.calls["ack"] >= acks + 2)
        assert server.calls["read"] == reads
        filler.unlink()
        server.wait(server.read_all)
        target.wait(target.has(10))
        assert server.calls["open"] == 1
        assert kept(broker, "orders") == server.rows("orders") == target.values("orders")


def test_what_changes_keys_is_done_and_noted_although_the_budget_is_reached(
    tmp_path: Path,
) -> None:
    """Only where the audit itself cannot be written it is not noted, and done all the same."""
    with Broker.open(tmp_path / "b", disk=DiskBudget(bytes_max=1 << 20)) as broker:
        broker.publish("t", [Event(b"1")])
        with pytest.raises(EnsignError, match=r"^engine\.disk_budget"):
            broker.publish("t", [Event(os.urandom(1_000_000))])
        (key,) = broker.keys.list()
        broker.keys.rotate("t")
        broker.keys.revoke(key.key_id)
        assert broker.topic("ensign.audit").events == 2
        broker.archive_topic("ensign.audit")
        assert [made.topic for made in broker.keys.rotate("t")] == ["t"]
        assert broker.topic("ensign.audit").events == 2
