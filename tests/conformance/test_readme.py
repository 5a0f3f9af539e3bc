"""What ``connectors/README.md`` shows is run as it stands there, by the command that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from connectors.registry import OURS

ROOT = Path(__file__).parents[2]
README = (ROOT / "connectors" / "README.md").read_text()
COMMAND = re.search(r"^    (ENSIGN_CASE=\S+) python (.+)$", README, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_connector_of_the_readme_passes_the_suite(tmp_path: Path) -> None:
    lines, case, *_ = blocks("python")
    (entry_point,) = blocks("toml")
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lines.py").write_text(lines)
    (package / "case.py").write_text(case)
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        entry_point.replace('project.entry-points."ensign.connectors"', "ensign.connectors")
        .replace('"source.lines"', "source.lines")
        .replace('"my_package.lines:CONNECTOR"', "my_package.lines:CONNECTOR")
    )
    assert COMMAND
    name, _, value = COMMAND[1].partition("=")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, *COMMAND[2].split(), "--basetemp", str(tmp_path / "pytest")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[7-9] passed", done.stdout), done.stdout


def test_the_readme_lists_our_connectors() -> None:
    listed = set(re.findall(r"^\| \[([\w-]+)\]\(", README, re.MULTILINE))
    assert listed == {name for _, name in OURS}
