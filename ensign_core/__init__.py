"""Ensign: change data capture into encrypted, persistent, replayable topics, and onward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensign_core.broker import Broker, Event

__all__ = ["Broker", "Event"]


def __getattr__(name: str) -> Any:
    # Looked up at first use: connectors import this package for its contract, not for the broker.
    if name in __all__:
        from ensign_core import broker

        return getattr(broker, name)
    raise AttributeError(name)
