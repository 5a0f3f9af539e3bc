"""``ensign dead-letters``: listed without their data, and put away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ensign_core.broker import Broker
from ensign_core.cli.dead_letters import COLUMNS
from tests.scripted import Running, Server, Step, Target, rows

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {path: ./broker}
pipelines:
  shop:
    source: {type: postgres, dsn: "postgresql://cdc@127.0.0.1:1/shop", tables: ["public.*"]}
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


def letters(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", "dead-letters", *arguments],
        text=True, capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip


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
    assert sorted(letter["bytes"] for letter in found if letter["topic"] is None) == [5, 7]
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
        assert broker.letters("none").done() == set()
