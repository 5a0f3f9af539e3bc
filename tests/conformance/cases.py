"""The cases of the connectors in this repository, and of the one that ``ENSIGN_CASE`` names."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from tests.conformance.case import MakeSinkCase, MakeSourceCase
from tests.conformance.kafka import KafkaSourceCase
from tests.conformance.kinesis import KinesisSinkCase, KinesisSourceCase
from tests.conformance.mysql import MysqlCase
from tests.conformance.postgres import PostgresCase


class GeneratorCase:
    def __init__(self, folder: Path) -> None:
        self.options: dict[str, object] = {
            "type": "generator", "count": 50, "keys": 3, "transaction_events": 7,
            "batch_events_max": 4,
        }  # fmt: skip

    def more(self) -> bool:
        return False

    def close(self) -> None:
        pass


class FileSourceCase:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "orders.jsonl"
        self._count = 0
        for _ in range(5):
            self.more()
        self._path.rename(folder / "orders.1.jsonl")
        self.more()
        self.options: dict[str, object] = {
            "type": "file", "path": str(folder / "orders*.jsonl"), "key": "id",
            "batch_bytes_max": 60,
        }  # fmt: skip

    def more(self) -> bool:
        with self._path.open("a") as file:
            for _ in range(3):
                file.write(json.dumps({"id": self._count, "note": "ü" * self._count}) + "\n")
                self._count += 1
        return True

    def close(self) -> None:
        pass


class FileSinkCase:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "out" / "events.jsonl"
        self.options: dict[str, object] = {"type": "file", "path": str(self._path)}

    def delivered(self) -> list[tuple[str, int]]:
        return _delivered(self._path.read_bytes() if self._path.exists() else b"")

    def close(self) -> None:
        pass


class StdoutCase:
    """Puts a buffer in the place of the standard output for as long as the case lives."""

    def __init__(self, folder: Path) -> None:
        self.options: dict[str, object] = {"type": "stdout"}
        self._before = sys.stdout
        self._bytes = io.BytesIO()
        sys.stdout = io.TextIOWrapper(self._bytes)

    def delivered(self) -> list[tuple[str, int]]:
        return _delivered(self._bytes.getvalue())

    def close(self) -> None:
        sys.stdout = self._before


def _delivered(data: bytes) -> list[tuple[str, int]]:
    assert not data or data.endswith(b"\n")
    events = [json.loads(line) for line in data.splitlines()]
    return [(event["topic"], event["offset"]) for event in events]


SOURCES: dict[str, MakeSourceCase] = {
    "generator": GeneratorCase,
    "file": FileSourceCase,
    "kafka": KafkaSourceCase,
    "kinesis": KinesisSourceCase,
    "mysql": MysqlCase,
    "postgres": PostgresCase,
}
SINKS: dict[str, MakeSinkCase] = {
    "file": FileSinkCase,
    "kinesis": KinesisSinkCase,
    "stdout": StdoutCase,
}


def _add_theirs() -> None:
    """``ENSIGN_CASE=source.NAME=module:attribute`` adds a connector that lives elsewhere."""
    named = os.environ.get("ENSIGN_CASE")
    if not named:
        return
    what, _, where = named.partition("=")
    kind, _, name = what.partition(".")
    module, _, attribute = where.partition(":")
    case = getattr(import_module(module), attribute)
    (SOURCES if kind == "source" else SINKS)[name] = case


_add_theirs()
