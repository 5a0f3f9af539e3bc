"""Where the Kinesis source begins and goes on: start options, aggregated records, iterators that
expired, and what retention removed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.kinesis.aggregated import HASH_MAX
from connectors.kinesis.position import Place, Standing, decode
from ensign_core.errors import EnsignError
from tests.plain import kpl
from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import Capture

Read = Callable[..., Capture]
DAY_MS = 86_400_000


def numbered(first: int, count: int) -> list[tuple[str, bytes]]:
    return [(f"key-{n}", b"%d" % n) for n in range(first, first + count)]


def standing(capture: Capture) -> Standing:
    assert capture.position is not None
    return decode(capture.position)


def move(capture: Capture, **changes: Any) -> None:
    """Change the place of the only shard in a capture's position."""
    now = standing(capture)
    ((name, place),) = now.places.items()
    capture.position = now._replace(places={name: place._replace(**changes)}).encode()


@pytest.mark.parametrize("mode", ["polling", "fanout"])
def test_latest_begins_at_the_end_and_stays_there(
    kinesis: KinesisServer, read_stream: Read, mode: str
) -> None:
    """Also when nothing was read before the worker died, and in the children of a shard."""
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    capture = read_stream(stream, mode=mode, start="latest")
    capture.open()
    capture.until(lambda: capture.position is not None)
    if mode == "polling":
        kinesis.put(stream, numbered(3, 2))
        capture.open()
        found = {b"3", b"4"}
    else:
        capture.until(lambda: capture.source is not None and capture.source.caught_up())
        found = set()
    kinesis.split(stream, kinesis.shards(stream)[0]["ShardId"])
    kinesis.put(stream, numbered(5, 4))
    capture.until(lambda: set(capture.data()) >= {b"5", b"6", b"7", b"8", *found})
    # The time of the start is known to a second: what arrived in it may come where it is resumed.
    assert set(capture.data()) - {b"0", b"1", b"2"} == {b"5", b"6", b"7", b"8", *found}
    assert len(capture.seen) == len(set(capture.data()))


def test_a_time_is_where_it_begins(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    split_ms = kinesis.records(stream)[-1].arrival_ms + 1
    while time.time() * 1000 <= split_ms + 1:
        kinesis.own.list_shards(StreamName=stream)
    kinesis.put(stream, numbered(3, 3))
    start = datetime.fromtimestamp(split_ms / 1000, UTC)
    capture = read_stream(stream, start=start.isoformat())
    capture.caught_up()
    assert sorted(capture.data()) == [b"3", b"4", b"5"]
    with pytest.raises(EnsignError) as caught:
        read_stream(stream, start="2100-01-01T00:00:00").open()
    assert caught.value.code == "kinesis.start_in_future"


@pytest.mark.parametrize("mode", ["polling", "fanout"])
def test_aggregated_records_are_split_and_resumed_inside(
    kinesis: KinesisServer, read_stream: Read, mode: str
) -> None:
    stream = kinesis.new_stream(1)
    inner = [(f"user-{n}", b"a%d" % n, None) for n in range(7)]
    kinesis.put(stream, [("p", b"before"), ("a", kpl.aggregate(inner)), ("p", b"after")])
    capture = read_stream(stream, mode=mode, batch_bytes_max=1)
    each = 1 if mode == "polling" else 6
    capture.until(lambda: len(capture.seen) >= 9, reopen_each=each)
    expected = [b"before", *(b"a%d" % n for n in range(7)), b"after"]
    assert capture.data() == expected
    assert [event.sub for event in capture.seen] == [None, *range(7), None]
    assert len({event.sequence for event in capture.seen}) == 3
    assert capture.seen[1].key == b"user-0"


def test_an_aggregate_is_kept_where_that_is_wanted(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    stream = kinesis.new_stream(1)
    data = kpl.aggregate([("user", b"1", None)])
    kinesis.put(stream, [("a", data)])
    capture = read_stream(stream, aggregated="keep")
    assert [(event.key, event.data) for event in capture.caught_up()] == [(b"a", data)]


def test_splitting_switched_off_inside_of_an_aggregate(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    """The whole record comes: some of it again, and nothing is lost."""
    stream = kinesis.new_stream(1)
    data = kpl.aggregate([("user", b"%d" % n, None) for n in range(3)])
    kinesis.put(stream, [("a", data)])
    capture = read_stream(stream, batch_bytes_max=1)
    capture.until(lambda: capture.data() == [b"0"])
    keeping = read_stream(stream, aggregated="keep")
    keeping.position = capture.position
    keeping.caught_up()
    assert keeping.data() == [data]


def test_records_of_another_shard_are_passed_over(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    """The KPL sends them again to the shard that they belong to; one that is passed over whole
    moves the position all the same."""
    stream = kinesis.new_stream(2)
    first, second = kinesis.shards(stream)
    wrong = int(second["HashKeyRange"]["StartingHashKey"])
    mixed = [("u", b"mine", 0), ("u", b"not", wrong), ("u", b"mine too", 1), ("u", b"no", HASH_MAX)]
    given = [(data, "0") for data in (kpl.aggregate(mixed), kpl.aggregate([("u", b"not", wrong)]))]
    for data, place in given:
        kinesis.own.put_record(
            StreamName=stream, Data=data, PartitionKey="p", ExplicitHashKey=place
        )
    capture = read_stream(stream)
    capture.caught_up()
    assert capture.data() == [b"mine", b"mine too"]
    assert capture.caught_up() == []
    last = kinesis.shard_records(stream, first["ShardId"])[-1].sequence_number
    assert standing(capture).places[first["ShardId"]].sequence == last


def test_an_expired_iterator_is_got_again(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 5))
    capture = read_stream(stream)
    capture.caught_up()
    before = kinesis.proxy.failed["GetRecords"]
    kinesis.proxy.fail("GetRecords", "ExpiredIteratorException", times=2)
    kinesis.put(stream, numbered(5, 5))
    capture.until(lambda: len(capture.seen) == 10)
    assert kinesis.proxy.failed["GetRecords"] == before + 2
    assert capture.data() == [b"%d" % n for n in range(10)]


def test_a_quiet_stream_may_lose_its_last_record(kinesis: KinesisServer, read_stream: Read) -> None:
    """What was taken is removed by retention one day; as everything was read until lately, nothing
    is missing."""
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    capture = read_stream(stream)
    capture.caught_up()
    now_ms = round(time.time() * 1000)
    move(capture, sequence="1" * 56, arrived_ms=now_ms - 2 * DAY_MS, through_ms=now_ms - 1000)
    # The server begins where it has something, as AWS does: here that is known already.
    assert len(capture.caught_up()) == 3
    assert capture.gaps == []


@pytest.mark.parametrize("what", ["late", "early", "inside"])
def test_records_that_retention_removed_stop_or_are_said(
    kinesis: KinesisServer, read_stream: Read, what: str
) -> None:
    """The last record is gone and: all was read until before the period only; or it arrived within
    the period; or others aggregated in it had not been taken."""
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    capture = read_stream(stream, on_removed="stop")
    capture.caught_up()
    now_ms = round(time.time() * 1000)
    old_ms = now_ms - 2 * DAY_MS
    changes: dict[str, dict[str, Any]] = {
        "late": {"arrived_ms": old_ms, "through_ms": old_ms},
        "early": {"arrived_ms": now_ms - 3_600_000, "through_ms": now_ms},
        "inside": {"arrived_ms": old_ms, "through_ms": now_ms, "sub": 2},
    }
    move(capture, sequence="1" * 56, **changes[what])
    with pytest.raises(EnsignError) as caught:
        capture.caught_up()
    assert caught.value.code == "kinesis.records_removed"
    skipping = read_stream(stream, on_removed="skip")
    skipping.position = capture.position
    assert len(skipping.caught_up()) == 3
    (gap,) = map(json.loads, skipping.gaps)
    assert gap["code"] == "kinesis.records_removed"
    assert gap["after"] == "1" * 56
    assert gap["before"] == skipping.seen[0].sequence
    assert skipping.caught_up() == []
    assert len(skipping.gaps) == 1


def test_a_shard_that_is_gone_stops_or_is_said(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    capture = read_stream(stream)
    capture.caught_up()
    now = standing(capture)
    places = {"shardId-000000000099": Place("1" * 56, None, 5, 6)}
    capture.position = now._replace(places=places).encode()
    with pytest.raises(EnsignError) as caught:
        capture.open()
    assert caught.value.code == "kinesis.shard_removed"
    skipping = read_stream(stream, on_removed="skip")
    skipping.position = capture.position
    assert len(skipping.caught_up()) == 3
    assert [json.loads(gap)["shard"] for gap in skipping.gaps] == ["shardId-000000000099"]
    assert "shardId-000000000099" not in standing(skipping).places


def test_a_stream_made_again_stops_or_is_said(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 3))
    capture = read_stream(stream)
    capture.caught_up()
    kinesis.delete_stream(stream)
    kinesis.create_stream(stream, 1)
    kinesis.put(stream, numbered(3, 2))
    with pytest.raises(EnsignError) as caught:
        capture.until(lambda: False)
    # Waited out, and then decided where it is opened anew.
    assert caught.value.code == "kinesis.stream.busy"
    with pytest.raises(EnsignError) as caught:
        capture.open()
    assert caught.value.code == "kinesis.stream_recreated"
    skipping = read_stream(stream, on_removed="skip", start="latest")
    skipping.position = capture.position
    skipping.caught_up()
    assert sorted(skipping.data()) == [b"3", b"4"]
    assert [json.loads(gap)["code"] for gap in skipping.gaps] == ["kinesis.stream_recreated"]


def test_the_position_of_another_stream_is_refused(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    stream, other = kinesis.new_stream(1), kinesis.new_stream(1)
    capture = read_stream(stream)
    capture.caught_up()
    wrong = read_stream(other)
    wrong.position = capture.position
    with pytest.raises(EnsignError) as caught:
        wrong.open()
    assert caught.value.code == "kinesis.stream_changed"
