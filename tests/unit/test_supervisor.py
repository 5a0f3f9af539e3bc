"""Worker processes and signals: restarts, drains, and a parent that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from ensign_core.errors import EnsignError
from ensign_core.run.retry import WAIT, Backoff, classified, waits
from tests.processes import Process, Processes

WORKER = """
import os, sys, threading
from ensign_core.run.supervisor import LIFELINE, follow_parent, signals
name, ending = sys.argv[1:3]
def say(*words):  # in one piece, since several processes write to one pipe
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
done = threading.Event()
with signals(done.set):
    follow_parent(done.set)
    say(name, "up", os.getpid(), LIFELINE in os.environ)
    if ending == "wait":
        done.wait()
        say(name, "drained")
    elif ending == "stuck":
        done.wait()
        say(name, "draining")
        threading.Event().wait()
sys.exit(int(ending) if ending.isdigit() else 0)
"""
SUPERVISOR = f"""
import sys
from ensign_core.run import retry
from ensign_core.run.supervisor import Supervisor, signals
retry.BACKOFF_FIRST_S = 0.01
commands = [
    [sys.executable, "-c", {WORKER!r}, *worker.split(":")] for worker in sys.argv[1:]
]
supervisor = Supervisor(commands)
with signals(supervisor.stop):
    code = supervisor.run()
print("supervisor ends", code, flush=True)
sys.exit(code)
"""


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as made:
        yield made


def workers_up(supervisor: Process, count: int) -> dict[str, int]:
    """Wait until so many workers are up; their pids by name."""
    pids: dict[str, int] = {}
    while len(pids) < count:
        name, _, pid, inherited = supervisor.line().split()
        assert inherited == "False", "a worker's own children do not follow its parent"
        pids[name] = int(pid)
    return pids


def test_sigterm_drains_all_and_exits_0(processes: Processes) -> None:
    supervisor = processes.start(SUPERVISOR, "a:wait", "b:wait", "c:wait")
    workers_up(supervisor, 3)
    supervisor.signal(signal.SIGTERM)
    *drained, last = supervisor.lines()
    assert sorted(drained) == ["a drained", "b drained", "c drained"]
    assert last == "supervisor ends 0"
    assert supervisor.wait() == 0


def test_a_worker_that_was_killed_is_started_again(processes: Processes) -> None:
    supervisor = processes.start(SUPERVISOR, "a:wait", "b:wait")
    first = workers_up(supervisor, 2)
    for _ in range(3):
        os.kill(first["a"], signal.SIGKILL)
        again = workers_up(supervisor, 1)
        assert again.keys() == {"a"}
        assert again["a"] != first["a"]
        first |= again
    assert psutil.pid_exists(first["b"])
    supervisor.signal(signal.SIGINT)
    assert sorted(supervisor.lines()) == ["a drained", "b drained", "supervisor ends 0"]


@pytest.mark.parametrize(("code", "exit_code"), [(1, 1), (2, 2), (7, 1)])
def test_a_worker_that_failed_stays_down_and_the_others_run_on(
    processes: Processes, code: int, exit_code: int
) -> None:
    supervisor = processes.start(SUPERVISOR, "a:wait", f"b:{code}")
    up = workers_up(supervisor, 2)
    os.kill(up["a"], signal.SIGKILL)
    up = workers_up(supervisor, 1)
    assert up.keys() == {"a"}, "b is not started again"
    supervisor.signal(signal.SIGTERM)
    assert supervisor.lines() == ["a drained", f"supervisor ends {exit_code}"]
    assert supervisor.wait() == exit_code


def test_all_done_is_0(processes: Processes) -> None:
    supervisor = processes.start(SUPERVISOR, "a:0", "b:0")
    assert supervisor.lines()[-1] == "supervisor ends 0"


def test_a_second_sigterm_exits_at_once(processes: Processes) -> None:
    supervisor = processes.start(SUPERVISOR, "a:stuck")
    (pid,) = workers_up(supervisor, 1).values()
    supervisor.signal(signal.SIGTERM)
    assert supervisor.line() == "a draining"
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 128 + signal.SIGTERM
    os.kill(pid, signal.SIGTERM)
    assert supervisor.lines() == [], "the worker's end of the output is closed"


def test_workers_drain_when_their_parent_was_killed(processes: Processes) -> None:
    supervisor = processes.start(SUPERVISOR, "a:wait", "b:wait")
    workers_up(supervisor, 2)
    supervisor.kill()
    assert sorted(supervisor.lines()) == ["a drained", "b drained"]


def test_a_stop_before_a_worker_has_begun_is_no_failure(processes: Processes) -> None:
    script = SUPERVISOR.replace(
        "with signals(supervisor.stop):",
        "import threading\nthreading.Timer(0.05, supervisor.stop).start()\n"
        "with signals(supervisor.stop):",
    )
    supervisor = processes.start(script, "a:wait")
    assert supervisor.lines()[-1] == "supervisor ends 0"


def test_a_command_that_cannot_be_started_is_tried_again_until_the_stop(
    processes: Processes,
) -> None:
    script = (
        "import sys, threading\nfrom ensign_core.run import retry\n"
        "from ensign_core.run.supervisor import Supervisor\n"
        "retry.BACKOFF_FIRST_S = 0.001\nsupervisor = Supervisor([['/nowhere/at/all']])\n"
        "tries, real = [], supervisor._once\n"
        "def once(command):\n"
        "    tries.append(command)\n"
        "    if len(tries) == 4: supervisor.stop()\n"
        "    return real(command)\n"
        "supervisor._once = once\nprint(supervisor.run(), len(tries), flush=True)\n"
    )
    assert processes.start(script).lines() == ["0 4"]


def test_signals_may_come_while_locks_are_held(processes: Processes) -> None:
    """A handler that took the lock that the interrupted code holds would hang for ever."""
    script = (
        "import os, signal, threading\nfrom ensign_core.run.supervisor import signals\n"
        "lock, done = threading.Lock(), threading.Event()\n"
        "def stop():\n    with lock: done.set()\n"
        "with signals(stop):\n"
        "    with lock: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    done.wait()\nprint('done', flush=True)\n"
    )
    process = processes.start(script)
    assert process.lines() == ["done"]
    assert process.wait() == 0


def test_signal_handlers_and_files_are_put_back(processes: Processes) -> None:
    script = (
        "import os, signal\nfrom ensign_core.run.supervisor import Supervisor, signals\n"
        "before = len(os.listdir('/proc/self/fd')), signal.getsignal(signal.SIGTERM)\n"
        "for _ in range(5):\n"
        "    with signals(lambda: None): pass\n"
        "    Supervisor([]).run()\n"
        "after = len(os.listdir('/proc/self/fd')), signal.getsignal(signal.SIGTERM)\n"
        "print(before == after, flush=True)\n"
    )
    assert processes.start(script).lines() == ["True"]


def test_the_last_word_of_a_code_decides() -> None:
    for word in WAIT:
        assert waits(EnsignError(f"some.thing.{word}", "", ""))
    for code in ("internal.unexpected", "unreachable.not", "pipeline.fenced", "key.wrong"):
        assert not waits(EnsignError(code, "", ""))
    assert classified(error := EnsignError("a.b", "", "")) is error
    assert classified(ValueError("4711")).code == "internal.unexpected"


def test_waits_double_up_to_a_ceiling_and_start_over() -> None:
    backoff = Backoff()
    found = [backoff.next_s() for _ in range(12)]
    for number, wait_s in enumerate(found):
        assert 0.75 <= wait_s / min(15.0, 0.1 * 2**number) <= 1.25
    backoff.reset()
    assert backoff.next_s() <= 0.125
