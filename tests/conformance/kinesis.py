"""The cases of the source and the sink ``kinesis``, on one server."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import connection
from tests.services.service import lasting


@cache
def server() -> KinesisServer:
    """One server for all cases, up to the end of the tests."""
    return lasting(KinesisServer())


class KinesisSourceCase:
    """A stream with a split shard, some of whose records are small batches of their own."""

    def __init__(self, folder: Path) -> None:
        self._stream = server().new_stream(2)
        self._count = 0
        self.more()
        server().split(self._stream, server().shards(self._stream)[0]["ShardId"])
        self.more()
        self.options: dict[str, object] = {
            **connection(server()), "stream": self._stream, "poll_s": 0.2, "batch_bytes_max": 500,
        }  # fmt: skip

    def more(self) -> bool:
        numbers = range(self._count, self._count + 8)
        self._count += len(numbers)
        server().put(self._stream, [(f"key-{n}", b"%d" % n) for n in numbers])
        return True

    def close(self) -> None:
        server().delete_stream(self._stream)


class KinesisSinkCase:
    """A stream of one shard, so that the order of arrival is known, and one partition key."""

    def __init__(self, folder: Path) -> None:
        self._stream = server().new_stream(1)
        self.options: dict[str, object] = {
            **connection(server()), "stream": self._stream, "partition_key": "{topic}",
        }  # fmt: skip

    def delivered(self) -> list[tuple[str, int]]:
        found = [json.loads(record.data) for record in server().records(self._stream)]
        return [(event["topic"], event["offset"]) for event in found]

    def close(self) -> None:
        server().delete_stream(self._stream)
