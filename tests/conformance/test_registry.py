"""Connectors are found, described, and have a case."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import get_args

import pytest

from connectors import registry
from connectors.generator import CONNECTOR
from connectors.registry import OURS, Kind, connector, names
from ensign_core.errors import EnsignError
from ensign_core.plugin import Connector, ConnectorConfig
from tests.conformance.cases import SINKS, SOURCES
from tests.conformance.options import PLACE, readmes, with_tables

ALL = sorted(OURS)
ROOT = Path(__file__).parents[2]


def test_every_connector_has_a_case() -> None:
    cases = {("source", name) for name in SOURCES} | {("sink", name) for name in SINKS}
    # This one gives no events: its test is tests/unit/test_ensign_source.py.
    assert {*OURS} - {("source", "ensign")} <= cases


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_connector_of_ours_loads(kind: Kind, name: str) -> None:
    found = connector(kind, name)
    assert (found.kind, found.name) == (kind, name)
    assert get_args(found.config.model_fields["type"].annotation) == (name,)
    assert name in names(kind)


def test_a_config_is_read_without_any_driver() -> None:
    script = (
        "import sys\n"
        "from connectors.registry import OURS, connector\n"
        "found = [connector(kind, name) for kind, name in OURS]\n"
        "drivers = {'psycopg', 'psycopg_binary', 'pymysql', 'confluent_kafka', 'boto3', 'botocore'}\n"
        "assert not drivers & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_option_is_described(kind: Kind, name: str) -> None:
    fields = connector(kind, name).config.model_fields
    assert [n for n, field in fields.items() if n != "type" and not field.description] == []


@pytest.mark.parametrize("path", readmes(), ids=lambda path: path.parent.name)
def test_tables_of_options_are_current(path: Path) -> None:
    """``python -m tests.conformance.options`` writes them."""
    text = path.read_text()
    assert PLACE.search(text)
    assert with_tables(text) == text


def test_every_connector_has_a_readme() -> None:
    packages = {where.partition(":")[0].rpartition(".")[2] for where in OURS.values()}
    assert packages <= {path.parent.name for path in readmes()}


def test_an_unknown_name_says_which_are_known() -> None:
    with pytest.raises(EnsignError, match="file, generator, ") as caught:
        connector("source", "oracle")
    assert caught.value.code == "config.unknown_connector"


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    found = EntryPoints(
        [
            EntryPoint("source.theirs", "tests.conformance.test_registry:THEIRS", registry.GROUP),
            EntryPoint("source.generator", "nowhere:CONNECTOR", registry.GROUP),
            EntryPoint("source.wrong", "tests.conformance.test_registry:CONNECTOR", registry.GROUP),
            EntryPoint("sink.driven", "tests.conformance.test_registry:DRIVEN", registry.GROUP),
        ]
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: found.select(group=group))


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_adds_a_connector_and_takes_none_over() -> None:
    assert {"file", "generator", "theirs", "wrong"} <= {*names("source")}
    assert connector("source", "theirs").make is not None
    assert connector("source", "generator").config is CONNECTOR.config


@pytest.mark.usefixtures("entry_point")
def test_an_entry_point_must_give_what_it_promises() -> None:
    with pytest.raises(EnsignError) as caught:
        connector("source", "wrong")
    assert caught.value.code == "connector.invalid"


@pytest.mark.usefixtures("entry_point")
def test_a_missing_driver_says_what_to_install() -> None:
    found = connector("sink", "driven")
    with pytest.raises(EnsignError, match="pip install") as caught:
        found.check(found.config(), "pipeline")
    assert caught.value.code == "connector.driver_missing"


def _needs_driver(_config: ConnectorConfig, _pipeline: str) -> tuple[()]:
    __import__("a_driver_that_is_nowhere")
    return ()


THEIRS: Connector[ConnectorConfig] = Connector("theirs", "source", ConnectorConfig, lambda c, x: c)
DRIVEN: Connector[ConnectorConfig] = Connector(
    "driven", "sink", ConnectorConfig, lambda c, x: c, _needs_driver
)
