"""The commands as a person and a script use them, on pipelines that need no server."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from ensign_core.broker import Broker, Event
from ensign_core.errors import EnsignError
from tests.services.postgres import free_port
from tests.services.ready import wait_until

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {path: ./broker}
pipelines:
  made:
    source: {type: generator, rate: 500}
    sinks:
      lines: {type: file, path: "./{topic}.jsonl"}
  also:
    source: {type: file, path: ./in.jsonl, topic: also}
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ensign_core.cli", *arguments]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "ensign.yaml").write_text(CONFIG)
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n')
    return tmp_path


def run(*arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), input=standard_input, text=True, capture_output=True, check=False,
        timeout=WAIT_S_MAX,
    )  # fmt: skip


def shell(line: str) -> int:
    ensign = " ".join(command())
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("ensign ", ensign + " ", 1)],
        check=False, timeout=WAIT_S_MAX, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode


def test_published_lines_are_read_again(folder: Path) -> None:
    done = run("publish", "notes", "--path", "b", "--json", standard_input='{"a": 1}\ntext\n{')
    assert [json.loads(line) for line in done.stdout.splitlines()][-1] == {
        "acked": 3,
        "last_offset": 2,
    }
    assert "b.keys" in done.stderr
    assert run("read", "notes", "--path", "b", "--format", "raw").stdout == '{"a": 1}\ntext\n{\n'
    assert run("read", "notes", "--path", "b", "--from", "1", "--max", "1").stdout.count("\n") == 1
    assert run("read", "notes", "--path", "b", "--from", "end").stdout == ""
    (topic,) = json.loads(run("topics", "list", "--path", "b", "--json").stdout)
    assert (topic["name"], topic["events"], topic["groups"]) == ("notes", 3, [])
    assert run("topics", "list", "--path", "b").stdout.splitlines()[1].startswith("notes\t3\t")


def test_a_group_reads_on_where_it_was(folder: Path) -> None:
    run("publish", "notes", "--path", "b", standard_input="1\n2\n3\n")
    grouped = ("read", "notes", "--path", "b", "--format", "raw", "--group", "g")
    assert run(*grouped, "--max", "1").stdout == "1\n"
    assert run(*grouped, "--from", "end").stdout == "2\n3\n"
    assert run(*grouped).stdout == ""
    (topic,) = json.loads(run("topics", "list", "--path", "b", "--json").stdout)
    assert topic["groups"] == [{"name": "g", "offset": 3, "lag_events": 0}]


def test_a_reader_that_has_enough_is_no_failure(folder: Path) -> None:
    lines = "\n".join(map(str, range(50_000)))
    assert run("publish", "notes", "--path", "b", standard_input=lines).returncode == 0
    assert shell("ensign read notes --path b | head -1 > /dev/null") == 0
    assert shell("ensign read notes --path b > /dev/full") == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["read", "notes", "--path", "nothing-here"], 1),
        (["read", "notes"], 2),
        (["read", "notes", "--path", "b", "--format", "xml"], 2),
        (["read", "notes", "--path", "b", "--from", "noon"], 2),
        (["read", "notes", "--wrong"], 2),
        (["run", "nothing.yaml"], 2),
        (["run", "ensign.yaml", "--pipeline", "none"], 2),
        (["nonsense"], 2),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], code: int) -> None:
    run("publish", "notes", "--path", "b", standard_input="x\n")
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stderr
    assert "internal." not in done.stderr


def test_status_tells_of_snapshots_warnings_and_dead_letters(folder: Path) -> None:
    snapshot = {
        "tables": 3, "tables_done": 1, "rows": 1500, "rows_total": 6000, "percent": 25.0,
        "eta_seconds": 90,
    }  # fmt: skip
    warning = EnsignError("postgres.wal_kept", "The slot keeps 9 GB.", "Run it.")
    with Broker.open(folder / "broker") as broker:
        broker.pipelines.set_status(
            "made",
            {
                "state": "snapshot", "snapshot": snapshot, "kept_bytes": 9,
                "warnings": [warning.as_dict()],
            },
        )  # fmt: skip
        broker.publish("made.dead-letters", [Event(b"a"), Event(b"b")])
        broker.pipelines.letters("made").drop([0])
        release = broker.pipelines.hold("made")
        status = json.loads(run("status", "ensign.yaml", "--json").stdout)[0]
        shown = run("status", "ensign.yaml")
        release()
    assert status["snapshot"] == snapshot
    assert (status["kept_bytes"], status["dead_letters"]) == (9, 1)
    assert status["warnings"] == [warning.as_dict()]
    header, line, _ = shown.stdout.splitlines()
    cells = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert cells["progress"] == (
        "snapshot: 1,500 rows of about 6,000 (25.0 %), 0:01:30 left, 1 of 3 tables"
    )
    assert shown.stderr.splitlines() == [
        "postgres.wal_kept: pipeline made: The slot keeps 9 GB.", "  Run it.",
    ]  # fmt: skip
    gone = json.loads(run("status", "ensign.yaml", "--json").stdout)[0]
    assert (gone["state"], gone["warnings"]) == ("stopped", [])
    assert gone["snapshot"] == snapshot | {"eta_seconds": None}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("pipelines", [["--pipeline", "made"], []])
def test_a_signal_drains(folder: Path, number: signal.Signals, pipelines: list[str]) -> None:
    """One pipeline in this process, or all of them in a process each."""
    worker = subprocess.Popen(command("run", "ensign.yaml", *pipelines), stderr=subprocess.PIPE)
    out = folder / "generator.public.generated.jsonl"
    wait_until(lambda: out.exists() and out.stat().st_size > 0, WAIT_S_MAX, 0.02)
    status = json.loads(run("status", "ensign.yaml", "--json").stdout)[0]
    assert (status["pipeline"], status["error"]) == ("made", None)
    assert status["state"] in ("streaming", "waiting")
    assert run("run", "ensign.yaml", "--pipeline", "made").returncode == 1
    worker.send_signal(number)
    _, errors = worker.communicate(timeout=WAIT_S_MAX)
    assert worker.returncode == 0, errors.decode()
    lines = out.read_text().splitlines()
    status = json.loads(run("status", "ensign.yaml", "--json").stdout)[0]
    assert status["state"] == "stopped"
    assert status["sinks"][0]["offset"] == len(lines)
    offsets = [json.loads(line)["offset"] for line in lines]
    assert offsets == list(range(len(lines)))


def test_one_pipeline_that_fails_leaves_the_others(folder: Path) -> None:
    (folder / "ensign.yaml").write_text(CONFIG.replace("./in.jsonl", "/proc/self/mem"))
    worker = subprocess.Popen(command("run", "ensign.yaml"), stderr=subprocess.PIPE, text=True)
    out = folder / "generator.public.generated.jsonl"

    def failed() -> bool:
        found = run("status", "ensign.yaml", "--json").stdout
        return bool(found) and json.loads(found)[1]["state"] == "failed"

    wait_until(failed, WAIT_S_MAX, 0.05)
    size = out.stat().st_size if out.exists() else 0
    wait_until(lambda: out.exists() and out.stat().st_size > size, WAIT_S_MAX, 0.05)
    worker.terminate()
    _, errors = worker.communicate(timeout=WAIT_S_MAX)
    assert worker.returncode == 1
    assert "pipeline also: " in errors


@pytest.mark.parametrize("pipelines", [["--pipeline", "made"], []])
def test_metrics_of_all_workers(folder: Path, pipelines: list[str]) -> None:
    port = free_port()
    config = CONFIG + f'metrics: {{listen: "127.0.0.1:{port}"}}\n'
    (folder / "ensign.yaml").write_text(config)
    worker = subprocess.Popen(command("run", "ensign.yaml", *pipelines))

    def counted() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                text = answer.read().decode()
        except OSError:
            return False
        return 'ensign_events_appended_total{pipeline="made"}' in text

    wait_until(counted, WAIT_S_MAX, 0.05)
    worker.terminate()
    assert worker.wait(WAIT_S_MAX) == 0


def test_the_key_may_be_in_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = ("--path", "apart", "--keys", "env:SHOP_KEY")
    monkeypatch.setenv("SHOP_KEY", base64.b64encode(bytes(range(32))).decode())
    assert run("publish", "t", *broker, standard_input='{"n": 1}\n').returncode == 0
    assert not Path("apart.keys").exists()
    done = run("read", "t", *broker)
    assert json.loads(done.stdout)["after"]["data"] == {"n": 1}
    monkeypatch.setenv("SHOP_KEY", base64.b64encode(bytes(32)).decode())
    wrong = run("read", "t", *broker)
    assert (wrong.returncode, "key.wrong" in wrong.stderr) == (1, True)
    monkeypatch.delenv("SHOP_KEY")
    missing = run("read", "t", *broker)
    assert "key.missing" in missing.stderr
    assert "SHOP_KEY" in missing.stderr


def test_a_project_is_backed_up_verified_and_restored(folder: Path) -> None:
    assert run("publish", "t", "--path", "b", standard_input="one\ntwo\n").returncode == 0
    made = run("backup", "k", "--path", "b", "--json")
    assert (made.returncode, json.loads(made.stdout)[0]["events"]) == (0, 2)
    assert "revoked later" in made.stderr
    again = run("backup", "k", "--path", "b")
    assert (again.returncode, again.stderr.split(":")[0]) == (1, "backup.exists")
    for arguments in (("--path", "r", "--keys", "b.keys"), ("--config", "ensign.yaml")):
        done = run("restore", "k", *arguments)
        if "--config" in arguments:
            assert (done.returncode, done.stderr.split(":")[0]) == (1, "key.missing")
        else:
            assert (done.returncode, "sink.ahead" in done.stderr) == (0, True)
    assert run("restore", "k", "--path", "r", "--keys", "b.keys").stderr[:14] == "restore.exists"
    assert run("restore", "k").returncode == 2
    lines = run("read", "t", "--path", "r", "--keys", "b.keys").stdout.splitlines()
    assert [json.loads(line)["after"]["data"] for line in lines] == ["one", "two"]
    for where in (("--path", "b"), ("--path", "r", "--keys", "b.keys")):
        found = run("verify", *where)
        assert (found.returncode, found.stdout.split(":")[0]) == (0, "All is as it was written")
    with Broker.open("b") as broker:
        broker._engine.database.connection().execute("UPDATE bodies SET data = x'00'")
    found = run("verify", "--path", "b", "--topic", "t", "--json")
    assert found.returncode == 1
    assert json.loads(found.stdout)[-1] == {
        "code": "frame.damaged", "topic": "t", "first_offset": 0, "last_offset": 1,
        "sentence": "A frame is too short.",
    }  # fmt: skip
    assert "frame.damaged\tt\t0..1" in run("verify", "--path", "b").stdout
    assert run("verify", "--path", "b", "--topic", "u").stderr.startswith("topic.unknown")
