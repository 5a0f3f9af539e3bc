"""``python -m tests.bench.appending FOLDER PIPELINE APPENDS WRITERS``: one pipeline's appends with
their positions, timed one by one; prints p50 and p99 as JSON. All writers start together: each says
that it is ready in the folder, and waits until so many have."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ensign_core.broker import Broker
from ensign_core.change import Position
from tests.bench.broker import event_batch, events

EVENTS = 100


def main(path: str, pipeline: str, appends: int, writers: int) -> None:
    batch = event_batch(pipeline, events(EVENTS, 1))
    with Broker.open(path) as broker:
        writer = broker.writer(pipeline)
        writer.append([(pipeline, batch)], Position(b"0"))
        ready = Path(f"{path}.ready")
        ready.mkdir(exist_ok=True)
        (ready / pipeline).touch()
        while len(list(ready.iterdir())) < writers:
            time.sleep(0.01)
        took: list[float] = []
        for number in range(appends):
            began = time.perf_counter()
            writer.append([(pipeline, batch)], Position(b"%d" % number))
            took.append(time.perf_counter() - began)
    took.sort()
    print(json.dumps({
        "p50_ms": took[appends // 2] * 1000, "p99_ms": took[appends * 99 // 100] * 1000,
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
