"""The live view: rates, lag and latency while the demo runs."""

from __future__ import annotations

import threading
import time
from collections import deque

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from ensign_core.broker import Broker
from ensign_core.change import Batch
from ensign_core.run.status import statuses

LATENCIES_KEPT = 50_000
_BARS = "▁▂▃▄▅▆▇█"
RATES_KEPT = 40
SINK = "lines"


class Meter:
    """Told of every synced batch by the ingest thread, asked by the view."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: deque[int] = deque(maxlen=LATENCIES_KEPT)
        self.events = 0
        self.snapshot = 0

    def observe(self, batch: Batch, synced_us: int) -> None:
        """A batch is durable: `ensign_core.run.ingest.Observer`."""
        times = [run.tx.committed_at for run in batch.runs]
        known = [synced_us - time for time in times if time is not None]
        with self._lock:
            self.events += len(batch)
            if times and not known:
                self.snapshot += len(batch)
            self._latencies.extend(known)

    def latency_ms(self) -> tuple[float, float] | None:
        """Median and 99th percentile from commit to durable, in ms."""
        with self._lock:
            latencies = sorted(self._latencies)
        if not latencies:
            return None
        return latencies[len(latencies) // 2] / 1e3, latencies[len(latencies) * 99 // 100] / 1e3


class View:
    """What the terminal shows; `sample` looks, `render` draws."""

    def __init__(self, broker: Broker, pipeline: str, meter: Meter, seconds: float) -> None:
        self._broker = broker
        self._pipeline = pipeline
        self._meter = meter
        self._seconds = seconds
        self._began = self._at = time.monotonic()
        self._events = 0
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)
        self._lag: int | None = None
        self._state = "starting"
        self._delivered = 0
        self._stored = 0.0

    def sample(self, *, under_load: bool) -> None:
        """Look at the broker and the meter once more; rates are those under load."""
        now, events = time.monotonic(), self._meter.events
        if under_load:
            self._rates.append((events - self._events) / (now - self._at))
        self._at, self._events = now, events
        (status,) = statuses(self._broker, {self._pipeline: [SINK]})
        self._state, self._lag = status["state"], status["lag_bytes"]
        self._delivered = sum(sink["offset"] for sink in status["sinks"])
        topics = self._broker.topics()
        stored = sum(topic.events for topic in topics)
        self._stored = sum(topic.bytes for topic in topics) / stored if stored else 0.0

    def render(self) -> RenderableType:
        rate = self._rates[-1] if self._rates else 0.0
        latency = self._meter.latency_ms()
        facts = Table.grid(padding=(0, 3))
        facts.add_row("state", self._state)
        facts.add_row("events/s", f"{rate:,.0f}   {self._sparkline()}")
        facts.add_row("in topics", f"{self._meter.events:,} events, all of them synced")
        facts.add_row("delivered", f"{self._delivered:,} to the file")
        facts.add_row("source lag", "-" if self._lag is None else f"{self._lag:,} bytes of WAL")
        facts.add_row(
            "commit to durable",
            f"p50 {latency[0]:.1f} ms   p99 {latency[1]:.1f} ms" if latency else "-",
        )
        facts.add_row("stored", f"{self._stored:.0f} bytes/event, compressed and sealed")
        passed = min(time.monotonic() - self._began, self._seconds)
        bar = ProgressBar(total=self._seconds, completed=passed, width=60)
        title = "PostgreSQL 18 → encrypted topics → JSON lines"
        return Panel(Group(facts, "", bar), title=title, width=78, title_align="left")

    def _sparkline(self) -> str:
        most = max(self._rates, default=0.0) or 1.0
        return "".join(_BARS[int(rate / most * (len(_BARS) - 1))] for rate in self._rates)
