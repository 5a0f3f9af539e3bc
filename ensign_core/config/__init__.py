"""The config file: one YAML file that names the broker's folder and the pipelines.

`load` reads and validates it; the models are what the rest of Ensign sees of it. Whatever is wrong
is reported in one go as `ConfigErrors`, with the line and the path in the file, and without ever
repeating a value: what stands in a wrong place may be a secret.
"""

from ensign_core.config.findings import ConfigErrors
from ensign_core.config.loading import load
from ensign_core.config.model import (
    BrokerConfig,
    Config,
    DiskConfig,
    EnvKeys,
    FileKeys,
    KeepConfig,
    KmsKeys,
    MetricsConfig,
    PipelineConfig,
    SinkEntry,
    SourceEntry,
)
from ensign_core.config.topics import topic_name

__all__ = [
    "BrokerConfig",
    "Config",
    "ConfigErrors",
    "DiskConfig",
    "EnvKeys",
    "FileKeys",
    "KeepConfig",
    "KmsKeys",
    "MetricsConfig",
    "PipelineConfig",
    "SinkEntry",
    "SourceEntry",
    "load",
    "topic_name",
]
