"""``python -m tests.bench.appending FOLDER PIPELINE APPENDS PER_S``: one pipeline's appends with
their positions, timed one by one from when each is due (without pause if ``PER_S`` is 0); prints
p50 and p99 as JSON. It says that it is ready by a line, and begins with one that it reads."""

from __future__ import annotations

import json
import sys
import threading
import time

from ensign_core.broker import Broker
from ensign_core.broker.events import event_batch
from ensign_core.change import Position
from tests.bench.broker import events

EVENTS = 100


def main(path: str, pipeline: str, appends: int, per_s: int) -> None:
    batch = event_batch(pipeline, events(EVENTS, 1))
    with Broker.open(path) as broker:
        writer = broker.writer(pipeline)
        writer.append([(pipeline, batch)], Position(b"0"))
        print("ready", flush=True)
        sys.stdin.readline()
        took: list[float] = []
        pause = threading.Event()
        start = time.perf_counter()
        for number in range(appends):
            began = time.perf_counter()
            if per_s:
                pause.wait(max(0.0, start + number / per_s - began))
                began = start + number / per_s
            writer.append([(pipeline, batch)], Position(b"%d" % number))
            took.append(time.perf_counter() - began)
    took.sort()
    print(json.dumps({
        "p50_ms": took[appends // 2] * 1000, "p99_ms": took[appends * 99 // 100] * 1000,
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
