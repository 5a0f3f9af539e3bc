"""Flink's format debezium-json, which other systems' pipelines read Debezium's topics with: the
program ``Changes.java`` beside this module, run by the JDK as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from shutil import which
from typing import NamedTuple

JARS = Path(sys.prefix) / "flink" / "jars"
PROGRAM = Path(__file__).parent / "Changes.java"
TIMEOUT_S = 120.0


class Changed(NamedTuple):
    """A row that Flink emits: its kind (``+I``, ``-U``, ``+U``, ``-D``) and its columns as the
    program shows them."""

    kind: str
    columns: tuple[str, ...]


def available() -> bool:
    """Whether ``make flink`` has fetched it, and there is a JDK."""
    return which("javac") is not None and any(JARS.glob("flink-json-*.jar"))


def changes(lines: Iterable[bytes]) -> list[Changed]:
    """What Flink makes of envelopes. Raises AssertionError with its words where it fails."""
    done = subprocess.run(
        ["java", "-cp", f"{JARS}/*", str(PROGRAM)],
        input=b"".join(line + b"\n" for line in lines), capture_output=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    shown = [line.split("\t") for line in done.stdout.decode().splitlines()]
    return [Changed(kind, tuple(columns)) for kind, *columns in shown]


def table(changed: Iterable[Changed]) -> dict[str, tuple[str, ...]]:
    """The table that the rows make, by their first column."""
    state: dict[str, tuple[str, ...]] = {}
    for kind, columns in changed:
        if kind in ("+I", "+U"):
            state[columns[0]] = columns
        else:
            assert columns[0] in state, "a row goes that was never there"
            if kind == "-D":
                del state[columns[0]]
    return state
