"""Apache Kafka: a source that reads topics exactly once, and a sink that writes to them.

The objects below are what the registry asks for. Importing this package, or `config`, does not
import the driver: the functions below do when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from connectors.kafka.config import KafkaSourceConfig
from connectors.kafka.decoded import replay
from connectors.kafka.sink_config import KafkaSinkConfig
from ensign_core.plugin import Connector, Context, Finding, Sink, Source


def _make_source(config: KafkaSourceConfig, context: Context) -> Source:
    source: Source = import_module("connectors.kafka.source").KafkaSource(config, context)
    return source


def _check_source(config: KafkaSourceConfig, pipeline: str) -> Sequence[Finding]:
    found: Sequence[Finding] = import_module("connectors.kafka.check").check(config, pipeline)
    return found


def _make_sink(config: KafkaSinkConfig, context: Context) -> Sink:
    sink: Sink = import_module("connectors.kafka.sink").KafkaSink(config, context)
    return sink


def _check_sink(config: KafkaSinkConfig, pipeline: str) -> Sequence[Finding]:
    found: Sequence[Finding] = import_module("connectors.kafka.sink_check").check(config, pipeline)
    return found


SOURCE: Connector[KafkaSourceConfig] = Connector(
    "kafka", "source", KafkaSourceConfig, _make_source, _check_source, replay=replay
)

SINK: Connector[KafkaSinkConfig] = Connector(
    "kafka", "sink", KafkaSinkConfig, _make_sink, _check_sink
)

__all__ = ["SINK", "SOURCE", "KafkaSinkConfig", "KafkaSourceConfig"]
