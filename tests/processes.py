"""Other Python processes of a test: started, talked to by lines, and gone when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]


class Process:
    """A Python script in a process of its own, with the repository on its path."""

    def __init__(self, script: str, arguments: tuple[object, ...], env: dict[str, str]) -> None:
        self._popen: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        )
        self.pid = self._popen.pid

    def line(self) -> str:
        """The next line that it prints; empty when it has ended."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def lines(self) -> list[str]:
        """What it prints until nobody can print any more."""
        assert self._popen.stdout is not None
        return self._popen.stdout.read().split("\n")[:-1]

    def go(self) -> None:
        """Send it a line."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("\n")
        self._popen.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would, and see it gone."""
        self._popen.kill()
        self._popen.wait()

    def wait(self) -> int:
        """Its exit code."""
        return self._popen.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            pipe.close()


class Processes:
    """Starts processes and sees to their end."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    def start(self, script: str, *arguments: object, env: dict[str, str] | None = None) -> Process:
        process = Process(script, arguments, env or {})
        self._started.append(process)
        return process

    def together(self, script: str, folder: Path, count: int) -> list[Any]:
        """What so many processes print as JSON. Each gets the folder and its number, prints a line
        when it is ready, and begins with one that it reads, when all are."""
        started = [self.start(script, folder, number) for number in range(count)]
        assert [process.line() for process in started] == ["up"] * count
        for process in started:
            process.go()
        told = [json.loads(process.line()) for process in started]
        assert [process.wait() for process in started] == [0] * count
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for process in self._started:
            process.close()
