"""The files that people start from: every config loads, and what docker is given is well formed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.registry import connector
from ensign_core.config import Config, load

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
CONFIGS = sorted([*ROOT.glob("configs/*.yaml"), DOCKER / "config.yaml"])


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PGUSER",
        "PGHOST",
        "PGPORT",
        "PGDATABASE",
        "MYSQL_HOST",
        "MYSQL_PORT",
        "MYSQL_USER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSWORD", "p:a's\"s")
    monkeypatch.setenv("MYSQL_PASSWORD", "p:a's\"s")
    monkeypatch.setenv("HASH_KEY", "p:a's\"s, of some length")


@pytest.fixture
def worker() -> dict[str, Any]:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    service: dict[str, Any] = compose["services"]["worker"]
    return service


def _load(path: Path, monkeypatch: pytest.MonkeyPatch, worker: dict[str, Any]) -> Config:
    if path.parent == DOCKER:
        for name, value in worker["environment"].items():
            monkeypatch.setenv(name, value)
    return load(path, connector)


@pytest.mark.usefixtures("login")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads(
    path: Path, monkeypatch: pytest.MonkeyPatch, worker: dict[str, Any]
) -> None:
    config = _load(path, monkeypatch, worker)
    assert config.pipelines
    assert "p:a's" not in repr(config)


@pytest.mark.usefixtures("login")
def test_configs_share_nothing(monkeypatch: pytest.MonkeyPatch, worker: dict[str, Any]) -> None:
    """Whoever tries one after the other meets no data and no slot of the first."""
    configs = [_load(path, monkeypatch, worker) for path in CONFIGS if path.parent != DOCKER]
    assert len({config.broker.path for config in configs}) == len(configs)
    assert len({name for config in configs for name in config.pipelines}) == len(configs)


def test_a_config_is_named_after_its_ends() -> None:
    for path in ROOT.glob("configs/*.yaml"):
        (pipeline,) = yaml.safe_load(path.read_text())["pipelines"].values()
        sinks = [sink["type"] for sink in pipeline.get("sinks", {}).values()] or ["ensign"]
        assert [path.stem] == [f"{pipeline['source']['type']}_to_{name}" for name in sinks]


def test_compose_mounts_what_exists(worker: dict[str, Any]) -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            exists = (DOCKER / source).exists() if "/" in source else source in compose["volumes"]
            assert exists, volume
    assert compose["services"]["postgres"]["command"][-1] == "wal_level=logical"
    for server in ("postgres", "mysql"):
        assert worker["depends_on"][server]["condition"] == "service_healthy"
    assert (DOCKER / worker["build"]["context"] / worker["build"]["dockerfile"]).exists()


def test_the_image_copies_what_exists_and_runs_as_nobody_special() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    sources = [name for name in copied if not name.startswith(("--", "/"))]
    assert sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert [name for name in sources if f"!{name}" not in allowed] == []
    assert "USER ensign" in lines
