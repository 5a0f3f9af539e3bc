"""What the conformance suite must know of a connector: one small case each.

A case stands for a place with data (a file, a database, a broker) and is made anew for each test,
in an empty folder; it may share a server that is slow to start. It never looks into the connector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class SourceCase(Protocol):
    """A source with data. ``options`` are the connector's, ``type`` included; with them it gives a
    dozen events at least, in several batches, and then comes to an end (`Source.caught_up`). A case
    whose source begins at the end of a log also has ``begun``: batches that are durable before."""

    @property
    def options(self) -> dict[str, object]: ...

    def more(self) -> bool:
        """Make some more events available to a source that may be open; False if this kind of
        source cannot have more."""

    def close(self) -> None:
        """Remove what `options` and `more` made. Called once, after the sources are closed."""


class SinkCase(Protocol):
    """A target. The suite writes batches of rows and of events, of the topics ``first`` and
    ``second``."""

    @property
    def options(self) -> dict[str, object]: ...

    def delivered(self) -> list[tuple[str, int]]:
        """Topic and offset of all that is at the target now, in the order of its arrival."""

    def close(self) -> None:
        """Remove what the sink made. Called once, after the sinks are closed."""


class MakeSourceCase(Protocol):
    def __call__(self, folder: Path) -> SourceCase: ...


class MakeSinkCase(Protocol):
    def __call__(self, folder: Path) -> SinkCase: ...
