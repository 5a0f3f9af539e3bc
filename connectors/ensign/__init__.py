"""Topics of the same broker as a source: what other pipelines or publishers wrote is delivered by
this one's sinks. Nothing is stored again."""

from __future__ import annotations

from connectors.ensign.config import EnsignConfig
from connectors.ensign.source import EnsignSource
from ensign_core.plugin import Connector

CONNECTOR: Connector[EnsignConfig] = Connector(
    "ensign", "source", EnsignConfig, EnsignSource, reads=lambda config: config.topics
)
