"""The registry of models in ``connectors/README.md``, run as a reader would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "connectors" / "README.md").read_text().partition("## Models through")[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def run(commands: str, folder: Path) -> str:
    python = f'"{sys.executable}"'
    ours = (
        f'set -e\npython() {{ {python} "$@"; }}\nensign() {{ python -m ensign_core.cli "$@"; }}\n'
    )
    return subprocess.run(
        ["bash", "-c", ours + commands],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, check=True,
        stdout=subprocess.PIPE,
    ).stdout  # fmt: skip


def test_customers_are_scored_with_the_newest_model(tmp_path: Path) -> None:
    train, score = blocks("python")
    (tmp_path / "train.py").write_text(train)
    (tmp_path / "score.py").write_text(score)
    (commands,) = blocks("sh")
    printed = run(commands, tmp_path).splitlines()
    first, second = [json.loads(line) for line in printed if line.startswith('{"leaves"')]
    assert (first["version"], second["version"]) == (0, 1)
    assert second["leaves"] > first["leaves"] > 0.5
    models = [json.loads(line) for line in printed if '"topic":"models"' in line]
    metrics = [model["after"]["metadata"] for model in models]
    assert [int(found["rounds"]) for found in metrics] == [1, 50]
    assert float(metrics[1]["accuracy"]) > float(metrics[0]["accuracy"]) > 0.7


def test_a_model_that_is_a_file(tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    (tmp_path / "model.bin").write_bytes(data)
    publish, save = re.findall(r"`(ensign [^`]*)`", SECTION)
    run(f"{publish}\n{save}", tmp_path)
    (saved,) = (tmp_path / "DIR").iterdir()
    assert saved.read_bytes() == data
