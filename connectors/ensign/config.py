"""What an ``ensign`` source takes in a pipeline's YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ensign_core.plugin import ConnectorConfig


class EnsignConfig(ConnectorConfig):
    """Topics of the broker that the config names."""

    type: Literal["ensign"]
    topics: list[str] = Field(
        min_length=1,
        description="Globs over the names of topics. Topics that are made later are delivered too, "
        "from their start. Dead letters are delivered only where their topic is named in full.",
    )
