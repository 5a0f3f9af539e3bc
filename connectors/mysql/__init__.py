"""MySQL and MariaDB: changes from the binary log, snapshots that meet the stream.

`CONNECTOR` is what the registry asks for. Importing this package, or `config`, does not import the
driver: the functions below do when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from connectors.mysql.config import MysqlConfig
from ensign_core.plugin import Connector, Context, Finding, Source


def _make(config: MysqlConfig, context: Context) -> Source:
    source: Source = import_module("connectors.mysql.source").MysqlSource(config, context)
    return source


def _check(config: MysqlConfig, pipeline: str) -> Sequence[Finding]:
    found: Sequence[Finding] = import_module("connectors.mysql.check").check(config, pipeline)
    return found


CONNECTOR: Connector[MysqlConfig] = Connector(
    "mysql",
    "source",
    MysqlConfig,
    _make,
    _check,
    signals=True,
    ends=lambda config: config.snapshot == "only",
)

__all__ = ["CONNECTOR", "MysqlConfig"]
