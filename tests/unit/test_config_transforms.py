"""Transforms in a config file, and what the command line says of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.registry import connector
from ensign_core.config import ConfigErrors, load

SECRET = "sesame and more of it"
ROOT = Path(__file__).parents[2]
PIPELINE = """\
broker: {path: ./broker}
pipelines:
  made:
    source: {type: generator, count: 3}
    transforms: [%s]
    sinks:
      out: {type: stdout, transforms: [%s]}
"""
HASH = f'{{type: hash, columns: [payload], key: "{SECRET}"}}'


def errors(path: Path, here: str = "", there: str = "") -> list[tuple[str, str]]:
    path.write_text(PIPELINE % (here, there))
    with pytest.raises(ConfigErrors) as caught:
        load(path, connector)
    assert "sesame" not in str(caught.value) + repr(caught.value.errors)
    return [(e.code, e.where.removeprefix(f"{path}:")) for e in caught.value.errors]


def test_transforms_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(PIPELINE % (f"{{type: filter, where: id > 1}}, {HASH}", HASH))
    config = load(path, connector)
    pipeline = config.pipelines["made"]
    assert [one.type for one in pipeline.transforms] == ["filter", "hash"]
    assert [one.type for one in pipeline.sinks["out"].transforms] == ["hash"]
    assert "sesame" not in repr(config)


@pytest.mark.parametrize(
    ("written", "code", "place"),
    [
        ("{type: filtre}", "config.invalid_value", "[0].type"),
        ("{where: a = 1}", "config.missing_key", "[0].type"),
        ("filter", "config.wrong_type", "[0]"),
        ("{type: filter}", "config.missing_key", "[0].where"),
        ("{type: filter, where: sesame >}", "config.condition", "[0].where"),
        ("{type: filter, where: f(sesame)}", "config.condition", "[0].where"),
        ("{type: filter, wher: a = 1, where: a = 1}", "config.unknown_key", "[0].wher"),
        ("{type: drop, columns: []}", "config.invalid_value", "[0].columns"),
        ("{type: rename, columns: [a]}", "config.wrong_type", "[0].columns"),
        ("{type: python, function: os.system}", "config.function", "[0].function"),
        ("{type: route, topic: 'a b'}", "config.topic_template", "[0].topic"),
        ("{type: hash, columns: [a], key: sesame}", "config.hash_key", "[0].key"),
        (f"{HASH[:-1]}, keys: 1}}", "config.unknown_key", "[0].keys"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    tmp_path: Path, written: str, code: str, place: str
) -> None:
    path = tmp_path / "c.yaml"
    assert errors(path, here=written) == [(code, f"5: pipelines.made.transforms{place}")]
    assert errors(path, there=written) == [(code, f"7: pipelines.made.sinks.out.transforms{place}")]


def test_a_secret_in_the_wrong_place_is_not_told(tmp_path: Path) -> None:
    """What a validator says of one field may quote another."""
    wrong = f"{HASH}, {{type: mask, columns: [a], text: {{b: {SECRET}}}}}"
    (found,) = errors(tmp_path / "c.yaml", here=wrong)
    assert found == ("config.wrong_type", "5: pipelines.made.transforms[1].text")


def ensign(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", *arguments], cwd=folder, text=True,
        capture_output=True, check=False, timeout=60, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_commands_know_them(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    function = '{type: python, function: "nowhere_at_all:f"}'
    path.write_text(PIPELINE % (HASH, function))
    done = ensign(tmp_path, "check", "c.yaml")
    assert done.returncode == 1
    assert "transform.python_missing" in done.stdout
    path.write_text(PIPELINE % (HASH, "{type: filter, where: id = 1}"))
    done = ensign(tmp_path, "run", "c.yaml", "--until-caught-up")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert '"key":{"id":1}' in line
    path.write_text(path.read_text().replace("{type: generator, count: 3}", (
        '{type: postgres, dsn: "postgresql://cdc@127.0.0.1:1/shop"}'
    )))  # fmt: skip
    done = ensign(tmp_path, "snapshot", "start", "made", "--config", "c.yaml", "--reconcile")
    assert done.returncode == 1
    assert "transform.no_reconcile" in done.stderr
