"""The life of keys while other threads and processes write and read, and where they are killed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from ensign_core.broker import Broker, vault
from ensign_core.change import Batch
from ensign_core.crypto import FileProvider, KeyRing, default_key_file
from tests.files import holders
from tests.processes import Process, Processes
from tests.unit.test_broker import drain, events, refused
from tests.unit.test_keys import keys_of, wrapped

Start = Callable[..., Process]

PRELUDE = """
import sys, time
from ensign_core.broker import Broker, Event
from ensign_core.errors import EnsignError
broker = Broker.open(sys.argv[1])
def event(value):
    return [Event(str(value).encode())]
"""


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Start]:
    """Starts processes that have the broker open."""
    with Processes() as processes:
        yield lambda script, *arguments: processes.start(
            PRELUDE + script, tmp_path / "b", *arguments
        )


PUBLISHING = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    broker.publish("t", event(f"{sys.argv[3]} {number}"))
    broker.publish(f"t{number // 10}", event(number))
print("done", flush=True)
"""


@pytest.mark.parametrize("master", [False, True])
def test_rotations_under_load_refuse_and_lose_nothing(
    broker: Broker, python: Start, *, master: bool
) -> None:
    count, threads = 60, 2
    other = python(PUBLISHING, count, "other")
    assert other.line() == "ready"
    failed: list[BaseException] = []

    def publish(name: str) -> None:
        writer = broker.writer()
        try:
            for number in range(count):
                broker.publish("t", events(f"{name} {number}"))
                with broker.reader(["t"], "end") as reader:
                    reader.fetch()
                writer.append([(f"{name}{number // 10}", batch_of(broker))])
        except BaseException as error:
            failed.append(error)
            raise

    running = [threading.Thread(target=publish, args=(f"own{n}",)) for n in range(threads)]
    broker.publish("seed", events("seed"))
    other.go()
    for thread in running:
        thread.start()
    rotations = 0
    while any(thread.is_alive() for thread in running) or rotations < 20:
        if master:
            broker.keys.rotate_master()
        broker.keys.rotate()
        rotations += 1
    for thread in running:
        thread.join()
    assert (other.line(), other.wait(), failed) == ("done", 0, [])
    with broker.reader(["t"]) as reader:
        found = [tuple(text.split()) for text in drain(reader)]
    for name in ("other", *(f"own{n}" for n in range(threads))):
        own = [int(number) for whose, number in found if whose == name]
        assert own == list(range(count)), "every append is there, once and in order"
    assert len([key for key in keys_of(broker, "t") if key.frames]) > 3
    assert [key.state for key in keys_of(broker, "t")].count("active") == 1


def batch_of(broker: Broker) -> Batch:
    with broker.reader(["seed"]) as reader:
        return reader.fetch()[0]


READING = """
reading, looking = broker.reader(["t"]), broker.lookup()
with broker.reader(["t"]) as reader:
    assert len(reader.fetch()) == 1
assert looking.event("t", 0) is not None
deadline = time.monotonic() + 20
ends = {}
print("read", flush=True)
while len(ends) < 2 and time.monotonic() < deadline:
    for name in {"reader", "lookup"} - ends.keys():
        began = time.monotonic()
        try:
            if name == "lookup":
                assert looking.event("t", 0) is not None
            else:
                with broker.reader(["t"]) as reader:
                    assert len(reader.fetch()) >= 1
        except EnsignError as error:
            ends[name] = error.code
            print(name, error.code, flush=True)
        else:
            last = began
print(last, flush=True)
"""


def test_readers_in_other_processes_stop_within_a_second(broker: Broker, python: Start) -> None:
    broker.publish("t", events("secret"))
    processes = [python(READING) for _ in range(2)]
    assert [process.line() for process in processes] == ["read"] * 2
    broker.keys.revoke(keys_of(broker, "t")[0].key_id)
    revoked_at = monotonic()
    for process in processes:
        ends = sorted(process.line() for _ in range(2))
        assert ends == ["lookup key.revoked", "reader key.revoked"]
        assert float(process.line()) < revoked_at + vault.REVOKED_LOOK_S, "the last that was read"
        assert process.wait() == 0


WRITING = """
writer = broker.writer("p")
with broker.reader(["seed"]) as reader:
    (batch,) = reader.fetch()
print("ready", flush=True)
while True:
    (offset,) = writer.append([("t", batch)])
    print(offset, flush=True)
"""


def test_writers_in_other_processes_go_over_to_another_key(broker: Broker, python: Start) -> None:
    broker.publish("seed", events("x"))
    process = python(WRITING)
    assert process.line() == "ready"
    for _ in range(3):
        assert int(process.line()) >= 0
    for _ in range(3):
        (*_, key) = keys_of(broker, "t")
        broker.keys.revoke(key.key_id)
        ((_, last),) = broker.keys.ranges(key.key_id)
        while int(process.line()) <= last + 1:
            pass
        assert broker.keys.ranges(key.key_id)[-1][1] == last, "nothing was sealed under it since"
    process.kill()
    states = [key.state for key in keys_of(broker, "t")]
    assert states == ["revoked"] * 3 + ["active"]


KILLED = """
import os, signal
from ensign_core.change import Batch
from ensign_core.crypto import FileProvider, KeyRing
from ensign_core.engine.database import Database

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_behind(owner, name):
    method = getattr(owner, name)
    def behind(*arguments, **options):
        method(*arguments, **options)
        kill()
    setattr(owner, name, behind)

def killed_at(sql):
    def trace(_cursor, statement, _values):
        if statement.startswith(sql):
            kill()
        return True
    broker._engine.database.connection().set_exec_trace(trace)

seam = sys.argv[2]
if seam == "begun":
    killed_behind(FileProvider, "begin")
elif seam == "wrapping":
    killed_behind(KeyRing, "rewrap")
elif seam == "wrapped":
    Database.scrub_keys = kill
elif seam == "scrubbed":
    killed_behind(Database, "scrub_keys")
elif seam == "finished":
    killed_behind(FileProvider, "finish")
else:
    killed_at(seam)
print("ready", flush=True)
"""
MASTER = KILLED + "broker.keys.rotate_master()\n"
REVOKE = KILLED + "broker.keys.revoke(sys.argv[3])\n"


@pytest.mark.parametrize(
    "seam",
    [
        "begun", "wrapping", "UPDATE keys.data_keys", "UPDATE keys.kek", "COMMIT", "wrapped",
        "VACUUM", "scrubbed", "finished",
    ],
)  # fmt: skip
def test_a_rotation_of_the_kek_that_is_killed_can_be_opened_and_completed(
    broker: Broker, python: Start, tmp_path: Path, seam: str
) -> None:
    for number in range(3):
        broker.publish("t", events(number))
        broker.keys.rotate("t")
    before, file = wrapped(broker), default_key_file(tmp_path / "b")
    (old,) = FileProvider(file).keys(create=False)
    process = python(MASTER, seam)
    assert process.line() == "ready"
    assert process.wait() == -9
    for one in (Broker.open(tmp_path / "b"), broker):
        with one.reader(["t"]) as reader:
            assert drain(reader) == ["0", "1", "2"]
        one.publish("new", events(1))
    broker.keys.rotate_master()
    assert len(FileProvider(file).keys(create=False)) == 1
    assert broker._engine.keys.check() != KeyRing.of(old).check
    for secret in before:
        assert holders(tmp_path, secret) == []
    with Broker.open(tmp_path / "b").reader(["t", "new"]) as reader:
        assert drain(reader) == ["0", "1", "2", "1", "1"]


@pytest.mark.parametrize(
    "seam", ["UPDATE bodies", "UPDATE keys.data_keys", "UPDATE keys.kek", "COMMIT", "wrapped",
             "VACUUM", "scrubbed"],
)  # fmt: skip
def test_a_revocation_that_is_killed_is_done_or_not(
    broker: Broker, python: Start, tmp_path: Path, seam: str
) -> None:
    broker.publish("t", events(1))
    (key,) = keys_of(broker, "t")
    (stored,) = broker._engine.keys.stored([broker._find("t").topic_id])
    process = python(REVOKE, seam, key.key_id)
    assert process.line() == "ready"
    assert process.wait() == -9
    fresh = Broker.open(tmp_path / "b")
    done = seam in ("wrapped", "VACUUM", "scrubbed")
    assert keys_of(fresh, "t")[0].state == ("revoked" if done else "active")
    for part in (stored.wrapped[:20], stored.wrapped[-20:]) if done else ():
        assert holders(tmp_path, part) == [], "not even before the rest is done"
    with fresh.reader(["t"]) as reader:
        if done:
            assert refused(reader.fetch) == "key.revoked"
        else:
            assert drain(reader) == ["1"]
    fresh.keys.revoke(key.key_id)
    assert holders(tmp_path, stored.wrapped) == []
    with broker.reader(["t"]) as reader:
        broker._vault.look()
        assert refused(reader.fetch) == "key.revoked"


LIVING = """
number = 0
while True:
    number += 1
    broker.publish(f"t{sys.argv[2]}-{number}", event(number))
    broker.keys.rotate_master()
    broker.publish(f"t{sys.argv[2]}-{number}", event(number))
    info = next(i for i in broker.keys.list() if i.topic == f"t{sys.argv[2]}-{number}")
    broker.keys.revoke(info.key_id)
    print(number, flush=True)
"""


def test_a_process_killed_anywhere_leaves_a_project_that_opens(
    broker: Broker, python: Start, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for life in range(8):
        process = python(LIVING, life)
        told = 0
        for _ in range(rng.randrange(1, 4)):
            told = int(process.line())
        threading.Event().wait(rng.random() * 0.05)
        process.kill()
        fresh = Broker.open(tmp_path / "b")
        for info in fresh.topics():
            with fresh.reader([info.name]) as reader:
                states = {key.state for key in keys_of(fresh, info.name)}
                if "revoked" in states and info.name.startswith("t"):
                    assert refused(reader.fetch) == "key.revoked"
                else:
                    drain(reader)
        for number in range(1, told + 1):
            assert {key.state for key in keys_of(fresh, f"t{life}-{number}")} == {"revoked"}
        fresh.close()
    broker.keys.rotate_master()
    with broker.reader(["ensign.audit"]) as reader:
        assert len(drain(reader)) >= 16


def test_a_rotation_that_others_overtake_does_not_go_back(tmp_path: Path) -> None:
    """Whoever made the newest KEK forgets all older ones when it is done."""
    path = tmp_path / "b"
    key_file = default_key_file(path)
    newest = FileProvider(key_file)

    class Newest(FileProvider):
        def finish(self) -> None:
            """Not yet."""

    class Overtaken(FileProvider):
        def begin(self) -> bytes:
            begun = super().begin()
            first.keys.rotate_master()
            last.keys.rotate_master()
            newest.begin()
            return begun

    with (
        Broker.open(path) as first,
        Broker.open(path, Newest(key_file)) as last,
        Broker.open(path, Overtaken(key_file)) as slow,
    ):
        first.publish("t", events(1))
        assert refused(slow.keys.rotate_master) == "engine.busy"
        newest.finish()
    with Broker.open(path, create=False) as again, again.reader(["t"]) as reader:
        assert drain(reader) == ["1"]
