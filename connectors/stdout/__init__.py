"""A sink that prints: for trying things out, and for pipes."""

from __future__ import annotations

from connectors.stdout.config import StdoutConfig
from connectors.stdout.sink import StdoutSink
from ensign_core.plugin import Connector

CONNECTOR: Connector[StdoutConfig] = Connector("stdout", "sink", StdoutConfig, StdoutSink)
