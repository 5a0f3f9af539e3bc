"""How long topics keep their events, as people and scripts say and see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ensign_core.broker import Broker, Event
from tests.integration.test_commands import run

CONFIG = """\
broker:
  path: ./b
  disk: {bytes_max: 1GB, free_bytes_min: 1MB}
  topics:
    "kept*": {keep_age: 7d, keep_bytes: 10GB}
    "*": {compact: true, tombstones: 12h, trim_unread: true}
pipelines:
  one: {source: {type: file, path: ./in.jsonl, topic: kept}}
  two: {source: {type: file, path: ./in.jsonl, topic: other}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def topics(*words: str) -> Any:
    done = run("topics", *words, "--path", "b", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_topic_is_made_shown_changed_and_archived(folder: Path) -> None:
    made = run(
        "topics", "create", "t", "--keep-age", "7d", "--keep-bytes", "10GB", "--compact",
        "--tombstones", "1d", "--trim-unread", "--path", "b",
    )  # fmt: skip
    assert (made.returncode, made.stdout) == (0, "")
    (shown,) = topics("show", "t")
    assert shown["policy"]["retention"] == {
        "age_s": 604800.0, "bytes_max": 10**10, "compact": True, "tombstone_s": 86400.0,
        "trim_unread": True,
    }  # fmt: skip
    assert (shown["ratio"], shown["duplicates"], shown["content_bytes"]) == (None, 0, 0)
    text = run("topics", "show", "t", "--path", "b").stdout
    assert "7d at most; 10000000000 bytes at most; compacted, deletes 1d; unread" in text
    changes = ("--keep-age", "forever", "--no-compact", "--no-trim-unread")
    assert run("topics", "set", "t", *changes, "--path", "b").returncode == 0
    (shown,) = topics("show", "t")
    assert shown["policy"]["retention"] | {"tombstone_s": 0} == {
        "age_s": None, "bytes_max": 10**10, "compact": False, "tombstone_s": 0,
        "trim_unread": False,
    }  # fmt: skip
    run("topics", "archive", "t", "--path", "b")
    refused = run("publish", "t", "--path", "b", standard_input="a\n")
    assert (refused.returncode, refused.stderr[:14]) == (1, "topic.archived")
    run("topics", "unarchive", "t", "--path", "b")
    assert run("publish", "t", "--path", "b", standard_input="a\n").returncode == 0
    with Broker.open("b") as broker:
        broker.commit("g", {"t": 0})
    assert "g at 0 (1 behind)" in run("topics", "show", "t", "--path", "b").stdout


@pytest.mark.parametrize("option", ["--keep-age=7 parsecs", "--keep-bytes=0", "--tombstones=x"])
def test_what_is_no_quantity(folder: Path, option: str) -> None:
    done = run("topics", "create", "t", option, "--path", "b")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "usage.quantity")
    assert not (folder / "b").exists()


def test_trimming_now_and_groups_that_are_no_more(folder: Path) -> None:
    with Broker.open("b") as broker:
        broker.publish("t", [Event(b"1", b"k"), Event(b"2", b"k"), Event(b"3", b"k")])
        broker.publish("u", [Event(b"1")])
        broker.commit("gone", {"u": 0})
    run("topics", "set", "t", "--compact", "--path", "b")
    run("topics", "set", "u", "--keep-bytes", "1", "--path", "b")
    assert topics("trim", "t", "u") == [{"topic": "t", "trimmed": 0, "compacted": 2}]
    assert run("topics", "forget", "gone", "--path", "b").returncode == 0
    assert topics("trim") == [{"topic": "u", "trimmed": 1, "compacted": 0}]
    assert "Nothing was to be" in run("topics", "trim", "--path", "b").stderr
    assert run("topics", "trim", "none", "--path", "b").stderr.startswith("topic.unknown")


def test_events_that_were_taken_out_do_not_count_for_max(folder: Path) -> None:
    with Broker.open("b") as broker:
        keys = [b"k", b"a", b"k", b"b", b"k", None]
        broker.publish("t", [Event(b"%d" % n, key) for n, key in enumerate(keys)])
    run("topics", "set", "t", "--compact", "--path", "b")
    run("topics", "trim", "--path", "b")
    for most, offsets in ((0, []), (1, [1]), (3, [1, 3, 4]), (9, [1, 3, 4, 5])):
        done = run("read", "t", "--max", str(most), "--path", "b")
        assert [json.loads(line)["offset"] for line in done.stdout.splitlines()] == offsets


def test_topics_that_pipelines_make_keep_what_the_config_says(folder: Path) -> None:
    (folder / "ensign.yaml").write_text(CONFIG)
    (folder / "in.jsonl").write_text('{"n": 1}\n')
    done = run("run", "ensign.yaml", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    kept, other = (topic["policy"]["retention"] for topic in topics("list"))
    assert (kept["age_s"], kept["bytes_max"], kept["compact"]) == (604800.0, 10**10, False)
    assert (other["compact"], other["tombstone_s"], other["trim_unread"]) == (True, 43200.0, True)
