"""PostgreSQL: changes through logical replication (pgoutput), snapshots that meet the stream.

`CONNECTOR` is what the registry asks for. Importing this package, or `config`, does not import the
driver: the functions below do when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from connectors.postgres.config import PostgresConfig
from ensign_core.plugin import Connector, Context, Finding, Source


def _make(config: PostgresConfig, context: Context) -> Source:
    source: Source = import_module("connectors.postgres.source").PostgresSource(config, context)
    return source


def _check(config: PostgresConfig, pipeline: str) -> Sequence[Finding]:
    found: Sequence[Finding] = import_module("connectors.postgres.check").check(config, pipeline)
    return found


def _drop(config: PostgresConfig, pipeline: str) -> Sequence[str]:
    dropped: Sequence[str] = import_module("connectors.postgres.check").drop(config, pipeline)
    return dropped


CONNECTOR: Connector[PostgresConfig] = Connector(
    "postgres",
    "source",
    PostgresConfig,
    _make,
    _check,
    _drop,
    signals=True,
    ends=lambda config: config.snapshot == "only",
)

__all__ = ["CONNECTOR", "PostgresConfig"]
