"""``ensign grants`` and client-sealed topics as people and scripts use them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event
from ensign_core.broker.events import event_batch

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {{path: b{identity}}}
pipelines:
  notes:
    source: {{type: file, path: in.jsonl, topic: notes}}
    sinks: {sinks}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(*arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", *arguments], input=standard_input, text=True,
        capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip


def ok(*arguments: str, standard_input: str = "") -> str:
    done = run(*arguments, "--path", "b", standard_input=standard_input)
    assert done.returncode == 0, done.stderr
    return done.stdout


def failed(*arguments: str) -> str:
    done = run(*arguments, "--path", "b")
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def identity(name: str) -> str:
    done = run("grants", "identity", f"{name}.id", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["public_key"])


def test_access_is_switched_on_and_off(folder: Path) -> None:
    public = run("grants", "identity", "alice.id").stdout.strip()
    assert (folder / "alice.id").stat().st_mode & 0o777 == 0o600
    assert "reader.identity_exists" in run("grants", "identity", "alice.id").stderr
    ok("topics", "create", "notes", "--sealing", "client")
    assert "grants.none" in run("publish", "notes", "--path", "b", standard_input="0\n").stderr
    ok("grants", "add", "notes", "alice", "--public-key", public)
    ok("publish", "notes", standard_input="1\n2\n")
    read = ("read", "notes", "--format", "raw")
    assert ok(*read, "--identity", "alice.id") == "1\n2\n"
    assert "topic.client_sealed" in failed(*read)
    bob = identity("bob")
    error = failed(*read, "--identity", "bob.id")
    assert "topic.not_granted" in error
    assert "offsets 0 to 1" in error
    ok("grants", "add", "notes", "bob", "--public-key", bob, "--identity", "alice.id")
    assert ok(*read, "--identity", "bob.id") == "1\n2\n"
    listed = json.loads(ok("grants", "list", "notes", "--json"))
    assert [(one["reader"], one["public_key"]) for one in listed] == [
        ("alice", public), ("bob", bob),
    ]  # fmt: skip
    assert set(listed[0]) == {"topic", "reader", "public_key", "since"}
    ok("grants", "remove", "notes", "alice")
    assert "topic.not_granted" in failed(*read, "--identity", "alice.id")
    ok("publish", "notes", standard_input="3\n")
    assert ok(*read, "--identity", "bob.id") == "1\n2\n3\n"
    assert ok("grants", "list", "notes").splitlines()[1].startswith("notes\tbob\t")
    assert json.loads(ok("topics", "show", "notes", "--json"))[0]["sealing"] == "client"
    assert "grants.unknown" in failed("grants", "remove", "notes", "alice")
    done = run("grants", "remove", "notes", "bob", "--path", "b")
    assert "Nobody has a grant" in done.stderr


def test_a_reader_by_name(folder: Path) -> None:
    ok("publish", "notes", standard_input="1\n")
    read = ("read", "notes", "--format", "raw", "--as")
    assert ok(*read, "bob") == "1\n"
    ok("grants", "add", "notes", "alice")
    assert ok(*read, "alice") == "1\n"
    assert "topic.not_granted" in failed(*read, "bob")
    assert ok("read", "notes", "--format", "raw") == "1\n"


def test_a_pipeline_reads_with_the_identity_of_the_config(folder: Path) -> None:
    Path("in.jsonl").write_text('{"n": 1}\n')
    sinks = "{out: {type: file, path: out.jsonl, format: raw}}"
    Path("source.yaml").write_text(CONFIG.format(identity="", sinks="{}"))
    Path("none.yaml").write_text(CONFIG.format(identity="", sinks=sinks))
    Path("worker.yaml").write_text(CONFIG.format(identity=", identity: worker.id", sinks=sinks))
    ok("topics", "create", "notes", "--sealing", "client")
    ok("grants", "add", "notes", "worker", "--public-key", identity("worker"))
    assert run("run", "source.yaml", "--until-caught-up").returncode == 0
    done = run("run", "none.yaml", "--until-caught-up")
    assert (done.returncode, "topic.client_sealed" in done.stderr) == (1, True)
    done = run("run", "worker.yaml", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    assert Path("out.jsonl").read_text() == '{"n": 1}\n'
    done = run("read", "notes", "--config", "worker.yaml", "--format", "raw")
    assert done.stdout == '{"n": 1}\n'
    Path("worker.id").unlink()
    done = run("run", "worker.yaml", "--until-caught-up")
    assert (done.returncode, "reader.identity_missing" in done.stderr) == (1, True)


def test_what_a_worker_cannot_compare_is_not_asked_of_it(folder: Path) -> None:
    shop = """\
broker: {{path: b{identity}}}
pipelines:
  shop:
    source: {{type: postgres, dsn: "postgresql://cdc@127.0.0.1:1/shop", tables: ["public.*"]}}
    topic: orders
"""
    Path("none.yaml").write_text(shop.format(identity=""))
    Path("worker.yaml").write_text(shop.format(identity=", identity: worker.id"))
    ok("topics", "create", "orders", "--sealing", "client")
    ok("grants", "add", "orders", "worker", "--public-key", identity("worker"))
    with Broker.open("b") as broker:
        broker.writer("shop").append([("orders", event_batch("orders", [Event(b"1")]))])
    start = ("snapshot", "start", "shop", "--reconcile", "--config")
    done = run(*start, "none.yaml")
    assert (done.returncode, "topic.client_sealed" in done.stderr) == (1, True)
    with Broker.open("b") as broker:
        assert broker.pipelines.signals("shop") == []
    assert run(*start, "worker.yaml").returncode == 0
