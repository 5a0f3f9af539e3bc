"""``ensign demo``: everything on this machine, with nothing else installed."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from ensign_core.broker import Broker
from ensign_core.change import Op
from ensign_core.cli.demo.server import postgres
from ensign_core.cli.demo.shop import TABLES, Workload, captured, keys, known_name, seed
from ensign_core.cli.demo.view import Meter, View
from ensign_core.cli.options import load_config, open_configured
from ensign_core.cli.output import out
from ensign_core.cli.pipelines import plan
from ensign_core.config import Config
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.rows import decode
from ensign_core.run.pipeline import Pipeline
from ensign_core.run.supervisor import signals

PIPELINE = "shop"
REFRESH_S = 0.25
EVENT_CHARS = 200
SETTLE_S = 0.05
CATCH_UP_S_MAX = 30.0
_CONFIG = """\
broker:
  path: {folder}/broker
pipelines:
  shop:
    source: {{type: postgres, dsn: "{dsn}", tables: ["shop.*"], heartbeat_s: 1}}
    sinks:
      lines: {{type: file, path: "{folder}/{{topic}}.jsonl", format: json}}
"""


def demo(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to run.")] = 15.0,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep topics and files in this new folder.")
    ] = None,
) -> None:
    """A real PostgreSQL under load, captured into encrypted topics and delivered to a file."""
    with _folder(keep) as folder:
        out.print("Starting a PostgreSQL of our own ...")
        with postgres() as dsn:
            seed(dsn)
            config = folder / "ensign.yaml"
            config.write_text(_CONFIG.format(folder=folder, dsn=dsn))
            loaded = load_config(config)
            with open_configured(loaded.broker, create=True) as broker:
                committed = _capture(broker, loaded, dsn, seconds)
                compared = [
                    (table, keys(dsn, table), folded(broker, f"postgres.shop.{table}"))
                    for table in TABLES
                ]
        with open_configured(loaded.broker, create=False) as broker:
            _tell(broker, folder, committed, compared)
        _next(folder if keep else None)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="ensign-demo-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise EnsignError(
            "demo.folder_unusable",
            f"The folder {keep} cannot be made: {error.strerror}.",
            "Give --keep the name of a folder that does not exist yet.",
        ) from None
    yield keep


def _capture(broker: Broker, config: Config, dsn: str, seconds: float) -> int:
    """Run the pipeline beside the workload, live on the terminal, until all of it is delivered;
    how many changes of rows the workload committed."""
    meter, workload, over = Meter(), Workload(dsn), threading.Event()
    pipeline = Pipeline(broker, plan(PIPELINE, config.pipelines[PIPELINE]), observer=meter.observe)
    runner = threading.Thread(target=pipeline.run, daemon=True)
    view = View(broker, PIPELINE, meter, seconds)
    with signals(over.set), Live(view.render(), console=out, auto_refresh=False) as live:

        def show(*, under_load: bool) -> None:
            over.wait(REFRESH_S if under_load else SETTLE_S)
            view.sample(under_load=under_load)
            live.update(view.render(), refresh=True)

        runner.start()
        workload.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and runner.is_alive() and not over.is_set():
            show(under_load=True)
        workload.stop()
        deadline = time.monotonic() + CATCH_UP_S_MAX
        while runner.is_alive() and time.monotonic() < deadline:
            if captured(dsn) and _delivered(broker):
                break
            show(under_load=False)
        show(under_load=False)
        pipeline.stop()
        runner.join()
    out.print()
    if pipeline.error is not None:
        raise pipeline.error
    return workload.rows


def _delivered(broker: Broker) -> bool:
    """Whether the sink has committed every offset."""
    return all(
        topic.groups and min(topic.groups.values()) >= topic.next_offset
        for topic in broker.topics()
    )


def folded(broker: Broker, topic: str) -> set[str]:
    """The keys that a topic's events leave: what a reader believes that the table holds."""
    alive: set[str] = set()
    reader = broker.reader([topic])
    while batches := reader.fetch():
        for change in chain.from_iterable(batches):
            old, new, _ = change.images()
            at = change.schema.key[0]
            if change.op is Op.DELETE and old is not None:
                alive.discard(str(decode(old)[at]))
            elif new is not None:
                alive.add(str(decode(new)[at]))
    return alive


def _tell(
    broker: Broker, folder: Path, committed: int, compared: list[tuple[str, set[str], set[str]]]
) -> None:
    """Say what happened, and show that it lies there sealed."""
    topics = broker.topics()
    lines = sum(1 for path in folder.glob("*.jsonl") for _ in path.open("rb"))
    events = sum(topic.events for topic in topics)
    out.print(
        f"The shop committed {committed:,} changes of rows. The topics hold {events:,} events, "
        f"the snapshot's among them; the files hold {lines:,} lines."
    )
    for table, rows, seen in compared:
        same = "the same" if rows == seen else f"DIFFERENT: {len(rows ^ seen):,}"
        out.print(
            f"  shop.{table:<10} {len(rows):>7,} rows, from its topic {len(seen):>7,}: {same}"
        )
    out.print("\nA few events:")
    for topic in topics:
        last = max(topic.next_offset - 1, 0)
        for batch in broker.reader([topic.name], last).fetch():
            for text in formatter("json").lines(batch).texts:
                out.print(Text(f"  {text.decode()[:EVENT_CHARS]} ..."))
    name = known_name().encode()
    stored = [path for path in sorted((folder / "broker").iterdir()) if path.is_file()]
    out.print("\nWhat lies on disk:")
    for path in stored:
        found = path.read_bytes().count(name)
        out.print(
            f"  {path.name:<16} {path.stat().st_size:>12,} bytes, {found} x {name.decode()!r}"
        )
    for path in sorted(folder.glob("*customers*.jsonl")):
        found = path.read_bytes().count(name)
        out.print(f"  the sink's plain file {' ' * 13} {found:>4} x {name.decode()!r}")


def _next(kept: Path | None) -> None:
    out.print("\nNext:")
    if kept is None:
        out.print("  ensign demo --keep ./demo      the same, and the topics stay for a look")
    else:
        out.print(f"  ensign topics list --path {kept}/broker")
        out.print(f"  ensign read postgres.shop.orders --path {kept}/broker --max 5")
    out.print("  ensign check configs/postgres_to_file.yaml      a pipeline from a server of yours")
    out.print("  ensign run configs/postgres_to_file.yaml")
