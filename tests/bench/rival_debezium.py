"""The rival: Debezium's embedded engine in a JVM of its own, its changes counted and dropped.

The Java program is in ``tests/bench/debezium/``; Maven compiles it and copies its libraries into
a cache folder the first time. What is compared: the engine reads an existing slot over pgoutput,
converts every change to JSON (schemas disabled) and hands it to a consumer that only counts, with
its offsets in memory. Nothing is stored, encrypted or sent.

Without ``heap_max`` the JVM may take a quarter of the machine's memory and the peak RSS tells how
far it let the heap grow, not what Debezium needs. A short run is mostly the JVM warming up: 100,000
rows say little about the rate of 1,000,000.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.bench.measured import finished

PROJECT = Path(__file__).parent / "debezium"
PROGRAMS = ("java", "javac", "mvn")
TOPIC_PREFIX = "rival"
ERROR_CHARS_MAX = 4000

DEFAULTS: Mapping[str, str] = {}
"""Debezium's own: max.batch.size=2048, max.queue.size=8192."""

RAISED: Mapping[str, str] = {"max.batch.size": "10240", "max.queue.size": "40960"}
"""What Debezium's users raise first when they want throughput."""


@dataclass(frozen=True)
class Result:
    """What one run took.

    ``seconds`` go from the first batch handed to the consumer (``rows_first`` of the rows, that
    are decoded and converted by then) to the last row; ``started_s`` from the start of the process
    to that first batch, so their sum includes start-up. ``cpu_s`` and ``rss_max_bytes`` are the
    whole process's, measured from outside; ``streaming_cpu_s`` is what it used during ``seconds``.
    ``json_chars`` is the total length of the values.
    """

    rows: int
    seconds: float
    cpu_s: float
    rss_max_bytes: int
    started_s: float
    streaming_cpu_s: float
    rows_first: int
    json_chars: int


def available() -> str | None:
    """None if it can run here, else why not."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"Debezium needs {' and '.join(missing)}, not found here" if missing else None


def build(**properties: str) -> Path:
    """Compile the program and fetch its libraries, once per state of its sources; return the folder
    that holds ``classes`` and ``lib``. ``properties`` are those of ``pom.xml`` to have other values
    (``debezium.version``, ``debezium.connector``), with an underscore for the dot. Raises
    RuntimeError with Maven's words if it fails."""
    sources = sorted([PROJECT / "pom.xml", *PROJECT.glob("src/**/*.java")])
    given = [f"-D{name.replace('_', '.')}={value}" for name, value in sorted(properties.items())]
    state = [*(path.read_bytes() for path in sources), *(one.encode() for one in given)]
    digest = hashlib.sha256(b"".join(state)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "ensign-bench"
    folder = cache / f"debezium-{digest[:16]}"
    if folder.exists():
        return folder
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        built = Path(name) / "built"
        maven = ["mvn", "-B", "-q", "-f", str(PROJECT / "pom.xml"), f"-Drival.directory={built}"]
        done = subprocess.run([*maven, *given, "compile"], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"mvn compile: {done.stdout}{done.stderr}"[-ERROR_CHARS_MAX:])
        # A whole folder or none: two builds at once leave the first one's.
        if not folder.exists():
            built.rename(folder)
    return folder


def configuration(
    host: str, port: int, database: str, user: str, password: str, slot: str, publication: str,
    table: str,
) -> dict[str, str]:  # fmt: skip
    """The engine's properties, all others being Debezium's defaults."""
    return {
        "name": "rival",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": TOPIC_PREFIX,
        "database.hostname": host,
        "database.port": str(port),
        "database.dbname": database,
        "database.user": user,
        "database.password": password,
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        "table.include.list": table.replace(".", "\\."),
        # No row is read from the table: it starts where the slot is.
        "snapshot.mode": "no_data",
        "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
    }


def stream(
    host: str, port: int, database: str, user: str, password: str, slot: str, publication: str,
    table: str, rows: int, timeout_s: float, *, tuning: Mapping[str, str] = RAISED,
    heap_max: str | None = None,
) -> Result:  # fmt: skip
    """Read ``rows`` changes of ``table`` (``schema.name``) that wait in ``slot``, and stop.

    The slot and the publication exist; the slot is left with what the engine confirmed. ``tuning``
    is added to the engine's properties; ``heap_max`` is the JVM's -Xmx, such as ``1g``.
    Raises RuntimeError if the engine ends early or the time is up, with what it wrote to standard
    error.
    """
    properties = {
        **configuration(host, port, database, user, password, slot, publication, table),
        **tuning,
    }
    folder = build()
    command = [
        "java", *([f"-Xmx{heap_max}"] if heap_max else []),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp", f"{folder / 'classes'}:{folder / 'lib'}/*",
        "Rival", str(rows), f"{TOPIC_PREFIX}.{table}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        return _run(command, json.dumps(properties).encode(), errors, timeout_s)


def _run(command: list[str], standard_input: bytes, errors: IO[bytes], timeout_s: float) -> Result:
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    try:
        with process.stdin, process.stdout:
            process.stdin.write(standard_input)
            process.stdin.close()
            line, said_at = b"", began
            # The JVM may say things of its own there.
            for said in process.stdout:
                if said.startswith(b"{"):
                    line, said_at = said, time.monotonic()
        cpu_s, rss_max_bytes = finished(process)
    finally:
        timer.cancel()
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode or not line:
        errors.seek(0)
        reason = errors.read().decode(errors="replace")[-ERROR_CHARS_MAX:]
        how = f"ended with {process.returncode}" if process.returncode > 0 else "was killed"
        raise RuntimeError(f"Debezium {how} after {time.monotonic() - began:.0f} s: {reason}")
    told = json.loads(line)
    seconds = (told["last_ns"] - told["first_ns"]) / 1e9
    return Result(
        rows=told["rows"],
        seconds=seconds,
        cpu_s=cpu_s,
        rss_max_bytes=rss_max_bytes,
        started_s=said_at - began - seconds,
        streaming_cpu_s=(told["last_cpu_ns"] - told["first_cpu_ns"]) / 1e9,
        rows_first=told["rows_first"],
        json_chars=told["chars"],
    )
