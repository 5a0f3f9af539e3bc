"""The standard output as a sink. At least once: each line of the format ``json`` names its topic
and offset."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

from connectors.stdout.config import StdoutConfig
from ensign_core.change import Batch
from ensign_core.errors import EnsignError
from ensign_core.formats import formatter
from ensign_core.plugin import Context


class StdoutSink:
    """Made by the registry, called by the egress loop's thread (I1)."""

    def __init__(self, config: StdoutConfig, _context: Context) -> None:
        self._formatter = formatter(config.format)
        self._out: BinaryIO = sys.stdout.buffer

    def open(self) -> None:
        """Standard output remembers no offsets (I7)."""
        self._out = sys.stdout.buffer

    def write(self, batch: Batch) -> None:
        text = self._formatter.lines(batch).text
        if text:
            self._put(text)

    def flush(self) -> None:
        """What was written is with the reader of the pipe or the terminal (I6); a file behind a
        redirection is not synced, for which there is the sink ``file``."""
        self._put(b"")

    def close(self) -> None:
        """Standard output is not ours to close."""

    def _put(self, data: bytes) -> None:
        try:
            self._out.write(data)
            self._out.flush()
        except BrokenPipeError:
            _discard_the_rest()
            raise EnsignError(
                "stdout.pipe_closed",
                "The program that reads the standard output has ended.",
                "Nothing is lost: run the pipeline again to write from the last committed offset.",
            ) from None
        except OSError as error:
            raise EnsignError(
                "stdout.write_failed",
                f"Writing to the standard output failed ({os.strerror(error.errno or 0)}).",
                "Check where the standard output is redirected to.",
            ) from None


def _discard_the_rest() -> None:
    """Without this Python would try to write the buffer's rest at exit and complain (Python's
    documentation of `signal`, "Note on SIGPIPE")."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
