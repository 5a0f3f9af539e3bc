"""Files as events, by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(*arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", *arguments, "--path", "b"],
        input=standard_input, text=True, capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip


def code(done: subprocess.CompletedProcess[str]) -> str:
    """The error's, which is said in the last line but one."""
    return done.stderr.splitlines()[-2].partition(":")[0]


@pytest.mark.parametrize("way", [["--chunked"], ["--claim-check", "store"], []])
def test_a_file_is_one_event(folder: Path, way: list[str]) -> None:
    data = os.urandom(5_243_001)
    (folder / "file").write_bytes(data)
    done = run("publish", "files", "--file", "file", *way, "--mimetype", "a/b")
    if not way:
        assert (done.returncode, code(done)) == (1, "event.too_large")
        (folder / "file").write_bytes(data := b"small")
        done = run("publish", "files", "--file", "file", "--json")
        assert json.loads(done.stdout) == {"acked": 1, "last_offset": 0, "duplicates": 0}
    run("publish", "files", standard_input="line\n")
    done = run("read", "files", "--save", "saved", "--store", "store")
    assert done.returncode == 0
    first, second = sorted((folder / "saved").iterdir(), key=lambda path: int(path.name))
    assert [path.read_bytes() for path in (first, second)] == [data, b"line"]
    assert done.stdout.splitlines() == [f"saved saved/{path.name}" for path in (first, second)]
    once = run("read", "files", "--save", "once", "--max", "1", "--store", "store")
    assert once.stdout == f"saved once/{first.name}\n"
    if "store" in way:
        done = run("read", "files", "--save", "none")
        assert (done.returncode, code(done)) == (1, "claim.missing")
        assert list((folder / "none").iterdir()) == []


@pytest.mark.parametrize(("options", "word"), [
    ("--chunked", "conflict"), ("--mimetype a/b", "conflict"),
    ("--file f --chunked --claim-check s", "conflict"), ("--file f --key k", "conflict"),
    ("--file f --claim-check s3://", "store_invalid"), ("--file none", "file_unreadable"),
    ("--file . --chunked", "file_unreadable"),
])  # fmt: skip
def test_what_is_wrong_on_the_command_line(folder: Path, options: str, word: str) -> None:
    done = run("publish", "files", *options.split())
    assert (done.returncode, code(done)) == (2, f"usage.{word}")


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    run("publish", "files", standard_input="line\n")
    (folder / "file").touch()
    done = run("read", "files", "--save", "file/none")
    assert (done.returncode, code(done)) == (1, "output.failed")
