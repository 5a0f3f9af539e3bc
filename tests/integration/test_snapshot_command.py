"""``ensign snapshot``: what it asks of a pipeline, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ensign_core.broker import Broker

ROOT = Path(__file__).parents[2]
WAIT_S_MAX = 60.0
CONFIG = """\
broker: {path: ./broker}
pipelines:
  shop:
    source: {type: postgres, dsn: "postgresql://cdc@127.0.0.1:1/shop", tables: ["public.*"]}
  made:
    source: {type: generator, rate: 500}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "ensign.yaml").write_text(CONFIG)
    Broker.open(tmp_path / "broker").close()
    return tmp_path


def snapshot(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensign_core.cli", "snapshot", *arguments,
         "--config", "ensign.yaml"],
        text=True, capture_output=True, check=False, timeout=WAIT_S_MAX,
    )  # fmt: skip


def asked(folder: Path) -> list[dict[str, object]]:
    with Broker.open(folder / "broker", create=False) as broker:
        return [vars(signal) for signal in broker.pipelines.signals("shop")]


def test_what_is_asked_reaches_the_pipeline(folder: Path) -> None:
    tables = ["--tables", "public.orders", "--tables", "public.line_*"]
    done = snapshot("start", "shop", *tables, "--where", "id > 7")
    assert (done.returncode, done.stdout) == (0, "")
    assert "done at its next run" in done.stderr
    with Broker.open(folder / "broker", create=False) as broker:
        release = broker.pipelines.hold("shop")
        done = snapshot("start", "shop", "--reconcile")
        release()
    assert done.returncode == 0
    assert "was told" in done.stderr
    for kind in ("pause", "resume", "stop"):
        assert snapshot(kind, "shop").returncode == 0
    assert json.loads(json.dumps(asked(folder))) == [
        {
            "number": 1, "kind": "snapshot", "tables": ["public.orders", "public.line_*"],
            "where": "id > 7", "reconcile": False,
        },
        {"number": 2, "kind": "snapshot", "tables": [], "where": None, "reconcile": True},
        {"number": 3, "kind": "pause", "tables": [], "where": None, "reconcile": False},
        {"number": 4, "kind": "resume", "tables": [], "where": None, "reconcile": False},
        {"number": 5, "kind": "stop", "tables": [], "where": None, "reconcile": False},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["start", "none"], "usage.pipeline_unknown"),
        (["stop", "none"], "usage.pipeline_unknown"),
        (["start", "made"], "usage.signals_unsupported"),
        (["pause", "made"], "usage.signals_unsupported"),
        (["start", "shop", "--where", "id > 7"], "usage.where_without_tables"),
        (["start", "shop", "--tables", "a", "--where", "b", "--reconcile"], "usage.conflict"),
    ],
)
def test_what_is_refused(folder: Path, arguments: list[str], code: str) -> None:
    done = snapshot(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(code)
    assert asked(folder) == []


def test_a_broker_that_there_is_not(folder: Path) -> None:
    (folder / "ensign.yaml").write_text(CONFIG.replace("./broker", "./elsewhere"))
    done = snapshot("start", "shop")
    assert done.returncode == 1
    assert done.stderr.startswith("broker.not_found")
    assert not (folder / "elsewhere").exists()
