"""The Kinesis source against a real server: order across splits and merges, and positions."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import Capture, Seen

Read = Callable[..., Capture]
MODES = ("polling", "fanout")


def numbered(first: int, count: int, keys: int = 7) -> list[tuple[str, bytes]]:
    """Records of several keys whose data are rising numbers."""
    return [(f"key-{n % keys}", b"%d" % n) for n in range(first, first + count)]


def check_complete(seen: list[Seen], count: int) -> None:
    """Every number once, and rising for each key."""
    assert sorted(int(event.data) for event in seen) == list(range(count))
    by_key = defaultdict(list)
    for event in seen:
        by_key[event.key].append(int(event.data))
    assert {key: sorted(found) for key, found in by_key.items()} == by_key


@pytest.mark.parametrize("mode", MODES)
def test_everything_comes_once_across_a_split_and_a_merge(
    kinesis: KinesisServer, read_stream: Read, mode: str
) -> None:
    stream = kinesis.new_stream(2)
    first, second = (shard["ShardId"] for shard in kinesis.shards(stream))
    kinesis.put(stream, numbered(0, 30))
    capture = read_stream(stream, mode=mode)
    capture.open()
    capture.until(lambda: len(capture.seen) == 30)
    left, right = kinesis.split(stream, first)
    kinesis.put(stream, numbered(30, 30))
    capture.until(lambda: len(capture.seen) == 60)
    kinesis.merge(stream, right, second)
    kinesis.put(stream, numbered(60, 30))
    capture.until(lambda: len(capture.seen) == 90)
    check_complete(capture.seen, 90)
    assert left in {event.shard for event in capture.seen}


def test_a_backlog_with_a_lineage_is_read_in_order(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    """Parents that were closed before the source began, two splits and a merge of cousins; each
    shard takes several answers, between which the others are asked."""
    stream = kinesis.new_stream(2)
    first, second = (shard["ShardId"] for shard in kinesis.shards(stream))
    kinesis.put(stream, numbered(0, 14))
    _, right = kinesis.split(stream, first)
    left, _ = kinesis.split(stream, second)
    kinesis.put(stream, numbered(14, 14))
    kinesis.merge(stream, right, left)
    kinesis.put(stream, numbered(28, 14))
    capture = read_stream(stream, records_max=4)
    capture.caught_up()
    check_complete(capture.seen, 42)


def test_all_shards_change_at_once(kinesis: KinesisServer, read_stream: Read) -> None:
    """Splits and merges, a writer between them, and a reader that sees none of the states alone."""
    stream = kinesis.new_stream(1)
    kinesis.put(stream, numbered(0, 10))
    capture = read_stream(stream)
    capture.until(lambda: len(capture.seen) == 10)
    for round_, shards in enumerate((2, 4, 2)):
        kinesis.update_shard_count(stream, shards)
        kinesis.put(stream, numbered(10 + 10 * round_, 10))
    capture.until(lambda: len(capture.seen) == 40)
    check_complete(capture.seen, 40)
    assert capture.caught_up() == []


def test_threads_end_with_the_source(kinesis: KinesisServer, read_stream: Read) -> None:
    stream = kinesis.new_stream(2)
    capture = read_stream(stream, mode="fanout")
    capture.open()
    shards = {f"kinesis-{shard['ShardId']}" for shard in kinesis.shards(stream)}
    assert {thread.name for thread in threading.enumerate()} >= shards
    capture.until(lambda: capture.source is not None and capture.source.caught_up())
    capture.close()
    assert not {thread.name for thread in threading.enumerate()} & shards


def test_resumes_after_every_batch_while_shards_change(
    kinesis: KinesisServer, read_stream: Read
) -> None:
    """I3: a worker that dies after every batch of a few events reads the same."""
    stream = kinesis.new_stream(2)
    first, second = (shard["ShardId"] for shard in kinesis.shards(stream))
    kinesis.put(stream, numbered(0, 10))
    capture = read_stream(stream, batch_bytes_max=400)
    capture.until(lambda: len(capture.seen) >= 4, reopen_each=1)
    _, right = kinesis.split(stream, first)
    kinesis.put(stream, numbered(10, 10))
    capture.until(lambda: len(capture.seen) >= 14, reopen_each=1)
    kinesis.merge(stream, right, second)
    kinesis.put(stream, numbered(20, 10))
    capture.until(lambda: len(capture.seen) >= 30, reopen_each=1)
    check_complete(capture.seen, 30)
    assert capture.caught_up() == []
    assert capture.position is not None
    assert first not in capture.position.decode()
