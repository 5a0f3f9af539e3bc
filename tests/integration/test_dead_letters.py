"""``ensign dead-letters``: listed without their data, replayed, and put away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ensign_core.broker import Broker, Event
from ensign_core.cli.dead_letters import COLUMNS
from ensign_core.errors import EnsignError
from ensign_core.run.letters import letter_event
from tests.scripted import Running, Server, Step, Target, rows

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {path: ./broker}
pipelines:
  shop:
    source: {type: postgres, dsn: "postgresql://cdc@127.0.0.1:1/shop", tables: ["public.*"]}
"""

LATER = """\
broker: {path: ./broker}
pipelines:
  shop:
    source: {type: file, path: in.jsonl, key: id}
    sinks: {out: {type: file, path: out.jsonl}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A broker whose pipeline set aside two events of its source and one of its sink."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "ensign.yaml").write_text(CONFIG)
    server = Server([Step(letter=b"first"), rows("orders", 1, "odd", 2), Step(letter=b"second!")])
    target = Target()
    target.odd = {"odd"}
    with (
        Broker.open(tmp_path / "broker") as broker,
        Running(broker, server, {"out": target}, until_caught_up=True) as running,
    ):
        assert running.ended() is None
    return tmp_path


def ensign(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", *arguments],
        text=True, capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip


def letters(*arguments: str) -> subprocess.CompletedProcess[str]:
    return ensign("dead-letters", *arguments)


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = letters("list", "shop", "--path", "broker", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_what_was_set_aside_is_listed_without_its_data(folder: Path) -> None:
    found = listed("--json")
    assert [letter["offset"] for letter in found] == [0, 1, 2]
    assert {(letter["code"], letter["error"]) for letter in found} == {("row.odd", "It is odd.")}
    assert all(letter["time"].endswith("Z") for letter in found)
    assert all("data" not in letter for letter in found)
    (of_sink,) = [letter for letter in found if letter["topic"] is not None]
    assert (of_sink["topic"], of_sink["event_offset"], of_sink["op"], of_sink["schema"]) == (
        "orders", 1, "insert", "public.orders",
    )  # fmt: skip
    assert of_sink["part"] == "out"
    assert {(letter["state"], letter["attempts"]) for letter in found} == {("waiting", 0)}
    of_source = [letter for letter in found if letter["topic"] is None]
    assert sorted(letter["bytes"] for letter in of_source) == [5, 7]
    assert {letter["part"] for letter in of_source} == {"source"}
    done = letters("list", "shop", "--config", "ensign.yaml")
    assert done.stdout.splitlines()[0] == "\t".join(COLUMNS)
    assert done.stdout.count("row.odd") == 3
    assert "insert in orders at 1" in done.stdout
    assert "second!" not in done.stdout
    data = {letter["data"] for letter in listed("--data")}
    assert {"Zmlyc3Q=", "c2Vjb25kIQ=="} < data


def test_what_is_dropped_is_listed_no_more_and_stays_in_its_topic(folder: Path) -> None:
    refused = letters("drop", "shop", "--offset", "1", "--offset", "7", "--path", "broker")
    assert refused.returncode == 2
    assert refused.stderr.startswith("usage.offset_unknown")
    assert letters("drop", "shop", "--offset", "1", "--path", "broker").returncode == 0
    assert [letter["offset"] for letter in listed("--json")] == [0, 2]
    assert listed("--json", "--offset", "1") == []
    assert letters("drop", "shop", "--offset", "1", "--path", "broker").returncode == 2
    assert letters("drop", "shop", "--yes", "--path", "broker").returncode == 0
    assert listed("--json") == []
    done = letters("list", "shop", "--path", "broker")
    assert (done.returncode, done.stdout) == (0, "")
    with Broker.open(folder / "broker") as broker:
        assert broker.topic("shop.dead-letters").events == 3


def test_a_pipeline_that_there_is_not_and_one_without_any(folder: Path) -> None:
    assert letters("list", "none", "--config", "ensign.yaml").returncode == 2
    assert json.loads(letters("list", "none", "--path", "broker", "--json").stdout) == []
    with Broker.open(folder / "broker") as broker:
        assert broker.pipelines.letters("none").done() == set()


def test_what_is_replayed_is_done_or_stays_with_its_newer_error(folder: Path) -> None:
    (folder / "later.yaml").write_text(LATER)
    (folder / "in.jsonl").touch()
    with Broker.open(folder / "broker") as broker:
        event = letter_event(
            "source", b'{"id": "7"}', EnsignError("row.odd", "It is odd.", "Look.")
        )
        broker.publish("shop.dead-letters", [event])
        # The source that comes now cannot read the other's position.
        broker.pipelines.remove("shop")
    asked = letters("replay", "shop", "--config", "later.yaml", "--yes")
    assert asked.returncode == 0, asked.stderr
    assert asked.stderr == "No worker runs shop now: 4 will be replayed at its next run.\n"
    assert {letter["state"] for letter in listed("--json")} == {"replaying"}
    ran = ensign("run", "later.yaml", "--until-caught-up")
    assert ran.returncode == 0, ran.stderr
    stay = listed("--json")
    assert [letter["bytes"] for letter in stay] == [5, 7]
    assert {(letter["code"], letter["state"], letter["attempts"]) for letter in stay} == {
        ("file.line_malformed", "waiting", 1)
    }
    status = json.loads(ensign("status", "later.yaml", "--json").stdout)
    assert status[0]["dead_letters"] == 2
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert sorted((line["topic"], line["offset"]) for line in written) == [("in", 0), ("orders", 1)]
    again = letters("replay", "shop", "--offset", str(stay[0]["offset"]), "--path", "broker")
    assert again.returncode == 0
    assert [letter["state"] for letter in listed("--json")] == ["replaying", "waiting"]


def test_a_running_worker_is_told(folder: Path) -> None:
    with Broker.open(folder / "broker") as broker:
        release = broker.pipelines.hold("shop")
        asked = letters("replay", "shop", "--offset", "1", "--path", "broker")
        release()
    assert asked.stderr == "The worker of shop was told to replay 1; what stays is listed.\n"


def test_what_cannot_be_replayed_is_refused(folder: Path) -> None:
    unknown = letters("replay", "shop", "--offset", "9", "--path", "broker")
    assert (unknown.returncode, unknown.stderr.split(":")[0]) == (2, "usage.offset_unknown")
    unasked = letters("replay", "shop", "--path", "broker")
    assert unasked.returncode != 0, "nobody said yes"
    of_sink = letters("replay", "shop", "--config", "ensign.yaml", "--yes")
    assert (of_sink.returncode, of_sink.stderr.split(":")[0]) == (2, "usage.part_unknown")
    assert {letter["state"] for letter in listed("--json")} == {"waiting"}
    metadata = {"code": "a", "error": "b", "topic": "orders", "offset": "1", "op": "insert"}
    with Broker.open(folder / "broker") as broker:
        broker.publish("shop.dead-letters", [Event(b"of an earlier Ensign", metadata=metadata)])
    old = letters("replay", "shop", "--offset", "3", "--path", "broker")
    assert (old.returncode, old.stderr.split(":")[0]) == (2, "usage.part_unknown")
    assert listed("--json", "--offset", "3")[0]["part"] is None
    none = letters("replay", "none", "--path", "broker")
    assert (none.returncode, none.stderr) == (0, "none has no dead letters.\n")
