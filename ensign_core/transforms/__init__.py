"""Transforms: what a pipeline does to events between source and topic, a sink between topic and
target. `Chain` is all that the loops see of it."""

from ensign_core.transforms.chain import Chain
from ensign_core.transforms.pieces import by_target, remaining

__all__ = ["Chain", "by_target", "remaining"]
