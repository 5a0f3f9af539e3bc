"""Files of lines: a sink that writes them and a source that follows them."""

from __future__ import annotations

from connectors.file.check import check_sink, check_source
from connectors.file.config import FileSinkConfig, FileSourceConfig
from connectors.file.sink import FileSink
from connectors.file.source import FileSource, replay
from ensign_core.plugin import Connector

SOURCE: Connector[FileSourceConfig] = Connector(
    "file", "source", FileSourceConfig, FileSource, check_source, replay=replay
)
SINK: Connector[FileSinkConfig] = Connector("file", "sink", FileSinkConfig, FileSink, check_sink)
