"""What people and scripts see: results on standard output, errors and notices on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ensign_core.config import ConfigErrors
from ensign_core.errors import EnsignError

NUMBERS = frozenset({"events", "bytes", "frames", "lag bytes", "lag events", "lag s"})
"""Columns of tables that are set flush right."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def exit_code(error: EnsignError) -> int:
    """2 for what is wrong in a config or on the command line, else 1."""
    usage = error.code.startswith(("config.", "usage.")) or error.code == "format.unknown"
    return EXIT_USAGE if usage else EXIT_FAILED


def show_error(error: EnsignError, pipeline: str | None = None) -> None:
    """Code, sentence and remedy on standard error, for each error that a config holds."""
    errors: Sequence[EnsignError] = error.errors if isinstance(error, ConfigErrors) else [error]
    whose = f"pipeline {pipeline}: " if pipeline else ""
    for one in errors:
        err.print(Text.assemble((one.code, "bold red"), f": {whose}{one.sentence}"))
        err.print(Text(f"  {one.remedy}"))


def show_warning(warning: EnsignError, pipeline: str) -> None:
    """A warning that holds now, with its remedy, on standard error."""
    err.print(
        Text.assemble((warning.code, "bold yellow"), f": pipeline {pipeline}: {warning.sentence}")
    )
    err.print(Text(f"  {warning.remedy}"))


def notice(text: str) -> None:
    """Something to know, on standard error."""
    err.print(Text(text))


def line(data: bytes) -> None:
    """One line of bytes to standard output."""
    sys.stdout.buffer.write(data + b"\n")


def show_json(value: Any) -> None:
    line(json.dumps(value, ensure_ascii=False, default=str).encode())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on a terminal; elsewhere lines of fields with tabs between, to be cut and grepped."""
    texts = [["-" if value is None else str(value) for value in row] for row in rows]
    if not out.is_terminal:
        for fields in (columns, *texts):
            line("\t".join(fields).encode())
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    for fields in texts:
        shown.add_row(*fields)
    out.print(shown)


def show_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str
) -> None:
    """A list as JSON with all that the rows have, or as a table of some columns; ``empty`` is said
    to people where there is nothing."""
    if as_json:
        show_json(rows)
    elif rows:
        table(columns, [[row[column] for column in columns] for row in rows])
    else:
        notice(empty)


def show_fields(fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its fields."""
    for name, value in fields.items():
        out.print(f"{name:<13} {value}", markup=False)


class _Lines(logging.Handler):
    """Log lines through the console that may be showing something live below them."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(Text(self.format(record)))


class _Plain(logging.Formatter):
    """Time in UTC, level, message: one line each."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr() -> None:
    """For long-running commands: Ensign's own log, and nothing of the libraries below."""
    handler = _Lines()
    handler.setFormatter(_Plain())
    logger = logging.getLogger("ensign")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
