"""Large events: published in parts or by claim check, and given back as they were."""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from ensign_core.broker import (
    Broker,
    Chunked,
    ClaimCheck,
    Event,
    FolderStore,
    Large,
    Received,
    received,
)
from ensign_core.broker.large.claim import CHUNKED, PART
from ensign_core.broker.large.publishing import CHUNK_BYTES_MAX, Lifter
from ensign_core.errors import EnsignError

SEED = 4711


def drawn(count: int, seed: int = SEED) -> bytes:
    return random.Random(seed).randbytes(count)


def all_of(broker: Broker, topic: str = "t", start: int = 0) -> Iterator[Received]:
    with broker.reader([topic], start) as reader:
        yield from chain.from_iterable(map(received, chain.from_iterable(iter(reader.fetch, []))))


def whole(broker: Broker, *stores: FolderStore, start: int = 0) -> list[Received]:
    return list(broker.whole(all_of(broker, start=start), stores))


def code(call: object, *args: object, **options: object) -> str:
    assert callable(call)
    with pytest.raises(EnsignError) as raised:
        call(*args, **options)
    assert "\n" not in str(raised.value)
    return raised.value.code


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=["chunked", "claim check"])
def large(request: pytest.FixtureRequest, store: FolderStore) -> Large:
    return Chunked(100) if request.param == "chunked" else ClaimCheck(store, over_bytes=100)


@pytest.mark.parametrize("size", [0, 99, 100, 101, 200, 201, 3 << 20])
def test_what_is_published_comes_back(
    broker: Broker, store: FolderStore, large: Large, size: int
) -> None:
    if size > 1 << 20 and isinstance(large, Chunked):
        large = Chunked(1 << 20)
    event = Event(drawn(size), b"key", {"version": "7"}, "application/octet-stream", "model")
    last = broker.publish("t", [Event(b"before"), event, Event(b"behind")], large)
    found = whole(broker, store)
    assert [one.event for one in found] == [Event(b"before"), event, Event(b"behind")]
    assert [one.offset for one in found] == [last - 2, last - 1, last]
    again = whole(broker, store, start=last - 1)
    assert [(one.offset, one.event) for one in again] == [(last - 1, event), (last, found[2].event)]


def test_a_file_comes_back(broker: Broker, store: FolderStore, large: Large) -> None:
    broker.publish_file("t", io.BytesIO(drawn(950)), large, Event(b"", b"k", {"a": "b"}, "m", "t"))
    broker.publish_file("t", io.BytesIO(b"small"), large)
    assert [one.event for one in whole(broker, store)] == [
        Event(drawn(950), b"k", {"a": "b"}, "m", "t"), Event(b"small"),
    ]  # fmt: skip


def test_parts_are_ordinary_events_of_bounded_size_and_the_claim_makes_them_whole(
    broker: Broker,
) -> None:
    parts = Lifter(Chunked(100), "t", broker.writer)
    claim = parts.event(Event(drawn(250), b"k", mimetype="m"))
    stored = [one.event for one in all_of(broker)]
    assert [len(event.data) for event in stored if event] == [100, 100, 50]
    assert whole(broker) == []
    broker.publish("t", [claim])
    assert [one.event for one in whole(broker)] == [Event(drawn(250), b"k", mimetype="m")]
    runs = {event.metadata[PART].partition("/")[0] for event in stored if event}
    assert len(runs) == 1
    assert broker.topic("t").events == 4


def test_runs_of_several_publishers_may_interleave(broker: Broker) -> None:
    def pieces() -> Iterator[bytes]:
        for number in range(5):
            yield bytes([number]) * 10
            broker.publish("t", [Event(bytes([100 + number]) * 35)], Chunked(10))

    claim = Chunked(10).claim(Event(b""), pieces(), lambda part: broker.publish("t", [part]))
    broker.publish("t", [claim])
    *others, slow = (one.event.data for one in whole(broker) if one.event)
    assert others == [bytes([100 + number]) * 35 for number in range(5)]
    assert slow == b"".join(bytes([number]) * 10 for number in range(5))


def test_a_claim_is_not_passed_off_with_other_parts(broker: Broker) -> None:
    broker.publish("t", [Event(drawn(30, 1)), Event(drawn(30, 2))], Chunked(10))
    *_, first, second = all_of(broker)
    assert first.event is not None
    assert second.event is not None
    mine, others = json.loads(first.event.data), json.loads(second.event.data)
    forgeries: list[object] = [
        mine | {"offsets": others["offsets"]},
        mine | {"offsets": mine["offsets"][:-1]},
        mine | {"offsets": mine["offsets"][::-1]},
        mine | {"offsets": [first.offset] * 3},
        mine | {"data_bytes": 29},
        mine | {"data_bytes": 31},
        mine | {"sha256": others["sha256"]},
        mine | {"run": "../../x"},
        {},
        7,
    ]
    for forged in forgeries:
        event = replace(first.event, data=json.dumps(forged).encode())
        last = broker.publish("t", [event])
        assert code(whole, broker, start=last) == "event.damaged", forged


def test_what_cannot_be_given_is_told_or_raised_and_the_rest_is_read(broker: Broker) -> None:
    assembler = broker.assembler(large_bytes_max=50)
    broker.publish("t", [Event(drawn(51)), Event(drawn(50)), Event(b"x", mimetype=CHUNKED)],
                   Chunked(10))  # fmt: skip
    told: list[str] = []
    found = assembler.each(all_of(broker), lambda _, error: told.append(error.code))
    assert [len(one.event.data) for one in found if one.event] == [50]
    assert told == ["event.too_large", "event.damaged"]
    events = all_of(broker)
    assert code(list, assembler.each(events)) == "event.too_large"
    behind = next(assembler.each(events)).event
    assert behind is not None
    assert len(behind.data) == 50
    assert code(list, assembler.each(events)) == "event.damaged"


def test_too_large_for_memory_is_not_too_large_for_a_file(broker: Broker, tmp_path: Path) -> None:
    broker.publish("t", [Event(drawn(60))], Chunked(10))
    *parts, claim = all_of(broker)
    assembler = broker.assembler(large_bytes_max=50)
    assert assembler.save(claim, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == drawn(60)
    assert not assembler.save(parts[0], tmp_path / "part")
    assert sorted(path.name for path in tmp_path.glob("*")) == ["b", "b.keys", "file"]


def test_parts_that_are_not_kept_any_more(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """A claim on offsets that the topic does not have: what retention leaves of a run."""
    broker.publish("t", [Event(drawn(30))], Chunked(10))
    claim = list(all_of(broker))[-1].event
    assert claim is not None
    fields = json.loads(claim.data)
    gone = replace(claim, data=json.dumps(fields | {"offsets": [99, 1, 2]}).encode())
    broker.publish("t", [gone, Event(b"next")])
    with caplog.at_level(logging.WARNING, "ensign"):
        assert [one.offset for one in whole(broker)] == [3, 5]
    assert "event.incomplete" in caplog.text
    assert "offset 4 of t" in caplog.text


def test_a_part_has_room_in_an_event() -> None:
    for wrong in (0, -1, CHUNK_BYTES_MAX + 1):
        with pytest.raises(ValueError, match="a part has"):
            Chunked(wrong)


def test_an_object_is_ciphertext_for_its_owner_only(broker: Broker, store: FolderStore) -> None:
    secret = b"Zyklame-4711-geheim" * 10
    broker.publish("t", [Event(secret)], ClaimCheck(store, 100))
    (path,) = store.path.iterdir()
    assert secret[:19] not in path.read_bytes()
    assert (path.stat().st_mode & 0o777, store.path.stat().st_mode & 0o777) == (0o600, 0o700)
    clear = b"".join(file.read_bytes() for file in store.path.parent.glob("b/*"))
    assert path.name.encode() not in clear


def test_the_object_dies_with_the_topic(broker: Broker, store: FolderStore) -> None:
    """Its key is in the event, under the topic's data key, and nowhere else."""
    broker.publish("t", [Event(drawn(300))], ClaimCheck(store, 100))
    (found,) = all_of(broker)
    assert found.event is not None
    key = bytes.fromhex(json.loads(found.event.data)["key"])
    for file in chain(store.path.parent.glob("b/*.db*"), store.path.iterdir()):
        assert key not in file.read_bytes()
        assert key.hex().encode() not in file.read_bytes()


def test_an_object_that_was_changed_or_is_gone(broker: Broker, store: FolderStore) -> None:
    data = drawn((2 << 20) + 5)
    broker.publish("t", [Event(data)], ClaimCheck(store, 100))
    (path,) = store.path.iterdir()
    sealed = path.read_bytes()
    block = (1 << 20) + 16
    for changed in (
        sealed[:-1],
        sealed[:block],
        sealed[: 2 * block],
        sealed + sealed[-21:],
        sealed[block : 2 * block] + sealed[:block] + sealed[2 * block :],
        bytes([sealed[0] ^ 1]) + sealed[1:],
        b"",
    ):
        path.write_bytes(changed)
        assert code(whole, broker, store) == "event.damaged"
    path.write_bytes(sealed)
    moved = path.rename(path.parent.parent / path.name)
    assert code(whole, broker, store) == "claim.missing"
    assert code(whole, broker) == "claim.missing"
    elsewhere = FolderStore(moved.parent)
    assert [one.event for one in whole(broker, store, elsewhere)] == [Event(data)]


def test_a_claim_is_no_path(broker: Broker, store: FolderStore) -> None:
    broker.publish("t", [Event(drawn(300))], ClaimCheck(store, 100))
    (found,) = all_of(broker)
    assert found.event is not None
    fields = json.loads(found.event.data)
    for name in ("../b.keys", "/etc/passwd", "", fields["name"] + "/..", fields["name"] + "\n"):
        forged = replace(found.event, data=json.dumps(fields | {"name": name}).encode())
        last = broker.publish("t", [forged])
        assert code(whole, broker, store, start=last) == "event.damaged"
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            next(store.get(name))
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            store.delete(name)


def test_what_fails_before_the_object_is_whole_leaves_nothing(
    broker: Broker, store: FolderStore
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise OSError("the source broke off")

    with pytest.raises(OSError, match="broke off"):
        store.put("0" * 32, broken())
    assert list(store.path.iterdir()) == []
    store.put("0" * 32, iter([b"so", b"me"]))
    assert b"".join(store.get("0" * 32)) == b"some"
    store.delete("0" * 32)
    store.delete("0" * 32)
    assert code(list, store.get("0" * 32)) == "claim.missing"


def test_a_store_that_cannot_be_written(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = FolderStore(tmp_path / "file")
    publish = broker.publish
    assert code(publish, "t", [Event(drawn(300))], ClaimCheck(store, 1)) == "store.unwritable"
    assert code(list, store.get("0" * 32)) == "store.unreadable"
    assert [topic.events for topic in broker.topics()] == []
