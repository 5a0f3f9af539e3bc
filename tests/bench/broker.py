"""``python -m tests.bench broker``: the embedded broker by itself, every append synced and sealed.

Events are JSON of 200 bytes with values that differ, in batches of 20,000; batches are made before
the clock starts, `event_batch` by itself is told too. Beside the appends, alternating, runs a bare
loop that inserts the frames' bytes into an SQLite database of the same settings, and beside the
publishes one that syncs a file for each, since a disk's sync is what bounds them.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from pathlib import Path

import apsw

from ensign_core.broker import Broker, Event
from ensign_core.broker.events import event_batch
from ensign_core.change import Batch
from ensign_core.formats import formatter
from tests.bench.measured import Run, ratio, timed, told

TOPIC = "orders"
BATCH_EVENTS = 20_000
BATCHES = 10
THREADS = 64
PER_S = 100
SHAPES = ("append", "publish", "read", "flat", "processes")


def events(count: int, seed: int) -> list[Event]:
    """JSON as somebody's program would publish it, 200 bytes each."""
    chance = random.Random(seed)
    made: list[Event] = []
    for number in range(count):
        row = {
            "id": seed * BATCH_EVENTS + number, "status": chance.choice(["new", "paid", "sent"]),
            "customer": f"{chance.getrandbits(64):016x}", "amount": chance.randint(1, 99_999),
            "at": f"2026-11-{chance.randint(1, 30):02}T{chance.randint(0, 23):02}:00:00Z",
            "note": "",
        }  # fmt: skip
        room = 200 - len(json.dumps(row))
        row["note"] = "".join(chance.choices("abcdefgh ", k=room))
        made.append(Event(json.dumps(row).encode(), str(number).encode(), {}, "application/json"))
    return made


def batches() -> list[Batch]:
    return [event_batch(TOPIC, events(BATCH_EVENTS, seed)) for seed in range(BATCHES)]


def append_all(broker: Broker, made: list[Batch], count: int) -> None:
    writer = broker.writer()
    for number in range(count // BATCH_EVENTS):
        writer.append([(TOPIC, made[number % BATCHES])])


def bare(folder: Path, frames: list[bytes]) -> None:
    """The same bytes into a table of one column, a transaction for each frame."""
    db = apsw.Connection(str(folder / "bare.db"))
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE frames (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    for frame in frames:
        with db:
            db.execute("INSERT INTO frames (data) VALUES (?)", (frame,))
    db.close()


def append(count: int, times: int) -> None:
    made = batches()
    ours: list[Run] = []
    limit: list[Run] = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name, Broker.open(Path(name) / "b") as broker:
            ours.append(timed(count, lambda: append_all(broker, made, count)))
            engine = broker._engine
            stored = engine.frames(engine.topic_ids([TOPIC]).values(), 0, 1 << 40)
            frames = [one.frame for one in stored] * (count // BATCH_EVENTS // len(stored) + 1)
            frames = frames[: count // BATCH_EVENTS]
            limit.append(timed(count, lambda: bare(Path(name), frames)))  # noqa: B023
    print(f"Append, {count:,} events of 200 bytes in batches of {BATCH_EVENTS:,}, {times} times")
    print(told("ensign, sealed and synced", ours))
    print(told("bare SQLite, the sealed frames", limit))
    print(ratio("events/s, ensign / bare SQLite", ours, limit))
    one = events(BATCH_EVENTS, 0)
    built = [timed(BATCH_EVENTS, lambda: event_batch(TOPIC, one)) for _ in range(times)]
    print(told("events into a batch", built))


def sync_loop(path: Path, count: int) -> None:
    """One thread that writes 200 bytes and syncs them, again and again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(count):
        os.write(descriptor, b"x" * 200)
        os.fdatasync(descriptor)
    os.close(descriptor)


def publish(count: int, times: int) -> None:
    made = events(1000, 0)
    ours: list[Run] = []
    limit: list[Run] = []
    each = count // THREADS
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name, Broker.open(Path(name) / "b") as broker:
            with broker.publisher() as publisher:
                publisher.publish(TOPIC, made[0])

                def work() -> None:
                    for number in range(each):
                        publisher.publish(TOPIC, made[number % 1000])

                threads = [threading.Thread(target=work) for _ in range(THREADS)]

                def run() -> None:
                    for thread in threads:  # noqa: B023
                        thread.start()
                    for thread in threads:  # noqa: B023
                        thread.join()

                ours.append(timed(each * THREADS, run))
            assert broker.topic(TOPIC).events == each * THREADS + 1
            limit.append(timed(2000, lambda: sync_loop(Path(name) / "f", 2000)))
    print(f"Single events, acked when synced, {THREADS} threads, {count:,} events, {times} times")
    print(told("ensign, group commit", ours))
    print(told("one thread, a bare fdatasync each", limit))
    print(ratio("events/s, ensign / bare fdatasync", ours, limit))


def read(count: int, times: int) -> None:
    with tempfile.TemporaryDirectory() as name, Broker.open(Path(name) / "b") as broker:
        append_all(broker, batches(), count)
        frames = [timed(count, lambda: read_all(broker, None)) for _ in range(times)]
        lines = [timed(count, lambda: read_all(broker, "json")) for _ in range(times)]
    print(f"Read back, {count:,} events, {times} times")
    print(told("opened as batches", frames))
    print(told("as lines of JSON", lines))


def read_all(broker: Broker, name: str | None) -> None:
    lines = formatter(name) if name else None
    with broker.reader([TOPIC]) as reader:
        while found := reader.fetch():
            for batch in found:
                _ = lines.lines(batch).text if lines else batch.body


def flat(count: int, _times: int) -> None:
    """The cost per event at growing sizes of one topic."""
    made = batches()
    with tempfile.TemporaryDirectory() as name, Broker.open(Path(name) / "b") as broker:
        writer, stored = broker.writer(), 0
        print(f"A topic that grows to {count:,} events")
        for size in sorted({count // 20, count // 4, count // 2, count}):
            append_all(broker, made, size - stored - BATCH_EVENTS * BATCHES)
            began = time.monotonic()
            for batch in made:
                writer.append([(TOPIC, batch)])
            appended = time.monotonic() - began
            stored = size
            began = time.monotonic()
            with broker.reader([TOPIC], stored - BATCH_EVENTS * BATCHES) as reader:
                got = 0
                while got < BATCH_EVENTS * BATCHES:
                    got += sum(map(len, reader.fetch()))
            reading = time.monotonic() - began
            per = 1e6 / (BATCH_EVENTS * BATCHES)
            print(
                f"  {stored:>12,} events stored: {appended * per:.2f} µs per event appended, "
                f"{reading * per:.2f} read at its end"
            )


def processes(count: int, times: int) -> None:
    """Appends of pipelines in processes of their own, each of 100 events."""
    for per_s in (PER_S, 0):
        pace = f"{per_s} appends/s each" if per_s else "without pause"
        print(
            f"Appends of 100 events by pipelines in processes of their own, {pace}, {count:,} each"
        )
        pairs = [(_slowest(1, count, per_s), _slowest(4, count, per_s)) for _ in range(times)]
        for name, found in zip(("one", "four at once"), zip(*pairs, strict=True), strict=True):
            middle = statistics.median(each["p50_ms"] for each in found)
            worst = [each["p99_ms"] for each in found]
            print(
                f"  {name:<34} p50 {middle:.2f} ms, p99 {statistics.median(worst):.2f} ms "
                f"({min(worst):.2f} to {max(worst):.2f})"
            )
        ratios = [four["p99_ms"] / one["p99_ms"] for one, four in pairs]
        print(
            f"  p99, four / one                    {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})"
        )


def _slowest(writers: int, count: int, per_s: int) -> dict[str, float]:
    """The worst p50 and p99 of some processes that append at once."""
    command = [sys.executable, "-m", "tests.bench.appending"]
    with tempfile.TemporaryDirectory() as name:
        Broker.open(Path(name) / "b").close()
        running = [
            subprocess.Popen(
                [*command, f"{name}/b", f"p{writer}", str(count), str(per_s)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for writer in range(writers)
        ]  # fmt: skip
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(process.communicate()[0]) for process in running]
    return {name: max(each[name] for each in found) for name in ("p50_ms", "p99_ms")}


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m tests.bench broker")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--stored", type=int, default=20_000_000, help="of a topic that grows")
    parser.add_argument("--publishes", type=int, default=64_000)
    parser.add_argument("--appends", type=int, default=2_000, help="of each process")
    parser.add_argument("--only", choices=SHAPES, action="append")
    options = parser.parse_args(arguments)
    shapes = options.only or SHAPES
    work = {
        "append": (append, options.events), "publish": (publish, options.publishes),
        "read": (read, options.events), "flat": (flat, options.stored),
        "processes": (processes, options.appends),
    }  # fmt: skip
    for shape in SHAPES:
        if shape in shapes:
            function, count = work[shape]
            function(count, options.times)
