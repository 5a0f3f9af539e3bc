"""The sink ``file``: lines appended to one file, or to one per topic.

At least once: a crash between the flush and the commit of the offset writes lines again, and each
line of the format ``json`` names its topic and offset, so that a reader can drop repeats.
"""

from __future__ import annotations

import time
from pathlib import Path

from connectors.file.config import FileSinkConfig
from connectors.file.output import Output
from ensign_core.change import Batch
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.plugin import Context


class FileSink:
    """Made by the registry, called by the egress loop's thread (I1)."""

    def __init__(self, config: FileSinkConfig, _context: Context) -> None:
        self._config = config
        self._formatter = formatter(config.format)
        self._outputs: dict[Path, Output] = {}

    def open(self) -> None:
        """Files keep no offsets (I7). A file is opened, and a torn last line cut off, when the
        first batch for it comes: whatever was torn was not flushed, so it does come."""

    def write(self, batch: Batch) -> None:
        text = self._formatter.lines(batch).text
        if not text:
            return
        path = self._path(batch.target)
        output = self._outputs.get(path)
        if output is None:
            output = self._outputs[path] = Output(path)
        self._rotate_if_old(output)
        output.append(text)
        limit = self._config.rotate_bytes_max
        if limit is not None and output.size >= limit:
            output.rotate()

    def flush(self) -> None:
        for output in self._outputs.values():
            output.sync()  # I6
            self._rotate_if_old(output)

    def close(self) -> None:
        for output in self._outputs.values():
            output.close()
        self._outputs.clear()

    def _path(self, topic: str) -> Path:
        # Other topic names have no separators; these two would name a folder.
        if topic in (".", "..") and "{topic}" in self._config.path:
            raise EnsignError(
                "file.topic_not_a_name",
                "This topic's name cannot be part of a file's name.",
                "Write it to a path without {topic}.",
            )
        return Path(self._config.path.format(topic=topic))

    def _rotate_if_old(self, output: Output) -> None:
        limit = self._config.rotate_s_max
        if limit is not None and output.size and time.monotonic() - output.since_s >= limit:
            output.rotate()
