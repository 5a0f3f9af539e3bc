"""A measured run of one program, and how several are told."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1 << 20
SAMPLE_S = 0.05


@dataclass(frozen=True)
class Run:
    """What one run took: wall seconds of the work, CPU seconds of the program, its peak RSS."""

    rows: int
    seconds: float
    cpu_s: float
    rss_bytes: int

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def finished(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """Wait for a child; its CPU seconds and peak RSS in bytes. The peak is looked up in /proc while
    it lives, since what wait4 says begins with the parent's; that is all there is of one that has
    ended already."""
    peak = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                peak[0] = int(next(n for n in lines if n.startswith("VmHWM")).split()[1]) * 1024

    sampler = threading.Thread(target=watch)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    ended.set()
    sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, peak[0] or usage.ru_maxrss * 1024


def timed(rows: int, work: Callable[[], object]) -> Run:
    """Work of this process itself."""
    began, began_cpu = time.monotonic(), time.process_time()
    work()
    return Run(rows, time.monotonic() - began, time.process_time() - began_cpu, 0)


def told(name: str, runs: Sequence[Run]) -> str:
    """One line: median rate with min and max, CPU per million rows, peak RSS."""
    rates = [run.rate for run in runs]
    million = [run.cpu_s * 1e6 / run.rows for run in runs]
    return (
        f"  {name:<34} {statistics.median(rates):>9,.0f} rows/s "
        f"({min(rates):,.0f} to {max(rates):,.0f})  "
        f"{statistics.median(million):>6.2f} CPU s per million  "
        f"{max(run.rss_bytes for run in runs) / MB:>5.0f} MB"
    )


def per_row(name: str, runs: Sequence[Run]) -> str:
    """One line: the least, the median and the most CPU time per row."""
    each = [run.cpu_s * 1e6 / run.rows for run in runs]
    return (
        f"  {name:<34} {min(each):.2f} / {statistics.median(each):.2f} / {max(each):.2f} "
        "µs of CPU per row (min, median, max)"
    )


def ratio(name: str, ours: Sequence[Run], theirs: Sequence[Run], *, of_cpu: bool = False) -> str:
    """One line: ours over theirs, run by run as they alternated."""
    pairs = [
        (a.cpu_s / a.rows) / (b.cpu_s / b.rows) if of_cpu else a.rate / b.rate
        for a, b in zip(ours, theirs, strict=True)
    ]
    return (
        f"  {name:<34} {statistics.median(pairs):.2f} (min {min(pairs):.2f}, max {max(pairs):.2f})"
    )
