"""PostgreSQL: changes through logical replication (pgoutput), snapshots that meet the stream.

`CONNECTOR` is what the registry asks for. Importing this package, or `config`, does not import the
driver: the functions below do when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.postgres.config import PostgresConfig
from ensign_core.plugin import Connector, Context, Finding, Source


def _make(config: PostgresConfig, context: Context) -> Source:
    from connectors.postgres.source import PostgresSource

    return PostgresSource(config, context)


def _check(config: PostgresConfig, pipeline: str) -> Sequence[Finding]:
    from connectors.postgres.check import check

    return check(config, pipeline)


def _drop(config: PostgresConfig, pipeline: str) -> Sequence[str]:
    from connectors.postgres.check import drop

    return drop(config, pipeline)


CONNECTOR: Connector[PostgresConfig] = Connector(
    "postgres", "source", PostgresConfig, _make, _check, _drop
)

__all__ = ["CONNECTOR", "PostgresConfig"]
