"""What people see of pipelines that run: the rows of `ensign status`, and a live line for each
snapshot under way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ensign_core.errors import EnsignError
from ensign_core.run.status import snapshot_text

EVERY_S = 1.0
STATUS_COLUMNS = (
    "pipeline", "state", "position", "lag bytes", "lag events", "lag s", "progress", "detail",
)  # fmt: skip


def status_rows(statuses: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """The columns of `ensign status` for people."""
    return [
        [
            status["pipeline"], status["state"], status["position"], status["lag_bytes"],
            status["lag_events"], status["lag_seconds"],
            snapshot_text(status["snapshot"]) if status["snapshot"] else None,
            status["error"]["code"] if status["error"] else status["detail"],
        ]
        for status in statuses
    ]  # fmt: skip


def snapshot_lines(left: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """A line for each of the pipelines that has a snapshot under way, from what they left."""
    shown = ((name, left.get(name, {}).get("snapshot")) for name in names)
    return [f"{name}: {snapshot_text(snapshot)}" for name, snapshot in shown if snapshot]


@contextlib.contextmanager
def live_snapshots(console: Console, lines: Callable[[], list[str]]) -> Iterator[None]:
    """While in here, keep the lines at the bottom of the terminal, and nothing when there are
    none; nothing at all where ``console`` is no terminal. ``lines`` is called in another thread."""
    if not console.is_terminal:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_show, args=(console, lines, ended), name="live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(console: Console, lines: Callable[[], list[str]], ended: threading.Event) -> None:
    live: Live | None = None
    while not ended.wait(EVERY_S):
        try:
            shown = lines()
        except EnsignError:
            continue  # The pipeline meets that error itself, and says so.
        if shown and live is None:
            live = Live(console=console, auto_refresh=False, transient=True)
            live.start()
        if live is not None:
            live.update(Text("\n".join(shown)), refresh=True)
        if not shown and live is not None:
            live.stop()
            live = None
    if live is not None:
        live.stop()
