"""Events of 200 MB through a topic: what comes back, what it takes in memory, and publishers that
are killed while they publish one."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from ensign_core.broker import (
    Broker,
    Event,
    FolderStore,
    Received,
    S3Store,
    Store,
    received,
)
from ensign_core.errors import EnsignError
from tests.processes import Processes
from tests.services.moto import CREDENTIALS, REGION, MotoServer
from tests.services.postgres import free_port
from tests.services.ready import wait_until

MB = 1 << 20
LARGE_BYTES = 200 * MB
MEMORY_BYTES_MAX = 100 * MB
"""What publishing and saving 200 MB adds to the memory of a process at its peak."""

WAYS = {
    "chunked": ("Chunked()", "[]"),
    "folder": ("ClaimCheck(FolderStore('store'))", "[FolderStore('store')]"),
    "s3": ("ClaimCheck(S3Store('BUCKET', 'models'))", "[S3Store('BUCKET', 'models')]"),
}

HEAD = """
import os, sys
from itertools import chain
from pathlib import Path
import boto3.s3.transfer
from ensign_core.broker import Broker, Chunked, ClaimCheck, Event, FolderStore, S3Store, received

def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

os.chdir(sys.argv[1])
"""
PUBLISH = """
with Broker.open("b") as broker, open(sys.argv[2], "rb") as file:
    broker.publish("models", [Event(b"x" * 2_000_000)], LARGE)
    before = peak()
    print(broker.publish_file("models", file, LARGE, Event(b"", b"k", mimetype="m")))
    print(peak() - before)
"""
SAVE = """
with Broker.open("b", create=False) as broker, broker.reader(["models"]) as reader:
    assembler, before = broker.assembler(STORES), peak()
    for found in chain.from_iterable(map(received, chain.from_iterable(iter(reader.fetch, [])))):
        assembler.save(found, Path(f"saved{found.offset}"))
    print(peak() - before)
"""


def script(body: str, way: str, bucket: str) -> str:
    large, stores = WAYS[way]
    return HEAD + body.replace("LARGE", large).replace("STORES", stores).replace("BUCKET", bucket)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_of(broker: Broker) -> Iterator[Received]:
    with broker.reader(["models"]) as reader:
        yield from chain.from_iterable(map(received, chain.from_iterable(iter(reader.fetch, []))))


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> MotoServer:
    """The server as boto3 finds it by itself, in the processes of the test too."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    return moto


@pytest.mark.parametrize("way", WAYS)
def test_200_mb_come_back_in_bounded_memory(aws: MotoServer, way: str, tmp_path: Path) -> None:
    bucket = aws.new_bucket()
    model, seed = tmp_path / "model", random.randrange(1 << 32)
    print("seed", seed)
    drawn = random.Random(seed)
    with model.open("wb") as file:
        file.writelines(drawn.randbytes(MB) for _ in range(LARGE_BYTES // MB))
    with Processes() as processes:
        publisher = processes.start(script(PUBLISH, way, bucket), tmp_path, model)
        offset, published = map(int, publisher.lines())
        assert publisher.wait() == 0
        reader = processes.start(script(SAVE, way, bucket), tmp_path)
        (saved,) = map(int, reader.lines())
        assert reader.wait() == 0
    print(f"{way}: publishing took {published / MB:.0f} MB, saving {saved / MB:.0f} MB")
    assert digest(tmp_path / f"saved{offset}") == digest(model)
    assert len(list(tmp_path.glob("saved*"))) == 2
    assert max(published, saved) < MEMORY_BYTES_MAX


@pytest.mark.parametrize("way", ["chunked", "folder", "s3"])
def test_a_publisher_killed_in_the_middle(aws: MotoServer, way: str, tmp_path: Path) -> None:
    """It reads a pipe that gives it half, and is killed when that has got somewhere."""
    bucket = aws.new_bucket()
    data = random.Random(4711).randbytes(48 * MB)
    pipe, whole = tmp_path / "pipe", tmp_path / "whole"
    os.mkfifo(pipe)
    whole.write_bytes(data)
    s3 = aws.s3()

    def has_begun() -> object:
        if way == "chunked":
            return broker.topic("models").events >= 5
        if way == "folder":
            return any(file.stat().st_size > 20 * MB for file in store.glob(".*"))
        return s3.list_multipart_uploads(Bucket=bucket).get("Uploads")

    store = tmp_path / "store"
    with Broker.open(tmp_path / "b") as broker, Processes() as processes:
        publisher = processes.start(script(PUBLISH, way, bucket), tmp_path, pipe)
        with pipe.open("wb") as file:
            file.write(data[: 24 * MB])
            file.flush()
            wait_until(has_begun, 60)
            publisher.kill()
        stores: list[Store] = [S3Store(bucket, "models")] if way == "s3" else [FolderStore(store)]
        assert len(list(broker.whole(all_of(broker), stores))) == 1
        again = processes.start(script(PUBLISH, way, bucket), tmp_path, whole)
        offset = int(again.line())
        found = list(broker.whole(all_of(broker), stores))
        assert [one.offset for one in found if one.event and one.event.key == b"k"] == [offset]
        assert found[-1].event == Event(data, b"k", mimetype="m")
        assert [len(one.event.data) for one in found if one.event] == [2_000_000] * 2 + [len(data)]
    s3.close()


def test_failures_of_a_bucket(aws: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = aws.new_bucket()
    store = S3Store(bucket, "/a/b/")
    assert store.location == f"s3://{bucket}/a/b"
    store.put("0" * 32, [b"so", b"", b"me"])
    s3 = aws.s3()
    (listed,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    s3.close()
    assert listed["Key"] == "a/b/" + "0" * 32
    assert b"".join(store.get("0" * 32)) == b"some"
    store.delete("0" * 32)
    assert refused(lambda: list(store.get("0" * 32))) == "claim.missing"
    store.close()
    assert refused(lambda: S3Store("none").put("0" * 32, [b"x"])) == "store.not_found"
    nowhere = S3Store(bucket, endpoint_url=f"http://127.0.0.1:{free_port()}")
    assert refused(lambda: nowhere.put("0" * 32, [b"x"])) == "store.unreachable"
    nowhere.close()
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    assert refused(lambda: list(S3Store(bucket).get("0" * 32))) == "store.credentials_missing"


def test_an_upload_that_breaks_off_leaves_nothing(aws: MotoServer) -> None:
    bucket = aws.new_bucket()
    store = S3Store(bucket)

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(MB)
        raise OSError("the source broke off")

    with pytest.raises(OSError, match="broke off"):
        store.put("0" * 32, pieces())
    s3 = aws.s3()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.close()
    store.close()


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EnsignError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return raised.value.code
