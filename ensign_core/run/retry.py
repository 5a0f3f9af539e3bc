"""The one place that decides whether an error is waited out (I10)."""

from __future__ import annotations

import random

from ensign_core.errors import EnsignError, unexpected

WAIT = frozenset(
    {
        "unreachable",  # nobody listens at the address, or it does not answer
        "connection_lost",  # an open connection ended
        "restarting",  # the server starts up or shuts down
        "slot_in_use",  # another reader, or our own old one that the server has not noticed yet
        "too_many_connections",
        "timeout",
        "throttled",
        "disk_full",
        "disk_budget",  # what the project may take of the disk is used up
        "busy",
        "interrupted",  # what was under way is void, and begins again
    }
)
"""Last words of codes that time or an operator mends without touching the pipeline. Every other
error stops its pipeline."""

BACKOFF_FIRST_S = 0.1
BACKOFF_S_MAX = 15.0


def waits(error: EnsignError) -> bool:
    """Whether the pipeline tries again by itself."""
    return error.code.rpartition(".")[2] in WAIT


def classified(error: Exception) -> EnsignError:
    """Any exception as an error for people."""
    return error if isinstance(error, EnsignError) else unexpected(error)


class Backoff:
    """Waits that double up to a ceiling, with jitter so that many workers do not come at once."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_FIRST_S

    def next_s(self) -> float:
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, BACKOFF_S_MAX)
        return wait_s * random.uniform(0.75, 1.25)  # noqa: S311

    def reset(self) -> None:
        self._next_s = BACKOFF_FIRST_S
