"""``ensign publish`` of lines, and the options of deduplication."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from ensign_core.broker import Broker
from ensign_core.broker.events import EVENT_BYTES_MAX
from ensign_core.cli import publishing
from ensign_core.errors import EnsignError
from tests.integration.test_commands import folder, run
from tests.published import stored

__all__ = ["folder"]


def acks(done: str) -> list[dict[str, int]]:
    return [json.loads(line) for line in done.splitlines()]


def test_duplicates_are_counted(folder: Path) -> None:
    assert run("topics", "create", "t", "--path", "b", "--dedup", "unique_field",
               "--dedup-field", "id", "--dedup-field", "at.day").returncode == 0  # fmt: skip
    lines = [
        '{"id": 1, "at": {"day": 2}, "n": 1}', '{"at": {"day": 2.0}, "id": 1, "n": 2}',
        '{"id": 1, "n": 3}', '{"n": 4}', '{"n": 4}', "no JSON", "no JSON",
    ]  # fmt: skip
    for last, duplicates in ((5, 1), (9, 3)):
        done = run("publish", "t", "--path", "b", "--json", standard_input="\n".join(lines))
        assert acks(done.stdout)[-1] == {
            "acked": 7, "last_offset": last, "duplicates": duplicates,
        }  # fmt: skip
    (shown,) = json.loads(run("topics", "show", "t", "--path", "b", "--json").stdout)
    assert (shown["events"], shown["duplicates"]) == (10, 4)
    done = run("publish", "t", "--path", "b", standard_input=lines[0])
    assert done.stdout == "acked 1, last offset 0, 1 duplicates\n"


def test_options_that_are_not_given_stay(folder: Path) -> None:
    def deduplication(*options: str) -> dict[str, object]:
        done = run("topics", "set", "t", "--path", "b", *options)
        assert done.returncode == 0, done.stderr
        (shown,) = json.loads(run("topics", "show", "t", "--path", "b", "--json").stdout)
        found: dict[str, object] = shown["policy"]["deduplication"]
        return found

    run("publish", "t", "--path", "b", standard_input="a\nb\na\n")
    kept = {"strategy": "key_grouped", "keys": ["a", "b"], "fields": [], "keep": "latest"}
    assert deduplication("--dedup", "key_grouped", "--dedup-key", "a", "--dedup-key", "b",
                         "--dedup-keep", "latest") == kept  # fmt: skip
    assert deduplication("--keep-age", "7d") == kept
    assert deduplication("--dedup-keep", "earliest") == kept | {"keep": "earliest"}
    assert deduplication("--dedup", "none")["strategy"] == "none"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--dedup-key", "a"], "usage.conflict"),
        (["--dedup", "unique_key"], "policy.invalid"),
        (["--dedup", "datagram", "--dedup-field", "a"], "policy.invalid"),
        (["--dedup", "datagram", "--sealing", "client"], "topic.client_sealed"),
        (["--dedup", "sometimes"], "Invalid value"),
    ],
)
def test_options_that_do_not_go_together(folder: Path, options: list[str], code: str) -> None:
    done = run("topics", "create", "t", "--path", "b", *options)
    assert done.returncode != 0
    assert code in done.stderr


def test_a_fields_value_is_the_key(folder: Path) -> None:
    lines = '{"id": 7}\n{"id": "x"}\n'
    assert run("publish", "t", "--path", "b", "--key", "id", standard_input=lines).returncode == 0
    read = run("read", "t", "--path", "b").stdout
    assert [json.loads(line)["key"] for line in read.splitlines()] == ["7", "x"]


@pytest.mark.parametrize(
    ("line", "code"), [("[1]", "publish.key_missing"), ("x" * 5_300_000, "event.too_large")]
)
def test_a_line_that_is_refused_is_named(folder: Path, line: str, code: str) -> None:
    options = ["--key", "id"] if code == "publish.key_missing" else []
    lines = ['{"id": 1}', "", '{"id": 2}', line, '{"id": 3}']
    given = "\n".join(lines)
    done = run("publish", "t", "--path", "b", "--json", *options, standard_input=given)
    assert done.returncode == 1
    assert f"{code}: Line 4: " in done.stderr
    assert acks(done.stdout)[-1] == {"acked": 2, "last_offset": 1, "duplicates": 0}
    assert run("read", "t", "--path", "b", "--format", "raw").stdout == '{"id": 1}\n{"id": 2}\n'


def test_lines_in_pieces_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"".join(b"%d\n" % n for n in range(100)) + b"\n  \nlast without end"
    for size in (1, 3, 1000):
        monkeypatch.setattr(publishing, "READ_BYTES", size)
        out, into = os.pipe()
        os.write(into, text)
        os.close(into)
        with Broker.open(tmp_path / str(size)) as broker:
            publishing.publish_lines(broker.publisher(), "t", out, None, as_json=True)
            found = list(stored(broker, "t").values())
        os.close(out)
        assert found == [*(b"%d" % n for n in range(100)), b"last without end"]


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    out, into = os.pipe()
    refused: list[str] = []

    def publish() -> None:
        try:
            publishing.publish_lines(broker.publisher(), "t", out, None, as_json=True)
        except EnsignError as error:
            refused.append(error.code)
        os.close(out)

    with Broker.open(tmp_path / "b") as broker:
        reading = threading.Thread(target=publish)
        reading.start()
        os.write(into, b"first\n")
        written = write_until_refused(into)
        reading.join()
        os.close(into)
        assert stored(broker, "t") == {0: b"first"}
    assert refused == ["event.too_large"]
    assert written < EVENT_BYTES_MAX + 4 * publishing.READ_BYTES


def write_until_refused(descriptor: int) -> int:
    """How many bytes went into a pipe until nobody read it any more."""
    written = 0
    try:
        while True:
            written += os.write(descriptor, bytes(65_536))
    except BrokenPipeError:
        return written
