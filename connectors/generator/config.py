"""What a ``generator`` source takes in a pipeline's YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ensign_core.plugin import ConnectorConfig


class GeneratorConfig(ConnectorConfig):
    """Changes of one table of made-up rows, the same ones for the same options."""

    type: Literal["generator"]
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Other seeds give other values.")
    rate: float = Field(default=0, ge=0, description="Events per second; 0 is as fast as it goes.")
    count: int | None = Field(
        default=None, ge=0, description="Events after which nothing more comes; endless without."
    )
    keys: int = Field(default=1000, ge=1, description="Distinct keys that the rows have.")
    payload_bytes: int = Field(
        default=32, ge=0, le=1 << 20, description="Length of the column payload."
    )
    transaction_events: int = Field(default=10, ge=1, description="Events of each transaction.")
    batch_events_max: int = Field(
        default=1000, ge=1, le=100_000, description="Events that one batch holds at most."
    )
