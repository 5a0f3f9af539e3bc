"""``ensign keys`` and reading behind revoked keys, as a person and a script use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_commands import ROOT, run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two events of a topic under one key, two under the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for lines in ("1\n2", "3\n4"):
        assert run("publish", "t", "--path", "b", standard_input=lines).returncode == 0
        assert run("keys", "rotate", "--topic", "t", "--path", "b").returncode == 0
    return tmp_path


def keys() -> list[dict[str, Any]]:
    done = run("keys", "list", "--path", "b", "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return [key for key in found if key["topic"] == "t"]


def test_keys_are_listed(folder: Path) -> None:
    first, _, last = found = keys()
    assert [(key["state"], key["frames"]) for key in found] == [
        ("retired", 2), ("retired", 2), ("active", 0),
    ]  # fmt: skip
    assert list(first) == ["key_id", "topic", "created", "state", "frames"]
    assert first["created"] < last["created"]
    lines = run("keys", "list", "--path", "b").stdout.splitlines()
    assert lines[0].split("\t") == list(first)
    assert "\t".join(map(str, first.values())) in lines
    run("topics", "create", "t", "--path", "new")
    assert "no keys" in run("keys", "list", "--path", "new").stderr


def test_a_revoked_key_ends_reading_unless_it_is_passed_over(folder: Path) -> None:
    first = keys()[0]["key_id"]
    assert run("read", "t", "--path", "b", "--format", "raw").stdout == "1\n2\n3\n4\n"
    done = run("keys", "revoke", first, "--path", "b", "--yes")
    assert done.returncode == 0
    assert "2 events of the topic t, at offsets 0 to 1," in done.stderr
    assert keys()[0]["state"] == "revoked"
    assert run("publish", "t", "--path", "b", standard_input="5").returncode == 0
    done = run("read", "t", "--path", "b", "--format", "raw")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("key.revoked: ")
    assert "topic t, offsets 0 to 1" in done.stderr
    assert "--skip-revoked" in done.stderr
    done = run("read", "t", "--path", "b", "--format", "raw", "--skip-revoked")
    assert (done.returncode, done.stdout) == (0, "3\n4\n5\n")
    assert done.stderr.startswith("2 events were passed over")


def test_what_comes_before_a_revoked_key_is_printed(folder: Path) -> None:
    run("keys", "revoke", keys()[1]["key_id"], "--path", "b", "--yes")
    done = run("read", "t", "--path", "b", "--format", "raw")
    assert (done.returncode, done.stdout) == (1, "1\n2\n")
    assert "topic t, offsets 2 to 3" in done.stderr


def test_revoking_asks_first(folder: Path) -> None:
    first = keys()[0]["key_id"]
    done = run("keys", "revoke", first, "--path", "b", standard_input="n\n")
    assert done.returncode != 0
    assert "2 events of the topic t" in done.stderr
    assert keys()[0]["state"] == "retired"
    done = run("keys", "revoke", first, "--path", "b", "--json", standard_input="y\n")
    assert (done.returncode, json.loads(done.stdout)) == (0, [keys()[0]])
    assert keys()[0]["state"] == "revoked"
    done = run("keys", "revoke", "00" * 16, "--path", "b", "--yes")
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "key.unknown")


def test_the_key_behind_the_keys_is_rotated(folder: Path) -> None:
    before = (folder / "b.keys").read_text()
    done = run("keys", "rotate", "--master", "--path", "b", "--json")
    assert json.loads(done.stdout) == [{"master": True, "rotated": True}]
    assert (folder / "b.keys").read_text() != before
    assert run("read", "t", "--path", "b", "--format", "raw").stdout == "1\n2\n3\n4\n"
    assert "new key-encryption key" in run("keys", "rotate", "--master", "--path", "b").stdout
    done = run("keys", "rotate", "--master", "--topic", "t", "--path", "b")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "usage.conflict")


def test_rotating_shows_the_new_keys(folder: Path) -> None:
    shown = json.loads(run("keys", "rotate", "--path", "b", "--json").stdout)
    assert [key["topic"] for key in shown] == ["ensign.audit", "t"]
    assert shown[1] in keys()
    done = run("keys", "rotate", "--topic", "nowhere", "--path", "b")
    assert (done.returncode, done.stderr.split(":")[0]) == (1, "topic.unknown")
