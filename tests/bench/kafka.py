"""``python -m tests.bench kafka``: Kafka into a durable encrypted topic and out of it, each beside
a bare loop over the same records; and PostgreSQL to Kafka beside Debezium's engine, which writes
nowhere.

Clocks run from the making of a client to its end: of the bare loop's to its last record, of ours to
the end of the process (`tests.bench.worked`, `tests.bench.bare_kafka`). CPU and peak RSS are the
process's own, its start included; the broker and librdkafka's threads take their share of the same
cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from pathlib import Path

from ensign_core.broker import Broker
from tests.bench import postgres, rival_debezium
from tests.bench.measured import Run, finished, ratio, told
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer, installations

OF_POSTGRES = """\
broker:
  path: {folder}/broker
pipelines:
  bench:
    source: {{type: postgres, dsn: "{dsn}", tables: [public.bench], slot: {slot},
      publication: bench, snapshot: never}}
    sinks:
      bus: {{type: kafka, bootstrap: "{bootstrap}", topic: "{slot}", format: debezium,
        create: {{partitions: {partitions}}}}}
"""
PARTITIONS = 3
TOPIC = "bench"
SHAPES = ("in", "out", "postgres")
ENSIGN = [sys.executable, "-m", "tests.bench.worked", "kafka"]
BARE = [sys.executable, "-m", "tests.bench.bare_kafka"]


def measured(command: list[str], rows: int) -> Run:
    """A program that prints the seconds of its work."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    cpu_s, rss = finished(process)
    printed = process.stdout.read().split()
    process.stdout.close()
    assert process.returncode == 0
    return Run(rows, float(printed[-1]), cpu_s, rss)


class Bench:
    """A topic of records, and a folder for each run into a broker of its own."""

    def __init__(self, server: KafkaServer, folder: Path, rows: int) -> None:
        self.server = server
        self.folder = folder
        self.rows = rows
        for name in (TOPIC, f"{TOPIC}.bare"):
            server.create_topic(name, PARTITIONS)
        self._bare("fill")

    def _bare(self, what: str) -> list[str]:
        command = [*BARE, what, self.server.bootstrap, TOPIC, str(self.rows)]
        if what == "fill":
            subprocess.run(command, check=True)
        return command

    def bare(self, what: str) -> Run:
        return measured(self._bare(what), self.rows)

    def ensign(self, kind: str, name: str, sinks: Mapping[str, object] | None = None) -> Run:
        """One run of ours in the folder of that name, until it is caught up."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config = folder / "ensign.yaml"
        source = {"type": "kafka", "bootstrap": self.server.bootstrap, "topics": [TOPIC]}
        pipeline = {"source": source, "sinks": sinks or {}}
        whole = {"broker": {"path": f"{folder}/broker"}, "pipelines": {"bench": pipeline}}
        # JSON is YAML.
        config.write_text(json.dumps(whole))
        run = measured([*ENSIGN, kind, "run", str(config), "--until-caught-up"], self.rows)
        with Broker.open(folder / "broker", create=False) as broker:
            (topic,) = broker.topics()
        assert topic.events == self.rows, (topic.events, self.rows)
        return run

    def out(self, name: str, *, transactional: bool) -> Run:
        """From the topic of the first run into a topic of its own."""
        sink = {
            "type": "kafka", "bootstrap": self.server.bootstrap, "topic": f"{{topic}}.{name}",
            "format": "raw", "transactional": transactional, "create": {"partitions": PARTITIONS},
        }  # fmt: skip
        run = self.ensign("sink", "0", {name: sink})
        written = sum(self.server.end_offsets(f"{TOPIC}.{name}"))
        assert written >= self.rows, (written, self.rows)
        return run


def bridge(rows: int, options: Namespace, shapes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name, KafkaServer() as server:
        bench = Bench(server, Path(name), rows)
        bare: list[Run] = []
        ours: list[Run] = []
        for number in range(options.times if "in" in shapes else 1):
            bare.append(bench.bare("consume"))
            ours.append(bench.ensign("source", str(number)))
        print(f"Kafka to log, {rows:,} records, {len(ours)} times each, alternating")
        print(told("bare consume loop, dropped", bare))
        print(told("ensign, to durable encrypted topic", ours))
        print(ratio("records/s, ensign / bare loop", ours, bare))
        if "out" not in shapes:
            return
        bare, ours, exactly = [], [], []
        for number in range(options.times):
            bare.append(bench.bare("produce"))
            ours.append(bench.out(f"plain{number}", transactional=False))
            exactly.append(bench.out(f"exactly{number}", transactional=True))
        print(f"Log to Kafka, {rows:,} records, {len(ours)} times each, alternating")
        print(told("bare produce loop", bare))
        print(told("ensign, idempotent", ours))
        print(told("ensign, transactional", exactly))
        print(ratio("records/s, idempotent / bare loop", ours, bare))
        print(ratio("records/s, transactional / bare", exactly, bare))


class FromPostgres(postgres.Bench):
    """What Bench does, with a Kafka sink behind the topic."""

    bootstrap = ""

    def ensign(self, slot: str, rows: int) -> Run:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = folder / "ensign.yaml"
            config.write_text(
                OF_POSTGRES.format(
                    folder=folder, dsn=self.server.dsn(self.database), slot=slot,
                    bootstrap=self.bootstrap, partitions=PARTITIONS,
                )
            )  # fmt: skip
            command = [sys.executable, "-m", "ensign_core.cli", "run", str(config)]
            return self._run([*command, "--until-caught-up"], slot, rows)


def from_postgres(rows: int, options: Namespace) -> None:
    programs = installations()[list(installations())[-1]]
    with PostgresServer(programs, settings=postgres.SETTINGS) as server, KafkaServer() as kafka:
        bench = FromPostgres(server, 2 * options.times)
        bench.bootstrap = kafka.bootstrap
        bench.one_transaction(rows)
        slots = iter(bench.slots)
        ours: list[Run] = []
        rival: list[Run] = []
        for _ in range(options.times):
            slot = next(slots)
            ours.append(bench.ensign(slot, rows))
            written = sum(kafka.end_offsets(slot))
            assert written == rows, (written, rows)
            if options.debezium:
                rival.append(bench.debezium(next(slots), rows))
    print(f"PostgreSQL to Kafka, {rows:,} rows of 10 columns in one transaction, {len(ours)} times")
    print(told("ensign, topic and Kafka, envelopes", ours))
    if rival:
        print(told("Debezium's engine, writing nowhere", rival))
        print(ratio("rows/s, ensign / Debezium", ours, rival))


def main(arguments: list[str]) -> None:
    parser = ArgumentParser(prog="python -m tests.bench kafka")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=SHAPES, action="append")
    parser.add_argument("--debezium", action=BooleanOptionalAction,
                        default=True, help="run Debezium too (Java, Maven)")  # fmt: skip
    options = parser.parse_args(arguments)
    shapes = options.only or list(SHAPES)
    if options.debezium and "postgres" in shapes:
        missing = rival_debezium.available()
        if missing:
            parser.error(missing)
        rival_debezium.build()
    if {"in", "out"} & set(shapes):
        bridge(options.rows, options, shapes)
    if "postgres" in shapes:
        from_postgres(options.rows, options)
