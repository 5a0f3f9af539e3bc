"""``python -m tests.bench json``: compiled code beside its plain version, both in one process.

Rows have the ten columns of the other measurements' table. Each run takes the same batches: as
lines of JSON by the compiled and by the plain version, a whole topic as JSON (its frames read,
opened, formatted), and lines of COPY as bodies of rows by either version. The clock is the CPU
time of the process, so that neighbours on the machine weigh less.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from connectors.postgres.copytext import RowCopier, bodies
from ensign_core.broker import Broker
from ensign_core.change import Batch, BatchBuilder, Column, Logical, Op, Schema, Tx
from ensign_core.formats import formatter
from tests.bench.measured import Run, per_row, ratio, timed
from tests.plain.lines import json_lines

COLUMNS: tuple[tuple[str, str, Logical], ...] = (
    ("id", "bigint", "int"), ("number", "integer", "int"), ("title", "text", "text"),
    ("price", "numeric(12,2)", "decimal"), ("placed", "timestamp with time zone", "timestamptz"),
    ("paid", "boolean", "bool"), ("token", "uuid", "uuid"), ("detail", "jsonb", "json"),
    ("weight", "double precision", "float"), ("code", "character varying(20)", "text"),
)  # fmt: skip
SCHEMA = Schema(
    "public.bench",
    (("database", "shop"), ("schema", "public"), ("table", "bench")),
    tuple(Column(*column, nullable=bool(n), key=not n) for n, column in enumerate(COLUMNS)),
)
TOPIC = "shop.public.bench"
BATCH_ROWS = 20_000


def copied(number: int) -> bytes:
    """A row as COPY gives it, of the shape of ``tests.bench.postgres``."""
    return (
        f"{number}\t{number % 1000}\ttitle of row {number}\t{number % 100_000 / 100:.2f}\t"
        f"2026-11-23 {number % 24:02}:{number % 60:02}:00+00\t{'ft'[number % 2]}\t"
        f'a0eebc99-9c0b-4ef8-bb6d-{number:012x}\t{{"n": {number}}}\t{number / 7}\t'
        f"code{number % 10_000}\n"
    ).encode()


def batch_of(lines: list[bytes]) -> Batch:
    """Rows of one transaction."""
    builder = BatchBuilder().begin(Tx("742", "0/16B3748", 1_795_439_430_661_374))
    copier = RowCopier(len(COLUMNS))
    for line in lines:
        builder.add(Op.INSERT, SCHEMA, copier.body(line))
    batch = builder.take(None)
    batch.topic = TOPIC
    return batch


def topic_as_json(broker: Broker, *, cut: bool) -> None:
    """What `ensign read` does, into nothing; ``cut``: each line by itself, as a sink that sends
    messages wants them."""
    lines = formatter("json")
    with broker.reader([TOPIC], "start") as reader:
        while batches := reader.fetch():
            for batch in batches:
                found = lines.lines(batch)
                for _ in found.texts if cut else (found.text,):
                    pass


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m tests.bench json")
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--rows", type=int, default=10 * BATCH_ROWS)
    options = parser.parse_args(arguments)
    lines = [
        [copied(n) for n in range(first, min(first + BATCH_ROWS, options.rows))]
        for first in range(0, options.rows, BATCH_ROWS)
    ]
    batches = list(map(batch_of, lines))
    json = formatter("json")
    copier = RowCopier(len(COLUMNS))
    assert json.lines(batches[0]).texts == json_lines(batches[0]).texts
    with tempfile.TemporaryDirectory() as folder, Broker.open(Path(folder) / "broker") as broker:
        writer = broker.writer()
        for batch in batches:
            writer.append([(TOPIC, batch)])
        works: dict[str, Callable[[], object]] = {
            "lines of JSON, compiled": lambda: [len(json.lines(b).text) for b in batches],
            "lines of JSON, each cut out": lambda: [
                sum(map(len, json.lines(b).texts)) for b in batches
            ],
            "lines of JSON, plain": lambda: [len(json_lines(batch).texts) for batch in batches],
            "a topic as JSON": lambda: topic_as_json(broker, cut=False),
            "a topic as JSON, each line cut out": lambda: topic_as_json(broker, cut=True),
            "lines of COPY, compiled": lambda: [len(bodies(each, 10)[1]) for each in lines],
            "lines of COPY, plain": lambda: [len(list(map(copier.body, each))) for each in lines],
        }
        found: dict[str, list[Run]] = {name: [] for name in works}
        for _ in range(options.times):
            for name, work in works.items():
                found[name].append(timed(options.rows, work))
    print(f"{options.rows:,} rows of 10 columns, {options.times} times each, alternating")
    for name, runs in found.items():
        print(per_row(name, runs))
    for kind in ("JSON", "COPY"):
        compiled, plain = found[f"lines of {kind}, compiled"], found[f"lines of {kind}, plain"]
        print(ratio(f"CPU, {kind}, plain / compiled", plain, compiled, of_cpu=True))
