"""What a ``stdout`` sink takes in a pipeline's YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ensign_core.formats import FormatName
from ensign_core.plugin import ConnectorConfig


class StdoutConfig(ConnectorConfig):
    """One line per event on the worker's standard output."""

    type: Literal["stdout"]
    format: FormatName = Field(default="json", description="How an event becomes a line.")
