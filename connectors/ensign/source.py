"""The source ``ensign``: the events lie in topics already, so nothing comes from it. Ingestion
gives the topics that `Connector.reads` names to the pipeline's sinks."""

from __future__ import annotations

import time

from connectors.ensign.config import EnsignConfig
from ensign_core.change import Batch, Position
from ensign_core.plugin import Context


class EnsignSource:
    """Made by the registry, called by the ingest loop's thread (I1)."""

    def __init__(self, _config: EnsignConfig, context: Context) -> None:
        self._context = context

    def open(self, resume: Position | None) -> None:
        self._context.progress(state="streaming")

    def read(self, timeout_s: float) -> Batch | None:
        time.sleep(timeout_s)  # I2
        return None

    def ack(self, position: Position) -> None:
        """Nothing to do: it has no positions (I4)."""

    def caught_up(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held."""
