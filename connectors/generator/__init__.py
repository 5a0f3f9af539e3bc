"""A source of made-up rows: for trying things out, for load, and as the example to read first."""

from __future__ import annotations

from connectors.generator.config import GeneratorConfig
from connectors.generator.source import GeneratorSource
from ensign_core.plugin import Connector

CONNECTOR: Connector[GeneratorConfig] = Connector(
    "generator", "source", GeneratorConfig, GeneratorSource
)
