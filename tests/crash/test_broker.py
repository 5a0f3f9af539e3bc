"""The histories of every test run; ``python -m tests.crash broker`` is the long one."""

from __future__ import annotations

import re
import subprocess
import sys

HISTORIES, SEED = 200, 20261201


def test_random_histories_leave_what_the_model_says() -> None:
    program = [sys.executable, "-m", "tests.crash", "broker"]
    options = ["--histories", str(HISTORIES), "--seed", str(SEED)]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = {what: int(n) for n, what in re.findall(r"(\d+) ([a-z ]+)", done.stdout)}
    assert counted["histories"] == HISTORIES
    assert counted["kills"] > HISTORIES
    assert counted["torn logs"] > HISTORIES / 2
