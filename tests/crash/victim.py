"""``ensign`` in a process that kills itself with SIGKILL at a named point of the path.

``python -m tests.crash.victim SCENARIO POINT COUNT ARGUMENTS...`` runs the command line with
ARGUMENTS and dies when POINT is passed for the COUNT-th time; ``none`` never dies by itself. The
points wrap methods from outside: the product has
no switches for tests.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from ensign_core.broker import Broker, Writer
from ensign_core.change import Batch, Op
from ensign_core.engine import append
from ensign_core.run.egress import Egress

SNAPSHOT_READ = "rows of a snapshot read, not appended"

SCENARIOS: dict[str, tuple[str, str]] = {
    "postgres": ("connectors.postgres.source:PostgresSource", "connectors.file.sink:FileSink"),
    "mysql": ("connectors.mysql.source:MysqlSource", "connectors.file.sink:FileSink"),
    "kafka": ("connectors.kafka.source:KafkaSource", "connectors.kafka.sink:KafkaSink"),
    "kinesis": ("connectors.kinesis.source:KinesisSource", "connectors.kinesis.sink:KinesisSink"),
}
"""The source and the sink that are meant, imported when they are."""

SOURCE, SINK = "the source", "the sink"

POINTS: dict[str, tuple[Any, str, bool]] = {
    SNAPSHOT_READ: (SOURCE, "read", False),
    "read, not appended": (Writer, "append", True),
    "appended in part": (append, "_place", False),
    "appended, not acked": (Writer, "append", False),
    "acked": (SOURCE, "ack", False),
    "fetched, not written": (SINK, "write", True),
    "written, not flushed": (Egress, "_flush", True),
    "flushed, not committed": (Broker, "commit", True),
    "committed": (Broker, "commit", False),
}
"""An owner, its function's name, and whether to die before it (else after it returned)."""


def of_snapshot(batch: Batch | None) -> bool:
    return batch is not None and Op.SNAPSHOT in batch.ops


def arm(scenario: str, point: str, count: int) -> None:
    """Wrap the function that ``point`` names."""
    owner, name, before = POINTS[point]
    if owner in (SOURCE, SINK):
        owner = resolve_name(SCENARIOS[scenario][owner is SINK])
    inner: Callable[..., Any] = getattr(owner, name)
    left = [count]

    def pass_by() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            pass_by()
        result = inner(*args, **kwargs)
        if not before and (point != SNAPSHOT_READ or of_snapshot(result)):
            pass_by()
        return result

    setattr(owner, name, wrapped)


def tell_first_append() -> None:
    """Say on standard output that the worker is at work, once."""
    inner = Writer.append

    def told(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        Writer.append = inner  # type: ignore[method-assign]  # the wrapper is done
        os.write(1, b"at work\n")
        return result

    Writer.append = told  # type: ignore[method-assign]  # from outside, as all points


def main() -> None:
    scenario, point, count, *arguments = sys.argv[1:]
    tell_first_append()
    if point != "none":
        arm(scenario, point, int(count))
    sys.argv = ["ensign", *arguments]
    from ensign_core.cli import main as ensign

    ensign()


if __name__ == "__main__":
    main()
