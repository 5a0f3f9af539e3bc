"""The README's commands, in its order, as a reader would type them, against a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.postgres import PostgresServer, installations

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in _BLOCK.findall(README) if found == language]


def test_the_first_pipeline_step_by_step(tmp_path: Path) -> None:
    prepare, publish = blocks("sql")
    (config,) = blocks("yaml")
    (tmp_path / "shop.yaml").write_text(config)
    programs = list(installations().values())[-1]
    with PostgresServer(
        programs, settings={"wal_level": "replica"}, auth="scram-sha-256"
    ) as server:
        with server.connect() as db:
            db.execute("CREATE DATABASE shop")
        with server.connect("shop") as db:
            db.execute("CREATE TABLE orders (id int PRIMARY KEY, title text)")
            db.execute("INSERT INTO orders VALUES (1, 'tea'), (2, 'cake')")
            for statement in filter(str.strip, (prepare + publish).split(";")):
                db.execute(statement.encode())
        server.restart()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PG_PASSWORD": "choose-one",
            "PG_PORT": str(server.port),
        }
        printed = [_run(command, tmp_path, environment) for command in blocks("sh")]
    assert "wal_level" in printed[0]
    assert '"title":"cake"' in printed[1]
    assert "slot" in printed[2]
    assert len((tmp_path / "var" / "shop.public.orders.jsonl").read_text().splitlines()) == 2


def _run(commands: str, folder: Path, environment: dict[str, str]) -> str:
    ensign = f'ensign() {{ "{sys.executable}" -m ensign_core.cli "$@"; }}\nset -e\n'
    done = subprocess.run(
        ["bash", "-c", ensign + commands],
        cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_library_example(tmp_path: Path) -> None:
    (example,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, text=True, check=True, capture_output=True,
    )  # fmt: skip
    assert '{"text": "hello"}' in done.stdout


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"^[A-Z]{6,}$|LATP", README, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(re.findall(r"\]\(([^)#]+)\)", README)))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
