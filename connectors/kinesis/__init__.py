"""Kinesis Data Streams: a source of all shards of a stream, and a sink.

`SOURCE` and `SINK` are what the registry asks for. Importing this package, or `config`, does not
import the driver: the functions below do when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from connectors.kinesis.config import KinesisSinkConfig, KinesisSourceConfig
from ensign_core.plugin import Connector, Context, Finding, Sink, Source


def _source(config: KinesisSourceConfig, context: Context) -> Source:
    source: Source = import_module("connectors.kinesis.source").KinesisSource(config, context)
    return source


def _sink(config: KinesisSinkConfig, context: Context) -> Sink:
    sink: Sink = import_module("connectors.kinesis.sink").KinesisSink(config, context)
    return sink


def _check_source(config: KinesisSourceConfig, pipeline: str) -> Sequence[Finding]:
    checks = import_module("connectors.kinesis.check")
    found: Sequence[Finding] = checks.check_source(config, pipeline)
    return found


def _check_sink(config: KinesisSinkConfig, _pipeline: str) -> Sequence[Finding]:
    found: Sequence[Finding] = import_module("connectors.kinesis.check").check_sink(config)
    return found


def _drop(config: KinesisSourceConfig, pipeline: str) -> Sequence[str]:
    dropped: Sequence[str] = import_module("connectors.kinesis.check").drop(config, pipeline)
    return dropped


SOURCE: Connector[KinesisSourceConfig] = Connector(
    "kinesis", "source", KinesisSourceConfig, _source, _check_source, _drop
)
SINK: Connector[KinesisSinkConfig] = Connector(
    "kinesis", "sink", KinesisSinkConfig, _sink, _check_sink
)

__all__ = ["SINK", "SOURCE", "KinesisSinkConfig", "KinesisSourceConfig"]
