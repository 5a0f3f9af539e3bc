"""A private Kinesis for the tests: kinesis-local on node, loopback only, behind a proxy that can
make it answer as a busy one does. It keeps its streams in memory.

`KinesisServer.client` goes through the proxy, as the product does; the methods of the tests
themselves do not, so no fault of `KinesisServer.proxy` meets them.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import boto3
from botocore.config import Config

from tests.services.kinesis_proxy import KinesisProxy
from tests.services.postgres import free_port
from tests.services.ready import wait_until
from tests.services.service import Service

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import ShardTypeDef

READY_S_MAX = 30.0
REGION: Final = "us-east-1"
ACCESS_KEY: Final = "tests"
"""Both halves of it: kinesis-local takes any."""
PUT_RECORDS_MAX = 500
SOON = (
    "CREATE_STREAM", "DELETE_STREAM", "REGISTER_STREAM_CONSUMER", "DEREGISTER_STREAM_CONSUMER",
    "MERGE_SHARDS", "SPLIT_SHARD", "UPDATE_SHARD_COUNT",
)  # fmt: skip
"""What kinesis-local takes half a second for unless told otherwise."""


class Put(NamedTuple):
    """A record of a stream as it is read. ``arrival_ms`` is the server's clock."""

    key: str
    data: bytes
    shard: str
    sequence_number: str
    arrival_ms: int


@cache
def program() -> Path | None:
    """kinesis-local as ``.ci/kinesis`` fetched it, None where there is none on this machine."""
    found = Path(sys.prefix, "kinesis", "kinesis-local", "main.js")
    return found if found.exists() and shutil.which("node") else None


class KinesisServer(Service):
    """One server and its proxy."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ensign-kinesis-"))
        self.log = self.folder / "log"
        self.proxy = KinesisProxy(self.port)
        self._process: subprocess.Popen[bytes] | None = None
        self._own: KinesisClient | None = None
        self._streams = 0

    def begin(self) -> None:
        self.start()

    def close(self) -> None:
        """End the server and the proxy."""
        self.stop()
        self.proxy.close()
        if self._own is not None:
            self._own.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def endpoint_url(self) -> str:
        """Where the product connects: the proxy."""
        return f"http://127.0.0.1:{self.proxy.port}"

    def start(self) -> None:
        """Start the server, without streams, and return when it answers."""
        found = program()
        assert found is not None, "no kinesis-local here: `make kinesis` fetches it"
        node = shutil.which("node")
        assert node is not None
        given = {
            "KINESIS_MOCK_PLAIN_PORT": str(self.port),
            "KINESIS_MOCK_TLS_PORT": str(free_port()),
            "SHARD_LIMIT": "100",
            "LOG_LEVEL": "ERROR",
            **{f"{action}_DURATION": "5ms" for action in SOON},
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [node, found.name], stdout=log, stderr=log, env=given, cwd=found.parent
            )
        wait_until(self._is_up, READY_S_MAX, 0.02)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self.log.read_text(errors="replace"))
        try:
            self.own.list_streams()
        except Exception:  # noqa: BLE001
            return False
        return True

    def stop(self) -> None:
        """Stop this server by its own process id and wait for its end; it forgets its streams."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGKILL)
        process.wait(READY_S_MAX)

    def client(self, endpoint_url: str = "", **config: Any) -> KinesisClient:
        """A client through the proxy that makes a single attempt unless ``config`` says more; close
        it."""
        given: Any = {"retries": {"total_max_attempts": 1}, **config}
        return boto3.client(
            "kinesis",
            endpoint_url=endpoint_url or self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=ACCESS_KEY,
            config=Config(**given),
        )

    @property
    def own(self) -> KinesisClient:
        """The tests' own client, past the proxy."""
        if self._own is None:
            self._own = self.client(f"http://127.0.0.1:{self.port}")
        return self._own

    def new_stream(self, shards: int = 1) -> str:
        """Make a stream with a name of its own."""
        self._streams += 1
        name = f"stream{self._streams}"
        self.create_stream(name, shards)
        return name

    def create_stream(self, name: str, shards: int = 1) -> None:
        self.own.create_stream(StreamName=name, ShardCount=shards)
        self._settled(name)

    def delete_stream(self, name: str) -> None:
        self.own.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
        wait_until(lambda: name not in self.own.list_streams()["StreamNames"], READY_S_MAX)

    def arn(self, stream: str) -> str:
        """The stream's ARN."""
        told = self.own.describe_stream_summary(StreamName=stream)
        return told["StreamDescriptionSummary"]["StreamARN"]

    def new_consumer(self, stream: str, name: str) -> str:
        """Register a consumer that records are pushed to; its ARN."""
        asked = self.own.register_stream_consumer(StreamARN=self.arn(stream), ConsumerName=name)
        arn = asked["Consumer"]["ConsumerARN"]

        def is_active() -> bool:
            told = self.own.describe_stream_consumer(ConsumerARN=arn)
            return told["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE"

        wait_until(is_active, READY_S_MAX, 0.01)
        return arn

    def shards(self, stream: str, *, are_open: bool = False) -> list[ShardTypeDef]:
        """The shards in the order of their ids, so that parents come first; those only that take
        records, if wanted."""
        found: list[ShardTypeDef] = []
        told = self.own.list_shards(StreamName=stream)
        found += told["Shards"]
        while token := told.get("NextToken"):
            told = self.own.list_shards(NextToken=token)
            found += told["Shards"]
        found.sort(key=lambda shard: shard["ShardId"])
        if not are_open:
            return found
        return [s for s in found if "EndingSequenceNumber" not in s["SequenceNumberRange"]]

    def split(self, stream: str, shard: str) -> list[str]:
        """Split a shard in the middle of its keys; the ids of its children."""
        found = next(s for s in self.shards(stream) if s["ShardId"] == shard)
        keys = found["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"]) + 1) // 2
        self.own.split_shard(
            StreamName=stream, ShardToSplit=shard, NewStartingHashKey=str(middle)
        )  # fmt: skip
        self._settled(stream)
        return self._children(stream, shard)

    def merge(self, stream: str, shard: str, adjacent: str) -> str:
        """Merge two neighbours; the id of their child."""
        self.own.merge_shards(
            StreamName=stream, ShardToMerge=shard, AdjacentShardToMerge=adjacent
        )  # fmt: skip
        self._settled(stream)
        return self._children(stream, shard)[0]

    def update_shard_count(self, stream: str, shards: int) -> None:
        """Let so many shards be open."""
        self.own.update_shard_count(
            StreamName=stream, TargetShardCount=shards, ScalingType="UNIFORM_SCALING"
        )
        self._settled(stream)

    def _children(self, stream: str, shard: str) -> list[str]:
        return [s["ShardId"] for s in self.shards(stream) if s.get("ParentShardId") == shard]

    def _settled(self, stream: str) -> None:
        def is_active() -> bool:
            told = self.own.describe_stream_summary(StreamName=stream)
            return told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

        wait_until(is_active, READY_S_MAX, 0.01)

    def put(self, stream: str, records: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
        """Write keys and data; shard and sequence number of each."""
        given = [{"PartitionKey": key, "Data": data} for key, data in records]
        written: list[tuple[str, str]] = []
        for first in range(0, len(given), PUT_RECORDS_MAX):
            part: Any = given[first : first + PUT_RECORDS_MAX]
            told = self.own.put_records(StreamName=stream, Records=part)
            assert not told.get("FailedRecordCount"), "kinesis-local refuses records"
            written += [(r["ShardId"], r["SequenceNumber"]) for r in told["Records"]]
        return written

    def records(self, stream: str) -> list[Put]:
        """All records of a stream: parents before their children, each shard in its order."""
        return [r for s in self.shards(stream) for r in self.shard_records(stream, s["ShardId"])]

    def shard_records(self, stream: str, shard: str) -> list[Put]:
        """All records of a shard in their order."""
        told = self.own.get_shard_iterator(
            StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        place: str | None = told["ShardIterator"]
        found: list[Put] = []
        while place:
            answer = self.own.get_records(ShardIterator=place)
            for record in answer["Records"]:
                arrival = record["ApproximateArrivalTimestamp"]
                found.append(
                    Put(
                        record["PartitionKey"], record["Data"], shard, record["SequenceNumber"],
                        round(arrival.timestamp() * 1000),
                    )
                )  # fmt: skip
            if not answer["Records"] and not answer.get("MillisBehindLatest"):
                break
            place = answer.get("NextShardIterator")
        return found
